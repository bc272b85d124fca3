"""How one step is run: every way it can end reaches the ledger once, and the runner outlives its servers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from distworker.blobstore.memory import MemoryStore
from distworker.errors import (
    BlobUnknown,
    Cancelled,
    DistworkerError,
    Lost,
    RateLimited,
    RequestTimeout,
    StateUnavailable,
    StoreFull,
    StoreUnavailable,
    Unavailable,
)
from distworker.registry.base import Registry
from distworker.service.endings import SILENCES
from distworker.service.runner import (
    BEAT_SECONDS,
    PATIENCE_SECONDS,
    Equipment,
    Presence,
    Runner,
    StepFailed,
)
from distworker.service.watch import HANDOVER_SECONDS
from distworker.state.base import Admitted, Change, Claim, StepSpec
from distworker.state.client import SOCKET_TIMEOUT
from distworker.state.memory import MemoryLedger
from distworker.state.rules import Rules
from distworker.steps.base import Answer, Block, Context, Done

Work = Callable[[Context, Claim], Answer]


class NoRegistries:
    """These steps move nothing."""

    def client(self, host: str, credential: str = "") -> Registry:
        raise AssertionError("no step here asks for a registry")

    source = client


class Clock:
    """Time that only moves when told."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A ledger with one job, and a runner whose `expand` step is the given function."""

    def __init__(self, work: Work, ledger: MemoryLedger | None = None) -> None:
        self.clock = Clock()
        self.ledger = ledger or MemoryLedger(clock=self.clock)
        self.sent: list[Admitted] = []
        kit = Equipment(
            registries=NoRegistries(), store=MemoryStore(), steps=dict.fromkeys(("j", "p", "m"), work)
        )
        self.runner = Runner(self.ledger, kit, self.sent.extend, Presence("me", 4), clock=self.clock)
        self.runner.beat()
        self.ledger.open_job("a", {}, StepSpec("j:a", "a", {"v": 1}))
        self.runner.pump()

    def state(self) -> tuple[str, Mapping[str, Any] | None]:
        view = self.ledger.job("a")
        assert view is not None
        return view.state, view.error


def raising(error: Exception) -> Work:
    """A step that fails so."""

    def work(context: Context, claim: Claim) -> Answer:
        raise error

    return work


def test_a_connection_that_hangs_once_costs_no_lease() -> None:
    """The beat after it comes in time, over a new connection."""
    assert Rules().lease - 1 > BEAT_SECONDS + SOCKET_TIMEOUT


def test_the_ledger_remembers_its_answers_for_as_long_as_it_is_asked_again() -> None:
    """Else the end of a step whose reply was lost would look like somebody else's."""
    assert Rules().answer > PATIENCE_SECONDS + 3 * SOCKET_TIMEOUT


def test_a_finished_step_is_done_and_what_it_made_ready_is_sent() -> None:
    """The step's sentence comes back, and its children's messages go out at once."""

    # Given a step that spawns another
    def work(context: Context, claim: Claim) -> Answer:
        spawned = StepSpec("m:a-0", "a", {"v": 1})
        return Done(
            "two images", Change(spawn=(spawned,), total=1, cursor=1) if claim.id == "j:a" else Change()
        )

    bench = Bench(work)
    # When it runs
    said = bench.runner.run("j:a")
    # Then its child was handed out
    assert said == "two images"
    assert [step.id for step in bench.sent] == ["j:a", "m:a-0"]


def test_a_stale_message_is_superseded() -> None:
    """Doubled and late messages are no failure."""
    bench = Bench(lambda context, claim: Done("done", Change(total=0, cursor=0)))
    bench.runner.run("j:a")
    assert bench.runner.run("j:a").startswith("superseded: ")
    assert bench.runner.run("m:never-heard-of").startswith("superseded: ")


def test_an_error_that_repeating_cannot_heal_fails_at_once() -> None:
    """The task ends as FAILURE with code and sentence."""
    bench = Bench(raising(BlobUnknown("no such blob", registry="hub.example")))
    with pytest.raises(StepFailed) as caught:
        bench.runner.run("j:a")
    assert str(caught.value) == "blob_unknown: no such blob"
    state, error = bench.state()
    assert state == "failed"
    assert error is not None and error["code"] == "blob_unknown"


@pytest.mark.parametrize(
    ("error", "runs"),
    [
        (Unavailable("hub.example answers 503"), MemoryLedger().rules.attempts),
        (RequestTimeout("no byte came from hub.example for too long"), SILENCES),
    ],
)
def test_an_error_that_may_heal_is_tried_again_and_in_the_end_fails(
    error: DistworkerError, runs: int
) -> None:
    """Attempts are bounded, silences more so; each one before the last ends quietly."""
    bench = Bench(raising(error))
    said = []
    with pytest.raises(StepFailed, match=error.code):
        for _ in range(runs):
            said.append(bench.runner.run("j:a"))
            bench.clock.now += 120
            bench.ledger.beat("me", 4, {}, [])
            bench.runner.upkeep()
    assert len(said) == runs - 1
    assert all(text.startswith("tries again in ") for text in said)


def test_a_bug_of_ours_shows_its_traceback_only_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """What reaches the ledger and Flower names the step, never the exception's text."""
    bench = Bench(raising(RuntimeError("password=hunter2")))
    said = bench.runner.run("j:a")
    assert "internal: RuntimeError in step j:a" in said
    assert "hunter2" not in said
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize(
    "error",
    [
        RateLimited("slow down", delay=90),
        StateUnavailable("redis is away"),
        StoreUnavailable("the store answers 503"),
        StoreFull("no room"),
    ],
)
def test_what_is_not_the_steps_fault_costs_no_attempt_and_ends_after_the_ledgers_patience(
    error: DistworkerError,
) -> None:
    """A 429 or an outage may happen more often than attempts are allowed, though not for ever."""
    bench = Bench(raising(error))

    def again(seconds: float = 120) -> str:
        bench.clock.now += seconds
        bench.ledger.beat("me", 4, {}, [])
        bench.runner.upkeep()
        return bench.runner.run("j:a")

    assert bench.runner.run("j:a").startswith("given back for ")
    assert all(again().startswith("given back for ") for _ in range(bench.ledger.rules.attempts + 2))
    assert bench.state() == ("running", None)
    for _ in range(int(bench.ledger.rules.patience / 1800) + 1):
        again(1800)
    state, told = bench.state()
    assert state == "failed"
    assert told is not None
    assert told["code"] == error.code


def test_a_step_that_lacks_something_waits_for_it() -> None:
    """Block gives the slot away; the need is handed out instead."""
    calls: list[str] = []

    def work(context: Context, claim: Claim) -> Answer:
        calls.append(claim.id)
        if calls == ["j:a"]:
            return Block("a blob is gone", (StepSpec("p:a-0", "a", {"v": 1}),))
        return Done("fine", Change(total=0, cursor=0) if claim.id == "j:a" else Change())

    bench = Bench(work)
    assert bench.runner.run("j:a") == "waits: a blob is gone"
    for step in ("p:a-0", "j:a"):
        assert bench.sent[-1].id == step
        bench.runner.run(step)
    assert calls == ["j:a", "p:a-0", "j:a"]
    assert bench.state()[0] == "done"


def test_a_cancelled_job_stops_its_running_step_at_the_next_chunk() -> None:
    """The beat hears of it and the step's next check ends the run without a failure."""

    def work(context: Context, claim: Claim) -> Answer:
        context.watch.moved(10)
        bench.ledger.cancel("a")
        bench.runner.beat()
        context.watch.check()
        raise AssertionError("the run went on")

    bench = Bench(work)
    assert bench.runner.run("j:a").startswith("superseded: ")


def test_progress_is_seen_while_the_step_runs() -> None:
    """status shows bytes as they move, because each beat carries them."""

    def work(context: Context, claim: Claim) -> Answer:
        context.watch.moved(4096)
        bench.runner.beat()
        view = bench.ledger.job("a")
        assert view is not None
        seen.update(view.running["j:a"])
        return Done("done", Change(total=0, cursor=0))

    seen: dict[str, Any] = {}
    bench = Bench(work)
    bench.runner.run("j:a")
    assert seen["moved"] == 4096


def test_draining_hands_running_work_over() -> None:
    """Another worker's pump hands the step out, as ours would get it back; no attempt is charged."""

    def work(context: Context, claim: Claim) -> Answer:
        bench.runner.drain()
        context.watch.check()
        raise AssertionError("the run went on")

    bench = Bench(work)
    assert bench.runner.run("j:a").startswith("given back")
    bench.runner.upkeep()
    assert [step.id for step in bench.sent] == ["j:a"]
    assert [step.id for step in bench.ledger.pump()] == ["j:a"]
    claim = bench.ledger.claim("j:a", "another", "other")
    assert isinstance(claim, Claim)
    assert claim.attempt == 1


def test_a_worker_that_drains_gives_new_claims_back() -> None:
    """A message that was already on its way is not lost."""
    bench = Bench(lambda context, claim: pytest.fail("a draining worker began a step"))
    bench.runner.drain()
    assert bench.runner.run("j:a").startswith("given back")
    assert bench.state() == ("running", None)


class Flaky(MemoryLedger):
    """A ledger whose named operations fail a few times first, as Redis does while it restarts."""

    def __init__(self, **failures: int) -> None:
        super().__init__()
        self.failures = failures

    def _trip(self, name: str) -> None:
        if self.failures.get(name, 0) > 0:
            self.failures[name] -= 1
            raise StateUnavailable("redis does not answer")

    def claim(self, step: str, token: str, owner: str) -> Any:
        found = super().claim(step, token, owner)
        self._trip("claim")  # the reply is lost, not the call
        return found

    def done(self, step: str, token: str, change: Change) -> bool:
        held = super().done(step, token, change)
        self._trip("done")
        return held

    def pump(self, limit: int = 64) -> Sequence[Admitted]:
        self._trip("pump")
        return super().pump(limit)


def test_lost_replies_of_claim_and_done_change_nothing() -> None:
    """The same token asks again and is answered as the first time."""
    bench = Bench(lambda context, claim: Done("done", Change(total=0, cursor=0)), Flaky(claim=2, done=2))
    assert bench.runner.run("j:a") == "done"
    assert bench.state()[0] == "done"


def test_a_pump_that_fails_after_a_step_does_not_fail_the_step() -> None:
    """The upkeep thread pumps again."""
    ledger = Flaky()
    bench = Bench(lambda context, claim: Done("done", Change(total=0, cursor=0)), ledger)
    ledger.failures["pump"] = 1
    assert bench.runner.run("j:a") == "done"


def test_messages_that_cannot_be_made_do_not_change_how_a_step_ended() -> None:
    """Its end is in the ledger; whatever the broker's library raises, the message is sent again later."""

    def broken(steps: Sequence[Admitted]) -> None:
        raise KeyError("transport")

    def work(context: Context, claim: Claim) -> Answer:
        bench.runner._dispatch = broken
        return Done("done", Change(spawn=(StepSpec("m:a-0", "a", {"v": 1}),), total=1, cursor=1))

    bench = Bench(work)
    assert bench.runner.run("j:a") == "done"


def test_the_background_threads_outlive_errors_of_any_kind() -> None:
    """They keep every lease of the process: an error must not end them."""
    beats = threading.Semaphore(0)

    class Moody(MemoryLedger):
        count = 0

        def beat(self, *args: Any) -> Sequence[str]:
            Moody.count += 1
            beats.release()
            if Moody.count == 1:
                raise StateUnavailable("redis is away")
            if Moody.count == 2:
                raise RuntimeError("a bug")
            return []

    kit = Equipment(registries=NoRegistries(), store=MemoryStore(), steps={})
    runner = Runner(MemoryLedger(), kit, lambda steps: None, Presence("me", 1), beat_seconds=0.01)
    runner._ledger = Moody()
    runner.start()
    try:
        assert all(beats.acquire(timeout=30) for _ in range(4))
    finally:
        runner.stop()


def test_stopping_says_farewell() -> None:
    """Nobody counts on a worker that left."""
    ledger = MemoryLedger()
    kit = Equipment(registries=NoRegistries(), store=MemoryStore(), steps={})
    runner = Runner(ledger, kit, lambda steps: None, Presence("me", 1, {"host": "here"}, {"hub.example": 2}))
    runner.beat()
    runner.upkeep()
    assert [worker.owner for worker in ledger.workers()] == ["me"]
    runner.stop()
    assert list(ledger.workers()) == []


def test_a_lost_lease_ends_as_superseded() -> None:
    """Another worker has the step; ours must not report anything about it."""
    bench = Bench(raising(Lost("taken over")))
    assert bench.runner.run("j:a") == "superseded: taken over"


def test_the_fence_asks_the_ledger_now() -> None:
    """No beat was due, and yet the run hears before it writes a tag that its step is gone."""

    def work(context: Context, claim: Claim) -> Answer:
        context.watch.fence()
        bench.ledger.cancel("a")
        context.watch.fence()
        raise AssertionError("the run went on")

    bench = Bench(work)
    assert bench.runner.run("j:a").startswith("superseded: ")


def test_a_step_that_comes_back_to_the_worker_that_lost_it_is_not_stopped_with_the_lost_run() -> None:
    """The ledger's answer names steps; of two runs of one step only the older is over."""
    ended: list[str] = []

    def work(context: Context, claim: Claim) -> Answer:
        if ended:
            bench.runner.beat()
            context.watch.check()
            ended.append("second")
            return Done("done", Change(total=0, cursor=0))
        ended.append("first")
        bench.clock.now += 60
        bench.ledger.reap("other")
        bench.clock.now += 60
        bench.ledger.beat("me", 4, {}, [])
        bench.runner.pump()
        assert bench.runner.run("j:a") == "done"
        context.watch.check()
        raise AssertionError("the lost run went on")

    bench = Bench(work)
    assert bench.runner.run("j:a").startswith("superseded: ")
    assert ended == ["first", "second"]


def test_what_a_hung_up_connection_raises_is_told_as_the_stop() -> None:
    """A broken read of a stopped run is no fault of the registry, and costs no attempt."""

    def work(context: Context, claim: Claim) -> Answer:
        bench.runner.drain()
        raise Unavailable("the connection broke")

    bench = Bench(work)
    assert "this worker is stopping" in bench.runner.run("j:a")


def test_a_run_that_does_not_end_when_its_worker_stops_is_given_back_over_its_head() -> None:
    """Another worker goes on at once; what the run says in the end is refused."""

    def work(context: Context, claim: Claim) -> Answer:
        bench.runner.drain()
        bench.runner.beat()
        assert bench.ledger.pump() == [], "it has a moment to end by itself"
        bench.clock.now += HANDOVER_SECONDS + 1
        bench.runner.beat()
        bench.ledger.beat("other", 4, {}, [])
        assert [step.id for step in bench.ledger.pump()] == ["j:a"]
        taken = bench.ledger.claim("j:a", "another", "other")
        assert isinstance(taken, Claim)
        assert taken.attempt == 1
        bench.runner.beat()
        return Done("done", Change(total=0, cursor=0))

    bench = Bench(work)
    assert bench.runner.run("j:a").startswith("superseded: ")
    assert bench.ledger.done("j:a", "another", Change(total=0, cursor=0)), "the other one holds it"


def test_a_run_hears_whether_its_step_is_wanted_by_others() -> None:
    """What it left open is taken back, or left to whoever goes on."""
    heard: list[type[Exception]] = []

    def work(context: Context, claim: Claim) -> Answer:
        if len(heard) == 0:
            bench.clock.now += 60
            bench.ledger.reap("other")
        else:
            bench.ledger.cancel("a")
        bench.runner.beat()
        try:
            context.watch.check()
        except (Lost, Cancelled) as error:
            heard.append(type(error))
            raise
        raise AssertionError("the run went on")

    bench = Bench(work)
    assert "another worker has this step" in bench.runner.run("j:a")
    bench.clock.now += 60
    bench.ledger.beat("me", 4, {}, [])
    bench.runner.upkeep()
    assert "nobody waits for this" in bench.runner.run("j:a")
    assert heard == [Lost, Cancelled]
