"""Refusals of a commit that mean a lost session, however they are spelled, lead to a fresh one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from distworker.digest import Digest
from tests.fakes.registry import error
from tests.fakes.registry_server import Answer
from tests.unit.registry.conftest import Rig, Sent

DATA = b"a layer of some bytes"


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404),
        Answer(416),
        error(400, "RANGE_INVALID"),
        error(400, "BLOB_UPLOAD_UNKNOWN"),
        error(400, "BLOB_UPLOAD_INVALID"),
    ],
    ids=["404", "416", "range", "unknown", "invalid"],
)
def test_a_commit_to_a_lost_session_is_started_over(rig: Callable[..., Rig], answer: Answer) -> None:
    """By status or by code, one is enough."""
    r = rig(upload_mode="patch")
    r.fake.on("PUT", "/blobs/uploads/", answer)
    digest = Digest.of(DATA)
    r.client.upload_blob("a/b", digest, len(DATA), lambda offset: Sent(DATA[offset:]))
    assert r.client.has_blob("a/b", digest)
    assert [seen.method for seen in r.fake.seen].count("POST") == 2
