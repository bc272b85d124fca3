"""The cases M01 to M10: manifests as hostile and quirky registries serve them."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import re
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from distworker import mediatypes
from distworker.digest import Digest
from distworker.errors import (
    Denied,
    DigestMismatch,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    NotARegistry,
    ProtocolError,
    Schema1Unsupported,
    TransferError,
    Unavailable,
    UnsupportedDigest,
)
from distworker.limits import INDEX_ENTRIES_MAX, MANIFEST_MAX_PULL
from distworker.manifest import Manifest, parse_manifest
from distworker.mediatypes import OCI_ARTIFACT, OCI_INDEX, OCI_MANIFEST
from distworker.registry.quirks import Quirks
from tests.fakes.content import Image, descriptor, image, index, layer
from tests.fakes.holding import dump, hold, holds_all
from tests.fakes.registry import error
from tests.fakes.registry_server import PASS, Answer, Seen, Twist
from tests.fakes.world import World

MIB = 1 << 20
SOURCE, DESTINATION = "reg.example/team/app:v1", "reg2.example/team/app:v1"
ONE, TWO = image(layer("one", 70_000)), image(layer("two", 70_000))
CONFIG = {"config": descriptor(b"{}", mediatypes.OCI_CONFIG), "layers": []}
#: A document of each type that a manifest may have.
DOCUMENTS: dict[str, dict[str, Any]] = {
    mediatypes.OCI_INDEX: {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []},
    mediatypes.DOCKER_LIST: {"schemaVersion": 2, "mediaType": mediatypes.DOCKER_LIST, "manifests": []},
    mediatypes.OCI_MANIFEST: {"schemaVersion": 2, "mediaType": OCI_MANIFEST, **CONFIG},
    mediatypes.DOCKER_MANIFEST: {"schemaVersion": 2, "mediaType": mediatypes.DOCKER_MANIFEST, **CONFIG},
    mediatypes.OCI_ARTIFACT: {"mediaType": OCI_ARTIFACT, "blobs": []},
    mediatypes.DOCKER_SCHEMA1: {"schemaVersion": 1, "name": "team/app", "tag": "v1", "fsLayers": []},
}


def copy(world: World, source: str = SOURCE, **more: Any) -> dict[str, Any]:
    """Copy through the whole pipeline; the outcome of the one image."""
    _, outcomes = world.copy(source, DESTINATION, **more)
    (outcome,) = outcomes
    return dict(outcome)


def refused(world: World, source: str = SOURCE) -> str:
    """Copy, and nothing arrives; the code of the error."""
    outcome = copy(world, source)
    assert outcome["state"] == "failed"
    assert world.reg2.count("PUT") == world.reg2.count("POST") == 0
    return str(outcome["error"]["code"])


def watch(world: World, on_seen: Callable[[Seen], Answer | None]) -> None:
    """Have `on_seen` look at each request to the source first; its answer, if any, is the answer."""
    own = world.reg.handle
    world.reg.handle = lambda request: on_seen(request) or own(request)  # type: ignore[method-assign]


# --- M01 ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("old", [False, True], ids=["answers-404", "converts-to-schema-1"])
@pytest.mark.parametrize("media_type", DOCUMENTS)
def test_m01_accept_list(world: World, media_type: str, old: bool) -> None:
    """A registry that hides or converts what was not asked for by name gives every type as it is."""
    # Given a registry that looks for the manifest's own type in Accept
    raw = dump(DOCUMENTS[media_type])
    world.reg.put_manifest("team/app", raw, media_type, "v1")
    converted = Answer(
        200, {"Content-Type": mediatypes.DOCKER_SCHEMA1}, dump(DOCUMENTS[mediatypes.DOCKER_SCHEMA1])
    )

    def pick(request: Seen) -> Answer | None:
        accepted = [part.strip() for part in (request.headers.get("Accept") or "").split(",")]
        if media_type in accepted:
            return None
        return converted if old else error(404, "MANIFEST_UNKNOWN", "OCI index found, but not accepted")

    watch(world, pick)
    client = world.client()
    # When it is asked for
    if media_type == mediatypes.DOCKER_SCHEMA1:
        with world.fails(Schema1Unsupported, repository="team/app", reference="v1"):
            client.get_manifest("team/app", "v1")
    else:
        found = client.get_manifest("team/app", "v1")
        # Then it comes in its own type and bytes
        assert (found.media_type, found.raw) == (media_type, raw)
    head = client.head_manifest("team/app", "v1")
    assert head is not None
    assert head.media_type == media_type
    # and each request had one Accept line
    assert {len(seen.headers.get_all("Accept") or []) for seen in world.reg.seen} == {1}


# --- M02 ----------------------------------------------------------------------------------------------------
ODD = (
    b'{ "layers" :[ ],\n\t"config": {"size":2,   "data":"e30=", "digest":"%s",'
    b'"mediaType":"application/vnd.example.config"},"unknown":{"z":1e3,"a":"\\u00e4\\/"},'
    b' "schemaVersion":2%s}\n'
)


@pytest.mark.parametrize(
    ("stated", "served"),
    [
        (b', "mediaType" : "application/vnd.oci.image.manifest.v1+json"', OCI_MANIFEST),
        (b', "mediaType" : "application/vnd.oci.image.manifest.v1+json"', "text/plain; charset=utf-8"),
        (b"", f"{OCI_MANIFEST}; charset=utf-8"),
        (b"", mediatypes.DOCKER_MANIFEST),
    ],
)
def test_m02_byte_exact_roundtrip(world: World, stated: bytes, served: str) -> None:
    """Whitespace, order, escapes, unknown fields, data and a missing mediaType arrive as they were."""
    # Given a manifest that no serialiser would write
    raw = ODD % (Digest.of(b"{}").encode(), stated)
    world.reg.put_blob("team/app", b"{}")
    digest = world.reg.put_manifest("team/app", raw, served, "v1")
    # When it is copied
    outcome = copy(world)
    # Then the destination has the same bytes, put under their type and without parameters
    assert (outcome["state"], outcome["digest"]) == ("done", digest)
    media_type = mediatypes.DOCKER_MANIFEST if "docker" in served else OCI_MANIFEST
    assert world.reg2.manifests["team/app", digest] == (media_type, raw)
    puts = [seen for seen in world.reg2.seen if seen.method == "PUT" and "/manifests/" in seen.path]
    assert {(seen.body, seen.headers.get("Content-Type")) for seen in puts} == {(raw, media_type)}


# --- M03 ----------------------------------------------------------------------------------------------------
def test_m03_pinned_digest_mismatch(world: World) -> None:
    """Another valid manifest is refused although the header vouches for it (GHSA-qv35-3gw6-8q4j)."""
    # Given a registry that answers a pinned digest with something else, digest header included
    hold(world.reg, "team/app", ONE)
    hold(world.reg, "team/app", TWO)
    lie = {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": TWO.digest}
    world.reg.always("GET", f"/manifests/{ONE.digest}", Answer(200, lie, TWO.manifest.raw))
    # When the pinned one is asked for
    with world.fails(DigestMismatch, reference=str(ONE.digest), repository="team/app"):
        world.client().get_manifest("team/app", ONE.digest)
    # Then it is asked for twice, the second time past any cache and on a connection of its own
    first, second = world.reg.seen
    assert first.headers.get("Cache-Control") is None
    assert second.headers.get("Cache-Control") == "no-cache"
    # and nothing of it is ever pushed
    assert refused(world, f"reg.example/team/app@{ONE.digest}") == "digest_mismatch"


# --- M04 ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("gone", [False, True], ids=["old-still-served", "old-gone"])
def test_m04_tag_moves(world: World, gone: bool) -> None:
    """The first digest is copied; when it is gone the tag is read once more and the result names the new."""
    # Given a tag that moves right after it was resolved
    hold(world.reg, "team/app", ONE, "v1")
    hold(world.reg, "team/app", TWO)

    def move(request: Seen) -> Answer | None:
        if request.method == "GET" and "/manifests/" in request.path:
            world.reg.tag_lists["team/app"]["v1"] = TWO.digest
            if gone:
                world.reg.manifests.pop(("team/app", ONE.digest), None)
        return None

    watch(world, move)
    # When it is copied
    outcome = copy(world)
    # Then one of the two arrives, whole, and is the one that the outcome names
    expected = TWO if gone else ONE
    assert (outcome["state"], outcome["digest"]) == ("done", expected.digest)
    assert world.reg2.tag_lists["team/app"] == {"v1": expected.digest}
    assert holds_all(world.reg2, "team/app", expected)
    # and the tag was read twice at most
    assert world.reg.count("HEAD", "/manifests/v1") + world.reg.count("GET", "/manifests/v1") == 1 + gone


def test_m04_tag_moves_and_takes_a_child_along(world: World) -> None:
    """A child of the old index is collected while its tree is read: the new index is copied, not half the
    old one."""
    # Given an index whose second child disappears when the tag moves
    old, new = index((ONE, "linux/amd64"), (TWO, "linux/arm64")), index((ONE, "linux/amd64"))
    hold(world.reg, "team/app", old, "v1")

    def move(request: Seen) -> Answer | None:
        if request.path.endswith(ONE.digest):
            world.reg.put_manifest("team/app", new.manifest.raw, OCI_INDEX, "v1")
            world.reg.manifests.pop(("team/app", TWO.digest), None)
        return None

    watch(world, move)
    # When it is copied
    outcome = copy(world)
    # Then the new one arrives
    assert (outcome["state"], outcome["digest"]) == ("done", new.digest)
    assert holds_all(world.reg2, "team/app", new)


# --- M05 ----------------------------------------------------------------------------------------------------
NO_DIGEST = Twist(drop=("Docker-Content-Digest",))


@pytest.mark.parametrize(
    ("on_head", "on_get"),
    [
        (NO_DIGEST, NO_DIGEST),
        (Answer(405), None),
        (Answer(403), None),
        (Answer(501), None),
        (Twist(drop=("Content-Length",)), None),
        (Twist(drop=("Content-Type",)), None),
        (
            Twist(headers={"Docker-Content-Digest": "sha256:short"}),
            Twist(headers={"Docker-Content-Digest": "x"}),
        ),
        (Answer(200, {"Content-Type": "text/html"}, b"<html>"), None),
    ],
)
def test_m05_digest_header_wrong_or_missing(
    world: World, on_head: Answer | Twist, on_get: Twist | None
) -> None:
    """Whatever is missing from HEAD or the headers is found out with a GET and computed from the bytes."""
    # Given a registry whose headers are of little use
    hold(world.reg, "team/app", ONE, "v1")
    world.reg.always("HEAD", "/manifests/v1", on_head)
    if on_get is not None:
        world.reg.always("GET", "/manifests/", on_get)
    client = world.client()
    # When the tag is asked for by HEAD and GET
    head, found = client.head_manifest("team/app", "v1"), client.get_manifest("team/app", "v1")
    # Then both say what the bytes say
    assert head is not None
    assert (head.digest, head.media_type, head.size) == (ONE.digest, OCI_MANIFEST, ONE.manifest.size)
    assert found.raw == ONE.manifest.raw


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_m05_digest_header_wrong_or_missing_on_get(
    world: World, algorithm: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A header that contradicts the bytes is refused, in every algorithm we know; a registry known for wrong
    headers is only warned about, and its HEAD is not believed."""
    # Given a registry that names another digest than that of its bytes
    hold(world.reg, "team/app", ONE, "v1")
    lie = Twist(headers={"Docker-Content-Digest": Digest.of(b"other", algorithm)})
    world.reg.always("*", "/manifests/", lie)
    # When a client that trusts headers reads the tag
    with world.fails(DigestMismatch, reference="v1"):
        world.client().get_manifest("team/app", "v1")
    # Then it refuses it, and one that knows this registry takes the bytes for what they are
    wary = world.client(quirks=Quirks(digest_header_trusted=False))
    assert wary.get_manifest("team/app", "v1").digest == ONE.digest
    head = wary.head_manifest("team/app", "v1")
    assert head is not None
    assert head.digest == ONE.digest
    assert [record.levelno for record in caplog.records if "sends other bytes" in record.message] == [
        logging.WARNING,
        logging.WARNING,
    ]


def test_m05_digest_header_wrong_or_missing_in_another_algorithm(world: World) -> None:
    """A sha512 header that is right is fine, by tag and by digest."""
    # Given a registry that goes by sha512
    hold(world.reg, "team/app", ONE, "v1")
    right = Twist(headers={"Docker-Content-Digest": Digest.of(ONE.manifest.raw, "sha512")})
    world.reg.always("*", "/manifests/", right)
    client = world.client()
    # When it is read in each way, Then it is the same manifest, known by the digest that was asked for
    assert client.get_manifest("team/app", "v1").digest == ONE.digest
    assert client.get_manifest("team/app", ONE.digest).digest == ONE.digest
    head = client.head_manifest("team/app", ONE.digest)
    assert head is not None
    assert head.digest == ONE.digest


def test_m05_digest_header_wrong_or_missing_on_head_by_digest(world: World) -> None:
    """HEAD is a hint: when it contradicts the digest asked for, the bytes decide."""
    # Given a HEAD that names another digest, or none
    hold(world.reg, "team/app", ONE)
    world.reg.on("HEAD", "/manifests/", Twist(headers={"Docker-Content-Digest": TWO.digest}), NO_DIGEST)
    client = world.client()
    # When it is asked for by digest
    for gets in (1, 1):
        head = client.head_manifest("team/app", ONE.digest)
        # Then it is there; only the contradiction cost a GET
        assert head is not None
        assert (head.digest, head.size) == (ONE.digest, ONE.manifest.size)
        assert world.reg.count("GET") == gets


def test_m05_digest_header_wrong_or_missing_at_a_storage_host(world: World) -> None:
    """HEAD is redirected to an address signed for GET and refused there: GET tells, with no login abroad."""
    # Given a registry whose manifests lie at a storage host
    hold(world.reg, "team/app", ONE, "v1")
    there = "https://store.example/m?signature=SECRET-SIGNATURE"
    world.reg.always("*", "/manifests/", Answer(307, {"Location": there}))
    world.store.always("HEAD", "/m", Answer(403))
    served = Answer(200, {"Content-Type": "binary/octet-stream"}, ONE.manifest.raw)
    world.store.always("GET", "/m", served)
    client = world.client(login=("me", "SECRET-PASSWORD"))
    # When it is asked for, Then HEAD and GET agree, and 404 at the storage is no word of the registry
    head = client.head_manifest("team/app", "v1")
    assert head is not None
    assert head.digest == ONE.digest
    assert client.get_manifest("team/app", "v1").media_type == OCI_MANIFEST


def test_m05_digest_header_wrong_or_missing_head_not_tried(world: World) -> None:
    """Where HEAD is known to be useless it is not tried."""
    # Given such a profile
    hold(world.reg, "team/app", ONE, "v1")
    client = world.client(quirks=Quirks(head_manifests=False))
    # When heads are asked for, Then only GETs are sent
    head = client.head_manifest("team/app", "v1")
    assert head is not None
    assert head.digest == ONE.digest
    assert client.head_manifest("team/app", "gone") is None
    assert world.reg.count("HEAD") == 0


def test_m05_digest_header_wrong_or_missing_head_403_is_missing(world: World) -> None:
    """Artifactory says 403 where 404 is meant (go-containerregistry #1691): that costs no GET there."""
    # Given such a registry, When a missing tag is asked for, Then it is missing
    world.reg.always("HEAD", "/manifests/", Answer(403))
    assert world.client(quirks=Quirks(head_403_is_missing=True)).head_manifest("team/app", "gone") is None
    assert world.reg.count("GET") == 0
    # and where that is not known, the GET says so
    assert world.client().head_manifest("team/app", "gone") is None
    assert world.reg.count("GET", "/manifests/") == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(403, "DENIED"), Denied),
        (Answer(200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>sign in</html>"), NotARegistry),
        (Answer(404, {"Content-Type": "text/html"}, b"<html>no such page</html>"), NotARegistry),
    ],
)
def test_m05_digest_header_wrong_or_missing_reason_told_by_get(
    world: World, answer: Answer, kind: type[TransferError]
) -> None:
    """HEAD has no body, so a refusal is asked for with GET: what that says is raised, never "missing"."""
    # Given a registry that refuses HEAD without a word and says why to GET, and a web server's ping
    world.reg.always("HEAD", "/manifests/", Answer(403))
    world.reg.always("GET", "/manifests/", answer)
    world.reg.always("GET", "/v2/", Answer(404, {"Content-Type": "text/html"}, b"<html>no such page</html>"))
    # When the tag is asked for, Then the reason is raised
    with world.fails(kind):
        world.client().head_manifest("team/app", "v1")


# --- M06 ----------------------------------------------------------------------------------------------------
GOOD = DOCUMENTS[OCI_MANIFEST]
LAYER = descriptor(b"x", "application/x")
BAD: dict[str, bytes] = {
    "list-and-image": dump({**GOOD, "manifests": []}),
    "list-and-image-in-capitals": dump({**GOOD, "Manifests": []}),
    "list-and-schema-1": dump({"schemaVersion": 2, "manifests": [], "fsLayers": []}),
    "duplicate-keys": b'{"schemaVersion":2,"config":{},"config":{}}',
    "size-true": dump({**GOOD, "layers": [{**LAYER, "size": True}]}),
    "size-1e3": dump({**GOOD, "layers": [LAYER]}).replace(b'"size": 1}', b'"size": 1e3}'),
    "size-negative": dump({**GOOD, "layers": [{**LAYER, "size": -1}]}),
    "digest-path": dump({**GOOD, "layers": [{**LAYER, "digest": "sha256:../../x"}]}),
    "digest-path-of-config": dump({**GOOD, "config": {**LAYER, "digest": "sha256:../../x"}}),
    "two-sizes": dump({**GOOD, "layers": [LAYER, {**LAYER, "size": 9}]}),
    "deep": b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "not-json": b"<xml/>",
    "not-an-object": b"[]",
    "huge-number": b'{"schemaVersion":2,"x":' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("name", BAD)
def test_m06_ambiguous_or_malformed(world: World, name: str) -> None:
    """What two readers could read differently is manifest_invalid, and no request is built from it
    (CVE-2021-41190, CVE-2024-3727, CVE-2014-8179, CVE-2014-9358)."""
    # Given such a manifest, served as a good one would be
    assert BAD[name] != dump(GOOD)
    world.reg.put_manifest("team/app", BAD[name], OCI_MANIFEST, "v1")
    # When it is read by tag and by digest
    for reference in ("v1", Digest.of(BAD[name])):
        with world.fails(ManifestInvalid, repository="team/app", reference=str(reference)):
            world.client().get_manifest("team/app", reference)
    # Then it is refused, and so is a copy, which asks for nothing else
    assert refused(world) == "manifest_invalid"
    assert {seen.path.rpartition("/")[0] for seen in world.reg.seen} == {"/v2/team/app/manifests"}


@pytest.mark.parametrize(
    ("served", "written"),
    [
        (mediatypes.DOCKER_MANIFEST, OCI_MANIFEST),
        (OCI_INDEX, OCI_MANIFEST),
        (OCI_MANIFEST, OCI_INDEX),
    ],
)
def test_m06_ambiguous_or_malformed_type(world: World, served: str, written: str) -> None:
    """Header and body that disagree are refused, unless the descriptor that led here settles it."""
    # Given a manifest that is served as something else than it says
    raw = dump({**DOCUMENTS[written], "annotations": {"of": served}})
    digest = world.reg.put_manifest("team/app", raw, served, "v1")
    client = world.client()
    # When it is read by tag, or by a digest that nobody stated a type with
    for reference in ("v1", digest):
        with world.fails(ManifestInvalid):
            client.get_manifest("team/app", reference)
    # Then it is refused; a proven descriptor may say which of the two is right, but not a third thing
    assert client.get_manifest("team/app", digest, written).media_type == written
    with world.fails(ManifestInvalid):
        client.get_manifest("team/app", digest, served)
    with world.fails(ManifestInvalid):
        client.get_manifest("team/app", "v1", written)


def test_m06_ambiguous_or_malformed_algorithm(world: World) -> None:
    """A digest of an algorithm we lack is unsupported, not malformed; no request is built of it."""
    # Given a layer named by blake3
    raw = dump({**GOOD, "layers": [{**LAYER, "digest": "blake3:" + "a" * 64}]})
    world.reg.put_manifest("team/app", raw, OCI_MANIFEST, "v1")
    # When it is read, Then it says so
    with world.fails(UnsupportedDigest, repository="team/app", reference="v1"):
        world.client().get_manifest("team/app", "v1")
    assert refused(world) == "unsupported_digest"
    assert world.reg.count("*", "blake3") == 0


# --- M07 ----------------------------------------------------------------------------------------------------
def test_m07_manifest_too_large_to_push(world: World) -> None:
    """5 MiB can be read, since some registries keep such, and are refused before anything is pushed."""
    # Given a valid manifest above what registries must take
    raw = dump({**GOOD, "annotations": {"filler": "x" * (5 * MIB)}})
    world.reg.put_blob("team/app", b"{}")
    world.reg.put_manifest("team/app", raw, OCI_MANIFEST, "v1")
    # When it is read and copied
    assert world.client().get_manifest("team/app", "v1").size == len(raw)
    outcome = copy(world)
    # Then it is refused by its size, and no manifest of it arrives
    assert outcome["error"]["code"] == "manifest_too_large"
    assert world.reg2.count("PUT", "/manifests/") == 0


@pytest.mark.parametrize("length", [1 << 40, -1], ids=["with-length", "without-length"])
def test_m07_manifest_too_large(world: World, length: int) -> None:
    """An endless body is refused within the limit and a little more; memory stays bounded (CVE-2020-1702)."""
    # Given a body that never ends
    sent = 0

    def endless() -> Iterable[bytes]:
        nonlocal sent
        while not world.reg.stopping.is_set():
            sent += 1 << 16
            yield b" " * (1 << 16)

    world.reg.always(
        "GET", "/manifests/", Answer(200, {"Content-Type": OCI_MANIFEST}, endless, length=length)
    )
    client = world.client()
    # When it is read
    tracemalloc.start()
    try:
        with world.fails(ManifestTooLarge, repository="team/app", reference="v1"):
            client.get_manifest("team/app", "v1")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Then little more than the limit was sent, and not much more than twice of it held
    assert sent < MANIFEST_MAX_PULL + 8 * MIB
    assert peak < 3 * MANIFEST_MAX_PULL


def test_m07_manifest_too_large_gzip_bomb(world: World) -> None:
    """An answer compressed on the way is never unpacked, so a small one stays small."""
    # Given a manifest of 64 MiB behind 64 KiB of gzip, by tag and by its own digest
    plain = dump({**GOOD, "annotations": {"filler": "x" * (64 * MIB)}})
    packed = gzip.compress(plain, mtime=0)
    bomb = Answer(200, {"Content-Type": OCI_MANIFEST, "Content-Encoding": "gzip"}, packed)
    world.reg.always("GET", "/manifests/", bomb)
    digests = ("v1", Digest.of(plain))
    client = world.client()
    del plain
    # When it is read
    tracemalloc.start()
    try:
        for reference in digests:
            with world.fails(ManifestInvalid) as caught:
                client.get_manifest("team/app", reference)
            assert "compressed" in caught[0].message
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Then nothing was unpacked
    assert peak < 4 * MIB


def test_m07_manifest_cut_short(world: World) -> None:
    """A connection that breaks inside a manifest costs one more request; twice is told as unavailable."""
    # Given a connection that breaks once
    hold(world.reg, "team/app", ONE, "v1")
    world.reg.on("GET", "/manifests/", Twist(cut=20), PASS, Twist(reset=20), Twist(reset=20))
    client = world.client()
    # When the manifest is read, Then it comes; and when it keeps breaking, that is said
    assert client.get_manifest("team/app", "v1").raw == ONE.manifest.raw
    with world.fails(Unavailable) as caught:
        client.get_manifest("team/app", "v1")
    assert caught[0].retry


@pytest.mark.parametrize("length", [None, -1], ids=["with-length", "without-length"])
def test_m07_manifest_empty(world: World, length: int | None) -> None:
    """200 without a body is no manifest."""
    # Given such an answer, When it is read, Then it is a breach of the protocol
    world.reg.always("GET", "/manifests/", Answer(200, {"Content-Type": OCI_MANIFEST}, length=length))
    with world.fails(ProtocolError, repository="team/app"):
        world.client().get_manifest("team/app", "v1")


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_m07_manifest_that_is_an_error(world: World, by: str) -> None:
    """An error that is sent as a success is the error it spells, not a damaged manifest."""
    # Given a registry that says 200 and "not there"
    complaint = error(404, "MANIFEST_UNKNOWN", "no such thing")
    answer = Answer(200, {"Content-Type": "application/json"}, complaint.body)
    world.reg.always("GET", "/manifests/", answer)
    # When a manifest is read, Then it is not there
    reference = "v1" if by == "tag" else str(ONE.digest)
    with world.fails(ManifestUnknown, registry_code="MANIFEST_UNKNOWN", reference=reference):
        world.client().get_manifest("team/app", reference)
    assert len(world.reg.seen) == 1


# --- M08 ----------------------------------------------------------------------------------------------------
def nested(depth: int) -> Image:
    """An image under `depth` - 1 indexes."""
    content = ONE
    for _ in range(depth - 1):
        content = index((content, ""))
    return content


@pytest.mark.parametrize(
    "content",
    [nested(3), index(), index((ONE, "linux/amd64"), (ONE, "linux/386"), (index((ONE, "")), ""))],
    ids=["depth-3", "empty", "same-child-twice"],
)
def test_m08_nested_index_limits(world: World, content: Image) -> None:
    """Nested, empty and repeating indexes are legal; each digest is read and pushed once."""
    # Given such an index
    hold(world.reg, "team/app", content, "v1")
    # When it is copied
    outcome = copy(world)
    # Then it arrives whole
    assert outcome["state"] == "done"
    assert holds_all(world.reg2, "team/app", content)
    # and nothing was read or pushed twice
    for line in ("GET /v2/team/app/", "PUT /v2/team/app/manifests/sha256"):
        moved = [one for one in (*world.reg.lines(), *world.reg2.lines()) if one.startswith(line)]
        assert len(moved) == len(set(moved))


def many(count: int) -> Image:
    """An index of so many entries."""
    entries = [descriptor(b"%d" % number, OCI_MANIFEST) for number in range(count)]
    raw = dump({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    return Image(Manifest(raw, OCI_INDEX, Digest.of(raw), is_index=True))  # too many to be parsed


@pytest.mark.parametrize("content", [nested(10), many(3000)], ids=["depth-10", "3000-entries"])
def test_m08_nested_index_limits_exceeded(world: World, content: Image) -> None:
    """Too deep or too many is told before any blob moves."""
    # Given an index above a limit
    assert INDEX_ENTRIES_MAX < 3000
    hold(world.reg, "team/app", content, "v1")
    # When it is copied, Then it is refused
    assert refused(world) == "limit_exceeded"
    # and no blob was touched
    assert world.reg.count("GET", "/blobs/") == 0


# --- M09 ----------------------------------------------------------------------------------------------------
def artifact(config_type: str, *layers: tuple[bytes, str], config: bytes = b"{}", **more: Any) -> Image:
    """An OCI manifest of other things than image layers."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(config, config_type),
        "layers": [descriptor(data, kind) for data, kind in layers],
        **more,
    }
    return Image(parse_manifest(dump(document)), (config, *(data for data, _ in layers)))


ATTESTATION = artifact(
    mediatypes.OCI_CONFIG,
    (b'{"_type":"statement"}', "application/vnd.in-toto+json"),
    config=b'{"arch":"unknown"}',
)
SUBJECT = descriptor(ONE.manifest.raw, OCI_MANIFEST)
THINGS: dict[str, Image] = {
    "empty-artifact": artifact(
        mediatypes.EMPTY_JSON, artifactType="application/vnd.example.sbom", subject=SUBJECT
    ),
    "missing-subject": artifact(
        mediatypes.EMPTY_JSON, artifactType="a/b", subject=descriptor(b"nowhere", OCI_MANIFEST)
    ),
    "helm": artifact(
        "application/vnd.cncf.helm.config.v1+json",
        (layer("chart", 66_000), "application/vnd.cncf.helm.chart.content.v1.tar+gzip"),
        (b"signed", "application/vnd.cncf.helm.chart.provenance.v1.prov"),
        config=b'{"name":"chart"}',
    ),
    "wasm": artifact("application/vnd.wasm.config.v0+json", (layer("wasm", 70_000), "application/wasm")),
    "encrypted": artifact(
        mediatypes.OCI_CONFIG,
        (layer("secret", 70_000), "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
    ),
    "zstd": artifact(mediatypes.OCI_CONFIG, (b"zstd", "application/vnd.oci.image.layer.v1.tar+zstd")),
    "unknown-config-and-layer": artifact(
        "application/x", (b"", "text/html"), (b"{}", ""), config=b"\x00\xff"
    ),
    "docker-config-of-octets": artifact("application/octet-stream", (b"x", mediatypes.OCI_CONFIG)),
}
THINGS["attested"] = index((ONE, "linux/amd64"), (ATTESTATION, "unknown/unknown"))
THINGS["all"] = index(*((content, "") for content in THINGS.values()))


@pytest.mark.parametrize("name", THINGS)
def test_m09_attestations_and_artifacts(world: World, name: str) -> None:
    """Artifacts of every kind, attestations and unknown types arrive with all their blobs, digests equal."""
    # Given such a thing
    hold(world.reg, "team/app", THINGS[name], "v1")
    # When it is copied
    outcome = copy(world)
    # Then it is there, whole
    assert (outcome["state"], outcome["digest"]) == ("done", THINGS[name].digest)
    assert holds_all(world.reg2, "team/app", THINGS[name])


def entry_of(raw: bytes, media_type: str) -> Image:
    """An index with one entry."""
    return Image(
        parse_manifest(dump({"schemaVersion": 2, "manifests": [descriptor(raw, media_type)]}), OCI_INDEX)
    )


@pytest.mark.parametrize("kind", ["manifest", "opaque-manifest", "image-by-another-name", "blob"])
def test_m09_attestations_and_artifacts_unknown_entries(world: World, kind: str) -> None:
    """An entry of an unknown type is a manifest if the registry says so, else a blob; never dropped."""
    # Given an index with an entry of a type nobody knows
    strange = "application/vnd.example.thing"
    raw = {
        "manifest": dump({"mediaType": strange, "blobs": [descriptor(b"inside", "a/b")]}),
        "opaque-manifest": dump({"any": "thing"}),
        "image-by-another-name": ONE.manifest.raw,
        "blob": b"not even JSON",
    }[kind]
    content = entry_of(raw, strange)
    hold(world.reg, "team/app", content, "v1")
    if kind == "blob":
        world.reg.put_blob("team/app", raw)
    else:
        for data in (b"inside", *ONE.blobs):
            world.reg.put_blob("team/app", data)
        served = OCI_MANIFEST if kind == "image-by-another-name" else strange
        world.reg.put_manifest("team/app", raw, served)
    # When it is copied
    outcome = copy(world)
    # Then the entry is there as what it was
    assert outcome["state"] == "done", outcome
    digest = Digest.of(raw)
    if kind == "blob":
        assert digest in world.reg2.holds["team/app"]
    else:
        assert world.reg2.manifests["team/app", digest] == world.reg.manifests["team/app", digest]
    if kind == "manifest":
        assert Digest.of(b"inside") in world.reg2.holds["team/app"]


def test_m09_attestations_and_artifacts_nowhere(world: World) -> None:
    """Neither manifest nor blob: told, and nothing is pushed under the tag."""
    # Given an index whose entry the registry does not have
    hold(world.reg, "team/app", entry_of(b"gone", "application/vnd.example.thing"), "v1")
    # When it is copied
    outcome = copy(world)
    # Then the blob is what is missing
    assert outcome["error"]["code"] == "blob_unknown"
    assert world.reg2.count("PUT", "/manifests/") == 0


def test_m09_attestations_and_artifacts_withdrawn(world: World) -> None:
    """The withdrawn artifact manifest is copied byte for byte with its blobs."""
    # Given one
    raw = dump({"mediaType": OCI_ARTIFACT, "artifactType": "a/b", "blobs": [descriptor(b"content", "a/b")]})
    content = Image(parse_manifest(raw, OCI_ARTIFACT), (b"content",))
    hold(world.reg, "team/app", content, "v1")
    # When it is copied, Then it is there
    assert copy(world)["state"] == "done"
    assert holds_all(world.reg2, "team/app", content)


# --- M10 ----------------------------------------------------------------------------------------------------
def signed() -> tuple[bytes, Digest]:
    """A signed schema 1 manifest and the digest it goes by: that of its payload."""

    def packed(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    document = {
        "schemaVersion": 1,
        "name": "team/app",
        "tag": "v1",
        "fsLayers": [{"blobSum": Digest.of(b"layer")}] * 2,
        "history": [{"v1Compatibility": "{}"}] * 2,
    }
    payload = json.dumps(document, indent=3).encode()
    protected = packed(dump({"formatLength": len(payload) - 2, "formatTail": packed(payload[-2:])}))
    signatures = dump({"signatures": [{"header": {}, "signature": "x", "protected": protected}]})[1:-1]
    return payload[:-2] + b",\n" + signatures + b"\n}", Digest.of(payload)


@pytest.mark.parametrize("by", ["tag", "digest"])
@pytest.mark.parametrize(
    "served", [mediatypes.DOCKER_SCHEMA1_SIGNED, mediatypes.DOCKER_SCHEMA1, "application/json", "text/plain"]
)
def test_m10_schema1(world: World, served: str, by: str) -> None:
    """A signed manifest goes by the digest of its payload; it is refused by its name, nothing is pushed."""
    # Given a signed manifest, under the digest of its payload
    raw, digest = signed()
    assert Digest.of(raw) != digest
    world.reg.manifests["team/app", digest] = (served, raw)
    world.reg.tag_lists["team/app"]["v1"] = digest
    reference = "v1" if by == "tag" else str(digest)
    # When it is read
    with world.fails(Schema1Unsupported, repository="team/app", reference=reference):
        world.client().get_manifest("team/app", reference)
    # Then that was said at once, and a copy pushes nothing
    assert world.reg.count("GET") == 1
    assert (
        refused(world, SOURCE if by == "tag" else f"reg.example/team/app@{digest}") == "schema1_unsupported"
    )


def test_m10_schema1_with_another_payload(world: World) -> None:
    """When the payload is not the one asked for either, the bytes are wrong, whatever they are."""
    # Given a signed manifest under a digest that is not its payload's
    raw, digest = signed()
    changed = re.sub(rb"team/app", b"team/xxx", raw)
    world.reg.manifests["team/app", digest] = (mediatypes.DOCKER_SCHEMA1_SIGNED, changed)
    # When it is asked for by that digest, Then it is a mismatch
    with world.fails(DigestMismatch, reference=str(digest)):
        world.client().get_manifest("team/app", digest)
