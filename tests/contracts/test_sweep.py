"""The sweep of leftovers over every kind of store: it takes what nobody will end, and harms no writer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from distworker.blobstore import s3_resume
from distworker.blobstore.base import BlobStore, BlobWriter
from distworker.blobstore.keys import partial_key
from distworker.blobstore.s3 import S3Store
from distworker.errors import Lost, StoreUnavailable
from distworker.state.sessions import KeptSession, MemorySessions
from distworker.steps.sweep import GRACE, sweep_leftovers
from tests.contracts.stores import GONE, MIB, leftovers, named, read
from tests.fakes.ports import FakeRegistries, Site

SIZE = 21 * MIB
DOWNLOAD = "d:default/{}"


@pytest.fixture(scope="module")
def data() -> Iterator[bytes]:
    """A blob of five parts."""
    yield os.urandom(SIZE)


def later() -> float:
    """A time at which everything that is there now is old."""
    return time.time() + GRACE + 60


def sweep(store: BlobStore, *steps: str, **more: Any) -> dict[str, int]:
    """Sweep the store while these steps are open; without the sessions' count."""
    swept = sweep_leftovers(
        store, MemorySessions(), FakeRegistries(), lambda: steps, tenants=["default"], **more
    )
    return {name: count for name, count in swept.items() if name != "sessions"}


def feed(writer: BlobWriter, piece: bytes) -> None:
    """Hash and write as a download does."""
    writer.hasher.update(piece)
    writer.write(piece)


def killed(store: BlobStore, data: bytes) -> BlobWriter:
    """A writer that dies in the middle: nobody ever leaves its context."""
    key, digest = named(data)
    writer = store.writer(key, digest, len(data), "dead", resume=True)
    feed(writer, data[: 20 * MIB + 1])
    if isinstance(store, S3Store):
        writer._sending.result(20)  # type: ignore[attr-defined]
    return writer


@pytest.fixture(autouse=True)
def _every_part_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_resume, "NOTE_PARTS", 1)


def test_what_a_dead_run_of_no_open_step_left_is_taken_back(store: BlobStore, data: bytes) -> None:
    """Upload or file, and the record beside it; its writer, should it only sleep, fails and shows nothing."""
    key, _ = named(data)
    writer = killed(store, data)
    swept = sweep(store, "d:default/sha256:other", "u:whatever@host", now=later)
    assert swept == {"unfinished": 1, "staged": int(isinstance(store, S3Store))}
    assert leftovers(store) == []
    with pytest.raises((*GONE, Lost)), writer:
        feed(writer, data[20 * MIB + 1 :])
        writer.commit(writer.hasher.verify())
    assert store.stat(key) is None
    assert sweep(store, now=later) == {"unfinished": 0, "staged": 0}


def test_what_a_waiting_step_may_go_on_with_is_kept(store: BlobStore, data: bytes) -> None:
    """However old: the step is open, and its next run reads only the rest."""
    key, digest = named(data)
    with pytest.raises(StoreUnavailable), killed(store, data) as writer:
        writer.keep()
        raise StoreUnavailable("away")
    assert sweep(store, DOWNLOAD.format(digest), now=later) == {"unfinished": 0, "staged": 0}
    with store.writer(key, digest, SIZE, "next", resume=True) as writer:
        assert writer.hasher.seen >= 20 * MIB
        feed(writer, data[writer.hasher.seen :])
        writer.commit(writer.hasher.verify())
    assert read(store, key) == data


def test_a_live_writer_is_not_harmed(store: BlobStore, data: bytes) -> None:
    """Neither one whose step is open, however long it takes, nor a young one whose step was not seen yet."""
    key, digest = named(data)
    with store.writer(key, digest, SIZE, "live", resume=True) as writer:
        for start in range(0, SIZE, 7 * MIB):
            feed(writer, data[start : start + 7 * MIB])
            assert sum(sweep(store, DOWNLOAD.format(digest), now=later).values()) == 0
            assert sum(sweep(store).values()) == 0
        writer.commit(writer.hasher.verify())
    assert read(store, key) == data
    assert leftovers(store) == [key]


def test_an_old_upload_that_was_just_taken_over_is_alive(
    s3: S3Store, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its step was opened after the sweep looked: the fresh record speaks for it."""
    key, digest = named(data)
    with pytest.raises(StoreUnavailable), killed(s3, data) as writer:
        writer.keep()
        raise StoreUnavailable("away")
    old = [replace(write, started=0.0) for write in s3.unfinished()]
    monkeypatch.setattr(s3, "unfinished", lambda: iter(old))
    with s3.writer(key, digest, SIZE, "next", resume=True) as writer:
        assert sweep(s3) == {"unfinished": 0, "staged": 0}
        feed(writer, data[writer.hasher.seen :])
        writer.commit(writer.hasher.verify())
    assert read(s3, key) == data


def test_records_without_an_upload_and_other_staging_go(store: BlobStore, data: bytes) -> None:
    """Only old ones, and not those of an open step."""
    key, digest = named(data)
    store.put_bytes(partial_key(key), b"{}")
    store.put_bytes("default/staging/token1/scratch", b"x")
    assert sweep(store) == {"unfinished": 0, "staged": 0}
    assert sweep(store, DOWNLOAD.format(digest), now=later) == {"unfinished": 0, "staged": 1}
    assert leftovers(store) == [partial_key(key)]
    assert sweep(store, now=later) == {"unfinished": 0, "staged": 1}
    assert leftovers(store) == []


def test_sessions_of_no_open_step_are_cancelled(store: BlobStore) -> None:
    """At their registry; those of an open step, and young ones, are left."""
    site, sessions = Site("dst.example"), MemorySessions()
    for name, age in (("u:gone@dst.example", 2 * GRACE), ("u:open@dst.example", 2 * GRACE), ("u:new", 0)):
        site.sessions.add(name)
        sessions.keep(KeptSession(name, "t", "dst.example", "", "app", name, started=time.time() - age))
    sessions.keep(KeptSession("u:x@no.example", "t", "no.example", "", "app", "x", started=0.0))
    site_of = FakeRegistries(site, Site("no.example"))

    swept = sweep_leftovers(store, sessions, site_of, lambda: ["u:open@dst.example"], tenants=["default"])

    assert swept == {"unfinished": 0, "staged": 0, "sessions": 2}
    assert site.sessions == {"u:open@dst.example", "u:new"}
    assert [one.step for one in sessions.oldest(9)] == ["u:open@dst.example", "u:new"]
