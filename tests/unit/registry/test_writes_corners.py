"""The finest points of closing an upload: how often, after what wait, and what is looked up between."""

from __future__ import annotations

import random
from collections.abc import Callable

from distworker.digest import Digest
from distworker.errors import Denied, DigestMismatch, ProtocolError, Unavailable
from distworker.limits import SLEEP_MAX
from distworker.registry.base import Chunk, UploadSession
from distworker.registry.bodies import Source
from distworker.registry.quirks import Quirks
from distworker.registry.waits import COMMITS_MAX, SESSIONS_MAX
from tests.fakes.registry_server import PASS, Answer, FakeServer
from tests.unit.registry.conftest import Rig, Sent, fails

RigMaker = Callable[..., Rig]
DATA = random.Random(23).randbytes(10_000)
DIGEST = Digest.of(DATA)
UPLOADS = "/v2/a/b/blobs/uploads/"


def send(r: Rig) -> None:
    """Upload the blob."""
    r.client.upload_blob("a/b", DIGEST, len(DATA), Sent(DATA).at)


def test_a_closing_put_is_tried_so_often_and_no_more(rig: RigMaker) -> None:
    """In each of so many sessions; every wait is a time, and the blob is looked for before each."""
    r = rig(upload_mode="patch")
    r.fake.always("PUT", UPLOADS, Answer(502))
    with fails(Unavailable, phase="commit blob", repository="a/b", reference=str(DIGEST), status=502):
        send(r)
    assert r.fake.count("PUT") == SESSIONS_MAX * COMMITS_MAX
    assert r.fake.count("POST") == SESSIONS_MAX
    assert all(isinstance(wait, float) for wait in r.sleeps)


def test_a_closing_put_waits_as_long_as_may_be_waited_in_place(rig: RigMaker) -> None:
    """The named wait, up to the longest that holds nobody up, in the same session."""
    r = rig(upload_mode="patch")
    r.fake.on("PUT", UPLOADS, Answer(503, {"Retry-After": f"{SLEEP_MAX:.0f}"}))
    send(r)
    assert r.sleeps == [SLEEP_MAX]
    assert [seen.method for seen in r.fake.seen] == ["POST", "PATCH", "PUT", "HEAD", "PUT"]


def test_a_registry_that_stored_other_bytes_is_not_asked_twice_whether_it_did(rig: RigMaker) -> None:
    """It said so itself: one look, then the blob is sent once more, then it is told."""
    r = rig()
    r.fake.always("PUT", UPLOADS, Answer(201, {"Docker-Content-Digest": Digest.of(b"other")}))
    with fails(DigestMismatch, phase="send blob", repository="a/b", reference=str(DIGEST)):
        send(r)
    assert r.fake.count("PUT") == 2
    assert r.fake.count("HEAD") == 2


def test_a_closing_put_that_only_claims_success_is_told_as_such(rig: RigMaker) -> None:
    """Success without the blob is no success."""
    r = rig(upload_mode="patch")
    r.fake.always("PUT", UPLOADS, Answer(200))
    with fails(ProtocolError, phase="commit blob", reference=str(DIGEST)) as caught:
        send(r)
    assert "does not hold the blob" in caught[0].message


def test_no_bytes_are_sent_for_a_blob_without_any(rig: RigMaker) -> None:
    """It is only closed, whatever the way; a trouble there is waited out as ever."""
    r = rig()
    r.fake.on("PUT", UPLOADS, Answer(502))
    empty = Digest.of(b"")
    r.client.upload_blob("a/b", empty, 0, Sent().at)
    assert empty in r.fake.holds["a/b"]
    assert [seen.method for seen in r.fake.seen] == ["POST", "PUT", "HEAD", "PUT"]
    assert len(r.sleeps) == 1


def test_a_registry_that_mounts_from_anywhere_is_offered_the_digest_once(rig: RigMaker) -> None:
    """The first session names the blob; one that follows a failure is a plain one."""
    r = rig(quirks=Quirks(mounts="anonymous"))
    r.fake.on("PUT", UPLOADS, Answer(502))
    send(r)
    asked = [dict(seen.parameters) for seen in r.fake.seen if seen.method == "POST"]
    assert asked == [{"mount": str(DIGEST)}, {}]
    assert DIGEST in r.fake.holds["a/b"]


def test_each_wait_before_another_session_is_a_time(rig: RigMaker) -> None:
    """A failure that names a wait gets that one, the others one that grows."""
    r = rig()
    r.fake.on("PUT", UPLOADS, Answer(502), Answer(503, {"Retry-After": "7"}))
    send(r)
    assert len(r.sleeps) == 2
    assert isinstance(r.sleeps[0], float)
    assert r.sleeps[1] == 7.0


def test_patches_say_what_they_are_and_chunks_where_they_belong(rig: RigMaker) -> None:
    """One stream has no place to name; what follows another chunk has."""
    sent = []
    for quirks in (Quirks(upload_mode="patch"), Quirks(upload_mode="chunked", chunk_bytes=6_000)):
        r = rig(quirks=quirks)
        send(r)
        patches = [seen.headers for seen in r.fake.seen if seen.method == "PATCH"]
        assert {headers["Content-Type"] for headers in patches} == {"application/octet-stream"}
        sent.append([headers["Content-Range"] for headers in patches])
    assert sent == [[None], ["0-5999", "6000-9999"]]


def test_a_way_that_took_a_part_of_the_blob_is_not_left(rig: RigMaker) -> None:
    """The registry knows chunks, then: a refusal in the middle is about something else."""
    r = rig(quirks=Quirks(chunk_bytes=6_000, monolithic_max=1))
    r.fake.on("PATCH", UPLOADS, PASS)
    r.fake.always("PATCH", UPLOADS, Answer(405))
    with fails(Denied, phase="send blob", repository="a/b", reference=str(DIGEST), status=405):
        send(r)
    assert [seen.method for seen in r.fake.seen][:3] == ["POST", "PATCH", "PATCH"]
    assert r.fake.count("POST") == 1


def test_a_chunk_waits_in_its_session_as_long_as_may_be_waited_in_place(rig: RigMaker) -> None:
    """The named wait, up to the longest that holds nobody up; then the registry is asked how far it got."""
    r = rig(quirks=Quirks(upload_mode="chunked", chunk_bytes=6_000))
    r.fake.on("PATCH", UPLOADS, PASS, Answer(503, {"Retry-After": f"{SLEEP_MAX:.0f}"}))
    send(r)
    assert r.sleeps == [SLEEP_MAX]
    assert [seen.method for seen in r.fake.seen] == ["POST", "PATCH", "PATCH", "GET", "PATCH", "PUT"]


def test_a_fault_without_a_wait_of_its_own_gets_one(rig: RigMaker) -> None:
    """A time of the client's own choice, longer than none."""
    r = rig(quirks=Quirks(upload_mode="chunked", chunk_bytes=6_000))
    r.fake.on("PATCH", UPLOADS, PASS, Answer(502))
    send(r)
    assert len(r.sleeps) == 1
    assert 0 <= r.sleeps[0] <= SLEEP_MAX


def test_a_body_is_let_go_of_when_the_next_one_is_opened() -> None:
    """It may hold a connection to the store."""
    let_go: list[int] = []

    class Stream:
        """One opening of the body."""

        def __init__(self, offset: int) -> None:
            self.offset = offset
            self.chunks = iter([DATA[offset:]])

        def __len__(self) -> int:
            return len(DATA) - self.offset

        def __iter__(self) -> Stream:
            return self

        def __next__(self) -> Chunk:
            return next(self.chunks)

        def close(self) -> None:
            """Noted."""
            let_go.append(self.offset)

    source = Source(Stream, len(DATA))
    assert source.position == 0
    assert len(b"".join(source.span(0, 4_000))) == 4_000
    assert let_go == []
    assert b"".join(source.span(2_000, 8_000)) == DATA[2_000:]
    assert let_go == [0]
    source.close()
    source.close()
    assert let_go == [0, 2_000]


def test_a_session_elsewhere_is_used_without_any_login(
    rig: RigMaker, serve: Callable[[FakeServer], FakeServer]
) -> None:
    """Its Location is the permission: a login that the registry knows stays with the registry."""
    elsewhere = serve(FakeServer())
    r = rig(login=("me", "SECRET-PASSWORD"), near=(elsewhere,))
    r.fake.user, r.fake.password = "me", "SECRET-PASSWORD"
    r.client.start_upload("a/b")
    r.client.cancel_upload(UploadSession("a/b", f"http://{elsewhere.host}/session?state=1"))
    assert [(seen.method, seen.authorization) for seen in elsewhere.seen] == [("DELETE", "")]
