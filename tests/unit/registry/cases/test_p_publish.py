"""Publishing, case by case: the tag comes last; registries see late, refuse, rewrite, list no referrers."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from distworker.digest import Digest
from distworker.errors import (
    BlobUnknown,
    Denied,
    DigestMismatch,
    DistworkerError,
    LimitExceeded,
    ManifestInvalid,
    ManifestTooLarge,
    NotARegistry,
    ProtocolError,
    Quota,
    TagImmutable,
    TypeRefused,
    Unavailable,
)
from distworker.limits import INDEX_ENTRIES_MAX, MANIFEST_MAX_PUSH
from distworker.manifest import Manifest, parse_manifest
from distworker.mediatypes import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST
from distworker.registry.client import Client
from distworker.registry.quirks import Quirks
from distworker.registry.referrers import fallback_tag
from tests.fakes.meddle import meddle
from tests.fakes.registry import FakeRegistry, error
from tests.fakes.registry_server import PASS, Answer, Seen, Twist
from tests.fakes.vault import MemoryVault
from tests.fakes.world import World

NAME = "team/app"
SOURCE = f"reg.example/{NAME}:v1"
LAYERS = (b"base" * 30_000, b"small layer")
DENIED = error(403, "DENIED", "no more today")


def image(registry: FakeRegistry, repository: str, *layers: bytes, **extra: Any) -> bytes:
    """The bytes of an image manifest whose blobs the registry holds."""
    entries = [
        {"mediaType": "x/layer", "digest": registry.put_blob(repository, one), "size": len(one)}
        for one in layers
    ]
    config = {"mediaType": "x/config", "digest": registry.put_blob(repository, b"{}"), "size": 2}
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": entries, **extra}
    return json.dumps(document).encode()


def fill(registry: FakeRegistry, repository: str, tag: str, note: str = "") -> Digest:
    """An index of two images under a tag."""
    entries = []
    for platform, layers in (("amd64", LAYERS), ("arm64", LAYERS[:1])):
        raw = image(registry, repository, *layers, annotations={"for": platform + note})
        digest = registry.put_manifest(repository, raw, OCI_MANIFEST)
        entry = {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(raw)}
        entries.append({**entry, "platform": {"os": "linux", "architecture": platform}})
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return registry.put_manifest(repository, json.dumps(document).encode(), OCI_INDEX, tag)


def a_manifest(world: World, **extra: Any) -> Manifest:
    """A manifest whose blobs `reg.example` holds."""
    return parse_manifest(image(world.reg, NAME, *LAYERS, **extra), OCI_MANIFEST)


def put_lines(registry: FakeRegistry, repository: str) -> list[str]:
    """References of the manifests put, in order."""
    part = f"/v2/{repository}/manifests/"
    return [one.path.removeprefix(part) for one in registry.seen if one.line.startswith(f"PUT {part}")]


def test_p01_order_and_tag_last(world: World) -> None:
    """Blobs, then children by digest, then the index by digest, then the tag; each once."""
    # Given an index of two images, and a destination that refuses what names something missing
    digest = fill(world.reg, NAME, "v1")
    index = json.loads(world.reg.manifests[NAME, digest][1])
    # When it is copied
    view, _ = world.copy(SOURCE, "reg2.example/copy/app:v1")
    # Then parents come after children, and the tag after everything
    assert view.state == "done"
    children = [entry["digest"] for entry in index["manifests"]]
    puts = put_lines(world.reg2, "copy/app")
    assert set(puts[:2]) == set(children)
    assert puts[2:] == [digest, "v1"]
    writes = [one for one in world.reg2.seen if one.method in {"POST", "PUT", "PATCH"}]
    assert [one.path.rpartition("/")[2] for one in writes][-1] == "v1"
    assert world.reg2.sessions == {}


def test_p01_aborted_at_each_request(world: World) -> None:
    """Wherever a copy breaks off, the old tag leads to its image, and a rerun completes."""
    # Given how many requests a copy over an older image takes at its destination
    new = fill(world.reg, NAME, "v1")

    def prepare(repository: str) -> Digest:
        return fill(world.reg2, repository, "v1", note=" old")

    prepare("copy/whole")
    view, _ = world.copy(SOURCE, "reg2.example/copy/whole:v1")
    assert view.state == "done"
    total = sum("/copy/whole/" in one.path for one in world.reg2.seen)
    assert total > 8
    for number in range(total):
        # Given a destination that refuses everything from one request on
        repository = f"copy/n{number}"
        old = prepare(repository)
        refusing = threading.Event()

        def abort(request: Seen, refusing: threading.Event = refusing) -> Answer | None:
            refusing.set()
            return DENIED

        meddle(world.reg2, "*", f"/v2/{repository}/", *([None] * number), *([abort] * 60))
        # When the image is copied
        view, _ = world.copy(SOURCE, f"reg2.example/{repository}:v1")
        # Then the tag leads to the old image, or to the new one if only the looking back was refused
        assert refusing.is_set() == (view.state != "done")
        published = "v1" in put_lines(world.reg2, repository)
        assert world.reg2.tag_lists[repository]["v1"] in ({old, new} if published else {old})
        del world.reg2.handle
        # When it is copied again
        view, _ = world.copy(SOURCE, f"reg2.example/{repository}:v1")
        # Then it is complete (what no tag may lack is asserted for every case)
        assert view.state == "done"
        assert world.reg2.tag_lists[repository]["v1"] == new


def test_p02_blob_unknown_after_upload(world: World) -> None:
    """A registry that sees late is waited for, and nothing is sent again."""
    # Given a registry that twice does not see a blob which it holds
    manifest = a_manifest(world)
    layer = manifest.layers[0].digest
    late = error(400, "MANIFEST_BLOB_UNKNOWN", detail={"digest": layer})
    world.reg.on("PUT", "/manifests/", late, late, PASS)
    # When the manifest is put
    world.client().put_manifest(NAME, "v1", manifest)
    # Then only that blob was looked for, with growing pauses, and nothing else was written
    assert world.sleeps == [1.0, 2.0]
    assert [one.path.rpartition("/")[2] for one in world.reg.seen if one.method == "HEAD"] == [layer] * 2
    assert world.reg.tag_lists[NAME] == {"v1": manifest.digest}
    assert world.reg.count("POST") == 0


@pytest.mark.parametrize("code", ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"])
@pytest.mark.parametrize("detail", [None, "nothing useful", {"digest": "sha256:short"}])
def test_p02_a_registry_that_never_sees_is_given_back(world: World, code: str, detail: object) -> None:
    """After all pauses the work is tried again later; without a name every part is looked for."""
    # Given a registry that refuses for ever what it has
    manifest = a_manifest(world)
    world.reg.always(
        "PUT", "/manifests/", error(404 if code == "MANIFEST_UNKNOWN" else 400, code, detail=detail)
    )
    # When the manifest is put
    with world.fails(Unavailable, registry_code=code, delay=15.0, repository=NAME) as caught:
        world.client().put_manifest(NAME, "v1", manifest)
    # Then it was tried five times
    assert caught[0].retry
    assert world.sleeps == [1.0, 2.0, 4.0, 8.0]
    assert world.reg.count("HEAD", "/blobs/") == 5 * 3


def test_p02_what_is_missing_is_named(world: World) -> None:
    """A blob or child that is not there is told at once, by its digest."""
    # Given a manifest and an index, each with something missing
    manifest = a_manifest(world)
    layer = manifest.layers[0].digest
    world.reg.holds[NAME].remove(layer)
    client = world.client()
    # When they are put
    with world.fails(BlobUnknown, registry_code="MANIFEST_BLOB_UNKNOWN") as caught:
        client.put_manifest(NAME, "v1", manifest)
    assert layer in caught[0].message
    entry = {"mediaType": OCI_MANIFEST, "digest": manifest.digest, "size": manifest.size}
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    with world.fails(BlobUnknown, registry_code="MANIFEST_BLOB_UNKNOWN") as caught:
        client.put_manifest(NAME, "v1", parse_manifest(raw, OCI_INDEX))
    # Then nobody waited for it
    assert manifest.digest in caught[0].message
    assert world.sleeps == []


@pytest.mark.parametrize("times", [1, 99])
def test_p02_a_blob_that_is_gone_is_brought_again(world: World, times: int) -> None:
    """The named digest is uploaded again, and not for ever."""
    # Given a destination that loses a blob right before the manifest, once or always
    digest = fill(world.reg, NAME, "v1")
    lost = Digest.of(LAYERS[0])

    def lose(request: Seen) -> None:
        world.reg2.holds["copy/app"].discard(lost)

    meddle(world.reg2, "PUT", "/v2/copy/app/manifests/", *([lose] * times))
    # When the image is copied
    view, outcomes = world.copy(SOURCE, "reg2.example/copy/app:v1")
    # Then the blob was sent again from our store, or the job ends with a typed error
    assert world.reg.blobs_served[lost] == len(LAYERS[0])
    if times == 1:
        assert view.state == "done"
        assert world.reg2.blobs_taken[lost] == 2 * len(LAYERS[0])
        assert world.reg2.tag_lists["copy/app"] == {"v1": digest}
    else:
        assert outcomes[0]["error"]["code"] == "blob_unknown"
        assert world.reg2.count("PUT", "/manifests/") < 30
        assert "v1" not in world.reg2.tag_lists["copy/app"]


def test_p02_a_registry_that_reads_its_own_half_written_links_gets_a_moment(world: World) -> None:
    """DIGEST_INVALID for proved bytes is the registry's own race: asked again, and not for ever."""
    # Given a registry that trips twice
    manifest = a_manifest(world)
    tripped = error(400, "DIGEST_INVALID")
    world.reg.on("PUT", "/manifests/", tripped, tripped)
    client = world.client()
    # When the manifest is put
    client.put_manifest(NAME, "v1", manifest)
    # Then it stands; and one that always trips is told
    assert world.sleeps == [1.0, 2.0]
    world.reg.always("PUT", "/manifests/", tripped)
    with world.fails(ProtocolError, registry_code="DIGEST_INVALID"):
        client.put_manifest(NAME, "v2", manifest)


# --- subject ------------------------------------------------------------------------------------------------
def referring(world: World, number: int = 0, **extra: Any) -> Manifest:
    """A manifest with a subject that need not be there."""
    subject = {"mediaType": OCI_MANIFEST, "digest": Digest.of(b"subject"), "size": 7}
    return a_manifest(world, subject=subject, annotations={"number": str(number)}, **extra)


TAG = fallback_tag(Digest.of(b"subject"))


def listed(world: World) -> list[dict[str, Any]]:
    """What stands under the fallback tag."""
    digest = world.reg.tag_lists[NAME][TAG]
    media_type, raw = world.reg.manifests[NAME, digest]
    assert media_type == OCI_INDEX
    return list(json.loads(raw)["manifests"])


def before(world: World, count: int, **extra: Any) -> list[dict[str, Any]]:
    """Have an index with so many referrers under the tag."""
    entries = []
    for number in range(count):
        raw = image(world.reg, NAME, b"sbom %d" % number)
        digest = world.reg.put_manifest(NAME, raw, OCI_MANIFEST)
        entries.append({"mediaType": OCI_MANIFEST, "digest": digest, "size": len(raw), "x-note": number})
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, **extra}
    world.reg.put_manifest(NAME, json.dumps(document).encode(), OCI_INDEX, TAG)
    return entries


@pytest.mark.parametrize("etags", [True, False])
@pytest.mark.parametrize("known", [0, 3])
def test_p03_subject_without_oci_subject(world: World, known: int, etags: bool) -> None:
    """The referrer is added to the list under the fallback tag, which is made if there is none."""
    # Given a registry that ignores subjects, with or without a list already
    world.reg.etags = etags
    entries = before(world, known, annotations={"kept": "yes"}) if known else []
    manifest = referring(world, artifactType="x/signature")
    client = world.client()
    # When the referrer is put, twice
    client.put_manifest(NAME, str(manifest.digest), manifest)
    client.put_manifest(NAME, str(manifest.digest), manifest)
    # Then it is listed once, behind what was there, with its type and annotations
    assert listed(world) == [
        *entries,
        {
            "mediaType": OCI_MANIFEST,
            "digest": manifest.digest,
            "size": manifest.size,
            "artifactType": "x/signature",
            "annotations": {"number": "0"},
        },
    ]
    if known:
        digest = world.reg.tag_lists[NAME][TAG]
        assert json.loads(world.reg.manifests[NAME, digest][1])["annotations"] == {"kept": "yes"}
    (written,) = [one for one in world.reg.seen if one.method == "PUT" and TAG in one.path]
    assert written.headers["Content-Type"] == OCI_INDEX
    assert bool(written.headers.get("If-Match")) == bool(etags and known)


def test_p03_the_type_of_an_image_is_its_configs(world: World) -> None:
    """Without artifactType the config's media type stands for it."""
    # Given an ordinary image with a subject
    # When it is put
    world.client().put_manifest(NAME, "v1", referring(world))
    # Then that is what the list says
    assert [entry["artifactType"] for entry in listed(world)] == ["x/config"]


def test_p03_skipped_when_oci_subject_is_returned(world: World) -> None:
    """A registry that indexes subjects itself is left to it."""
    # Given such a registry
    world.reg.subjects = True
    # When a referrer is put
    world.client().put_manifest(NAME, "v1", referring(world))
    # Then nothing else was asked or written
    assert [one.line for one in world.reg.seen] == [f"PUT /v2/{NAME}/manifests/v1"]


@pytest.mark.parametrize(
    ("media_type", "raw"),
    [
        (OCI_MANIFEST, None),
        (DOCKER_LIST, b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % DOCKER_LIST.encode()),
        (OCI_INDEX, b"not json"),
        (OCI_INDEX, b'{"schemaVersion":2,"manifests":[],"layers":[]}'),
    ],
    ids=["image", "docker list", "no json", "ambiguous"],
)
def test_p03_something_else_than_an_index_is_reported(
    world: World, media_type: str, raw: bytes | None
) -> None:
    """It is left as it is, and the error names the tag."""
    # Given something else under the fallback tag
    there = world.reg.put_manifest(NAME, raw or image(world.reg, NAME, b"cosign"), media_type, TAG)
    manifest = referring(world)
    # When a referrer is put
    with world.fails(ManifestInvalid, repository=NAME, reference=TAG):
        world.client().put_manifest(NAME, str(manifest.digest), manifest)
    # Then the manifest is there, and the tag as it was
    assert (NAME, manifest.digest) in world.reg.manifests
    assert world.reg.tag_lists[NAME] == {TAG: there}


@pytest.mark.parametrize(
    ("workers", "clients"),
    [(1, 1), (1, 2), (2, 1)],
    ids=["one client", "two clients of a pool", "two workers"],
)
def test_p03_two_concurrent_pushes_lose_nothing(world: World, workers: int, clients: int) -> None:
    """Read, merge and write happen one at a time for one subject, in a process and in the fleet."""
    # Given threads of one or two workers that push eight referrers of one subject
    vault = MemoryVault(world.clock) if workers > 1 else None
    login = {"reg.example": ("me", "SECRET-PASSWORD")}
    pools = [world.pool(logins=login, vault=vault) for _ in range(workers)]
    made = [
        pools[number % workers].client("reg.example", "reg.example" if number % clients else "")
        for number in range(8)
    ]
    manifests = [referring(world, number) for number in range(8)]
    start, failures = threading.Barrier(8), []

    def push(client: Any, manifest: Manifest) -> None:
        try:
            start.wait()
            client.put_manifest(NAME, str(manifest.digest), manifest)
        except BaseException as problem:
            failures.append(problem)

    # When they do so at the same time
    threads = [threading.Thread(target=push, args=pair) for pair in zip(made, manifests, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Then all of them are listed, and none was written over and healed: one write each
    assert failures == []
    assert {entry["digest"] for entry in listed(world)} == {one.digest for one in manifests}
    assert world.reg.count("PUT", TAG) == 8


@pytest.mark.parametrize("etags", [True, False])
def test_p03_what_a_stranger_writes_in_between_is_merged(world: World, etags: bool) -> None:
    """Another writer without our lock: his entry and ours both stand in the end."""
    # Given a list that somebody changes between our read and our write, and again after it
    world.reg.etags = etags
    mine = before(world, 1)
    manifest = referring(world)
    theirs: list[str] = []

    def stranger(request: Seen) -> None:
        raw = image(world.reg, NAME, b"theirs %d" % len(theirs))
        theirs.append(world.reg.put_manifest(NAME, raw, OCI_MANIFEST))
        entries = [{"mediaType": OCI_MANIFEST, "digest": one, "size": 1} for one in theirs]
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*mine, *entries]}
        world.reg.put_manifest(NAME, json.dumps(document).encode(), OCI_INDEX, TAG)

    meddle(world.reg, "PUT", TAG, stranger)
    meddle(world.reg, "GET", TAG, None, stranger)
    # When a referrer is put
    world.client().put_manifest(NAME, str(manifest.digest), manifest)
    # Then nothing that was ever read is missing; with conditions not even what was not
    digests = {entry["digest"] for entry in listed(world)}
    assert {mine[0]["digest"], manifest.digest, theirs[-1]} <= digests
    if etags:
        assert set(theirs) <= digests


def test_p03_a_condition_that_is_not_understood_is_left_out(world: World) -> None:
    """412 although nothing changed: the next try goes without If-Match."""
    # Given a registry whose ETags are good for nothing
    world.reg.etags = True
    before(world, 1)

    def refuse(request: Seen) -> Answer | None:
        return error(412, "PRECONDITION_FAILED") if request.headers.get("If-Match") else None

    meddle(world.reg, "PUT", TAG, *([refuse] * 20))
    # When a referrer is put
    world.client().put_manifest(NAME, "v1", referring(world))
    # Then it is listed
    assert len(listed(world)) == 2
    assert world.reg.count("PUT", TAG) == 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (DENIED, Denied),
        (error(412, "PRECONDITION", "tag is immutable"), TagImmutable),
        (Answer(413), ManifestTooLarge),
        (Twist(), Unavailable),
    ],
    ids=["denied", "immutable", "too large", "never kept"],
)
def test_p03_a_list_that_cannot_be_written_is_told(
    world: World, answer: Answer | Twist, kind: type[DistworkerError]
) -> None:
    """Each refusal is the registry's own; a list that is not kept is tried again later."""
    # Given a registry that does not take the list, or takes it and forgets it
    world.reg.always("PUT", TAG, answer)
    world.reg.always("GET", TAG, error(404, "MANIFEST_UNKNOWN"))
    # When a referrer is put
    with world.fails(kind, repository=NAME, reference=TAG):
        world.client().put_manifest(NAME, "v1", referring(world))
    # Then it was not tried for ever
    assert world.reg.count("PUT", TAG) <= 5


def test_p03_an_index_is_listed_without_a_type(world: World) -> None:
    """It has neither artifactType nor config, and may have no annotations."""
    # Given an index with a subject, and a list that has one referrer twice
    before(world, 1)
    (entry,) = listed(world)
    twice = [entry, {**entry, "annotations": {"the": "other"}}]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": twice}
    world.reg.put_manifest(NAME, json.dumps(document).encode(), OCI_INDEX, TAG)
    subject = {"mediaType": OCI_MANIFEST, "digest": Digest.of(b"subject"), "size": 7}
    raw = json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "subject": subject}
    ).encode()
    # When it is put
    index = parse_manifest(raw, OCI_INDEX)
    world.client().put_manifest(NAME, str(index.digest), index)
    # Then it stands behind both
    assert listed(world) == [*twice, {"mediaType": OCI_INDEX, "digest": index.digest, "size": len(raw)}]


def test_p03_a_list_that_is_seen_late_is_no_failure(world: World) -> None:
    """Five reads do not show what was written, the sixth does."""
    # Given a registry that shows the list late
    world.reg.on("GET", TAG, *([error(404, "MANIFEST_UNKNOWN")] * 5))
    manifest = referring(world)
    # When a referrer is put
    world.client().put_manifest(NAME, "v1", manifest)
    # Then it is there, once
    assert [entry["digest"] for entry in listed(world)] == [manifest.digest]
    assert len(world.sleeps) == 3


def test_p03_a_list_that_may_not_be_read_is_told(world: World) -> None:
    """The registry's own refusal, and nothing is written over it."""
    # Given a list that this login may not see
    world.reg.always("GET", TAG, error(403, "DENIED"))
    # When a referrer is put
    with world.fails(Denied, reference=TAG, status=403):
        world.client().put_manifest(NAME, "v1", referring(world))
    # Then
    assert world.reg.count("PUT", TAG) == 0


def test_p03_a_list_does_not_grow_beyond_what_registries_take(world: World) -> None:
    """4 MiB of it, however few the entries."""
    # Given a list that is almost as large
    entry = {"mediaType": OCI_MANIFEST, "digest": Digest.of(b"x"), "size": 1}
    filler = {"annotations": {"note": "x" * (MANIFEST_MAX_PUSH - 400)}}
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{**entry, **filler}]}
    full = world.reg.put_manifest(NAME, json.dumps(document).encode(), OCI_INDEX, TAG)
    # When one more is put
    with world.fails(ManifestTooLarge, reference=TAG):
        world.client().put_manifest(NAME, "v1", referring(world))
    # Then
    assert world.reg.tag_lists[NAME][TAG] == full


def test_p03_a_list_does_not_grow_beyond_the_limits(world: World) -> None:
    """One entry more than an index may have is an error, and the list stays."""
    # Given a full list
    entry = {"mediaType": OCI_MANIFEST, "size": 1}
    entries = [{**entry, "digest": Digest.of(b"%d" % number)} for number in range(INDEX_ENTRIES_MAX)]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    full = world.reg.put_manifest(NAME, json.dumps(document).encode(), OCI_INDEX, TAG)
    # When one more is put
    with world.fails(LimitExceeded, reference=TAG):
        world.client().put_manifest(NAME, "v1", referring(world))
    # Then
    assert world.reg.tag_lists[NAME][TAG] == full


# --- refusals -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(415), TypeRefused),
        (error(400, "UNSUPPORTED"), TypeRefused),
        (error(400, "MANIFEST_INVALID"), ManifestInvalid),
        (Answer(201, {"Docker-Content-Digest": Digest.of(b"rewritten")}), DigestMismatch),
        (error(412, "PRECONDITION", "configured as immutable, cannot be updated"), TagImmutable),
        (error(400, "ImageTagAlreadyExistsException", "The image tag already exists"), TagImmutable),
        (error(409, "CONFLICT", "this tag cannot be overwritten"), TagImmutable),
        (Answer(200, {"Content-Type": "text/html"}, b"<html>"), ProtocolError),
        (Answer(413), ManifestTooLarge),
        (error(403, "DENIED", "project quota exceeded"), Quota),
        (DENIED, Denied),
    ],
)
def test_p04_type_refused_digest_rewritten_immutable(
    world: World, answer: Answer, kind: type[DistworkerError]
) -> None:
    """Typed, with repository and tag; nothing is converted and sent as something else."""
    # Given another image under the tag, and a registry that refuses
    old = world.reg.put_manifest(NAME, image(world.reg, NAME, b"old"), OCI_MANIFEST, "v1")
    manifest = a_manifest(world)
    world.reg.always("PUT", "/manifests/", answer)
    # When the manifest is put
    with world.fails(kind, repository=NAME, reference="v1", phase="put manifest"):
        world.client().put_manifest(NAME, "v1", manifest)
    # Then all that was sent is this manifest as it is, and the tag stands
    puts = [one for one in world.reg.seen if one.method == "PUT"]
    assert {(one.body, one.headers["Content-Type"]) for one in puts} == {(manifest.raw, OCI_MANIFEST)}
    assert world.reg.tag_lists[NAME] == {"v1": old}
    assert world.sleeps == []


def test_p04_an_immutable_tag_with_the_same_content_is_success(world: World) -> None:
    """Refused, and it already leads there: nothing to do."""
    # Given an immutable tag that leads to this very manifest
    manifest = a_manifest(world)
    world.reg.put_manifest(NAME, manifest.raw, OCI_MANIFEST, "v1")
    world.reg.always("PUT", "/manifests/", error(412, "PRECONDITION", "tag is immutable"))
    # When it is put again
    world.client().put_manifest(NAME, "v1", manifest)
    # Then it was looked at
    assert [one.method for one in world.reg.seen] == ["PUT", "HEAD"]


@pytest.mark.parametrize("same", [True, False])
def test_p04_an_immutable_tag_through_the_pipeline(world: World, same: bool) -> None:
    """The same content is done, other content fails with its code and leaves the tag."""
    # Given an immutable tag at the destination
    digest = fill(world.reg, NAME, "v1")
    old = fill(world.reg2, "copy/app", "v1", note="" if same else " old")
    refusal = error(412, "PRECONDITION", "tag is immutable")
    world.reg2.always("PUT", "/manifests/v1", refusal)
    # When the image is copied there
    view, outcomes = world.copy(SOURCE, "reg2.example/copy/app:v1")
    # Then
    assert world.reg2.tag_lists["copy/app"] == {"v1": old}
    if same:
        assert (view.state, old) == ("done", digest)
    else:
        assert outcomes[0]["error"]["code"] == "tag_immutable"


@pytest.mark.parametrize("status", [200, 202, 204])
def test_p04_other_successes_need_the_digest(world: World, status: int) -> None:
    """Quay answers 202; a success that is not 201 counts with our digest in it."""
    # Given such a registry
    manifest = a_manifest(world)
    world.reg.on(
        "PUT", "/manifests/", Twist(status=status), Twist(status=status, drop=("Docker-Content-Digest",))
    )
    client = world.client()
    # When manifests are put
    client.put_manifest(NAME, "v1", manifest)
    # Then one without the digest does not count
    with world.fails(ProtocolError, status=status):
        client.put_manifest(NAME, "v2", manifest)


def test_p04_too_large_is_told_before_it_is_sent(world: World) -> None:
    """4 MiB is what registries must take; a registry known to take more is given more."""
    # Given a manifest above it
    manifest = a_manifest(world, annotations={"long": "x" * MANIFEST_MAX_PUSH})
    # When it is put
    with world.fails(ManifestTooLarge, reference="v1"):
        world.client().put_manifest(NAME, "v1", manifest)
    # Then nothing was sent, and where more is allowed it is
    assert world.reg.seen == []
    world.client(quirks=Quirks(manifest_max=2 * MANIFEST_MAX_PUSH)).put_manifest(NAME, "v1", manifest)
    assert world.reg.tag_lists[NAME] == {"v1": manifest.digest}


# --- deletes (no case of its own) ---------------------------------------------------------------------------
def two_tags(world: World) -> tuple[Client, Digest]:
    """v1 and v2 lead to one manifest, v3 to an index over it."""
    manifest = a_manifest(world)
    digest = world.reg.put_manifest(NAME, manifest.raw, OCI_MANIFEST, "v1", "v2")
    entry = {"mediaType": OCI_MANIFEST, "digest": digest, "size": manifest.size}
    inner = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    nested = {
        "mediaType": OCI_INDEX,
        "digest": world.reg.put_manifest(NAME, inner, OCI_INDEX),
        "size": len(inner),
    }
    outer = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [nested]}).encode()
    world.reg.put_manifest(NAME, outer, OCI_INDEX, "v3")
    return world.client(), digest


def test_a_manifest_is_deleted_by_digest_and_gone_is_gone(world: World) -> None:
    """202, then 404: both are what was asked for."""
    client, digest = two_tags(world)
    assert client.delete_manifest(NAME, digest)
    assert not client.delete_manifest(NAME, digest)
    assert set(world.reg.tag_lists[NAME]) == {"v3"}


@pytest.mark.parametrize("answer", [Answer(405), error(400, "UNSUPPORTED"), Answer(501), DENIED])
def test_a_registry_that_does_not_delete_says_so(world: World, answer: Answer) -> None:
    """Denied, for a manifest and for a tag that leads to it alone."""
    manifest = a_manifest(world)
    world.reg.put_manifest(NAME, manifest.raw, OCI_MANIFEST, "v1")
    world.reg.always("DELETE", "/manifests/", answer)
    with world.fails(Denied, phase="delete manifest", reference=manifest.digest):
        world.client().delete_manifest(NAME, manifest.digest)
    with world.fails(Denied):
        world.client().delete_tag(NAME, "v1")
    with world.fails(Denied, phase="delete tag"):
        world.client(quirks=Quirks(tag_deletes=True)).delete_tag(NAME, "v1")


def test_a_registry_that_is_known_not_to_delete_is_not_asked(world: World) -> None:
    """The table spares the request."""
    with world.fails(Denied, phase="delete manifest"):
        world.client(quirks=Quirks(manifest_deletes=False)).delete_manifest(NAME, Digest.of(b"x"))
    assert world.reg.seen == []


def test_a_web_server_that_knows_no_such_page_deleted_nothing(world: World) -> None:
    """404 without a registry behind it is no success."""
    world.reg.always("DELETE", "/manifests/", Answer(404))
    world.reg.always("GET", "/v2/", Answer(200, {"Content-Type": "text/html"}, b"<html>"))
    with world.fails(NotARegistry):
        world.client().delete_manifest(NAME, Digest.of(b"x"))


def test_a_tag_is_deleted_by_its_own_name_where_that_is_known_to_be_harmless(world: World) -> None:
    """The manifest and its other tag stay."""
    _, digest = two_tags(world)
    world.reg.tag_deletes = True
    client = world.client(quirks=Quirks(tag_deletes=True))
    assert client.delete_tag(NAME, "v1")
    assert not client.delete_tag(NAME, "v1")
    assert world.reg.tag_lists[NAME]["v2"] == digest
    assert (NAME, digest) in world.reg.manifests


@pytest.mark.parametrize("lone", ["v1", "v2"])
def test_a_tag_whose_manifest_others_need_is_not_deleted(world: World, lone: str) -> None:
    """Neither another tag nor an index of indexes may lose its manifest; asking for it is refused unsent."""
    client, _ = two_tags(world)
    if lone == "v2":
        del world.reg.tag_lists[NAME]["v1"]  # only the index still needs it
    with world.fails(Denied, phase="delete tag", reference=lone):
        client.delete_tag(NAME, lone)
    assert world.reg.count("DELETE") == 0
    assert world.auth.seen == []


def test_tags_and_indexes_that_vanish_meanwhile_need_nothing(world: World) -> None:
    """Listed, and gone when looked at: no reason to keep what they led to."""
    manifest = a_manifest(world)
    world.reg.put_manifest(NAME, manifest.raw, OCI_MANIFEST, "v1")
    fill(world.reg, NAME, "index")
    fill(world.reg, NAME, "gone", note=" other")
    world.reg.put_manifest(NAME, image(world.reg, NAME, b"plain"), OCI_MANIFEST, "plain")
    world.reg.always("HEAD", "/manifests/gone", Answer(404))
    world.reg.always("GET", "/manifests/sha256:", error(404, "MANIFEST_UNKNOWN"))
    assert world.client().delete_tag(NAME, "v1")


@pytest.mark.parametrize("native", [True, False])
def test_a_tag_that_stands_alone_goes_with_its_manifest(world: World, native: bool) -> None:
    """By its name where the registry takes that, else by the digest that nothing else leads to."""
    world.reg.tag_deletes = native
    manifest = a_manifest(world)
    world.reg.put_manifest(NAME, manifest.raw, OCI_MANIFEST, "v1")
    fill(world.reg, NAME, "other")
    assert world.client().delete_tag(NAME, "v1")
    assert set(world.reg.tag_lists[NAME]) == {"other"}
    assert world.reg.count("DELETE") == (1 if native else 2)


def test_deleting_asks_for_the_right_to_delete(world: World) -> None:
    """The token is for `delete` too."""
    manifest = a_manifest(world)
    world.reg.put_manifest(NAME, manifest.raw, OCI_MANIFEST, "v1")
    world.reg.tokens = world.auth
    client = world.client(login=("me", "SECRET-PASSWORD"))
    assert client.delete_manifest(NAME, manifest.digest)
    scopes = [value for one in world.auth.seen for name, value in one.parameters if name == "scope"]
    assert scopes
    assert all("delete" in scope for scope in scopes)
