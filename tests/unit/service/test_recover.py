"""Jobs after a total loss of Redis: what comes back, as what, and what does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from distworker.blobstore.keys import job_key
from distworker.blobstore.memory import MemoryStore
from distworker.errors import ConfigInvalid, JobUnknown, StoreUnavailable
from distworker.plan.folder import folder, read_fleet
from distworker.plan.model import JobRequest, Pair
from distworker.service.jobs import Jobs
from distworker.service.recover import OLD_AFTER, Recovery, sweep_lost
from distworker.service.reports import FORGOTTEN, keep_report, read_outcomes, read_view, sweep_reports
from distworker.service.upkeep import Bite
from distworker.state.base import Ledger
from distworker.state.memory import MemoryLedger
from tests.fakes.content import image, layer, put
from tests.fakes.ports import Run, Site, registry_place

ALL = Pair(registry_place("s.example", "a"), registry_place("dst.example", "b"), all_tags=True)


class Fleet:
    """A fleet whose Redis a test may lose: store and registries stay."""

    def __init__(self, tags: int = 3, store: MemoryStore | None = None) -> None:
        self.source, self.destination = Site("s.example"), Site("dst.example")
        for number in range(tags):
            put(self.source, "a", f"t{number}", image(layer(f"l{number}", 10)))
        self.store = store or MemoryStore()
        self.run = Run(self.source, self.destination, store=self.store)

    @property
    def ledger(self) -> Ledger:
        return self.run.ledger

    @property
    def jobs(self) -> Jobs:
        return Jobs(self.ledger, lambda: self.store, lambda steps: None, now=lambda: self.run.now)

    def submit(self, job: str = "j1", *pairs: Pair) -> None:
        assert self.jobs.create(JobRequest(job, "migrate", pairs or (ALL,), self.run.now))

    def lose_redis(self) -> None:
        """Everything that the ledger knew is gone."""
        self.run = Run(self.source, self.destination, store=self.store)

    def expand(self, job: str = "j1") -> None:
        """Only the expand steps, as far as the frozen list and the first window."""
        for _ in range(2):
            self.ledger.beat("me", 1, {}, [])
            self.ledger.pump()
            self.run.step(f"j:{job}")

    def recover(self, *jobs: str, dry: bool = False) -> dict[str, str]:
        return {looked.job: looked.action for looked in self.jobs.recover(jobs, dry=dry)}

    def images(self, job: str = "j1") -> dict[str, str]:
        """image id → source of every image in the graph."""
        return {
            step[2:]: body["transfer"]["source"]["tag"]
            for step, body in self.ledger.open_steps("m")
            if body["transfer"]["job"] == job
        }

    def states(self, job: str = "j1") -> list[str]:
        return sorted(str(outcome["state"]) for outcome in self.ledger.outcomes(job))


def test_a_lost_job_comes_back_with_its_frozen_list() -> None:
    """Same id, same images under the same ids, although the tags of the source are others by now."""
    fleet = Fleet()
    fleet.submit()
    fleet.expand()
    before = fleet.images()
    assert len(before) == 3
    put(fleet.source, "a", "s0", image(layer("new", 10)))
    fleet.lose_redis()

    assert fleet.recover() == {"j1": "opened"}
    fleet.expand()

    assert fleet.images() == before
    fleet.run.drain()
    assert fleet.states() == ["done"] * 3


def test_what_arrived_before_the_loss_ends_unchanged() -> None:
    """And what the store has is not downloaded again."""
    fleet = Fleet()
    fleet.submit()
    fleet.run.drain()
    fleet.lose_redis()

    fleet.recover()
    fleet.run.drain()

    assert fleet.states() == ["unchanged"] * 3
    assert [step for step in fleet.run.ran if step[0] in "ud"] == []


def test_a_job_that_was_not_frozen_is_listed_anew() -> None:
    """Nothing of it was released, so nothing contradicts the new list."""
    fleet = Fleet(tags=1)
    fleet.submit()
    fleet.ledger.beat("me", 1, {}, [])
    fleet.ledger.pump()
    fleet.run.step("j:j1")
    put(fleet.source, "a", "later", image(layer("later", 10)))
    fleet.lose_redis()

    fleet.recover()
    fleet.run.drain()

    assert fleet.states() == ["done", "done"]


def test_what_the_ledger_knows_is_left_alone() -> None:
    """Beside running jobs, and a second time."""
    fleet = Fleet()
    fleet.submit()
    assert fleet.recover() == {"j1": "known"}
    fleet.lose_redis()
    assert fleet.recover() == {"j1": "opened"}
    assert fleet.recover() == {"j1": "known"}


def test_two_at_once_open_a_job_once() -> None:
    """Also when one of them looked before the other opened it."""
    fleet = Fleet()
    fleet.submit()
    fleet.lose_redis()
    first, second = (Recovery(fleet.ledger, fleet.store, "default", 50).every() for _ in range(2))
    looked = fleet.ledger.job
    fleet.ledger.job = lambda job: None  # type: ignore[method-assign]
    actions = [next(first).action, next(second).action]
    fleet.ledger.job = looked  # type: ignore[method-assign]
    assert actions == ["opened", "known"]
    assert len(fleet.ledger.jobs()) == 1


def test_a_dry_run_changes_nothing() -> None:
    """It says what would be done."""
    fleet = Fleet()
    fleet.submit()
    fleet.lose_redis()
    before = [(item.key, item.size) for item in fleet.store.list("")]
    assert fleet.recover(dry=True) == {"j1": "opened"}
    assert fleet.ledger.job("j1") is None
    assert [(item.key, item.size) for item in fleet.store.list("")] == before


def test_a_job_that_ended_is_not_run_again() -> None:
    """Done, once its report is kept; cancelled, from the moment of the cancel."""
    fleet = Fleet()
    fleet.submit("j1")
    fleet.submit("j2", Pair(registry_place("s.example", "a", "t0"), registry_place("dst.example", "c")))
    fleet.run.drain()
    fleet.submit("j3")
    assert fleet.jobs.cancel("j3")
    assert keep_report(fleet.ledger, fleet.store, "default", "j1")
    fleet.lose_redis()

    assert fleet.recover() == {"j1": "closed", "j2": "opened", "j3": "cancelled"}
    assert fleet.recover("j3") == {"j3": "closed"}, "and that is written down"


def test_a_paused_job_comes_back_paused() -> None:
    """A resumed one does not."""
    fleet = Fleet()
    for job in ("j1", "j2"):
        fleet.submit(job)
        assert fleet.jobs.pause(job)
    assert fleet.jobs.resume("j2")
    fleet.lose_redis()
    fleet.recover()
    views = {view.id: view.paused for view in fleet.ledger.jobs()}
    assert views == {"j1": True, "j2": False}


def test_paused_registries_are_paused_before_a_lost_job_is_opened() -> None:
    """Those that were resumed are not; where nothing was lost nothing is paused again."""
    fleet = Fleet()
    fleet.submit()
    for origin in ("s.example", "dst.example:5000", "x" * 250):
        fleet.jobs.pause_origin(origin)
    assert fleet.jobs.resume_origin("x" * 250)
    fleet.recover()
    fleet.ledger.resume_origin("s.example")
    fleet.recover()
    assert fleet.jobs.paused_origins() == ["dst.example:5000"]
    fleet.lose_redis()
    fleet.recover(dry=True)
    assert fleet.jobs.paused_origins() == []
    fleet.recover()
    assert fleet.jobs.paused_origins() == ["dst.example:5000", "s.example"]


def test_a_job_that_may_be_over_for_long_is_opened_by_name_only() -> None:
    """Redis forgets a closed job after a week; if the store was away then, no report says so."""
    fleet = Fleet()
    fleet.submit()
    fleet.lose_redis()
    wrote = folder(fleet.store, "default", "j1").modified
    fleet.run.now = wrote + OLD_AFTER + 1
    assert fleet.recover() == {"j1": "old"}
    assert fleet.recover("j1") == {"j1": "opened"}


def test_a_job_of_a_local_run_is_nobody_elses() -> None:
    """It may have used the fleet's store."""
    fleet = Fleet()
    local = Jobs(MemoryLedger(), lambda: fleet.store, lambda steps: None, local=True)
    local.create(JobRequest("l1", "copy", (ALL,), 1.0))
    assert fleet.recover() == {"l1": "local"}


def test_what_cannot_be_read_is_said_and_the_rest_goes_on() -> None:
    """A damaged request, a name nobody knows."""
    fleet = Fleet()
    fleet.store.put_bytes(job_key("default", "a1", "request.json"), b"{")
    fleet.submit()
    fleet.lose_redis()
    assert fleet.recover("nope") == {"nope": "missing"}
    assert fleet.recover() == {"a1": "broken", "j1": "opened"}


def test_who_asks_for_a_lost_job_is_told_of_recover() -> None:
    """By every command that is about one job."""
    fleet = Fleet()
    fleet.submit()
    fleet.lose_redis()
    asks: list[Callable[[], object]] = [
        lambda: fleet.jobs.find("j1"),
        lambda: fleet.jobs.cancel("j1"),
        lambda: fleet.jobs.pause("j1"),
        lambda: fleet.jobs.retry("j1"),
    ]
    for ask in asks:
        with pytest.raises(JobUnknown, match="distworker recover j1"):
            ask()
    for nobody in ("j9", "../j1", "J 1"):
        with pytest.raises(JobUnknown, match=f"there is no job {nobody}"):
            fleet.jobs.find(nobody)
        assert fleet.recover(nobody) == {nobody: "missing"}


def test_the_sweep_opens_lost_jobs_and_goes_on_where_it_stopped() -> None:
    """In bites: each comes further, because what was opened is known."""
    fleet = Fleet()
    for job in ("j1", "j2", "j3"):
        fleet.submit(job)
    fleet.lose_redis()
    seen = []
    more = True
    while more:
        swept, more = sweep_lost(fleet.ledger, fleet.store, "default", 50, "us", Bite(lambda: None, 0))
        seen.append(swept["jobs_recovered"])
    assert seen == [1, 1, 1, 0]


def test_the_sweep_leaves_another_fleets_jobs_alone_until_they_are_taken_over() -> None:
    """Two fleets over one store: to the Redis of one every job of the other looks lost."""
    fleet = Fleet()
    fleet.submit()
    bite = Bite(lambda: None)
    assert sweep_lost(fleet.ledger, fleet.store, "default", 50, "us", bite) == ({"jobs_recovered": 0}, False)
    fleet.lose_redis()
    with pytest.raises(ConfigInvalid, match=r"fleet at us; set it to 0 here, or .*distworker recover"):
        sweep_lost(fleet.ledger, fleet.store, "default", 50, "them", bite)
    assert fleet.ledger.job("j1") is None
    them = Jobs(fleet.ledger, lambda: fleet.store, lambda steps: None, fleet="them")
    assert [looked.action for looked in them.recover(dry=True)] == ["opened"]
    assert read_fleet(fleet.store, "default") == "us"
    assert [looked.action for looked in them.recover()] == ["opened"]
    assert sweep_lost(fleet.ledger, fleet.store, "default", 50, "them", bite) == (
        {"jobs_recovered": 0},
        False,
    )


# --- reports --------------------


def test_a_report_tells_what_the_ledger_knew(monkeypatch: pytest.MonkeyPatch) -> None:
    """State, counters and every outcome in order, over several parts; kept once, though asked twice."""
    monkeypatch.setattr("distworker.service.reports.PART_LINES", 2)
    fleet = Fleet()
    fleet.submit()
    fleet.run.drain()
    view, outcomes = fleet.ledger.job("j1"), list(fleet.ledger.outcomes("j1"))
    assert view is not None

    first = sweep_reports(fleet.ledger, fleet.store, "default", Bite(lambda: None))
    again = sweep_reports(fleet.ledger, fleet.store, "default", Bite(lambda: None))

    assert (first, again) == (({"reports": 1}, False), ({"reports": 0}, False))
    kept = read_view(fleet.store, "default", "j1")
    assert kept is not None
    assert (kept.state, kept.counters, kept.record, kept.closed) == (
        *(view.state, view.counters, view.record, view.closed),
    )
    bare = [{k: v for k, v in each.items() if k != "v"} for each in outcomes]
    read = list(read_outcomes(fleet.store, "default", "j1"))
    assert [{k: v for k, v in each.items() if k != "v"} for each in read] == bare
    assert list(read_outcomes(fleet.store, "default", "j1", 2)) == read[2:]
    assert {"report-00000.jsonl", "report-00001.jsonl"} < folder(fleet.store, "default", "j1").names


class Dying(MemoryStore):
    """Takes so many writes of records, then none until it is healed."""

    left = 10**6

    def put_bytes(self, key: str, data: bytes) -> None:
        if not self.left:
            raise StoreUnavailable("away")
        self.left -= 1
        super().put_bytes(key, data)


@pytest.mark.parametrize("killed", range(4))
def test_a_report_is_written_by_whoever_comes_next(monkeypatch: pytest.MonkeyPatch, killed: int) -> None:
    """Killed at each of its writes: the next one ends it, and the job is not forgotten."""
    monkeypatch.setattr("distworker.service.reports.PART_LINES", 1)
    store = Dying()
    fleet = Fleet(store=store)
    fleet.submit()
    fleet.run.drain()
    store.left = killed
    with pytest.raises(StoreUnavailable):
        sweep_reports(fleet.ledger, store, "default", Bite(lambda: None))
    assert list(fleet.ledger.unreported()) == ["j1"]
    assert not folder(store, "default", "j1").over
    store.left = 99
    assert sweep_reports(fleet.ledger, store, "default", Bite(lambda: None))[0] == {"reports": 1}
    assert len(list(read_outcomes(store, "default", "j1"))) == 3


def test_a_report_begun_before_a_loss_of_redis_ends_nothing() -> None:
    """Its writer read that the job was closed; what it can no longer read must not become an empty report."""
    fleet = Fleet()
    fleet.submit()
    fleet.run.drain()
    closed = fleet.ledger.job("j1")
    fleet.lose_redis()
    fleet.ledger.job = lambda job: closed  # type: ignore[method-assign]
    assert not keep_report(fleet.ledger, fleet.store, "default", "j1")
    assert not folder(fleet.store, "default", "j1").over


def test_a_job_whose_record_ran_out_is_over_all_the_same() -> None:
    """The store was away for a week."""
    fleet = Fleet()
    fleet.submit()
    fleet.run.drain()
    fleet.run.now += fleet.ledger.rules.keep + 1  # type: ignore[attr-defined]
    assert sweep_reports(fleet.ledger, fleet.store, "default", Bite(lambda: None))[0] == {"reports": 1}
    kept = read_view(fleet.store, "default", "j1")
    assert kept is not None and kept.state == FORGOTTEN
    assert fleet.recover() == {"j1": "closed"}


def test_shards_of_a_list_that_was_not_taken_go_with_the_report() -> None:
    """What two runs at once left."""
    fleet = Fleet()
    fleet.submit()
    fleet.store.put_bytes(job_key("default", "j1", "list-dead-00000.jsonl"), b"x")
    fleet.run.drain()
    sweep_reports(fleet.ledger, fleet.store, "default", Bite(lambda: None))
    lists = [name for name in folder(fleet.store, "default", "j1").names if name.startswith("list-")]
    assert len(lists) == 1 and "dead" not in lists[0]


def test_a_bite_ends_between_two_reports() -> None:
    """And says that there is more."""
    fleet = Fleet(tags=1)
    for job in ("j1", "j2"):
        fleet.submit(job)
    fleet.run.drain()
    assert sweep_reports(fleet.ledger, fleet.store, "default", Bite(lambda: None, 0)) == (
        {"reports": 0},
        True,
    )


def test_a_job_that_redis_forgot_is_found_in_the_store() -> None:
    """Status and retry read its report."""
    fleet = Fleet()
    fleet.submit()
    fleet.run.drain()
    keep_report(fleet.ledger, fleet.store, "default", "j1")
    fleet.lose_redis()
    view, outcomes = fleet.jobs.find("j1")
    assert (view.state, len(list(outcomes))) == ("done", 3)
    assert not fleet.jobs.cancel("j1"), "it is over"
