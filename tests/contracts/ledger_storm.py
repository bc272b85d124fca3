"""A seeded storm of operations on one or two ledgers: workers that do anything, messages doubled and lost.

Every operation goes to all ledgers, and their answers must be equal. When the storm is over, honest workers
finish what is left; then every job must be closed, whatever happened before.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from distworker.state.base import Beat, Change, Claim, Closing, JobView, Ledger, StepSpec
from distworker.state.ledger import RedisLedger
from distworker.state.memory import MemoryLedger
from tests.contracts.ledger_world import SIZE, download, expand, plan, publish, upload

OWNERS = ("w1", "w2", "w3")
ERROR = {"code": "unavailable", "message": "no answer"}
IMAGES = 5


@dataclass
class Clock:
    """Moves in eighths of a second, which floats and milliseconds both hold exactly."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Storm:
    ledgers: Sequence[Ledger]
    clock: Clock
    seed: int
    inbox: list[str] = field(default_factory=list)
    held: list[Claim] = field(default_factory=list)
    past: list[Claim] = field(default_factory=list)  #: no longer ours, or forgotten by a dead worker
    ended: list[Claim] = field(default_factory=list)  #: those that were answered
    jobs: list[str] = field(default_factory=list)
    tokens: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def ask(self, question: Callable[[Ledger], Any]) -> Any:
        """The same call to each ledger; one answer."""
        answers = [question(ledger) for ledger in self.ledgers]
        for other in answers[1:]:
            assert other == answers[0], f"seed {self.seed}: the ledgers disagree"
        return answers[0]

    def run(self, operations: int) -> None:
        moves = [
            (self.open, 2),
            (self.pump, 20),
            (self.claim, 25),
            (self.end, 30),
            (self.again, 5),
            (self.late, 4),
            (self.beat, 8),
            (self.wait, 8),
            (self.turn_back, 0.4),
            (self.cancel, 0.7),
            (self.caps, 1),
            (self.pause_job, 1.5),
            (self.pause_origin, 1),
            (self.short_of_memory, 0.7),
            (self.lose_a_message, 1),
            (self.lose_a_worker, 4),
        ]
        self.beat()
        self.open()
        for _ in range(operations):
            move = self.random.choices([m for m, _ in moves], [w for _, w in moves])[0]
            move()
            self.compare()

    # --- moves --------------------
    def open(self) -> None:
        job = f"J{len(self.jobs)}"
        if len(self.jobs) < 4:
            self.jobs.append(job)
            priority, window = self.random.choice([3, 5, 5, 8]), self.random.choice([1, 2, 4])
            assert self.ask(lambda ledger: ledger.open_job(job, {}, expand(job, window, priority)))

    def pump(self) -> None:
        limit = self.random.choice([1, 3, 64])
        self.inbox += [step.id for step in self.ask(lambda ledger: list(ledger.pump(limit)))]

    def claim(self) -> None:
        if not self.inbox:
            return
        step = self.random.choice(self.inbox)
        if self.random.random() < 0.9:
            self.inbox.remove(step)
        self.tokens += 1
        token, owner = f"t{self.tokens}", self.random.choice(OWNERS)
        answer = self.ask(lambda ledger: ledger.claim(step, token, owner))
        if isinstance(answer, Claim):
            self.held.append(answer)
            assert self.ask(lambda ledger: ledger.claim(step, token, owner)) == answer

    def end(self) -> None:
        """A worker is through with a step, one way or another."""
        if not self.held:
            return
        claim = self.held.pop(self.random.randrange(len(self.held)))
        self.past.append(claim)
        self.ended.append(claim)
        self.finish(claim, self.random.choices(["done", "fail", "block", "release"], [14, 3, 3, 1])[0])

    def again(self) -> None:
        """The last answer was lost: the same call once more."""
        if self.ended:
            claim = self.ended[-1]
            self.ask(lambda ledger: ledger.done(claim.id, claim.token, Change(counts={"layers": 1})))
            self.ask(lambda ledger: ledger.fail(claim.id, claim.token, ERROR, True, 1.0))

    def late(self) -> None:
        """A worker that lost its step long ago."""
        if self.past:
            claim = self.random.choice(self.past[-3:])
            self.ask(lambda ledger: ledger.release(claim.id, claim.token, 2.0, "origin"))
            self.ask(lambda ledger: ledger.block(claim.id, claim.token, [download("0")]))

    def beat(self) -> None:
        signs = [Beat(c.id, c.token, 1, 2) for c in self.held if self.random.random() < 0.9]
        slots = self.random.choice([2, 4, 8])
        gone = self.ask(lambda ledger: list(ledger.beat("w1", slots, {}, signs)))
        self.held = [claim for claim in self.held if claim.id not in gone]

    def wait(self) -> None:
        self.clock.now += self.random.choice([0.125, 1.0, 2.5, 5.0, 5.0, 11.0, 60.0])
        self.ask(lambda ledger: ledger.reap("w1"))

    def turn_back(self) -> None:
        """The server's clock is put right, or wrong."""
        self.clock.now -= 600.0
        self.ask(lambda ledger: ledger.reap("w1"))

    def cancel(self) -> None:
        job = self.random.choice(self.jobs)
        self.ask(lambda ledger: ledger.cancel(job))

    def caps(self) -> None:
        caps = {name: self.random.choice([1, 2, 5]) for name in ("src", "alt", "dst", "two")}
        self.ask(lambda ledger: ledger.set_caps(caps))

    def pause_job(self) -> None:
        job, resume = self.random.choice(self.jobs), self.random.random() < 0.6
        self.ask(lambda ledger: ledger.resume_job(job) if resume else ledger.pause_job(job))

    def pause_origin(self) -> None:
        origin, resume = self.random.choice(["src", "alt", "dst", "two"]), self.random.random() < 0.6
        self.ask(lambda ledger: ledger.resume_origin(origin) if resume else ledger.pause_origin(origin))

    def short_of_memory(self) -> None:
        """The reaper finds the server above its ceiling, or below it again."""
        full = self.random.random() < 0.4
        for ledger in self.ledgers:
            set_memory_full(ledger, full)

    def lose_a_message(self) -> None:
        if self.inbox:
            self.inbox.pop(self.random.randrange(len(self.inbox)))

    def lose_a_worker(self) -> None:
        if self.held:
            self.past.append(self.held.pop(self.random.randrange(len(self.held))))

    # --- what a worker answers --------------------
    def finish(self, claim: Claim, how: str) -> None:
        step, token = claim.id, claim.token
        if how == "fail":
            retry, delay = self.random.random() < 0.7, self.random.choice([0.0, 2.0])
            progressed = self.random.random() < 0.3
            self.ask(lambda ledger: ledger.fail(step, token, ERROR, retry, delay, progressed))
        elif how == "release":
            delay, pause = self.random.choice([0.0, 3.0, 20.0]), self.random.choice(["", "kind", "origin"])
            error = self.random.choice([None, ERROR])
            self.ask(lambda ledger: ledger.release(step, token, delay, pause, error))
        elif how == "block" and step[0] in "um":
            needs = [self.layer(claim.job)] if step[0] == "m" else list(self.layer(claim.job).needs)
            self.ask(lambda ledger: ledger.block(step, token, needs))
        else:
            change = self.change(claim)
            self.ask(lambda ledger: ledger.done(step, token, change))

    def layer(self, job: str) -> StepSpec:
        """One of few layers, so that jobs share; from one of two sources, to one of two destinations."""
        source, destination = self.random.choice(["src", "alt"]), self.random.choice(["dst", "dst", "two"])
        priority = 3 + int(job[1:]) * 2
        stored = self.random.random() < 0.2
        return upload(str(self.random.randrange(4)), job, source, destination, priority % 10, stored)

    def change(self, claim: Claim) -> Change:
        kind, job = claim.id[0], claim.job
        if kind == "j":
            first = int(claim.body["cursor"])
            end = min(first + int(claim.body["window"]), IMAGES)
            spawn = [
                s for n in range(first, end) for s in (plan(f"{job}-{n}", job), publish(f"{job}-{n}", job))
            ]
            return Change(spawn=tuple(spawn), total=IMAGES, cursor=end)
        image = claim.id[2:]
        if kind == "p" and self.random.random() < 0.2:
            return Change(closing=Closing(image, "unchanged", {"digest": "x"}))
        if kind == "p":
            needs = {spec.id: spec for spec in (self.layer(job) for _ in range(self.random.randrange(4)))}
            return Change(
                wait=((f"m:{image}", tuple(needs.values())),), patch=((f"m:{image}", {"n": len(needs)}),)
            )
        if kind == "m":
            return Change(closing=Closing(image, "done", {"layers": len(claim.delivered)}))
        delivered: dict[str, Any] = {"repository": job} if kind == "u" else {}
        if claim.tee and self.random.random() < 0.7:
            delivered = {"teed": [claim.tee[0], job]}
        return Change(counts={"downloaded" if kind == "d" else "uploaded": SIZE}, delivered=delivered)

    # --- the end --------------------
    def compare(self) -> None:
        for job in self.jobs:
            self.ask(lambda ledger, job=job: _plain(ledger.job(job)))  # type: ignore[misc]
            self.ask(lambda ledger, job=job: _by_image(ledger, job))  # type: ignore[misc]
        if self.random.random() < 0.2:  # these look at everything
            self.ask(lambda ledger: list(ledger.paused_origins()))
            self.ask(lambda ledger: list(ledger.overdue(30)))
            self.ask(lambda ledger: sorted(dict(ledger.open_steps("jpmud")).items()))

    def calm(self) -> None:
        """Honest workers finish what is left, dead ones are found, lost messages are sent again."""
        for claim in self.held:
            self.finish(claim, "done")
        self.held = []
        for ledger in self.ledgers:
            set_memory_full(ledger, False)
        for job in self.jobs:
            self.ask(lambda ledger, job=job: ledger.resume_job(job))  # type: ignore[misc]
        for origin in self.ask(lambda ledger: list(ledger.paused_origins())):
            self.ask(lambda ledger, origin=origin: ledger.resume_origin(origin))  # type: ignore[misc]
        for _ in range(300):
            self.beat()
            self.pump()
            while self.inbox:
                self.claim()
                for claim in self.held:
                    self.finish(claim, "done")
                self.held = []
            self.clock.now += 5.0
            self.ask(lambda ledger: ledger.reap("w1"))
            if not any(self.is_open(job) for job in self.jobs):
                break
        self.clock.now += 400
        for _ in range(80):
            self.ask(lambda ledger: ledger.reap("w1"))
            self.clock.now += 5.0
        self.compare()

    def is_open(self, job: str) -> bool:
        view = self.ledgers[0].job(job)
        assert view is not None
        return view.state in ("running", "cancelling")


def _plain(view: JobView | None) -> tuple[Any, ...]:
    assert view is not None
    return (
        *(view.state, view.created, view.closed, view.paused),
        *(dict(view.counters), dict(view.running), view.error),
    )


def set_memory_full(ledger: Ledger, full: bool) -> None:
    """As the reaper would find it; a server without a ceiling leaves the mark to whoever set it."""
    if isinstance(ledger, MemoryLedger):
        ledger.memory_full = full
    if isinstance(ledger, RedisLedger):
        client, name = ledger.redis.client, ledger.redis.key("full")
        client.set(name, "1", ex=3600) if full else client.delete(name)


def _by_image(ledger: Ledger, job: str) -> list[Any]:
    return sorted(ledger.outcomes(job), key=lambda outcome: str(outcome["image"]))
