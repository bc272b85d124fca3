"""Creating, watching and cancelling jobs; the same use cases for the fleet and the local mode."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from distworker.blobstore.base import BlobStore
from distworker.blobstore.local import LocalStore
from distworker.blobstore.memory import MemoryStore
from distworker.errors import (
    ConfigInvalid,
    InvalidRequest,
    JobUnknown,
    NoWorker,
    RequestError,
    StateUnavailable,
    StoreUnavailable,
)
from distworker.plan.codec import load_request
from distworker.registry.base import Registry
from distworker.service.jobs import Jobs, is_open, new_job_id
from distworker.service.local import LocalService, cache_folder
from distworker.service.runner import Equipment
from distworker.state.base import Admitted, Change, Claim, Closing, StepSpec
from distworker.state.memory import MemoryLedger
from distworker.steps.base import Answer, Context, Done

PAYLOAD = {"v": 1, "source": "a.example/x:1", "destination": "b.example/x", "labels": {"by": "test"}}


class Office:
    """Jobs over memory; `sent` are the messages."""

    def __init__(self) -> None:
        self.ledger, self.store, self.sent = MemoryLedger(), MemoryStore(), list[Admitted]()
        self.jobs = Jobs(
            self.ledger, lambda: self.store, self.sent.extend, new_id=lambda: "job-1", now=lambda: 7.0
        )


def test_ids_are_short_sort_by_time_and_read_well() -> None:
    """Digits that people misread are not in them."""
    moments = [1_795_000_000.0 + seconds for seconds in (0, 0.2, 60, 86_400, 400_000)]
    ids = [new_job_id(lambda now=now: now, lambda limit: 0) for now in moments]  # type: ignore[misc]
    assert ids == sorted(ids) and len(set(ids)) == len(ids)
    assert re.fullmatch(r"20[0-9]{6}-[0-9a-hjkmnp-tv-z]{8}", new_job_id())


def test_a_job_is_in_the_store_before_it_is_in_the_ledger_and_then_handed_out() -> None:
    """Whoever finds the record finds the request; the first message is on its way at once."""
    office = Office()
    office.ledger.beat("w", 2, {}, [])
    assert office.jobs.submit(PAYLOAD) == "job-1"
    stored = office.store.get_bytes("default/jobs/job-1/request.json", 10_000)
    assert stored is not None
    assert load_request(stored) == office.jobs.parse(PAYLOAD)
    assert [step.id for step in office.sent] == ["j:job-1"]
    record = office.jobs.view("job-1").record
    assert (record["kind"], record["pairs"], record["labels"]) == ("copy", 1, {"by": "test"})
    assert (record["source"], record["destination"]) == ("a.example/x:1", "b.example/x:1")


def test_watching_and_cancelling_never_ask_for_the_store() -> None:
    """A machine that only looks at jobs needs no store settings; one that makes a job is told before it is
    recorded."""
    office = Office()
    office.jobs.submit(PAYLOAD)

    def no_store() -> BlobStore:
        raise ConfigInvalid("store.bucket is not set", field="store.bucket")

    jobs = Jobs(office.ledger, no_store, office.sent.extend)
    assert jobs.view("job-1").state == "running"
    assert [view.id for view in jobs.recent()] == ["job-1"]
    assert jobs.cancel("job-1")
    with pytest.raises(ConfigInvalid):
        jobs.submit(PAYLOAD)
    assert [view.id for view in jobs.recent()] == ["job-1"]


def test_the_same_id_again_changes_nothing() -> None:
    """A sender that lost the answer may ask again."""
    office = Office()
    assert office.jobs.create(office.jobs.parse(PAYLOAD))
    other = office.jobs.parse({**PAYLOAD, "source": "a.example/other:1"})
    assert not office.jobs.create(other)
    stored = office.store.get_bytes("default/jobs/job-1/request.json", 10_000)
    assert stored is not None and json.loads(stored)["pairs"][0]["source"]["repository"] == "x"


def test_a_request_too_large_to_be_read_back_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not recorded first and failed later."""
    monkeypatch.setattr("distworker.plan.folder.REQUEST_MAX", 100)
    office = Office()
    with pytest.raises(InvalidRequest, match="pairs: "):
        office.jobs.submit(PAYLOAD)
    assert list(office.store.list("")) == []


def test_a_store_that_is_away_leaves_no_job_behind() -> None:
    """The ledger must not know a job whose request nobody can read."""

    class Away(MemoryStore):
        def put_bytes(self, key: str, data: bytes) -> None:
            raise StoreUnavailable("the store does not answer")

    ledger = MemoryLedger()
    jobs = Jobs(ledger, Away, lambda steps: None)
    with pytest.raises(StoreUnavailable):
        jobs.submit(PAYLOAD)
    assert list(ledger.jobs()) == []


def test_a_broker_that_is_away_delays_the_job_only() -> None:
    """The job is recorded; the workers' pumps hand it out."""

    def away(steps: Sequence[Admitted]) -> None:
        raise StateUnavailable("the broker does not take messages")

    ledger = MemoryLedger()
    ledger.beat("w", 2, {}, [])
    assert is_open(Jobs(ledger, MemoryStore, away).view(Jobs(ledger, MemoryStore, away).submit(PAYLOAD)))


def test_a_wrong_payload_creates_nothing() -> None:
    """It is refused before anything is written."""
    office = Office()
    with pytest.raises(RequestError):
        office.jobs.submit({**PAYLOAD, "source": "Not A Reference"})
    assert list(office.ledger.jobs()) == []
    assert list(office.store.list("")) == []


def test_cancel_tells_apart_over_and_unknown() -> None:
    """True once, False when it is over, an error for a job that never was."""
    office = Office()
    office.jobs.submit(PAYLOAD)
    assert office.jobs.cancel("job-1")
    with pytest.raises(JobUnknown, match="distworker status"):
        office.jobs.cancel("job-2")


def test_a_store_that_is_away_keeps_nobody_from_stopping_a_job(caplog: pytest.LogCaptureFixture) -> None:
    """The ledger has it; that a loss of Redis would undo it is told."""
    office = Office()
    office.jobs.submit(PAYLOAD)

    def away() -> BlobStore:
        raise StoreUnavailable("the store does not answer")

    jobs = Jobs(office.ledger, away, office.sent.extend)
    assert jobs.pause("job-1")
    assert jobs.view("job-1").paused
    assert jobs.resume("job-1")
    assert not jobs.view("job-1").paused
    assert jobs.cancel("job-1")
    said = [record.message for record in caplog.records if "a loss of Redis would undo it" in record.message]
    assert len(said) == 3
    assert not jobs.pause("job-1"), "it is over"
    with pytest.raises(JobUnknown, match="distworker status"):
        jobs.pause("job-2")


def test_without_a_worker_people_are_told_about_local_mode() -> None:
    """A worker that drains has no slots and does not count."""
    office = Office()
    for _ in range(2):
        with pytest.raises(NoWorker, match="--local"):
            office.jobs.require_worker()
        office.ledger.beat("draining", 0, {}, [])
    office.ledger.beat("w", 4, {}, [])
    office.jobs.require_worker()


class NoRegistries:
    """These steps move nothing."""

    def client(self, host: str, credential: str = "") -> Registry:
        raise AssertionError("no step here asks for a registry")

    source = client


def local(tmp_path: Path, **steps: Any) -> LocalService:
    """A local service with these steps."""
    kit = Equipment(NoRegistries(), LocalStore(tmp_path, durable=False), steps)
    return LocalService(MemoryLedger(), kit, slots=2)


def test_local_mode_runs_a_job_to_its_end(tmp_path: Path) -> None:
    """Views come until the job is closed, and outcomes are there then."""

    def expand(context: Context, claim: Claim) -> Answer:
        images = tuple(StepSpec(f"m:{claim.job}-{n}", claim.job, {"v": 1}) for n in range(5))
        return Done("expanded", Change(spawn=images, total=5, cursor=5))

    def publish(context: Context, claim: Claim) -> Answer:
        return Done("there", Change(closing=Closing(claim.id[2:], "done", {"image": claim.id[2:]})))

    with local(tmp_path, j=expand, m=publish) as service:
        views = list(service.run(service.jobs.parse(PAYLOAD)))
        outcomes = list(service.jobs.outcomes(views[-1].id))
    assert views[-1].state == "done"
    assert views[-1].counters["done"] == 5
    assert len(outcomes) == 5
    assert list(service.ledger.workers()) == []


def test_leaving_local_mode_early_stops_running_steps(tmp_path: Path) -> None:
    """Ctrl-C waits for the next chunk, not for the whole layer."""
    started, stopped = threading.Event(), threading.Event()

    def endless(context: Context, claim: Claim) -> Answer:
        started.set()
        try:
            while True:
                context.watch.check()
                threading.Event().wait(0.01)
        finally:
            stopped.set()

    with (
        pytest.raises(KeyboardInterrupt),
        local(tmp_path, j=endless) as service,
    ):
        for _ in service.run(service.jobs.parse(PAYLOAD)):
            assert started.wait(30)
            raise KeyboardInterrupt
    assert stopped.is_set()


def test_local_blobs_lie_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A second run finds what the first one moved."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "distworker"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder().name == "distworker"


@pytest.mark.parametrize("trouble", [False, StateUnavailable("Redis is away")])
def test_what_redis_may_still_lose_is_not_acknowledged_in_silence(
    trouble: bool | StateUnavailable, caplog: pytest.LogCaptureFixture
) -> None:
    """The job is in the store and is told to be there; a cancel says how to look whether it held."""
    office = Office()

    def settle() -> bool:
        if isinstance(trouble, StateUnavailable):
            raise trouble
        return trouble

    office.ledger.settle = settle  # type: ignore[method-assign]
    office.jobs.submit(PAYLOAD)
    assert "`distworker recover` finds it" in caplog.text
    assert office.jobs.cancel("job-1")
    assert "`distworker status job-1`" in caplog.text


def test_an_acknowledged_job_says_nothing_of_crashes(caplog: pytest.LogCaptureFixture) -> None:
    """The ordinary case."""
    Office().jobs.submit(PAYLOAD)
    assert not caplog.records
