"""A job's folder on every kind of store: what recover, retry and retention read."""

from __future__ import annotations

import time

from distworker.blobstore.base import BlobStore
from distworker.plan.folder import (
    CANCELLED_FILE,
    CLOSED_FILE,
    PAUSED_FILE,
    Note,
    folder,
    folders,
    read_note,
    read_request,
    remove_note,
    write_note,
    write_request,
)
from distworker.plan.model import JobRequest, Pair
from tests.fakes.ports import registry_place

PAIR = Pair(registry_place("s.example", "a", "1"), registry_place("dst.example", "b"))


def test_folders_tell_jobs_apart(store: BlobStore) -> None:
    """Each with its own notes, in the order of ids, one id being the beginning of another; when they were
    written; nothing of the store's other rooms."""
    store.put_bytes("default/refs/x", b"{}")
    store.put_bytes("default/zzz/y", b"{}")
    for job in ("a", "a-retry1", "b"):
        write_request(store, JobRequest(job, "copy", (PAIR,), 1.0, retry_of="" if job == "a" else "a"))
    write_note(store, "default", "a", Note(CLOSED_FILE, {"state": "done"}))
    write_note(store, "default", "b", Note(PAUSED_FILE))

    found = {each.job: each for each in folders(store, "default")}

    assert list(found) == sorted(found, key=lambda job: f"{job}/") == ["a-retry1", "a", "b"]
    assert all(each.asked for each in found.values())
    assert [job for job, each in found.items() if each.over] == ["a"]
    assert [job for job, each in found.items() if each.paused] == ["b"]
    assert all(abs(each.modified - time.time()) < 600 for each in found.values())
    assert found == {job: folder(store, "default", job) for job in found}
    assert read_request(store, "default", "b").retry_of == "a"


def test_notes_come_and_go(store: BlobStore) -> None:
    """Written twice, taken away twice."""
    for _ in range(2):
        write_note(store, "default", "a", Note(CANCELLED_FILE, {"by": "ü"}))
    assert read_note(store, "default", "a", CANCELLED_FILE) == {"v": 1, "job": "a", "by": "ü"}
    for _ in range(2):
        remove_note(store, "default", "a", CANCELLED_FILE)
    assert read_note(store, "default", "a", CANCELLED_FILE) is None
    assert folder(store, "default", "a").names == set()


def test_a_folder_of_nobody_is_empty(store: BlobStore) -> None:
    """And no error, whatever was typed."""
    for job in ("nope", "", "../a", "A", "a/b"):
        found = folder(store, "default", job)
        assert (found.asked, found.over, found.modified) == (False, False, 0.0)
    assert list(folders(store, "default")) == []
