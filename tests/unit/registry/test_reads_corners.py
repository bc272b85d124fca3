"""The finest points of reading a blob: one wrong byte, one wrong number, one request too many."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from distworker.digest import Digest
from distworker.errors import Denied, SizeMismatch
from distworker.registry.resume import Again
from tests.fakes.registry_server import Answer, Twist
from tests.fakes.registry_token import FakeTokenServer
from tests.unit.registry.conftest import Rig, fails

RigMaker = Callable[..., Rig]
DATA = random.Random(17).randbytes(20_000)
DIGEST = Digest.of(DATA)
LAST = len(DATA) - 1


def read(r: Rig) -> bytes:
    """The whole blob."""
    with r.client.read_blob("a/b", DIGEST, len(DATA)) as blob:
        return b"".join(bytes(chunk) for chunk in blob)


def ranges(r: Rig) -> list[str]:
    """The Range of each request."""
    return [seen.headers.get("Range") or "" for seen in r.fake.seen]


@pytest.fixture
def holding(rig: RigMaker) -> Rig:
    """A registry that has the blob."""
    r = rig()
    r.fake.put_blob("a/b", DATA)
    return r


@pytest.mark.parametrize("start", [0, 9_999, 10_001])
def test_a_range_that_starts_elsewhere_is_thrown_away_though_its_length_fits(
    holding: Rig, start: int
) -> None:
    """Content-Range counts by itself: as many bytes as are missing, but of another place, are not taken."""
    other = Answer(206, {"Content-Range": f"bytes {start}-{LAST}/{len(DATA)}"}, b"x" * 10_000)
    holding.fake.on("GET", "/blobs/", Twist(cut=10_000), other)
    assert read(holding) == DATA
    assert ranges(holding) == ["", "bytes=10000-", ""]


def test_a_range_that_ends_elsewhere_is_thrown_away_though_its_length_fits(holding: Rig) -> None:
    """The same for the end."""
    other = Answer(206, {"Content-Range": f"bytes 10000-{LAST - 1}/{len(DATA)}"}, b"x" * 10_000)
    holding.fake.on("GET", "/blobs/", Twist(cut=10_000), other)
    assert read(holding) == DATA
    assert ranges(holding) == ["", "bytes=10000-", ""]


def test_a_range_of_unknown_total_is_gone_on_with(holding: Rig) -> None:
    """`*` is allowed there (RFC 9110, 14.4)."""
    rest = Answer(206, {"Content-Range": f"bytes 10000-{LAST}/*"}, DATA[10_000:])
    holding.fake.on("GET", "/blobs/", Twist(cut=10_000), rest)
    assert read(holding) == DATA
    assert ranges(holding) == ["", "bytes=10000-"]


def test_one_byte_is_gone_on_after(holding: Rig) -> None:
    """The smallest progress counts."""
    holding.fake.on("GET", "/blobs/", Twist(cut=1))
    assert read(holding) == DATA
    assert ranges(holding) == ["", "bytes=1-"]


def test_one_byte_is_skipped_where_range_is_ignored(holding: Rig) -> None:
    """No byte is handed out twice."""
    holding.fake.on("GET", "/blobs/", Twist(cut=1), Answer(200, {}, DATA))
    assert read(holding) == DATA


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
def test_an_encoding_that_changes_nothing_is_no_reason_to_stop(holding: Rig, encoding: str) -> None:
    """A cut is gone on from although the reply names `identity`."""
    headers = {"Content-Encoding": encoding} if encoding else {}
    holding.fake.on("GET", "/blobs/", Twist(cut=10_000, headers=headers))
    assert read(holding) == DATA
    # and a wrong length is a wrong length, not a compression
    holding.fake.always("GET", "/blobs/", Answer(200, headers, DATA + b"more"))
    with fails(SizeMismatch):
        read(holding)


def test_asking_for_a_blob_is_one_request(rig: RigMaker) -> None:
    """At a registry as at a storage host that it redirects to; no GET follows an answer that is clear."""
    for storage in (False, True):
        r = rig(storage=storage)
        r.fake.put_blob("a/b", DATA)
        assert r.client.has_blob("a/b", DIGEST, len(DATA))
        assert not r.client.has_blob("a/b", Digest.of(b"gone"))
        assert [seen.method for seen in r.fake.seen] == ["HEAD", "HEAD"]
        if r.fake.storage is not None:
            assert [seen.method for seen in r.fake.storage.seen] == ["HEAD"]


def test_asking_for_a_blob_asks_for_a_token_to_pull_it(rig: RigMaker) -> None:
    """What is needed is known before the registry says so: one token request, and no 401 on the way."""
    tokens = FakeTokenServer({"me": "SECRET-PASSWORD"})
    r = rig(login=("me", "SECRET-PASSWORD"), tokens=tokens)
    for repository in ("a/b", "c/d"):
        r.fake.put_blob(repository, DATA)
        assert r.client.has_blob(repository, DIGEST)
    assert [seen.method for seen in r.fake.seen] == ["HEAD", "HEAD", "HEAD"]
    assert [value for name, value in tokens.seen[-1].parameters if name == "scope"] == ["repository:c/d:pull"]


def test_a_blob_that_may_not_be_asked_for_is_told_by_name(rig: RigMaker) -> None:
    """The error says what was done, where and to what."""
    tokens = FakeTokenServer({"me": "SECRET-PASSWORD"})
    r = rig(login=("me", "SECRET-PASSWORD"), tokens=tokens)
    challenge = f'Bearer realm="{tokens.realm}",service="s",scope="repository:a/b:pull"'
    r.fake.always("HEAD", "/blobs/", Answer(401, {"WWW-Authenticate": challenge}))
    with fails(Denied, phase="head blob", repository="a/b", reference=str(DIGEST)):
        r.client.has_blob("a/b", DIGEST)


def test_asking_again_is_at_once_unless_a_wait_is_named() -> None:
    """A lie costs one more request, no time."""
    assert Again(SizeMismatch("it is shorter")).wait == 0.0
