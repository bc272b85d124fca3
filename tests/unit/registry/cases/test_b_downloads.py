"""The cases B01 to B11: blobs from registries and storage hosts that redirect, break, lie and stall."""

from __future__ import annotations

import gzip
import random
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from distworker import mediatypes
from distworker.digest import Digest
from distworker.errors import (
    BlobUnknown,
    Denied,
    DigestMismatch,
    NotARegistry,
    ProtocolError,
    RedirectRefused,
    RequestTimeout,
    SizeMismatch,
    Throttled,
    TransferError,
    Unavailable,
)
from distworker.manifest import parse_manifest
from distworker.mediatypes import OCI_MANIFEST
from distworker.registry.base import Registry
from distworker.registry.quirks import Quirks
from distworker.registry.waits import RECONNECTS_MAX
from tests.fakes.content import Image, descriptor, image
from tests.fakes.holding import dump, hold, holds_all
from tests.fakes.registry_server import PASS, Answer, FakeServer, Seen, Twist
from tests.fakes.world import World

MIB = 1 << 20
DATA = random.Random(7).randbytes(50_000)
DIGEST = Digest.of(DATA)
#: The same for cases that need more than one chunk of the real size.
BIG = random.Random(8).randbytes(MIB)
SOURCE, DESTINATION = "reg.example/team/app:v1", "reg2.example/team/app:v1"
LOGIN = ("me", "SECRET-PASSWORD")


def read(
    client: Registry, digest: Digest = DIGEST, size: int = len(DATA), repository: str = "team/app"
) -> bytes:
    """The whole blob, its proof checked."""
    with client.read_blob(repository, digest, size) as blob:
        got = b"".join(bytes(chunk) for chunk in blob)
        assert (blob.verified.digest, blob.verified.size) == (digest, len(got))
    return got


def partly(client: Registry, size: int = len(DATA), digest: Digest = DIGEST) -> bytearray:
    """What was handed out, whatever ended it; the error is raised again by `read` in the same test."""
    got = bytearray()
    try:
        with client.read_blob("team/app", digest, size) as blob:
            for chunk in blob:
                got += chunk
    except TransferError:
        pass
    return got


def ranges(server: FakeServer) -> list[str]:
    """The Range of each GET, "" for none."""
    return [seen.headers.get("Range") or "" for seen in server.seen if seen.method == "GET"]


@pytest.fixture
def stored(world: World) -> World:
    """A world whose source has `DATA` in team/app."""
    world.reg.put_blob("team/app", DATA)
    return world


# --- B01 ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("what", ["blob", "manifest"])
def test_b01_redirect_strips_credentials(
    stored: World, what: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage host gets no login, no cookie and no header but the plain ones, on blobs and manifests
    (GHSA-vh4v-2xq2-g5cg, CVE-2018-18074, CVE-2023-43804, CVE-2025-50181); .netrc counts for nothing
    (CVE-2024-47081)."""
    # Given a registry behind a login that redirects and sets cookies, a storage that refuses logins (400),
    # and a .netrc that knows them both
    world = stored
    world.reg.user, world.reg.password = LOGIN
    netrc = tmp_path / ".netrc"
    netrc.write_text(
        "".join(
            f"machine {host} login eve password SECRET-NETRC\n" for host in ("reg.example", "store.example")
        )
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    raw = image().manifest.raw
    manifest = world.reg.put_manifest("team/app", raw, OCI_MANIFEST, "v1")
    target = f"https://store.example/bucket/{DIGEST if what == 'blob' else 'm'}?signature=SECRET-SIGNATURE"
    cookie = {"Location": target, "Set-Cookie": "session=SECRET-COOKIE; Path=/; Domain=example"}
    logged_in = Answer(status, cookie)
    world.reg.always("GET", f"/{what}s/", logged_in)
    world.reg.always("HEAD", "/blobs/", logged_in)
    if what == "manifest":
        world.store.always("GET", "/m", Answer(200, {"Content-Type": OCI_MANIFEST}, raw))
    client = world.client(login=LOGIN)
    # When a blob and a manifest are read
    if what == "blob":
        assert client.has_blob("team/app", DIGEST)
        assert read(client) == DATA
    else:
        assert client.get_manifest("team/app", manifest).raw == raw
    # Then the storage saw nothing but what any reader may send
    assert world.store.seen
    plain = {"host", "user-agent", "accept", "accept-encoding", "range", "connection"}
    for seen in world.store.seen:
        assert {name.lower() for name in seen.headers} <= plain
    # and the registry saw our login, never the one of .netrc
    assert len({seen.authorization for seen in world.reg.seen if seen.authorization}) <= 1


def test_b01_redirect_strips_credentials_on_another_port(stored: World) -> None:
    """The same host on another port is another origin: followed where the operator named it, without a
    login."""
    # Given a registry that redirects to another port of itself
    world = stored
    world.reg.user, world.reg.password = LOGIN
    other = FakeServer()
    world.add("reg.example", other, "44.0.0.1", port=8443)
    other.always("GET", "/there", Answer(200, {}, DATA))
    world.reg.always("GET", "/blobs/", Answer(307, {"Location": "https://reg.example:8443/there"}))
    # When the operator did not name that port
    with world.fails(RedirectRefused):
        read(world.client(login=LOGIN))
    assert other.seen == []
    # When it is named, Then the blob comes, without a login
    assert read(world.client(login=LOGIN, allow=("reg.example:8443",))) == DATA
    assert [seen.authorization for seen in other.seen] == [""]


# --- B02 ----------------------------------------------------------------------------------------------------
EXPIRED = b"<Error><Code>AccessDenied</Code><Message>Request has expired SECRET-SIGNATURE</Message></Error>"


@pytest.mark.parametrize("status", [400, 401, 403, 410])
def test_b02_presigned_expired(stored: World, status: int) -> None:
    """A link that got too old is no failed login: the registry signs a new one, and the offset is kept."""
    # Given storage links that are too old at the start and in the middle
    world = stored
    world.reg.storage, world.reg.tokens = world.store, world.auth
    gone = Answer(status, {"WWW-Authenticate": 'Bearer realm="https://evil.example/t"'}, EXPIRED)
    world.store.on("GET", "/bucket/", gone, Twist(reset=20_000), gone, PASS)
    # When the blob is read
    assert read(world.client(login=LOGIN)) == DATA
    # Then each time the registry was asked for a fresh link
    asked = [seen for seen in world.reg.seen if seen.method == "GET"]
    assert [bool(seen.authorization) for seen in asked] == [False, True, True, True, True]
    # and the last two went on where the bytes had ended, with the one token there ever was
    starts = ranges(world.store)
    assert (starts[:2], starts[2]) == (["", ""], starts[3])
    assert 0 < int(starts[3].removeprefix("bytes=").rstrip("-")) <= 20_000
    assert len(world.auth.seen) == 1


def test_b02_presigned_expired_to_nothing(stored: World) -> None:
    """404 of the storage at the start is no word of the registry: a fresh link is asked for."""
    # Given a storage that does not know the first link
    stored.reg.storage = stored.store
    stored.store.on("GET", "/bucket/", Answer(404))
    # When the blob is read, Then the second one gives it
    assert read(stored.client()) == DATA
    assert len(stored.reg.seen) == len(stored.store.seen) == 2


def test_b02_presigned_expired_always(stored: World) -> None:
    """A storage that never takes its registry's links ends as unavailable, without naming the link."""
    # Given such a storage, When the blob is read, Then the ledger may try it later
    stored.reg.storage = stored.store
    stored.store.always("GET", "/bucket/", Answer(403, {}, EXPIRED))
    with stored.fails(Unavailable, reference=str(DIGEST)) as caught:
        read(stored.client())
    assert caught[0].retry
    assert len(stored.store.seen) <= 5


# --- B03 ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("length", [(), ("Content-Length",)], ids=["with-length", "without-length"])
def test_b03_truncated_200(stored: World, length: tuple[str, ...]) -> None:
    """A clean close before the end is noticed and gone on from."""
    # Given a body that ends early, once
    stored.reg.on("GET", "/blobs/", Twist(cut=30_000, drop=length))
    # When it is read
    assert read(stored.client()) == DATA
    # Then all of it came, the rest by Range
    assert ranges(stored.reg) == ["", "bytes=30000-"]


@pytest.mark.parametrize("length", [(), ("Content-Length",)], ids=["with-length", "without-length"])
def test_b03_truncated_200_always(stored: World, length: tuple[str, ...]) -> None:
    """One that always ends early is told, and what came is never taken for the blob."""
    # Given a body that always ends at the same byte, whatever Range says
    stored.reg.ranges = False
    stored.reg.always("GET", "/blobs/", Twist(cut=30_000, drop=length))
    client = stored.client()
    # When it is read, Then it ends typed and short
    with stored.fails(Unavailable):
        read(client)
    assert len(partly(client)) < len(DATA)
    assert len(stored.reg.seen) < 20


def test_b03_truncated_200_while_skipping(stored: World) -> None:
    """A server that ignores Range and ends before the place we were at is gone on with all the same."""
    # Given one that ignores Range, whose second body ends too early, with no length to tell
    stored.reg.ranges = False
    early = Twist(cut=10_000, drop=("Content-Length",))
    stored.reg.on("GET", "/blobs/", Twist(cut=30_000), early)
    # When the blob is read, Then the third connection brings it
    assert read(stored.client()) == DATA
    assert len(stored.reg.seen) == 3


# --- B04 ----------------------------------------------------------------------------------------------------
def pieces_of(size: int) -> Callable[[int], Iterable[bytes]]:
    """A large blob, made while it is sent."""
    block = random.Random(9).randbytes(MIB)

    def pieces(offset: int) -> Iterable[bytes]:
        for start in range(offset - offset % MIB, size, MIB):
            yield block[max(offset - start, 0) : size - start]

    return pieces


def test_b04_reset_and_resume(world: World) -> None:
    """Three resets in 64 MiB cost little more than the bytes still on their way."""
    # Given a large blob whose connection is reset at three offsets
    size = 64 * MIB
    made = pieces_of(size)
    whole = b"".join(made(0))
    digest = Digest.of(whole)
    world.reg.put_stream("team/app", digest, size, made)
    for offset in (3 * MIB + 17, 20 * MIB, 30 * MIB + 1):
        world.reg.on("GET", "/blobs/", Twist(reset=offset))
    # When it is read
    assert read(world.client(chunk=1 << 18), digest, size) == whole
    # Then each connection went on where the last one had ended
    starts = [int(one.removeprefix("bytes=").rstrip("-") or 0) for one in ranges(world.reg)]
    assert len(starts) == 4
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    # and nearly nothing was sent twice
    assert size <= world.reg.blobs_served[digest] <= size + 16 * MIB


# --- B05 ----------------------------------------------------------------------------------------------------
REST = DATA[20_000:]
END = len(DATA) - 1
RIGHT = ("Content-Range", f"bytes 20000-{END}/{len(DATA)}")
ANSWERS: dict[str, Answer | Twist] = {
    "200-full": Answer(200, {}, DATA),
    "206-wrong-offset": Answer(206, {"Content-Range": f"bytes 0-{END}/{len(DATA)}"}, DATA),
    "206-short": Answer(206, {"Content-Range": f"bytes 20000-{END - 1}/{len(DATA)}"}, REST[:-1]),
    "206-other-total": Answer(206, {"Content-Range": f"bytes 20000-{END}/{len(DATA) + 1}"}, REST),
    "206-other-length": Answer(206, dict([RIGHT]), REST + b"more"),
    "206-no-range": Answer(206, {}, REST),
    "206-two-ranges": Answer(206, {}, REST, extra=(RIGHT, ("Content-Range", f"bytes 0-{END}/{len(DATA)}"))),
    "206-multipart": Answer(206, {"Content-Type": "multipart/byteranges; boundary=x"}, b"--x--"),
    "416": Answer(416, {"Content-Range": f"bytes */{len(DATA)}"}, length=len(DATA)),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_b05_resume_not_honoured(stored: World, name: str) -> None:
    """An answer that does not continue the blob exactly is thrown away; the right bytes come all the same."""
    # Given a connection that breaks, and such an answer to the Range that follows
    stored.reg.on("GET", "/blobs/", Twist(cut=20_000), ANSWERS[name])
    client = stored.client(chunk=1000)
    # When the blob is read
    assert read(client) == DATA
    # Then the answer was used only if it was the whole blob, else all was asked for again
    assert ranges(stored.reg) == ["", "bytes=20000-", *([] if name == "200-full" else [""])]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("206-wrong-offset", ProtocolError), ("206-two-ranges", ProtocolError), ("416", SizeMismatch)],
)
def test_b05_resume_not_honoured_twice(stored: World, name: str, kind: type[TransferError]) -> None:
    """A second lie is final, and no byte of either is handed out."""
    # Given a registry that lies again when it is asked for all
    lies = (Twist(cut=20_000), ANSWERS[name], Answer(200, {}, b"x" * 7))
    stored.reg.on("GET", "/blobs/", *lies, *lies)
    client = stored.client(chunk=1000)
    # When the blob is read, Then it ends typed, and what was handed out is a true beginning
    with stored.fails(SizeMismatch, reference=str(DIGEST)):
        read(client)
    assert DATA.startswith(bytes(partly(client)))
    assert kind in {ProtocolError, SizeMismatch}


def test_b05_resume_not_honoured_by_the_bytes(stored: World) -> None:
    """A range of another blob of the same size is caught by the digest."""
    # Given a rest that is not the blob's
    stored.reg.on("GET", "/blobs/", Twist(cut=20_000), Answer(206, dict([RIGHT]), b"x" * len(REST)))
    # When it is read, Then the digest tells, and the last chunk was held back
    with stored.fails(DigestMismatch):
        read(stored.client(chunk=1000))


def test_b05_resume_not_honoured_for_another_etag(stored: World) -> None:
    """A strong ETag guards the resume at the host that gave it; weak ones and those of a storage are not
    used."""
    # Given a registry with a strong ETag, then one with a weak one, then a storage with a strong one
    for etag, expected in (('"abc"', '"abc"'), ('W/"abc"', None), ("abc", None)):
        stored.reg.on("GET", "/blobs/", Twist(cut=20_000, headers={"ETag": etag}))
        assert read(stored.client()) == DATA
        assert stored.reg.seen[-1].headers.get("If-Range") == expected
    stored.reg.storage = stored.store
    stored.store.on("GET", "/bucket/", Twist(cut=20_000, headers={"ETag": '"abc"'}))
    # When the blob is read, Then neither host hears of the other's ETag
    assert read(stored.client()) == DATA
    assert {seen.headers.get("If-Range") for seen in (stored.reg.seen[-1], stored.store.seen[-1])} == {None}


@pytest.mark.parametrize("back", [True, False], ids=["comes-back", "stays-away"])
def test_b05_resume_not_honoured_vanished(stored: World, back: bool) -> None:
    """404 in the middle is asked once more after a moment, then it is blob_unknown."""
    # Given a blob that is gone when it should be gone on with
    missing = [Answer(404)] * (1 if back else 2)
    stored.reg.on("GET", "/blobs/", Twist(cut=20_000), *missing)
    # When it is read, Then it comes after a pause, or is told as missing
    if back:
        assert read(stored.client()) == DATA
    else:
        with stored.fails(BlobUnknown, repository="team/app"):
            read(stored.client())
    assert 1 <= max(stored.sleeps) <= 2
    assert len(stored.reg.seen) == 3


def test_b05_resume_not_honoured_without_progress(world: World) -> None:
    """A line that breaks every two MiB delivers; one that breaks every byte does not, and neither goes on for
    ever."""
    # Given a blob of 20 MiB over a line that breaks every two
    size = 20 * MIB
    made = pieces_of(size)
    digest = Digest.of(b"".join(made(0)))
    world.reg.put_stream("team/app", digest, size, made)
    world.reg.on("GET", "/blobs/", *[Twist(cut=2 * MIB)] * 9)
    client = world.client(chunk=1 << 18)
    # When it is read, Then it comes
    assert len(read(client, digest, size)) == size
    assert len(world.reg.seen) == 10
    # Given one that breaks at once, When it is read, Then a few tries are all
    world.reg.always("GET", "/blobs/", Twist(cut=50))
    with world.fails(Unavailable):
        read(client, digest, size)
    assert len(world.reg.seen) < 20
    # Given one that breaks after each MiB of more than it may, Then the cap ends it
    assert RECONNECTS_MAX == 50


def test_b05_resume_not_honoured_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much progress each connection makes, their number and the time are bounded."""
    # Given a line that makes progress each time, and a cap of three reconnects
    size = 20 * MIB
    made = pieces_of(size)
    digest = Digest.of(b"".join(made(0)))
    world.reg.put_stream("team/app", digest, size, made)
    world.reg.always("GET", "/blobs/", Twist(cut=2 * MIB))
    monkeypatch.setattr("distworker.registry.resume.RECONNECTS_MAX", 3)
    with world.fails(Unavailable):
        read(world.client(chunk=1 << 18), digest, size)
    assert len(world.reg.seen) == 4
    # When instead the time is up, Then it is not reconnected either
    with (
        world.fails(Unavailable),
        world.client(chunk=1 << 18).read_blob("team/app", digest, size) as blob,
    ):
        for _ in blob:
            world.clock.forward(3600.0)
    assert len(world.reg.seen) == 5


def test_b05_resume_not_honoured_unasked(stored: World) -> None:
    """206 to a request without Range is no answer to it."""
    # Given one, When the blob is read, Then it is a breach of the protocol
    stored.reg.always("GET", "/blobs/", Answer(206, dict([RIGHT]), REST))
    with stored.fails(ProtocolError, status=206):
        read(stored.client())


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(403, {}, b'{"errors":[{"code":"DENIED"}]}'), Denied),
        (Answer(503, {"Retry-After": "120"}), Unavailable),
        (Answer(429, {"Retry-After": "120"}), Throttled),
    ],
)
def test_b05_resume_not_honoured_but_refused(
    stored: World, answer: Answer, kind: type[TransferError]
) -> None:
    """What waiting in place cannot heal ends the reading at once, with the time to wait."""
    # Given a registry that refuses to go on
    stored.reg.on("GET", "/blobs/", Twist(cut=20_000), answer, answer)
    # When the blob is read, Then it is told after one more request
    with stored.fails(kind) as caught:
        read(stored.client())
    assert caught[0].delay == (None if kind is Denied else 120.0)
    assert len(stored.reg.seen) == 2


def in_chunks(*parts: bytes) -> bytes:
    """A chunked body."""
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (in_chunks(DATA[:7], DATA[7:]) + b"0\r\n\r\n", None),
        (in_chunks(DATA), None),
        (in_chunks(DATA, b"more") + b"0\r\n\r\n", SizeMismatch),
        (in_chunks(DATA) + b"nonsense", None),
    ],
    ids=["good", "without-its-end", "longer", "garbled-end"],
)
def test_b05_resume_not_honoured_in_chunks(
    stored: World, body: bytes, kind: type[TransferError] | None
) -> None:
    """However a chunked body ends, size and digest say whether it was the blob."""
    # Given a body in chunks
    answer = Answer(200, {"Transfer-Encoding": "chunked"}, body, length=-1)
    stored.reg.on("GET", "/blobs/", answer)
    # When it is read, Then it is the blob, or longer than it
    if kind is None:
        assert read(stored.client()) == DATA
        assert len(stored.reg.seen) == 1
    else:
        with stored.fails(kind):
            read(stored.client())


# --- B06 ----------------------------------------------------------------------------------------------------
PICTURE = image(BIG)


def blobs_kept(world: World, folder: Path) -> list[Path]:
    """Files of the store that are neither manifests nor records: published blobs and staging."""
    needle = Digest.of(BIG).hex
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and (needle in path.name or "staging" in str(path))
    ]


def test_b06_corrupt_same_length_once(world: World) -> None:
    """One flipped byte costs one clean reading."""
    # Given a layer whose first reading is damaged
    hold(world.reg, "team/app", PICTURE, "v1")
    world.reg.on("GET", f"/blobs/{Digest.of(BIG)}", Twist(corrupt=MIB - 1))
    # When the image is copied
    view, _ = world.copy(SOURCE, DESTINATION)
    # Then it arrives whole
    assert view.state == "done"
    assert holds_all(world.reg2, "team/app", PICTURE)
    assert world.reg.count("GET", f"/blobs/{Digest.of(BIG)}") == 2


def test_b06_corrupt_same_length_always(world: World, tmp_path: Path) -> None:
    """Bytes that stay wrong are digest_mismatch after two readings; nothing of them is kept or pushed."""
    # Given a layer that is damaged where it lies
    hold(world.reg, "team/app", PICTURE, "v1")
    world.reg.always("GET", f"/blobs/{Digest.of(BIG)}", Twist(corrupt=MIB - 1))
    # When the image is copied
    _, (outcome,) = world.copy(SOURCE, DESTINATION)
    # Then it fails by name, after two readings
    assert outcome["error"]["code"] == "digest_mismatch"
    assert (outcome["error"]["registry"], outcome["error"]["reference"]) == ("reg.example", Digest.of(BIG))
    assert world.reg.count("GET", f"/blobs/{Digest.of(BIG)}") == 2
    # and neither store nor destination has it
    assert blobs_kept(world, tmp_path) == []
    assert Digest.of(BIG) not in world.reg2.holds["team/app"]
    assert world.reg2.count("PUT", "/manifests/") == 0


@pytest.mark.parametrize("always", [False, True])
def test_b06_corrupt_same_length_small(world: World, always: bool) -> None:
    """A blob of one chunk is read again before anybody saw a byte: past caches, on a new connection."""
    # Given a small blob that is damaged once or always
    digest = world.reg.put_blob("team/app", b"small")
    (world.reg.always if always else world.reg.on)("GET", "/blobs/", Twist(corrupt=2))
    before = len(world.network.dialled)
    # When it is read, Then it heals or is told, after two requests on two connections
    if always:
        with world.fails(DigestMismatch, reference=str(digest)):
            read(world.client(), digest, 5)
    else:
        assert read(world.client(), digest, 5) == b"small"
    assert [seen.headers.get("Cache-Control") for seen in world.reg.seen] == [None, "no-cache"]
    assert len(world.network.dialled) - before == 2


# --- B07 ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("length", [None, -1], ids=["with-length", "without-length"])
@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1, 1])
def test_b07_size_lies(stored: World, size: int, length: int | None) -> None:
    """A body longer or shorter than its descriptor: never more than the descriptor says is handed out."""
    # Given a descriptor that lies
    stored.reg.always("GET", "/blobs/", Answer(200, {}, DATA, length=length))
    client = stored.client()
    # When the blob is read
    short = size > len(DATA) and length == -1
    with stored.fails(Unavailable if short else SizeMismatch):
        read(client, size=size)
    # Then nothing beyond it, and never all of it, came out
    assert len(partly(client, size)) < size


def test_b07_size_lies_without_end(stored: World) -> None:
    """A body that never ends is left at the first byte too many."""
    # Given an endless body
    sent = 0

    def endless() -> Iterable[bytes]:
        nonlocal sent
        yield DATA
        while not stored.reg.stopping.is_set():
            sent += 1 << 16
            yield bytes(1 << 16)

    stored.reg.always("GET", "/blobs/", Answer(200, {}, endless, length=-1))
    # When it is read, Then it is too long, and little of the rest was taken
    with stored.fails(SizeMismatch):
        read(stored.client())
    assert sent < 8 * MIB


def test_b07_size_lies_of_head(stored: World) -> None:
    """HEAD with another length than the descriptor's does not count as there; 0 and none say nothing."""
    # Given HEADs that say different lengths
    client = stored.client()
    answers = {"7": False, "0": True, str(len(DATA)): True}
    for length, there in answers.items():
        stored.reg.on("HEAD", "/blobs/", Twist(headers={"Content-Length": length}))
        # When it is asked whether the blob of that size is there, Then only a contradiction means no
        assert client.has_blob("team/app", DIGEST, len(DATA)) is there
    stored.reg.on("HEAD", "/blobs/", Twist(drop=("Content-Length",)), Twist(headers={"Content-Length": "7"}))
    assert client.has_blob("team/app", DIGEST, len(DATA))
    assert client.has_blob("team/app", DIGEST)


@pytest.mark.parametrize(("data", "size"), [(DATA, 0), (b"{}", 0), (b"{}", 1), (b"{}", 3), (b"", 1)])
def test_b07_size_lies_impossible(stored: World, data: bytes, size: int) -> None:
    """A descriptor of no bytes with another digest, or of a blob that everybody knows with another size."""
    # Given such a descriptor, When it is read, Then it is a mismatch, and nobody is asked
    with stored.fails(SizeMismatch, reference=str(Digest.of(data))):
        read(stored.client(), Digest.of(data), size)
    assert stored.reg.seen == []


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("data", [b"", b"{}"])
def test_b_constants_need_no_request(world: World, data: bytes, algorithm: str) -> None:
    """The empty blob and `{}` are known to everybody."""
    # Given a registry that may not even have them, When they are read, Then nobody is asked
    assert read(world.client(), Digest.of(data, algorithm), len(data)) == data
    assert world.reg.seen == []


# --- B08 ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("storage", [False, True])
def test_b08_content_encoding_of_stored_gzip(world: World, storage: bool) -> None:
    """Stored gzip that is labelled as an encoding is taken as it lies there."""
    # Given a gzip blob with that label
    packed = gzip.compress(DATA, mtime=0)
    digest = world.reg.put_blob("team/app", packed)
    world.reg.storage = world.store if storage else None
    server = world.store if storage else world.reg
    server.always("GET", "/bu" if storage else "/blobs/", Twist(headers={"Content-Encoding": "gzip"}))
    # When it is read
    assert read(world.client(), digest, len(packed)) == packed
    # Then its raw bytes verified, and no encoding was asked for
    assert {seen.headers.get("Accept-Encoding") for seen in world.reg.seen} == {"identity"}


@pytest.mark.parametrize("length", [None, -1], ids=["with-length", "without-length"])
@pytest.mark.parametrize("data", [DATA, b"a" * 50_000], ids=["grows", "shrinks"])
def test_b08_content_encoding_on_the_fly(world: World, data: bytes, length: int | None) -> None:
    """What was compressed on the way is refused by that name at once, never unpacked."""
    # Given a server that compresses although that was refused
    digest = world.reg.put_blob("team/app", data)
    packed = gzip.compress(data, mtime=0)
    answer = Answer(200, {"Content-Encoding": "gzip"}, packed, length=length)
    world.reg.always("GET", "/blobs/", answer)
    # When the blob is read, Then that is said
    with world.fails(ProtocolError, reference=str(digest)) as caught:
        read(world.client(), digest, len(data))
    assert "compressed" in caught[0].message
    assert len(world.reg.seen) == 1


# --- B09 ----------------------------------------------------------------------------------------------------
def test_b09_stall_and_drip(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silence is a fault like a reset: resumed, then timeout."""
    # Given a registry that falls silent in the middle for ten minutes
    monkeypatch.setattr("distworker.registry.call.READ_TIMEOUT", 0.2)
    world.reg.put_blob("team/app", DATA)
    world.reg.on("GET", "/blobs/", Twist(cut=10_000, stall=600))
    client = world.client()
    # When it is read
    assert read(client) == DATA
    # Then it was gone on with
    start = ranges(world.reg)[1].removeprefix("bytes=").rstrip("-")
    assert 0 < int(start) <= 10_000
    # Given one that never says a thing, When it is read, Then that is a timeout, which the ledger may repeat
    world.reg.always("GET", "/blobs/", Twist(cut=0, stall=600))
    with world.fails(RequestTimeout) as caught:
        read(client)
    assert caught[0].retry
    assert len(world.reg.seen) == 3


def test_b09_stall_and_drip_by_bytes(world: World) -> None:
    """One byte a second for ever is cut by the least pace, resumed a few times, then a timeout."""
    # Given a registry that soon gives one byte at a time, and a second that passes at each
    world.reg.put_blob("team/app", DATA)
    world.clock.step = 1.0

    def dripping(request: Seen) -> Answer | None:
        if request.method != "GET" or "/blobs/" not in request.path:
            return None
        start = int((request.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))

        def drip() -> Iterable[bytes]:
            yield DATA[start : start + 5000]
            for byte in DATA[start + 5000 :]:
                if world.reg.stopping.wait(0.005):
                    return
                yield bytes([byte])

        headers = {"Content-Range": f"bytes {start}-{END}/{len(DATA)}"} if start else {}
        return Answer(206 if start else 200, headers, drip, length=len(DATA) - start)

    own = world.reg.handle
    world.reg.handle = lambda request: dripping(request) or own(request)  # type: ignore[method-assign]
    # When it is read
    with world.fails(RequestTimeout, reference=str(DIGEST)) as caught:
        read(world.client(chunk=64))
    # Then it was resumed, but not for ever
    assert caught[0].retry
    starts = [int(one.removeprefix("bytes=").rstrip("-") or 0) for one in ranges(world.reg)]
    assert 2 <= len(starts) <= 4
    assert starts == sorted(set(starts))


# --- B10 ----------------------------------------------------------------------------------------------------
INWARD = [
    "https://127.0.0.1/x",
    "https://127.1/x",
    "https://2130706433/x",
    "https://0.0.0.0/x",
    "https://169.254.169.254/latest/meta-data",
    "https://[::1]/x",
    "https://[::ffff:127.0.0.1]/x",
    "https://[fd00:ec2::254]/x",
    "https://10.0.0.7/x",
    "https://inner.example/x",
    "http://evil.example/x",
    "http://inner.example/x",
    "https://evil.example:6379/x",
    "https://user:SECRET-PASSWORD@evil.example/x",
    "file:///etc/passwd",
    "ftp://evil.example/x",
    "gopher://evil.example/x",
]


@pytest.mark.parametrize("target", INWARD)
@pytest.mark.parametrize("what", ["blobs", "manifests"])
def test_b10_redirect_inward(stored: World, what: str, target: str) -> None:
    """No redirect leads inward, to plain http, to another port, another scheme or with a user name
    (go-containerregistry #2243, #2284, #2291, #2332)."""
    # Given a registry that redirects there, and a name that resolves to a private address
    world = stored
    world.network.name("inner.example", "10.0.0.7")
    world.reg.always("GET", f"/{what}/", Answer(302, {"Location": target}))
    before = len(world.network.dialled)
    client = world.client(login=LOGIN)
    # When it is read, that is refused by name
    with world.fails(RedirectRefused, repository="team/app"):
        if what == "blobs":
            read(client)
        else:
            client.get_manifest("team/app", "v1")
    # Then nobody but the registry was connected to
    assert {address for address, _ in world.network.dialled[before:]} == {"44.0.0.1"}


def test_b10_redirect_inward_rebinding(stored: World) -> None:
    """A name with a public and a private address is only ever connected to at the public one."""
    # Given a storage host whose name also resolves inward
    world = stored
    world.reg.storage = world.store
    world.network.name("store.example", "10.0.0.7", "44.0.0.4")
    # When the blob is read, Then it comes from outside
    assert read(world.client()) == DATA
    assert ("10.0.0.7", 443) not in world.network.dialled


def test_b10_redirect_inward_loop(stored: World) -> None:
    """A circle and a chain of 31 hops both end after five."""
    # Given a registry that redirects to itself
    world = stored
    world.reg.on("GET", "/blobs/", Answer(302, {"Location": f"/v2/team/app/blobs/{DIGEST}"}))
    with world.fails(RedirectRefused):
        read(world.client())
    # Given a chain
    hops = [Answer(302, {"Location": f"/v2/hop/{number}"}) for number in range(31)]
    world.reg.on("GET", "/v2/", *hops)
    before = len(world.reg.seen)
    # When it is followed, Then not to its end
    with world.fails(RedirectRefused):
        read(world.client())
    assert len(world.reg.seen) - before <= 6


def test_b10_redirect_inward_private_registry(stored: World) -> None:
    """A registry at a private address that the operator allowed is read, its own redirects included; what
    else lies inside is not."""
    # Given a private registry, allowed by name, that redirects within itself and then to a neighbour
    world = stored
    inner, neighbour = FakeServer(), FakeServer()
    world.add("inner.example", inner, "10.0.0.7")
    world.add("other.example", neighbour, "10.0.0.8")
    world.private.add(("10.0.0.7", 443))
    inner.always("GET", "/here", Answer(200, {}, DATA))
    world.reg.on("GET", "/blobs/", Answer(307, {"Location": "https://inner.example/here"}))
    world.reg.on("GET", "/blobs/", Answer(307, {"Location": "https://other.example/here"}))
    client = world.client(allow=("inner.example:443",))
    # When blobs are read, Then the allowed one comes, the other is refused
    assert read(client) == DATA
    with world.fails(RedirectRefused):
        read(client)
    assert neighbour.seen == []


# --- B11 ----------------------------------------------------------------------------------------------------
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
URLS = ("https://evil.example/layer?key=SECRET-SIGNATURE",)


def foreign() -> Image:
    """A Windows image: a base layer with `urls`, and one of its own."""
    document = {
        "schemaVersion": 2,
        "mediaType": mediatypes.DOCKER_MANIFEST,
        "config": descriptor(b"{}", mediatypes.DOCKER_CONFIG),
        "layers": [
            descriptor(DATA, FOREIGN, urls=list(URLS)),
            descriptor(b"own", "application/vnd.docker.image.rootfs.diff.tar.gzip"),
        ],
    }
    return Image(parse_manifest(dump(document)), (b"{}", b"own"))


@pytest.mark.parametrize("has", [False, True], ids=["registry-lacks-it", "registry-has-it"])
def test_b11_foreign_layer(world: World, has: bool) -> None:
    """The registry is asked first; where it lacks the layer, the manifest goes as it is and nobody follows
    its urls (CVE-2020-15157, GHSA-qvqc-4c52-x6qp)."""
    # Given an image whose base layer has urls at a host that asks for logins
    content = hold(world.reg, "team/app", foreign(), "v1")
    if has:
        world.reg.put_blob("team/app", DATA)
    challenge = 'Bearer realm="https://evil.example/token",service="reg.example"'
    world.evil.always("*", "/", Answer(401, {"WWW-Authenticate": challenge}))
    pool = world.pool(logins={"reg.example": LOGIN})
    # When it is copied
    view, _ = world.copy(SOURCE, DESTINATION, pool)
    # Then it arrives with its urls, and the layer only if the registry had it
    assert view.state == "done"
    assert holds_all(world.reg2, "team/app", content)
    assert (DIGEST in world.reg2.holds["team/app"]) is has
    # and the host of the urls was never asked
    assert world.evil.seen == []
    assert world.reg.count("HEAD", DIGEST) + world.reg.count("GET", DIGEST) > 0


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
def test_b11_foreign_layer_opt_in(world: World, scheme: str) -> None:
    """Whoever wants external layers gets them as a stranger would: no login, 401 not answered, digest
    checked."""
    # Given a client with a login for its registry, and urls at a host that wants one
    client = world.client(login=LOGIN)
    challenge = f'{scheme} realm="https://evil.example/token",service="reg.example"'
    refuses = Answer(401, {"WWW-Authenticate": challenge, "Set-Cookie": "a=SECRET-COOKIE"})
    world.evil.on("GET", "/layer", refuses)
    with world.fails(BlobUnknown):
        read(client)
    # When it is read from there
    with world.fails(Denied, phase="get external layer"), client.read_external(URLS, DIGEST, len(DATA)):
        pytest.fail("it was entered")
    # Then the 401 was not answered
    assert [seen.line for seen in world.evil.seen] == ["GET /layer"]
    # and when the host gives it, its digest is what counts
    world.evil.on("GET", "/layer", Twist(status=200, body=DATA), Twist(status=200, body=DATA[:-1] + b"?"))
    with client.read_external(URLS, DIGEST, len(DATA)) as blob:
        assert b"".join(bytes(chunk) for chunk in blob) == DATA
        assert blob.verified.digest == DIGEST
    with world.fails(DigestMismatch), client.read_external(URLS, DIGEST, len(DATA)) as blob:
        assert len(b"".join(bytes(chunk) for chunk in blob)) < len(DATA)


@pytest.mark.parametrize(
    ("urls", "kind"),
    [
        ((), BlobUnknown),
        (("https://evil.example/gone",), BlobUnknown),
        (("http://evil.example/layer",), RedirectRefused),
        (("https://evil.example:8080/layer",), RedirectRefused),
        (("https://evil.example/inward",), RedirectRefused),
        (("https://evil.example/plain",), RedirectRefused),
        (("http://evil.example/layer", "https://evil.example/gone"), BlobUnknown),
        (("https://evil.example/gone", "https://evil.example/busy"), Unavailable),
        (("ftp://evil.example/layer",), ProtocolError),
        (("not an address",), ProtocolError),
        (("https://user:SECRET-PASSWORD@evil.example/layer",), ProtocolError),
    ],
)
def test_b11_foreign_layer_nowhere(world: World, urls: tuple[str, ...], kind: type[TransferError]) -> None:
    """Every address is held to the rules of redirects; what is left says what to expect of another try."""
    # Given addresses that lead nowhere
    world.evil.always("GET", "/gone", Answer(404))
    world.evil.always("GET", "/busy", Answer(503))
    world.evil.always("GET", "/inward", Answer(302, {"Location": "https://169.254.169.254/"}))
    world.evil.always("GET", "/plain", Answer(302, {"Location": "http://store.example/layer"}))
    # When they are read, Then that is a typed error without their query
    with world.fails(kind, phase="get external layer"), world.client().read_external(urls, DIGEST, len(DATA)):
        pytest.fail("it was entered")


def test_b11_foreign_layer_tries_a_few_addresses(world: World) -> None:
    """The first that gives the layer counts; a long list is not walked to its end."""
    # Given a second address that works, and one behind many that do not
    world.evil.always("GET", "/good", Answer(200, {}, DATA))
    good, bad = "https://evil.example/good", "https://evil.example/bad"
    client = world.client()
    with client.read_external((bad, good), DIGEST, len(DATA)) as blob:
        assert sum(len(chunk) for chunk in blob) == len(DATA)
    # When it stands too far behind, Then it is not reached
    with world.fails(BlobUnknown), client.read_external((bad,) * 50 + (good,), DIGEST, len(DATA)):
        pytest.fail("it was entered")
    assert world.evil.count("GET", "/bad") <= 10


# --- what holds for all of them -----------------------------------------------------------------------------
def test_b_a_web_page_is_no_blob(stored: World) -> None:
    """A login page that answers 200 is not taken for a short blob."""
    # Given one, When a blob is read, Then there is no registry
    stored.reg.always("GET", "/blobs/", Answer(200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>"))
    with stored.fails(NotARegistry, repository="team/app"):
        read(stored.client())


@pytest.mark.parametrize("status", [400, 405, 501])
def test_b_a_registry_without_head_of_blobs(stored: World, status: int) -> None:
    """Where HEAD is not done, the first byte of a GET tells whether the blob is there."""
    # Given such a registry
    stored.reg.always("HEAD", "/blobs/", Answer(status))
    client = stored.client()
    # When it is asked, Then it says what is there and what is not, and of which size
    assert client.has_blob("team/app", DIGEST)
    assert client.has_blob("team/app", DIGEST, len(DATA))
    assert not client.has_blob("team/app", DIGEST, 7)
    assert not client.has_blob("team/app", Digest.of(b"gone"))
    assert {one for one in ranges(stored.reg) if one} == {"bytes=0-0"}


def test_b_a_registry_whose_head_is_not_believed(stored: World) -> None:
    """Where HEAD is known to say 200 of blobs that are gone, the first byte of a GET is asked for too."""
    # Given such a registry, with one blob that is there and one that is not
    client = stored.client(quirks=Quirks(blob_head_trusted=False))
    stored.reg.always("HEAD", "/blobs/", Answer(200, {"Content-Length": "50000"}))
    # When they are asked for, Then only the first is there
    assert client.has_blob("team/app", DIGEST, len(DATA))
    assert not client.has_blob("team/app", Digest.of(b"gone"))
    assert stored.reg.count("GET") == 2


def test_b_a_storage_that_signs_only_get(stored: World) -> None:
    """HEAD refused at the storage is not "absent": a GET of the first byte settles it."""
    # Given a storage that takes only GET
    stored.reg.storage = stored.store
    stored.store.always("HEAD", "/bucket/", Answer(403))
    # When it is asked, Then the blob is there
    assert stored.client().has_blob("team/app", DIGEST, len(DATA))
    # and one that answers with a range, or says that there is nothing in it, is understood too
    for answer, size, there in (
        (Answer(206, {"Content-Range": f"bytes 0-0/{len(DATA)}"}, DATA[:1]), len(DATA), True),
        (Answer(206, {"Content-Range": f"bytes 0-0/{len(DATA)}"}, DATA[:1]), 7, False),
        (Answer(206, {"Content-Range": "bytes 0-0/*"}, DATA[:1]), 7, True),
        (Answer(416), 0, True),
        (Answer(416), 7, False),
        (Answer(404), 7, False),
    ):
        stored.store.on("GET", "/bucket/", answer)
        assert stored.client().has_blob("team/app", DIGEST, size) is there


def test_b_memory_stays_flat(world: World) -> None:
    """32 MiB through a client take no more than a few chunks of memory."""
    # Given a large blob
    size = 32 * MIB
    made = pieces_of(size)
    digest = Digest.of(b"".join(made(0)))
    world.reg.put_stream("team/app", digest, size, made)
    client = world.client(chunk=1 << 18)
    # When it is streamed
    tracemalloc.start()
    try:
        with client.read_blob("team/app", digest, size) as blob:
            came = sum(len(chunk) for chunk in blob)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Then only chunks were held, the fake registry's own included
    assert came == size
    assert peak < 8 * MIB


def test_b05_resume_of_a_blob_whose_total_is_not_told(stored: World) -> None:
    """`*` in the place of the total is a right answer, and is gone on with (RFC 9110, 14.4)."""
    # Given a registry that does not say how large the whole is
    rest = Answer(206, {"Content-Range": f"bytes 20000-{END}/*"}, REST)
    stored.reg.on("GET", "/blobs/", Twist(cut=20_000), rest)
    # When the blob is read, Then that answer is used
    assert read(stored.client(chunk=1000)) == DATA
    assert ranges(stored.reg) == ["", "bytes=20000-"]
