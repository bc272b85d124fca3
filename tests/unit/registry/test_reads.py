"""Reading manifests and blobs from registries that mean well; the others are in `cases/`."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable

import pytest

from distworker.digest import Digest, Hasher
from distworker.errors import (
    AuthRequired,
    BlobUnknown,
    DigestMismatch,
    InternalError,
    ManifestUnknown,
    Unavailable,
)
from distworker.mediatypes import OCI_MANIFEST
from tests.fakes.registry_server import Answer, Twist
from tests.fakes.registry_token import FakeTokenServer
from tests.unit.registry.conftest import Rig, fails

RigMaker = Callable[..., Rig]
DATA = random.Random(7).randbytes(50_000)
DIGEST = Digest.of(DATA)
RAW = (
    json.dumps(
        {
            "schemaVersion": 2,
            "config": {"mediaType": "a/b", "digest": Digest.of(b"{}"), "size": 2},
            "layers": [],
            "unknown": "\u00e4 kept",
        },
        indent=3,
    ).encode()
    + b"\n"
)


def holding(make: RigMaker, **options: object) -> Rig:
    """A rig whose registry has one blob and one tagged manifest."""
    r = make(**options)
    r.fake.put_blob("a/b", DATA)
    r.fake.put_manifest("a/b", RAW, OCI_MANIFEST, "v1")
    return r


def read(r: Rig, size: int = len(DATA), digest: Digest = DIGEST) -> bytes:
    """The whole blob, its proof checked."""
    with r.client.read_blob("a/b", digest, size) as blob:
        got = b"".join(bytes(chunk) for chunk in blob)
        assert (blob.verified.digest, blob.verified.size) == (digest, len(got))
    return got


def test_a_manifest_mangled_once_heals(rig: RigMaker) -> None:
    """A proxy's hiccup costs one more request."""
    r = holding(rig)
    r.fake.on("GET", "/manifests/", Twist(corrupt=3))
    assert r.client.get_manifest("a/b", Digest.of(RAW)).raw == RAW


def test_a_missing_manifest_is_none_for_head_and_typed_for_get(rig: RigMaker) -> None:
    """404 is an answer, not a fault."""
    r = holding(rig)
    assert r.client.head_manifest("a/b", "gone") is None
    with fails(
        ManifestUnknown, repository="a/b", reference="gone", status=404, registry_code="MANIFEST_UNKNOWN"
    ):
        r.client.get_manifest("a/b", "gone")


def test_a_blob_is_read_and_proven(rig: RigMaker) -> None:
    """In chunks of the asked size, uncompressed, in one request."""
    r = holding(rig)
    assert read(r) == DATA
    assert r.fake.lines() == ["GET /v2/a/b/blobs/" + DIGEST]
    assert r.fake.seen[0].headers.get("Accept-Encoding") == "identity"


def test_the_last_chunk_waits_for_the_proof(rig: RigMaker) -> None:
    """Whoever forwards the chunks never has all of a blob that turns out wrong."""
    r = holding(rig)
    r.fake.always("GET", "/blobs/", Twist(corrupt=10))
    got = bytearray()
    with fails(DigestMismatch), r.client.read_blob("a/b", DIGEST, len(DATA)) as blob:
        for chunk in blob:
            got += chunk
    assert len(got) < len(DATA)
    with pytest.raises(InternalError):
        _ = blob.verified


def begun(seen: int, data: bytes = DATA) -> Hasher:
    """The hash of what somebody read before."""
    hasher = Hasher(DIGEST, len(DATA))
    hasher.update(data[:seen])
    return hasher


def rest(r: Rig, hasher: Hasher) -> bytes:
    """What is handed out after the bytes that are there."""
    with r.client.read_blob("a/b", DIGEST, len(DATA), hasher) as blob:
        got = b"".join(bytes(chunk) for chunk in blob)
        assert blob.verified.size == len(DATA)
    return got


@pytest.mark.parametrize("seen", [1, len(DATA) // 2, len(DATA) - 1])
def test_a_reading_begins_where_an_earlier_one_ended(rig: RigMaker, seen: int) -> None:
    """Only the rest is asked for, and the proof is over all of it."""
    r = holding(rig)
    assert rest(r, begun(seen)) == DATA[seen:]
    assert [one.headers.get("Range") for one in r.fake.seen] == [f"bytes={seen}-"]


def test_nothing_is_asked_when_all_is_there(rig: RigMaker) -> None:
    """The proof alone was missing."""
    r = holding(rig)
    assert rest(r, begun(len(DATA))) == b""
    assert r.fake.seen == []


def test_a_server_that_ignores_the_range_is_read_past_what_is_there(rig: RigMaker) -> None:
    """200 with everything: the beginning is thrown away, no byte is handed out twice."""
    r = holding(rig)
    r.fake.always("GET", "/blobs/", Twist(status=200, body=DATA, drop=("Content-Range",)))
    assert rest(r, begun(len(DATA) // 2)) == DATA[len(DATA) // 2 :]


def test_a_wrong_beginning_is_never_mended_by_splicing(rig: RigMaker) -> None:
    """What was there before was wrong: the proof fails, and nothing is handed out from the start."""
    r = holding(rig)
    wrong = bytes([DATA[0] ^ 1]) + DATA[1:]
    for seen in (len(DATA) // 2, len(DATA) - 1, len(DATA)):
        with fails(DigestMismatch):
            rest(r, begun(seen, wrong))


def test_a_missing_blob_is_known_before_anything_is_prepared(rig: RigMaker) -> None:
    """Entering the context already tells."""
    r = holding(rig)
    with fails(BlobUnknown, status=404), r.client.read_blob("a/b", Digest.of(b"gone"), 4):
        pytest.fail("the context was entered")


def test_presence_is_asked_with_pull_only(rig: RigMaker) -> None:
    """One HEAD, with a token for reading this repository and nothing more."""
    tokens = FakeTokenServer({"me": "SECRET-PASSWORD"})
    r = holding(rig, tokens=tokens, login=("me", "SECRET-PASSWORD"))
    assert r.client.has_blob("a/b", DIGEST, len(DATA))
    (asked,) = [dict(one.parameters)["scope"] for one in tokens.seen]
    assert asked == "repository:a/b:pull"
    assert {one.method for one in r.fake.seen} == {"HEAD"}


def test_a_fault_while_presence_is_asked_says_where(rig: RigMaker) -> None:
    """Phase, repository and digest."""
    r = holding(rig)
    r.fake.always("HEAD", "/blobs/", Answer(502))
    with fails(Unavailable, phase="head blob", repository="a/b", reference=str(DIGEST)):
        r.client.has_blob("a/b", DIGEST)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_of_presence_by_the_registry_itself_is_a_no(rig: RigMaker, status: int) -> None:
    """Only a storage host's refusal is unclear, and only that is looked into."""
    r = holding(rig)
    r.fake.always("HEAD", "/blobs/", Answer(status, {"WWW-Authenticate": 'Basic realm="x"'}))
    with contextlib.suppress(AuthRequired):
        assert not r.client.has_blob("a/b", DIGEST)
    assert {one.method for one in r.fake.seen} == {"HEAD"}


@pytest.mark.parametrize(
    ("answer", "size", "there"),
    [
        (Answer(200, {}, DATA), len(DATA), True),
        (Answer(200, {}, DATA), 7, False),
        (Answer(206, {"Content-Range": f"bytes 0-0/{len(DATA)}"}, b"x"), len(DATA), True),
        (Answer(206, {"Content-Range": f"bytes 0-0/{len(DATA)}"}, b"x"), 7, False),
        (Answer(206, {"Content-Range": "bytes 0-0/*"}, b"x"), 7, True),
        (Answer(206, {}, b"x"), 7, True),
        (Answer(416), len(DATA), False),
        (Answer(416), 0, True),
        (Answer(404), len(DATA), False),
    ],
)
def test_without_head_the_first_byte_tells(rig: RigMaker, answer: Answer, size: int, there: bool) -> None:
    """A registry that does no HEAD is asked for one byte; what that says of the size counts."""
    r = holding(rig)
    r.fake.always("HEAD", "/blobs/", Answer(405))
    r.fake.always("GET", "/blobs/", answer)
    assert r.client.has_blob("a/b", DIGEST, size) is there
    assert [one.headers.get("Range") for one in r.fake.seen] == [None, "bytes=0-0"]
