"""Sending blobs and manifests to registries that forget, refuse and hang up."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from distworker.digest import Digest
from distworker.errors import (
    Denied,
    DigestMismatch,
    DistworkerError,
    InternalError,
    LimitExceeded,
    ProtocolError,
    Quota,
    RedirectRefused,
    RepositoryUnknown,
    StoreUnavailable,
    Throttled,
    Unavailable,
    UploadSessionLost,
)
from distworker.manifest import Manifest, parse_manifest
from distworker.mediatypes import OCI_MANIFEST
from distworker.registry.base import Body, Chunk
from distworker.registry.quirks import Quirks
from tests.fakes.meddle import meddle
from tests.fakes.registry import error
from tests.fakes.registry_server import PASS, Answer, Seen, Twist
from tests.unit.registry.conftest import Rig, Sent, fails

RigMaker = Callable[..., Rig]
DATA = random.Random(3).randbytes(100_000)
DIGEST = Digest.of(DATA)
UPLOADS = "/v2/a/b/blobs/uploads/"


def send(r: Rig, data: bytes = DATA) -> int:
    """Upload `data` in three chunks; how often the body was opened."""
    opened = 0

    def body(offset: int) -> Body:
        nonlocal opened
        opened += 1
        third = len(data) // 3 + 1
        return Sent(*[data[at : at + third] for at in range(offset, len(data), third)])

    r.client.upload_blob("a/b", Digest.of(data), len(data), body)
    assert r.fake.holds["a/b"] >= {Digest.of(data)}
    return opened


def verbs(r: Rig) -> list[str]:
    """The methods sent, in order."""
    return [one.method for one in r.fake.seen]


# --- the good way -------------------------------------------------------------------------------------------
def test_a_cancelled_session_is_gone(rig: RigMaker) -> None:
    """And cancelling twice, or at a dead registry, raises nothing."""
    r = rig()
    session = r.client.start_upload("a/b")
    r.client.cancel_upload(session)
    assert r.fake.sessions == {}
    r.fake.always("DELETE", "/", Answer(hangup=True))
    r.client.cancel_upload(session)


# --- Location elsewhere -------------------------------------------------------------------------------------
@pytest.mark.parametrize("location", ["ftp://x/", "https://u:SECRET@x/", "/" + "x" * 20_000, None])
def test_an_unusable_location_is_a_typed_error(rig: RigMaker, location: str | None) -> None:
    """Other schemes, user names, endless text, none at all."""
    r = rig()
    twist = Twist(headers={"Location": location}) if location else Twist(drop=("Location",))
    r.fake.always("POST", UPLOADS, twist)
    with fails(ProtocolError, repository="a/b", phase="start upload"):
        send(r)


def test_a_write_is_never_turned_into_a_read(rig: RigMaker) -> None:
    """302 on a PUT would lose the body; 307 sends it again, in full."""
    r = rig()
    r.fake.on("PUT", UPLOADS, Answer(302, {"Location": "/v2/elsewhere"}))
    with fails(RedirectRefused):
        send(r)
    r.fake.on("PUT", UPLOADS, Answer(307, {"Location": f"{UPLOADS}upload-2?moved=1&digest={DIGEST}"}))
    assert send(r) == 2
    assert r.fake.seen[-1].body == DATA


# --- other modes --------------------------------------------------------------------------------------------
def test_a_put_that_only_claims_success_does_not_count(rig: RigMaker) -> None:
    """A web server that says 200 to everything stored nothing."""
    r = rig()
    r.fake.always("PUT", UPLOADS, Answer(200))
    with fails(ProtocolError):
        send(r)


# --- unknown outcomes ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "lost",
    [
        Twist(hangup=True),
        Twist(status=500, body=b"oops"),
        Twist(status=404, body=b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}'),
    ],
)
def test_a_commit_whose_reply_is_lost_is_found_by_head(rig: RigMaker, lost: Twist) -> None:
    """Stored is stored: the blob is sent once."""
    r = rig()
    r.fake.on("PUT", UPLOADS, lost)
    assert send(r) == 1
    assert verbs(r)[:3] == ["POST", "PUT", "HEAD"]


@pytest.mark.parametrize(
    "lost",
    [
        Answer(hangup=True),
        Answer(502),
        error(404, "BLOB_UPLOAD_UNKNOWN"),
        error(404, "BLOB_UPLOAD_INVALID"),
        Answer(read=20_000, hangup=True),
    ],
)
def test_a_lost_session_is_started_over_with_a_fresh_body(rig: RigMaker, lost: Answer) -> None:
    """Not stored: a new session, the whole body again."""
    r = rig()
    r.fake.on("PUT", UPLOADS, lost)
    assert send(r) == 2
    assert r.fake.seen[-1].body == DATA


def test_a_commit_that_ends_a_moment_after_its_reply_broke_is_found(rig: RigMaker) -> None:
    """The blob shows at the second look: it is not sent again."""
    r = rig()
    r.fake.on("PUT", UPLOADS, Answer(502))

    def ends(request: Seen) -> None:
        r.fake.put_blob("a/b", DATA)

    meddle(r.fake, "HEAD", "/blobs/", None, ends)
    assert send(r) == 1
    assert verbs(r) == ["POST", "PUT", "HEAD", "HEAD"]


def test_a_registry_that_keeps_hanging_up_is_given_up(rig: RigMaker) -> None:
    """The same for broken connections."""
    r = rig()
    r.fake.always("PUT", UPLOADS, Answer(hangup=True))
    with fails(Unavailable):
        send(r)
    assert r.fake.count("PUT") == 3


def test_another_digest_in_the_reply_does_not_count(rig: RigMaker) -> None:
    """201 for something else is not our blob."""
    r = rig()
    r.fake.always("PUT", UPLOADS, Answer(201, {"Docker-Content-Digest": Digest.of(b"other")}))
    with fails(DigestMismatch):
        send(r)


@pytest.mark.parametrize("wait", [3.0, 60.0])
def test_throttling_gives_the_work_back(rig: RigMaker, wait: float) -> None:
    """A whole body is not sent again and again into a limit, however short the wait."""
    r = rig()
    r.fake.always("PUT", UPLOADS, Answer(429, {"Retry-After": f"{wait:.0f}"}))
    with fails(Throttled, delay=wait):
        send(r)
    assert r.fake.count("PUT") == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(403, "DENIED"), Denied),
        (error(403, "DENIED", "project quota exceeded"), Quota),
        (Answer(507), Quota),
        (error(404, "NAME_UNKNOWN"), RepositoryUnknown),
        (Answer(400, {}, b"what?"), ProtocolError),
    ],
)
def test_refusals_of_the_session_are_typed(
    rig: RigMaker, answer: Answer, kind: type[DistworkerError]
) -> None:
    """Each names the repository and what to do."""
    r = rig()
    r.fake.always("POST", UPLOADS, answer)
    with fails(kind, repository="a/b", status=answer.status):
        send(r)


# --- bodies -------------------------------------------------------------------------------------------------
class Broken:
    """A body that fails in the middle, or does not keep its word."""

    def __init__(self, chunks: list[bytes], failure: Exception | None = None) -> None:
        self.chunks, self.failure = chunks, failure

    def __len__(self) -> int:
        return len(DATA)

    def __iter__(self) -> Iterator[Chunk]:
        yield from self.chunks
        if self.failure:
            raise self.failure


@pytest.mark.parametrize(
    "failure", [StoreUnavailable("the store is gone"), OSError("disk"), UploadSessionLost("used up")]
)
def test_a_failing_body_speaks_for_itself(rig: RigMaker, failure: Exception) -> None:
    """A fault of ours is not reported as the registry's, and nothing is retried here."""
    r = rig()
    with pytest.raises(type(failure)) as info:
        r.client.upload_blob("a/b", DIGEST, len(DATA), lambda offset: Broken([DATA[:10]], failure))
    assert info.value is failure
    assert r.fake.holds["a/b"] == set()


@pytest.mark.parametrize("chunks", [[DATA, b"x"], [DATA[:-1]]])
def test_a_body_of_another_length_is_never_sent_as_if_it_fitted(rig: RigMaker, chunks: list[bytes]) -> None:
    """Too many bytes would run into the next request, too few would hang."""
    r = rig()
    with pytest.raises(InternalError):
        r.client.upload_blob("a/b", DIGEST, len(DATA), lambda offset: Broken(chunks))


def test_a_body_that_exists_once_is_not_asked_twice_in_vain(rig: RigMaker) -> None:
    """The tee's second opening raises, and that is what the caller sees."""
    r = rig()
    r.fake.on("PUT", UPLOADS, Answer(502))
    bodies = [Sent(DATA)]

    def once(offset: int) -> Body:
        if not bodies:
            raise UploadSessionLost("the stream is used up")
        return bodies.pop()

    with pytest.raises(UploadSessionLost, match="used up"):
        r.client.upload_blob("a/b", DIGEST, len(DATA), once)


# --- manifests ----------------------------------------------------------------------------------------------
def a_manifest(r: Rig, **extra: object) -> Manifest:
    """A manifest whose config the registry holds."""
    digest = r.fake.put_blob("a/b", b"{}")
    document = {
        "schemaVersion": 2,
        "config": {"mediaType": "x/y", "digest": digest, "size": 2},
        "layers": [],
        **extra,
    }
    return parse_manifest(json.dumps(document, indent=1).encode(), OCI_MANIFEST)


def test_a_manifest_is_put_byte_for_byte(rig: RigMaker) -> None:
    """Its own type, no parameters, the same bytes."""
    r = rig()
    manifest = a_manifest(r)
    r.client.put_manifest("a/b", "v1", manifest)
    assert r.fake.seen[0].headers["Content-Type"] == OCI_MANIFEST
    assert r.fake.seen[0].body == manifest.raw
    assert list(r.client.tags("a/b")) == ["v1"]


def test_a_manifest_put_is_tried_again(rig: RigMaker) -> None:
    """It is small and says the same each time."""
    r = rig()
    manifest = a_manifest(r)
    r.fake.on("PUT", "/manifests/", Answer(503), Answer(hangup=True), PASS)
    r.client.put_manifest("a/b", "v1", manifest)
    assert r.fake.count("PUT") == 3


# --- chunks -------------------------------------------------------------------------------------------------
CHUNKED = Quirks(upload_mode="chunked", chunk_bytes=40_000)


@pytest.mark.parametrize("status", [202, 416])
def test_a_registry_that_holds_more_than_was_sent_starts_over(rig: RigMaker, status: int) -> None:
    """Somebody else's bytes, or a lie: nothing can be built on it, and it is not tried for ever."""
    r = rig(quirks=CHUNKED)
    more = {"Range": "0-77777"}
    r.fake.always("GET", UPLOADS, Twist(headers=more))
    r.fake.always("PATCH", UPLOADS, Twist(headers=more) if status == 202 else Answer(416))
    with fails(ProtocolError, repository="a/b", phase="send blob") as caught:
        send(r)
    assert "77778 bytes after 40000" in caught[0].message
    assert (r.fake.count("POST"), r.fake.count("PATCH")) == (3, 3)
    assert r.fake.sessions == {}


def test_an_upload_without_progress_is_given_up(rig: RigMaker) -> None:
    """The same chunk fails again and again although the session lives."""
    r = rig(quirks=CHUNKED)
    r.fake.on("PATCH", UPLOADS, PASS)
    r.fake.always("PATCH", UPLOADS, Answer(502))
    with fails(Unavailable, repository="a/b"):
        send(r)
    assert r.fake.count("PATCH") < 20
    assert r.fake.sessions == {}


def test_an_upload_with_hardly_any_progress_is_given_up(rig: RigMaker) -> None:
    """A byte per request is progress, and still ends."""
    r = rig(quirks=CHUNKED)

    def one(request: Seen) -> Answer:
        held = next(iter(r.fake.sessions.values()))
        held += request.body[: 2 if not held else 1]
        return Answer(502)

    meddle(r.fake, "PATCH", UPLOADS, *([one] * 400))
    with pytest.raises(Unavailable):
        send(r)
    assert 50 < r.fake.count("PATCH") < 200


def test_a_session_that_went_back_is_followed(rig: RigMaker) -> None:
    """The registry lost a chunk it had confirmed, and says so: it gets it again."""
    r = rig(quirks=CHUNKED)

    def forget(request: Seen) -> Answer:
        (held,) = r.fake.sessions.values()
        del held[10_000:]
        return Answer(503)

    meddle(r.fake, "PATCH", UPLOADS, None, forget)
    assert send(r) == 2
    ranges = [one.headers["Content-Range"] for one in r.fake.seen if one.method == "PATCH"]
    assert ranges == ["0-39999", "40000-79999", "10000-49999", "50000-89999", "90000-99999"]


@pytest.mark.parametrize("quirks", [{"range_is_stale": True}, {"upload_resumes": False}])
def test_a_session_that_cannot_be_asked_is_started_over(rig: RigMaker, quirks: dict[str, bool]) -> None:
    """ECR's Range stands still, ACR's sessions are dead after a break: no status is asked for."""
    r = rig(quirks=replace(CHUNKED, **quirks))
    r.fake.on("PATCH", UPLOADS, PASS, Answer(502))
    assert send(r) == 2
    assert r.fake.count("GET", UPLOADS) == 0
    assert r.fake.count("POST") == 2


@pytest.mark.parametrize("quirks", [Quirks(), CHUNKED])
def test_a_repository_that_vanished_is_told(rig: RigMaker, quirks: Quirks) -> None:
    """404 for the name is no lost session, and is not tried again."""
    r = rig(quirks=quirks)
    r.fake.on("PATCH", UPLOADS, PASS)
    for method in ("PUT", "PATCH"):
        r.fake.always(method, UPLOADS, error(404, "NAME_UNKNOWN"))
    with fails(RepositoryUnknown, repository="a/b"):
        send(r)
    assert r.fake.count("POST") == 1


def test_a_chunk_out_of_step_in_a_session_that_cannot_tell_starts_over(rig: RigMaker) -> None:
    """416 in the middle, and no status: only a new session is sure."""
    r = rig(quirks=CHUNKED)
    r.fake.on("PATCH", UPLOADS, PASS, Answer(416))
    r.fake.on("GET", UPLOADS, Answer(405))
    assert send(r) == 2
    assert r.fake.count("POST") == 2


def test_a_session_is_cancelled_where_it_stands(rig: RigMaker) -> None:
    """At its newest Location: an old one may be dead, and the session would stay."""
    r = rig(quirks=CHUNKED)
    r.fake.on("PATCH", UPLOADS, PASS, error(403, "DENIED"))
    with fails(Denied, phase="send blob"):
        send(r)
    assert (r.fake.seen[-1].method, r.fake.seen[-1].query) == ("DELETE", "_state=SECRET-STATE-40000")


def test_a_busy_registry_with_a_long_wait_gives_the_work_back(rig: RigMaker) -> None:
    """Chunks too are not kept waiting for minutes; the session is closed."""
    r = rig(quirks=CHUNKED)
    r.fake.on("PATCH", UPLOADS, PASS, Answer(503, {"Retry-After": "600"}))
    with fails(Unavailable, delay=600.0):
        send(r)
    assert r.fake.sessions == {}


@pytest.mark.parametrize(
    "answer", [Answer(507), error(403, "DENIED", "quota exceeded"), Answer(413, {}, b"quota")]
)
def test_a_full_registry_is_not_asked_in_another_way(rig: RigMaker, answer: Answer) -> None:
    """413 for want of room is no reason for smaller chunks."""
    for quirks in (Quirks(), CHUNKED):
        r = rig(quirks=quirks)
        r.fake.always("PUT", UPLOADS, answer)
        r.fake.always("PATCH", UPLOADS, answer)
        with fails(Quota, repository="a/b"):
            send(r)
        assert r.fake.count("POST") == 1


def test_a_way_that_the_operator_wants_is_the_only_one(rig: RigMaker) -> None:
    """No ladder below a word of his."""
    r = rig(upload_mode="monolithic")
    r.fake.always("PUT", UPLOADS, Answer(413))
    with fails(ProtocolError, status=413):
        send(r)
    assert r.fake.count("PATCH") == 0


def test_a_registry_that_takes_blobs_in_no_way_is_told_after_three(rig: RigMaker) -> None:
    """Each way is tried once."""
    r = rig()
    r.fake.always("PUT", UPLOADS, Answer(405))
    r.fake.always("PATCH", UPLOADS, Answer(405))
    with fails(Denied, status=405):
        send(r)
    assert [verb for verb in verbs(r) if verb in {"PUT", "PATCH"}] == ["PUT", "PATCH", "PATCH"]
    assert r.fake.sessions == {}


def test_a_stream_that_exists_once_goes_in_chunks(rig: RigMaker) -> None:
    """The tee's body is opened once, whatever the way."""
    r = rig(quirks=CHUNKED)
    bodies = [Sent(*[DATA[at : at + 7_000] for at in range(0, len(DATA), 7_000)])]
    r.client.upload_blob("a/b", DIGEST, len(DATA), lambda offset: bodies.pop())
    assert r.fake.count("PATCH") == 3
    assert r.fake.holds["a/b"] == {DIGEST}


def test_a_commit_that_fails_is_repeated_in_its_session(rig: RigMaker) -> None:
    """Gigabytes are not sent again because one empty PUT met a gateway in trouble."""
    r = rig(quirks=CHUNKED)
    r.fake.on("PUT", UPLOADS, Answer(502), Answer(429, {"Retry-After": "7"}))
    assert send(r) == 1
    assert verbs(r) == ["POST", *["PATCH"] * 3, "PUT", "HEAD", "PUT", "HEAD", "PUT"]
    assert r.sleeps[1:] == [7.0]


def test_other_digest_algorithms_are_announced(rig: RigMaker) -> None:
    """`digest-algorithm` in the POST, for registries that want to hash along."""
    r = rig()
    digest = Digest.of(DATA, "sha512")
    r.fake.always("PUT", UPLOADS, Answer(201))
    r.client.upload_blob("a/b", digest, len(DATA), Sent(DATA).at)
    assert r.fake.seen[0].parameters == [("digest-algorithm", "sha512")]


def test_sessions_are_left_alone_where_cancelling_wants_more_rights(rig: RigMaker) -> None:
    """Quay grants nobody the right to delete uploads."""
    r = rig(quirks=Quirks(cancel_needs_delete=True))
    r.client.cancel_upload(r.client.start_upload("a/b"))
    assert verbs(r) == ["POST"]


def test_a_blob_that_the_registry_cannot_keep_is_not_sent(rig: RigMaker) -> None:
    """Known limits are told before gigabytes are on their way."""
    r = rig(quirks=Quirks(blob_max=len(DATA) - 1))
    session = r.client.start_upload("a/b")
    with fails(LimitExceeded, repository="a/b", reference=DIGEST):
        r.client.upload_blob("a/b", DIGEST, len(DATA), Sent(DATA).at, session)
    with fails(LimitExceeded):
        send(r)
    assert verbs(r) == ["POST", "DELETE"]
    send(r, DATA[1:])


def test_other_bytes_after_another_fault_are_sent_once_more(rig: RigMaker) -> None:
    """A broken connection before does not use up the one retry."""
    r = rig()
    r.fake.on("PUT", UPLOADS, Answer(502), error(400, "DIGEST_INVALID"))
    assert send(r) == 3


# --- mount --------------------------------------------------------------------------------------------------
def test_a_registry_that_grants_no_mounts_is_not_asked(rig: RigMaker) -> None:
    """One POST, which is the session."""
    r = rig(quirks=Quirks(mounts="none"))
    assert r.client.mount_blob("a/b", DIGEST, ["old/x"]) is not None
    assert [one.query for one in r.fake.seen] == [""]


def test_a_busy_registry_ends_the_mount_and_closes_its_session(rig: RigMaker) -> None:
    """A throttle is nobody's refusal; what was opened is not left behind."""
    r = rig()
    r.fake.always("HEAD", "/v2/old/y/", Answer(429, {"Retry-After": "90"}))
    with fails(Throttled, delay=90.0):
        r.client.mount_blob("a/b", DIGEST, ["old/x", "old/y"])
    assert verbs(r) == ["POST", "HEAD", "DELETE"]
    assert r.fake.sessions == {}


def test_a_throttled_mount_is_not_a_refused_one(rig: RigMaker) -> None:
    """The plain POST would meet the same limit."""
    r = rig()
    r.fake.always("POST", "mount=", Answer(429, {"Retry-After": "90"}))
    with fails(Throttled, delay=90.0, phase="mount blob"):
        r.client.mount_blob("a/b", DIGEST, ["old/x"])
    assert r.fake.count("POST") == 1


@pytest.mark.parametrize("odd", [Twist(drop=("Location",)), Answer(302, {"Location": "/v2/elsewhere"})])
def test_an_odd_answer_to_a_mount_is_a_refusal(rig: RigMaker, odd: Answer | Twist) -> None:
    """Only the plain POST must be understood."""
    r = rig()
    r.fake.on("POST", "mount=", odd)
    session = r.client.mount_blob("a/b", DIGEST, ["old/x"])
    assert session is not None
    r.client.upload_blob("a/b", DIGEST, len(DATA), Sent(DATA).at, session)
    assert [verb for verb in verbs(r) if verb != "GET"] == ["POST", "POST", "PUT"]


@pytest.mark.parametrize("answer", [Answer(403), Answer(404), error(401, "UNAUTHORIZED")])
def test_a_candidate_that_is_closed_is_passed_over(rig: RigMaker, answer: Answer) -> None:
    """The next one may be open; the blob's own repository is never one."""
    r = rig()
    digest = r.fake.put_blob("old/z", DATA)
    r.fake.always("HEAD", "/v2/old/y/", answer)
    assert r.client.mount_blob("a/b", digest, ["a/b", "old/x", "old/y", "old/z"]) is None
    assert [dict(one.parameters).get("from") for one in r.fake.seen if one.method == "POST"] == [
        "old/x",
        "old/z",
    ]
    assert r.fake.sessions == {}


def test_of_two_refused_mounts_one_session_stays(rig: RigMaker) -> None:
    """The newest is handed on, the one before is closed."""
    r = rig()
    r.fake.always("HEAD", "/v2/old/y/", Answer(200))  # and the mount is refused all the same
    session = r.client.mount_blob("a/b", DIGEST, ["old/x", "old/y"])
    assert verbs(r) == ["POST", "HEAD", "POST", "DELETE"]
    assert session is not None
    assert [name in session.location for name in r.fake.sessions] == [True]


def test_no_more_candidates_than_are_worth_it(rig: RigMaker) -> None:
    """As many as the table says, and the session of the first is handed on."""
    r = rig(quirks=Quirks(mount_candidates=4))
    assert r.client.mount_blob("a/b", DIGEST, [f"old/{number}" for number in range(9)]) is not None
    assert verbs(r) == ["POST", "HEAD", "HEAD", "HEAD"]
    assert len(r.fake.sessions) == 1
