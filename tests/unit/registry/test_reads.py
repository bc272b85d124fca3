"""Reading manifests and blobs from registries that lie, break and redirect."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable

import pytest

from distworker.digest import Digest
from distworker.errors import (
    BlobUnknown,
    DigestMismatch,
    InternalError,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    ProtocolError,
    RateLimited,
    RedirectRefused,
    RequestTimeout,
    SizeMismatch,
    Throttled,
    TransferError,
    Unavailable,
)
from distworker.mediatypes import OCI_INDEX, OCI_MANIFEST
from tests.fakes.registry_server import PASS, Answer, FakeServer, Twist
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
MIB = 1 << 20


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


# --- manifests ----------------------------------------------------------------------------------------------
def test_m02_manifest_bytes_are_kept(rig: RigMaker) -> None:
    """Odd whitespace, unknown fields and a final newline come through, by tag and by digest."""
    r = holding(rig)
    assert r.client.get_manifest("a/b", "v1").raw == RAW
    assert r.client.get_manifest("a/b", Digest.of(RAW)).digest == Digest.of(RAW)


def test_m01_one_accept_line_names_every_type(rig: RigMaker) -> None:
    """A short list makes registries answer 404 or another image."""
    r = holding(rig)
    r.client.head_manifest("a/b", "v1")
    (line,) = r.fake.seen[-1].headers.get_all("Accept") or []
    assert OCI_INDEX in line
    assert OCI_MANIFEST in line


def test_m03_other_bytes_than_the_pinned_digest_are_refused(rig: RigMaker) -> None:
    """Even when the header vouches for them; one retry, then final."""
    r = holding(rig)
    other = RAW.replace(b"kept", b"lost")
    lie = {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": Digest.of(other)}
    r.fake.always("GET", "/manifests/", Answer(200, lie, other))
    with fails(DigestMismatch, reference=str(Digest.of(RAW))):
        r.client.get_manifest("a/b", Digest.of(RAW))
    assert r.fake.count("GET") == 2


def test_m03_a_manifest_mangled_once_heals(rig: RigMaker) -> None:
    """A proxy's hiccup costs one more request."""
    r = holding(rig)
    r.fake.on("GET", "/manifests/", Twist(corrupt=3))
    assert r.client.get_manifest("a/b", Digest.of(RAW)).raw == RAW


def test_m05_a_wrong_digest_header_on_a_tag_is_refused(rig: RigMaker) -> None:
    """Header and bytes must agree."""
    r = holding(rig)
    r.fake.always("GET", "/manifests/", Twist(headers={"Docker-Content-Digest": Digest.of(b"x")}))
    with fails(DigestMismatch):
        r.client.get_manifest("a/b", "v1")


@pytest.mark.parametrize(
    "spoiled",
    [
        Answer(405),
        Twist(drop=("Docker-Content-Digest",)),
        Twist(drop=("Content-Length",)),
        Answer(403),
        Answer(200),
    ],
)
def test_m05_a_useless_head_is_asked_with_get(rig: RigMaker, spoiled: Answer | Twist) -> None:
    """No digest, no length, not allowed: the bytes tell."""
    r = holding(rig)
    r.fake.always("HEAD", "/manifests/", spoiled)
    head = r.client.head_manifest("a/b", "v1")
    assert head is not None
    assert (head.digest, head.media_type, head.size) == (Digest.of(RAW), OCI_MANIFEST, len(RAW))


def test_a_missing_manifest_is_none_for_head_and_typed_for_get(rig: RigMaker) -> None:
    """404 is an answer, not a fault."""
    r = holding(rig)
    assert r.client.head_manifest("a/b", "gone") is None
    with fails(
        ManifestUnknown, repository="a/b", reference="gone", status=404, registry_code="MANIFEST_UNKNOWN"
    ):
        r.client.get_manifest("a/b", "gone")


@pytest.mark.parametrize("length", [None, -1])
def test_m07_a_manifest_too_large_is_refused(rig: RigMaker, length: int | None) -> None:
    """With and without Content-Length; nothing is read beyond the limit."""
    r = holding(rig)
    r.fake.always(
        "GET", "/manifests/", Answer(200, {"Content-Type": OCI_MANIFEST}, b" " * (9 * MIB), length=length)
    )
    with fails(ManifestTooLarge):
        r.client.get_manifest("a/b", "v1")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", ProtocolError),
        (b"{", ManifestInvalid),
        (b'{"schemaVersion":2,"schemaVersion":2}', ManifestInvalid),
        (b'{"manifests":[],"layers":[]}', ManifestInvalid),
        (b"[" * 200_000, ManifestInvalid),
    ],
)
def test_m06_a_malformed_manifest_is_a_typed_error(
    rig: RigMaker, body: bytes, kind: type[TransferError]
) -> None:
    """Named with repository and tag."""
    r = holding(rig)
    r.fake.always("GET", "/manifests/", Answer(200, {"Content-Type": OCI_MANIFEST}, body))
    with fails(kind, repository="a/b", reference="v1"):
        r.client.get_manifest("a/b", "v1")


# --- blobs: the good way ------------------------------------------------------------------------------------
def test_a_blob_is_read_and_proven(rig: RigMaker) -> None:
    """In chunks of the asked size, uncompressed, in one request."""
    r = holding(rig)
    assert read(r) == DATA
    assert r.fake.lines() == ["GET /v2/a/b/blobs/" + DIGEST]
    assert r.fake.seen[0].headers.get("Accept-Encoding") == "identity"


def test_u15_a_blob_without_bytes_needs_no_request(rig: RigMaker) -> None:
    """The empty blob is a constant."""
    r = rig()
    assert read(r, 0, Digest.of(b"")) == b""
    assert r.fake.seen == []


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


def test_a_missing_blob_is_known_before_anything_is_prepared(rig: RigMaker) -> None:
    """Entering the context already tells."""
    r = holding(rig)
    with fails(BlobUnknown, status=404), r.client.read_blob("a/b", Digest.of(b"gone"), 4):
        pytest.fail("the context was entered")


def test_b08_a_content_encoding_does_not_change_the_bytes(rig: RigMaker) -> None:
    """Some servers label stored gzip as an encoding: what is hashed is what was sent."""
    r = rig()
    packed = gzip.compress(DATA, mtime=0)
    digest = r.fake.put_blob("a/b", packed)
    r.fake.always("GET", "/blobs/", Twist(headers={"Content-Encoding": "gzip"}))
    assert read(r, len(packed), digest) == packed


@pytest.mark.parametrize("length", [None, -1])
def test_b08_bytes_compressed_on_the_way_are_refused(rig: RigMaker, length: int | None) -> None:
    """Though identity was asked for; size or digest tell."""
    r = holding(rig)
    packed = gzip.compress(DATA, mtime=0)
    r.fake.always("GET", "/blobs/", Answer(200, {"Content-Encoding": "gzip"}, packed, length=length))
    with fails(ProtocolError) as caught:
        read(r)
    assert "compressed" in caught[0].message


# --- blobs: redirects ---------------------------------------------------------------------------------------
def test_b01_the_storage_host_sees_no_login_and_no_cookie(rig: RigMaker) -> None:
    """GET and HEAD follow to the storage, which refuses anyone with a login."""
    r = holding(rig, storage=True, user="me", password="SECRET-pw", login=("me", "SECRET-pw"))
    assert read(r) == DATA
    assert r.client.has_blob("a/b", DIGEST)
    assert r.fake.storage is not None
    for seen in r.fake.storage.seen:
        assert seen.authorization == ""
        assert seen.headers.get("Cookie") is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_b01_every_kind_of_redirect_is_followed_on_reads(rig: RigMaker, status: int) -> None:
    """Registries use them all."""
    r = holding(rig, storage=True)
    r.fake.always("GET", "/blobs/", Twist(status=status))
    assert read(r) == DATA


def test_b02_an_expired_link_is_fetched_anew(rig: RigMaker) -> None:
    """At the start and in the middle; the offset is kept."""
    r = holding(rig, storage=True)
    assert r.fake.storage is not None
    expired = Answer(403, {}, b"<Error>Request has expired SECRET-SIGNATURE</Error>")
    r.fake.storage.on("GET", "/bucket/", expired, Twist(reset=20_000), expired, PASS)
    assert read(r) == DATA
    assert r.fake.count("GET") == 4
    assert r.fake.storage.seen[-1].headers["Range"].startswith("bytes=")


def test_b02_a_link_that_is_always_refused_ends_typed(rig: RigMaker) -> None:
    """Without naming the link."""
    r = holding(rig, storage=True)
    assert r.fake.storage is not None
    r.fake.storage.always("GET", "/bucket/", Answer(403, {}, b"<Error>SECRET-SIGNATURE</Error>"))
    with fails(Unavailable):
        read(r)


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://u:SECRET@127.0.0.1/x", "/v2/loop"]
)
def test_b10_redirects_that_lead_nowhere_good_are_refused(rig: RigMaker, target: str) -> None:
    """Other schemes, user names and circles."""
    r = holding(rig)
    r.fake.always("GET", "/v2/", Answer(307, {"Location": target}))
    with fails(RedirectRefused if target == "/v2/loop" else ProtocolError):
        read(r)


def test_b10_endless_redirects_stop(rig: RigMaker, serve: Callable[[FakeServer], FakeServer]) -> None:
    """Five hops are enough for anyone."""

    class Maze(FakeServer):
        def handle(self, request: object) -> Answer:
            return Answer(302, {"Location": f"{self.url}/{len(self.seen)}"})

    maze = Maze()
    serve(maze)
    r = holding(rig)
    r.fake.always("GET", "/blobs/", Answer(307, {"Location": f"{maze.url}/0"}))
    with fails(RedirectRefused):
        read(r)
    assert len(maze.seen) <= 6


# --- blobs: broken connections ------------------------------------------------------------------------------
def test_b03_a_body_cut_short_is_continued(rig: RigMaker) -> None:
    """With and without Content-Length, a clean close in the middle is noticed."""
    r = holding(rig)
    r.fake.on("GET", "/blobs/", Twist(cut=30_000), Twist(cut=5_000, drop=("Content-Length",)))
    assert read(r) == DATA
    assert r.fake.seen[1].headers["Range"] == "bytes=30000-"


def test_b04_resets_are_resumed_and_little_is_read_twice(rig: RigMaker) -> None:
    """Three resets, each continued where the last whole chunk ended."""
    r = holding(rig, chunk=1000)
    r.fake.on("GET", "/blobs/", Twist(reset=10_500), Twist(reset=15_000), Twist(reset=3_000))
    assert read(r) == DATA
    assert len(r.fake.seen) == 4
    starts = [int(one.headers["Range"].removeprefix("bytes=").rstrip("-")) for one in r.fake.seen[1:]]
    assert starts == sorted(starts)


def test_b05_a_registry_that_ignores_range_is_read_from_the_start(rig: RigMaker) -> None:
    """What was handed out already is skipped, and the proof still holds."""
    r = holding(rig, ranges=False)
    r.fake.on("GET", "/blobs/", Twist(reset=30_000))
    assert read(r) == DATA


@pytest.mark.parametrize(
    "lie",
    [
        {"Content-Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}"},
        {"Content-Range": f"bytes 20000-{len(DATA) - 2}/{len(DATA)}"},
        {"Content-Range": f"bytes 20000-{len(DATA) - 1}/{len(DATA) + 1}"},
        {"Content-Range": "20000-"},
        {"Content-Range": "", "Content-Type": "multipart/byteranges; boundary=x"},
    ],
)
def test_b05_a_wrong_range_answer_is_never_spliced(rig: RigMaker, lie: dict[str, str]) -> None:
    """Another first byte, last byte or total: thrown away, and read whole instead."""
    r = holding(rig, chunk=1000)
    r.fake.on("GET", "/blobs/", Twist(cut=20_000), Twist(headers=lie))
    assert read(r) == DATA
    assert r.fake.seen[-1].headers.get("Range") is None


def test_b05_two_content_ranges_are_never_spliced(rig: RigMaker) -> None:
    """One of them is a lie."""
    r = holding(rig, chunk=1000)
    rest = DATA[20_000:]
    ranges = (
        ("Content-Range", f"bytes 20000-{len(DATA) - 1}/{len(DATA)}"),
        ("Content-Range", f"bytes 0-{len(DATA) - 1}/{len(DATA)}"),
    )
    r.fake.on("GET", "/blobs/", Twist(cut=20_000), Answer(206, {}, rest, extra=ranges))
    assert read(r) == DATA


def test_b05_range_answers_that_stay_wrong_end_typed(rig: RigMaker) -> None:
    """A second lie is final."""
    r = holding(rig, chunk=1000)
    r.fake.on("GET", "/blobs/", Twist(cut=20_000), Answer(416, length=5), Answer(200, {}, b"short"))
    with fails(SizeMismatch):
        read(r)


def test_b06_a_flipped_byte_is_a_mismatch(rig: RigMaker) -> None:
    """The error names registry, repository and blob."""
    r = holding(rig)
    r.fake.on("GET", "/blobs/", Twist(corrupt=49_999))
    with fails(DigestMismatch, repository="a/b", reference=str(DIGEST)):
        read(r)


def test_b06_a_small_blob_corrupted_once_heals_by_itself(rig: RigMaker) -> None:
    """While nothing was handed out yet, a clean second read is tried before giving up."""
    r = rig()
    digest = r.fake.put_blob("a/b", b"small")
    r.fake.on("GET", "/blobs/", Twist(corrupt=2))
    assert read(r, 5, digest) == b"small"
    r.fake.always("GET", "/blobs/", Twist(corrupt=2))
    with fails(DigestMismatch):
        read(r, 5, digest)


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1, 1])
def test_b07_a_size_that_lies_is_a_mismatch(rig: RigMaker, size: int) -> None:
    """A descriptor above or below the truth; never more than it says is handed out."""
    r = holding(rig)
    with fails(SizeMismatch):
        read(r, size)


def test_b07_a_body_longer_than_its_descriptor_is_cut_off(rig: RigMaker) -> None:
    """Without Content-Length only the extra byte tells."""
    r = holding(rig)
    r.fake.always("GET", "/blobs/", Answer(200, {}, DATA + b"more", length=-1))
    with fails(SizeMismatch):
        read(r)


def test_a_blob_that_vanishes_in_the_middle_is_told(rig: RigMaker) -> None:
    """Asked once more, then typed."""
    r = holding(rig)
    r.fake.on("GET", "/blobs/", Twist(cut=20_000), Answer(404), Answer(404))
    with fails(BlobUnknown):
        read(r)


def test_connections_that_never_get_anywhere_are_given_up(rig: RigMaker) -> None:
    """Reconnects without progress count; the waits grow and end."""
    r = holding(rig, chunk=100)
    r.fake.always("GET", "/blobs/", Twist(reset=50))
    with fails(Unavailable):
        read(r)
    assert len(r.fake.seen) < 20


def test_progress_makes_reconnects_free(rig: RigMaker) -> None:
    """A line that breaks every two MiB still delivers."""
    r = rig(chunk=MIB)
    data = random.Random(1).randbytes(20 * MIB)
    digest = r.fake.put_blob("a/b", data)
    r.fake.on("GET", "/blobs/", *[Twist(cut=2 * MIB)] * 9)
    assert read(r, len(data), digest) == data
    assert len(r.fake.seen) == 10


# --- waiting ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 522])
def test_f02_a_moment_of_trouble_is_waited_out(rig: RigMaker, status: int) -> None:
    """Server errors and hang-ups before the reply are tried again in place."""
    r = holding(rig)
    r.fake.on("GET", "/manifests/", Answer(status), Answer(hangup=True))
    assert r.client.get_manifest("a/b", "v1").raw == RAW
    assert len(r.sleeps) == 2


def test_f02_lasting_trouble_is_a_typed_error(rig: RigMaker) -> None:
    """After four tries the ledger takes over."""
    r = holding(rig)
    r.fake.always("GET", "/manifests/", Answer(503, {}, b"<html><b>Sorry</b></html>"))
    with fails(Unavailable, status=503, phase="get manifest") as caught:
        r.client.get_manifest("a/b", "v1")
    assert "Sorry" in caught[0].message
    assert "<" not in caught[0].message
    assert len(r.fake.seen) == 4


@pytest.mark.parametrize(("value", "slept"), [("2", 2.0), ("30", 30.0), ("0", 1.0)])
def test_f01_a_short_wait_is_slept_in_place(rig: RigMaker, value: str, slept: float) -> None:
    """And the request then succeeds."""
    r = holding(rig)
    r.fake.on("GET", "/manifests/", Answer(429, {"Retry-After": value}))
    assert r.client.get_manifest("a/b", "v1").raw == RAW
    assert r.sleeps == [slept]


@pytest.mark.parametrize(("status", "kind"), [(429, Throttled), (503, Unavailable)])
def test_f01_a_long_wait_gives_the_work_back(rig: RigMaker, status: int, kind: type[TransferError]) -> None:
    """No slot is held for minutes; the error says how long to stay away."""
    r = holding(rig)
    r.fake.always("GET", "/manifests/", Answer(status, {"Retry-After": "120"}))
    with fails(kind, delay=120.0):
        r.client.get_manifest("a/b", "v1")
    assert (r.sleeps, len(r.fake.seen)) == ([], 1)


@pytest.mark.parametrize("value", ["", "1.5", "-3", "soon"])
def test_f01_a_wait_that_makes_no_sense_is_our_own(rig: RigMaker, value: str) -> None:
    """Back-off decides, and the error still names a delay for the ledger."""
    r = holding(rig)
    r.fake.always("GET", "/manifests/", Answer(429, {"Retry-After": value}))
    with fails(Throttled, delay=30.0):
        r.client.get_manifest("a/b", "v1")
    assert len(r.sleeps) == 3


def test_f01_docker_hubs_pull_limit_is_counted_not_throttled(rig: RigMaker) -> None:
    """Waiting seconds would not help: the work is given back for long."""
    r = holding(rig)
    body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}'
    r.fake.always("GET", "/manifests/", Answer(429, {}, body))
    with fails(RateLimited, delay=900.0, registry_code="TOOMANYREQUESTS"):
        r.client.get_manifest("a/b", "v1")
    assert len(r.fake.seen) == 1


def test_b09_a_stalled_reply_times_out(rig: RigMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """No byte for too long is a fault like a reset: resumed, then typed."""
    monkeypatch.setattr("distworker.registry.call.READ_TIMEOUT", 0.2)
    r = holding(rig)
    r.fake.on("GET", "/blobs/", Twist(cut=10_000, stall=30))
    assert read(r) == DATA
    r.fake.always("GET", "/blobs/", Twist(cut=0, stall=30))
    with fails(RequestTimeout):
        read(r)
