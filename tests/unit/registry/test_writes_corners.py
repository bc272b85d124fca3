"""The finest points of closing an upload: how often, after what wait, and what is looked up between."""

from __future__ import annotations

import random
from collections.abc import Callable

from distworker.digest import Digest
from distworker.errors import DigestMismatch, ProtocolError, Unavailable
from distworker.limits import SLEEP_MAX
from distworker.registry.waits import COMMITS_MAX, SESSIONS_MAX
from tests.fakes.registry_server import Answer
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
    r = rig(upload_mode="stream")
    r.fake.always("PUT", UPLOADS, Answer(502))
    with fails(Unavailable, phase="commit blob", repository="a/b", reference=str(DIGEST), status=502):
        send(r)
    assert r.fake.count("PUT") == SESSIONS_MAX * COMMITS_MAX
    assert r.fake.count("POST") == SESSIONS_MAX
    assert all(isinstance(wait, float) for wait in r.sleeps)


def test_a_closing_put_waits_as_long_as_may_be_waited_in_place(rig: RigMaker) -> None:
    """The named wait, up to the longest that holds nobody up, in the same session."""
    r = rig(upload_mode="stream")
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
    r = rig(upload_mode="stream")
    r.fake.always("PUT", UPLOADS, Answer(200))
    with fails(ProtocolError, phase="commit blob", reference=str(DIGEST)) as caught:
        send(r)
    assert "does not hold the blob" in caught[0].message
