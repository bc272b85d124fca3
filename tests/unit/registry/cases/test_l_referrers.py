"""The case L03: what refers to an image, from registries with, without and with half of the referrers API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from distworker import mediatypes
from distworker.digest import Digest
from distworker.errors import (
    Denied,
    LimitExceeded,
    ManifestInvalid,
    ProtocolError,
    RedirectRefused,
    UnsupportedDigest,
)
from distworker.limits import PAGE_BODY_MAX, REFERRERS_DEPTH_MAX
from distworker.mediatypes import OCI_INDEX, OCI_MANIFEST
from distworker.registry.base import Registry
from distworker.registry.referrers import digest_tags, fallback_tag, gather
from tests.fakes.holding import dump
from tests.fakes.registry import FakeRegistry, error
from tests.fakes.registry_server import Answer
from tests.fakes.world import World

SUBJECT = Digest.of(b"subject")
SBOM, SIGNATURE = "application/vnd.example.sbom", "application/vnd.example.signature"


def entry(name: str, kind: str = SBOM, **more: Any) -> dict[str, Any]:
    """A descriptor of a manifest that refers to something."""
    data = name.encode()
    return {
        "mediaType": OCI_MANIFEST,
        "digest": Digest.of(data),
        "size": len(data),
        "artifactType": kind,
        "annotations": {"name": name},
        **more,
    }


def listed(*entries: dict[str, Any], **headers: str) -> Answer:
    """A page of the API."""
    body = dump({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)})
    return Answer(
        200, {"Content-Type": OCI_INDEX, **{k.replace("_", "-"): v for k, v in headers.items()}}, body
    )


def tag(registry: FakeRegistry, subject: Digest, *entries: dict[str, Any]) -> None:
    """What a client keeps under the tag of the digest."""
    registry.put_manifest("team/app", listed(*entries).body, OCI_INDEX, fallback_tag(subject))  # type: ignore[arg-type]


def names(client: Registry, subject: Digest = SUBJECT, kind: str = "") -> list[str]:
    """The names of what refers to it."""
    return [found.annotations["name"] for found in client.referrers("team/app", subject, kind)]


def link(url: str) -> str:
    """A Link to the next page."""
    return f'<{url}>; rel="next"'


PATH = f"/v2/team/app/referrers/{SUBJECT}"


# --- L03 ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "answer",
    [
        error(404, "NOT_FOUND"),
        Answer(404, {"Content-Type": "text/plain"}, b"404 page not found\n"),
        error(400, "UNSUPPORTED"),
        error(405, "UNSUPPORTED"),
        error(406, "UNSUPPORTED"),
        Answer(200, {"Content-Type": "text/html"}, b"<html>sign in</html>"),
        Answer(200, {"Content-Type": "application/json"}, b'{"manifests":[]}'),
        Answer(200, {"Content-Type": OCI_MANIFEST}, b"{}"),
    ],
    ids=["404", "404-plain", "400", "405", "406", "html", "json", "other-type"],
)
def test_l03_referrers_fallback(world: World, answer: Answer) -> None:
    """A registry without the API is read by the tag of the digest; that it has none is remembered a while."""
    # Given a registry that answers the API so, and a list under the tag
    world.reg.always("GET", "/referrers/", answer)
    tag(world.reg, SUBJECT, entry("one"), entry("two", SIGNATURE))
    client = world.client()
    # When its referrers are listed
    # Then they are those of the tag, filtered here
    assert names(client) == ["one", "two"]
    assert names(client, kind=SIGNATURE) == ["two"]
    assert names(client, kind="a/b") == []
    # and none is an empty list
    assert names(client, Digest.of(b"unsigned")) == []
    # and the API was asked once, until the memory of it is old
    assert world.reg.count("GET", "/referrers/") == 1
    world.clock.forward(301)
    names(client)
    assert world.reg.count("GET", "/referrers/") == 2


def test_l03_referrers_fallback_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many repositories are remembered as having no API."""
    # Given room for one
    monkeypatch.setattr("distworker.registry.referrers._REMEMBERED", 1)
    client = world.client()
    # When two repositories without API are asked in turn, Then the first is asked anew
    for repository in ("team/app", "team/other", "team/app"):
        assert list(client.referrers(repository, SUBJECT)) == []
    assert world.reg.count("GET", "/referrers/") == 3


def test_l03_referrers_api(world: World) -> None:
    """The API's pages are followed; what it did not filter is filtered here."""
    # Given an API of three pages, whose Link is its own business
    pages = (
        listed(entry("one"), entry("two", SIGNATURE), Link=link(f"{PATH}?cursor=b%2Fc&artifactType=x")),
        listed(entry("two", SIGNATURE), entry("three"), Link=link(f"https://reg.example{PATH}?cursor=3")),
        listed(entry("four", SIGNATURE)),
    )
    client = world.client()
    # When all are listed, Then each comes once
    world.reg.on("GET", "/referrers/", *pages)
    assert names(client) == ["one", "two", "three", "four"]
    assert [f"{seen.path}?{seen.query}" for seen in world.reg.seen] == [
        f"{PATH}?",
        f"{PATH}?cursor=b%2Fc&artifactType=x",
        f"{PATH}?cursor=3",
    ]
    assert {seen.headers.get("Accept") for seen in world.reg.seen} == {OCI_INDEX}
    # When one type is asked for, Then it is asked of the registry, and of us where it did not filter
    world.reg.on("GET", "/referrers/", *pages)
    assert names(client, kind=SIGNATURE) == ["two", "four"]
    assert world.reg.seen[3].parameters == [("artifactType", SIGNATURE)]
    world.reg.on("GET", "/referrers/", listed(entry("mine", ""), OCI_Filters_Applied="artifactType"))
    assert names(client, kind=SIGNATURE) == ["mine"]
    # and an empty list is an answer: the tag is not looked at
    world.reg.on("GET", "/referrers/", listed())
    assert names(client) == []
    assert world.reg.count("GET", "/manifests/") == 0


def test_l03_referrers_nested(world: World) -> None:
    """Referrers of referrers are found once each, nearest first, and tags that refer to each other end."""
    # Given a registry without API; the signature of an SBOM, and lists that lead back to where they came from
    sbom, signature, other = entry("sbom"), entry("signature", SIGNATURE), entry("other")
    tag(world.reg, SUBJECT, sbom, other)
    tag(world.reg, sbom["digest"], signature)
    tag(world.reg, signature["digest"], sbom, other, {**entry("subject"), "digest": SUBJECT})
    client = world.client()

    def found(reach: Any) -> list[str]:
        return [one.annotations["name"] for one in gather(client, "team/app", SUBJECT, reach)]

    # When they are gathered, Then how far is a choice
    assert found("off") == []
    assert found("direct") == ["sbom", "other"]
    assert found("all") == ["sbom", "other", "signature"]


def test_l03_referrers_without_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain or a crowd of referrers ends at a limit, told and not cut off silently."""
    # Given a chain longer than is followed
    subject = SUBJECT
    for number in range(REFERRERS_DEPTH_MAX + 1):
        tag(world.reg, subject, entry(f"{number}"))
        subject = Digest.of(f"{number}".encode())
    client = world.client()
    # When it is gathered, Then that is said, after what was within the limit
    came: list[str] = []
    with world.fails(LimitExceeded, registry="reg.example", repository="team/app", reference=str(SUBJECT)):
        for one in gather(client, "team/app", SUBJECT):
            came.append(one.annotations["name"])
    assert came == [str(number) for number in range(REFERRERS_DEPTH_MAX)]
    # Given more than are followed at once
    monkeypatch.setattr("distworker.registry.referrers.REFERRERS_MAX", 2)
    tag(world.reg, SUBJECT, *(entry(f"wide-{number}") for number in range(3)))
    with world.fails(LimitExceeded):
        list(gather(client, "team/app", SUBJECT, "direct"))
    assert world.reg.count("GET", "/referrers/") == 1


@pytest.mark.parametrize(
    ("raw", "media_type"),
    [
        (
            dump({"schemaVersion": 2, "mediaType": mediatypes.DOCKER_LIST, "manifests": []}),
            mediatypes.DOCKER_LIST,
        ),
        (b'{"schemaVersion":2,"config":{"digest":"%s","size":2}}' % Digest.of(b"{}").encode(), OCI_MANIFEST),
        (b"<html>", OCI_INDEX),
        (b'{"schemaVersion":2,"manifests":[{"digest":"sha256:../../x","size":1}]}', OCI_INDEX),
    ],
)
def test_l03_referrers_tag_is_no_index(world: World, raw: bytes, media_type: str) -> None:
    """What stands under the tag and is no index is told, never guessed at."""
    # Given something else under the tag
    world.reg.put_manifest("team/app", raw, media_type, fallback_tag(SUBJECT))
    # When referrers are listed, Then it is invalid
    with world.fails(ManifestInvalid, repository="team/app"):
        names(world.client())


@pytest.mark.parametrize(
    ("pages", "kind"),
    [
        ([listed(entry("a"), Link=link("https://evil.example/next"))], RedirectRefused),
        ([listed(entry("a"), Link=link(f"http://reg.example{PATH}?n=2"))], RedirectRefused),
        ([listed(entry("a"), Link=link(f"https://reg.example:444{PATH}"))], RedirectRefused),
        ([listed(entry("a"), Link=link(PATH))] * 2, ProtocolError),
        (
            [listed(entry("a"), Link=link(f"{PATH}?2")), listed(entry("a"), Link=link(f"{PATH}?3"))],
            ProtocolError,
        ),
        (
            [listed(entry("a"), Link=link(f"{PATH}?2")), Answer(200, {"Content-Type": "a/b"}, b"{}")],
            ProtocolError,
        ),
        ([Answer(200, {"Content-Type": OCI_INDEX}, b" " * (PAGE_BODY_MAX + 1))], LimitExceeded),
        ([Answer(200, {"Content-Type": OCI_INDEX}, b"[" * 100_000)], ManifestInvalid),
        ([listed({**entry("a"), "size": True})], ManifestInvalid),
        ([listed({**entry("a"), "digest": "blake3:" + "a" * 64})], UnsupportedDigest),
        ([error(403, "DENIED")], Denied),
    ],
)
def test_l03_referrers_hostile(world: World, pages: list[Answer], kind: type[Exception]) -> None:
    """Pages that lead elsewhere, go in circles, grow or are no index end typed; 403 is no missing API."""
    # Given such pages
    world.reg.on("GET", "/referrers/", *pages)
    client = world.client(login=("me", "SECRET-PASSWORD"))
    # When they are followed, Then that is a typed error, and nobody else was asked
    with world.fails(kind, phase="list referrers", repository="team/app"):  # type: ignore[arg-type]
        names(client)
    assert world.evil.seen == []
    assert world.reg.count("GET", "/manifests/") == 0


def test_l03_referrers_fallback_digest_tags(world: World) -> None:
    """Tags made of the digest, as cosign writes them, are found by HEAD."""
    # Given a signature and an SBOM in that style, and a list of referrers
    base = f"sha256-{SUBJECT.hex}"
    raw = dump({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})
    world.reg.put_manifest("team/app", raw, OCI_INDEX, base, f"{base}.sig", f"{base}.sbom", "v1")
    # When they are looked for
    found = dict(digest_tags(world.client(), "team/app", SUBJECT))
    # Then those are there, by HEAD alone
    assert list(found) == [base, f"{base}.sig", f"{base}.sbom"]
    assert {head.digest for head in found.values()} == {Digest.of(raw)}
    assert world.reg.count("GET") == 0


def test_l03_referrers_fallback_tag() -> None:
    """At most 32 and 64 characters of its two parts, which have no other meaning."""
    # Given digests of both algorithms, When the tag is made, Then it is a tag
    assert fallback_tag(Digest.of(b"")) == f"sha256-{Digest.of(b'').hex}"
    assert fallback_tag(Digest.of(b"", "sha512")) == f"sha512-{Digest.of(b'', 'sha512').hex[:64]}"
    assert json.dumps(fallback_tag(SUBJECT)).count(":") == 0
