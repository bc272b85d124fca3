"""A small world whose every move is a plain tuple, so that any history can be told again on any ledger.

Jobs with a few images that share a few layers, two workers, one destination. Honest moves are free: pump,
claim, done, beat, and time when nothing else can go on; an operator's pause is ended for nothing. Faults cost
one each: a step that fails, blocks or is given back, a lease that runs out (its worker writes late), lost and
doubled messages, a cancel, a pause, an outage, a clock put back. So all histories with a given number of
faults can be tried, however long they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from distworker.state.base import Beat, Change, Claim, Closing, Ledger, StepSpec
from tests.contracts.ledger_storm import ERROR, Clock
from tests.contracts.ledger_world import OWNER, download, expand, plan, publish, upload

Move: TypeAlias = tuple[Any, ...]

WORKERS = 2
LEASE_STEPS = 4  #: steps of four seconds, after which a lease that nobody extends has run out
#: Where each job reads from: two ways to do the same step fail apart from each other.
SOURCES = ("src", "alt")
ORIGINS = ("src", "dst")
#: How a step is given back: after how long, what is paused, and whether there was an error.
RELEASES = ((0.0, "", False), (8.0, "kind", True), (8.0, "origin", False))


@dataclass(frozen=True)
class Layout:
    """What a world is made of: for each job its images, for each image its layers ("" at the end of an
    image's name: the destination has it already)."""

    jobs: Mapping[str, Mapping[str, Sequence[str]]]
    priorities: Mapping[str, int] = field(default_factory=dict)
    window: int = 4
    slots: int = 2
    caps: Mapping[str, int] = field(default_factory=dict)
    faults: frozenset[str] = frozenset()  #: the kinds of faults that may happen; none: all

    def layer(self, digest: str, job: str) -> StepSpec:
        """The upload of a layer as this job wants it."""
        source = SOURCES[sorted(self.jobs).index(job) % 2]
        return upload(digest, job, source, priority=self.priorities.get(job, 5))


@dataclass
class Run:
    """A claim in the hands of a worker; `late`: its lease ran out, and it does not know."""

    claim: Claim
    late: bool = False


@dataclass
class World:
    """See the module text. `ledgers` get the same calls and must give the same answers."""

    ledgers: list[Ledger]
    clock: Clock
    layout: Layout
    inbox: Counter[str] = field(default_factory=Counter)
    runs: list[Run] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    paused: set[str] = field(default_factory=set)  #: jobs and origins
    faults: int = 0
    tokens: int = 0
    answered: set[str] = field(default_factory=set)  #: tokens whose end was accepted
    moved: int = 0  #: uploads and downloads whose `done` was accepted, each once
    ended: Counter[str] = field(default_factory=Counter)  #: root steps that were done
    lanes: dict[str, int] = field(default_factory=dict)  #: newest number seen in each lane

    # --- which moves there are --------------------
    def moves(self, budget: int) -> list[Move]:
        """What may happen now, faults only while fewer than `budget` happened."""
        honest: list[Move] = [("open", job) for job in sorted(self.layout.jobs) if job not in self.opened][:1]
        live = [n for n, run in enumerate(self.runs) if not run.late]
        if len(live) < WORKERS:
            honest += [("claim", step) for step in sorted(self.inbox)]
        honest += [("done", n) for n in live]
        honest += [("teed", n) for n in live if self.runs[n].claim.tee]
        honest += [
            ("late", n, how) for n, run in enumerate(self.runs) if run.late for how in ("done", "fail")
        ]
        honest += [("resume", name) for name in sorted(self.paused)]
        honest += [("pump",), ("beat",)]
        if not live and not self.inbox:
            honest.append(("time",))
        return honest + (self._faults(live) if self.faults < budget else [])

    def _faults(self, live: list[int]) -> list[Move]:
        moves: list[Move] = []
        for n in live:
            moves += [("fail", n, True), ("fail", n, False), ("expire", n), ("die", n)]
            moves += [("release", n, *how) for how in RELEASES]
            moves += [("block", n)] if self.runs[n].claim.id[0] in "um" else []
        for step in sorted(self.inbox):
            moves += [("lose", step), ("double", step)]
        moves += [("cancel", job) for job in self.opened if job not in self.cancelled]
        moves += [("pause", job) for job in self.opened if job not in self.paused]
        moves += [("stop", origin) for origin in ORIGINS if origin not in self.paused]
        moves += [("outage",), ("back",)]
        wanted = self.layout.faults
        return [move for move in moves if not wanted or move[0] in wanted]

    # --- the moves --------------------
    def make(self, move: Move) -> None:
        """Do it; the same move in the same state does the same."""
        getattr(self, f"_{move[0]}")(*move[1:])
        self._see_lanes()

    def ask(self, question: Callable[[Ledger], Any]) -> Any:
        """The same call to each ledger; one answer."""
        answers = [question(ledger) for ledger in self.ledgers]
        for other in answers[1:]:
            assert other == answers[0], f"the ledgers disagree: {answers}"
        return answers[0]

    def _open(self, job: str) -> None:
        self.opened.append(job)
        self._time(0.0)  # a fleet that beats and reaps
        caps = self.layout.caps
        self.ask(lambda ledger: ledger.set_caps(caps))
        first = expand(job, self.layout.window, self.layout.priorities.get(job, 5))
        assert self.ask(lambda ledger: ledger.open_job(job, {}, first))

    def _pump(self) -> None:
        self.inbox.update(step.id for step in self.ask(lambda ledger: list(ledger.pump())))

    def _claim(self, step: str) -> None:
        self.inbox[step] -= 1
        if not self.inbox[step]:
            del self.inbox[step]
        self.tokens += 1
        token = f"t{self.tokens}"
        answer = self.ask(lambda ledger: ledger.claim(step, token, OWNER))
        if isinstance(answer, Claim):
            assert self.ask(lambda ledger: ledger.claim(step, token, OWNER)) == answer
            self.runs.append(Run(answer))

    def _beat(self) -> None:
        signs = [Beat(run.claim.id, run.claim.token, 1, 2) for run in self.runs if not run.late]
        slots = self.layout.slots
        gone = self.ask(lambda ledger: list(ledger.beat(OWNER, slots, {}, signs)))
        self.runs = [run for run in self.runs if run.late or run.claim.id not in gone]

    def _time(self, seconds: float = 4.0) -> None:
        self.clock.now += seconds
        self._beat()
        self.ask(lambda ledger: ledger.reap(OWNER))

    def _done(self, number: int) -> None:
        self._end(self.runs.pop(number).claim, "done")

    def _teed(self, number: int) -> None:
        self._end(self.runs.pop(number).claim, "teed")

    def _late(self, number: int, how: str) -> None:
        self._end(self.runs.pop(number).claim, how)

    def _fail(self, number: int, retry: bool) -> None:
        self.faults += 1
        self._end(self.runs.pop(number).claim, "fail", retry)

    def _block(self, number: int) -> None:
        self.faults += 1
        self._end(self.runs.pop(number).claim, "block")

    def _release(self, number: int, delay: float, pause: str, why: bool) -> None:
        self.faults += 1
        claim, error = self.runs.pop(number).claim, ERROR if why else None
        for _ in range(2):
            self.ask(lambda ledger: ledger.release(claim.id, claim.token, delay, pause, error))

    def _expire(self, number: int) -> None:
        self.faults += 1
        run = self.runs[number]
        run.late = True
        for _ in range(LEASE_STEPS):
            self._time()

    def _die(self, number: int) -> None:
        run = self.runs[number]
        self._expire(number)
        self.runs.remove(run)

    def _lose(self, step: str) -> None:
        self.faults += 1
        del self.inbox[step]

    def _double(self, step: str) -> None:
        self.faults += 1
        self.inbox[step] += 1

    def _cancel(self, job: str) -> None:
        self.faults += 1
        self.cancelled.add(job)
        self.ask(lambda ledger: ledger.cancel(job))

    def _pause(self, job: str) -> None:
        self.faults += 1
        self.paused.add(job)
        self.ask(lambda ledger: ledger.pause_job(job))

    def _stop(self, origin: str) -> None:
        self.faults += 1
        self.paused.add(origin)
        self.ask(lambda ledger: ledger.pause_origin(origin))

    def _resume(self, name: str) -> None:
        self.paused.remove(name)
        if name in ORIGINS:
            assert self.ask(lambda ledger: ledger.resume_origin(name))
        else:
            self.ask(lambda ledger: ledger.resume_job(name))

    def _outage(self) -> None:
        """Nothing reached the ledger for a minute."""
        self.faults += 1
        self.clock.now += 60.0
        self.ask(lambda ledger: ledger.reap(OWNER))
        self._beat()

    def _back(self) -> None:
        """The server's clock is put back by ten minutes."""
        self.faults += 1
        self.clock.now -= 600.0
        self.ask(lambda ledger: ledger.reap(OWNER))
        self._beat()

    # --- how a step ends --------------------
    def _end(self, claim: Claim, how: str, retry: bool = True) -> None:
        """Twice: the first answer may have been lost, and the second one is the same."""
        first, second = (self._tell(claim, how, retry) for _ in range(2))
        assert first == second, f"{how} of {claim.id}: {first}, then {second}"
        if first in (True, "retry", "failed"):
            assert claim.token not in self.answered
            self.answered.add(claim.token)
            if how in ("done", "teed") and claim.id[0] in "mp":
                self.ended[claim.id] += 1
                assert self.ended[claim.id] == 1, f"{claim.id} took effect twice"
            self.moved += how in ("done", "teed") and claim.id[0] in "ud"

    def _tell(self, claim: Claim, how: str, retry: bool) -> Any:
        step, token = claim.id, claim.token
        if how == "fail":
            return self.ask(lambda ledger: ledger.fail(step, token, ERROR, retry, 2.0))
        if how == "block":
            needs = self._missing(claim)
            return self.ask(lambda ledger: ledger.block(step, token, needs))
        change = self._change(claim, teed=how == "teed")
        return self.ask(lambda ledger: ledger.done(step, token, change))

    def _missing(self, claim: Claim) -> list[StepSpec]:
        """What a step finds to be missing: a publish its first layer, an upload its download."""
        if claim.id[0] == "u":
            return [download(claim.id[2:].partition("@")[0], claim.job, SOURCES[0])]
        layers = self.layout.jobs[claim.job][claim.id[2:]] or ["extra"]
        return [self.layout.layer(layers[0], claim.job)]

    def _change(self, claim: Claim, teed: bool) -> Change:
        kind, job = claim.id[0], claim.job
        images = self.layout.jobs[job]
        if kind == "j":
            first = int(claim.body["cursor"])
            now = list(images)[first : first + self.layout.window]
            priority = self.layout.priorities.get(job, 5)
            spawn = [s for image in now for s in (plan(image, job, priority), publish(image, job, priority))]
            return Change(spawn=tuple(spawn), total=len(images), cursor=first + len(now))
        if kind == "p":
            return self._planned(claim.id[2:], job)
        if kind == "m":
            self._publish(claim.id[2:], job)
            return Change(closing=Closing(claim.id[2:], "done", {}))
        delivered = {"teed": [claim.tee[0], job]} if teed and claim.tee else {}
        return Change(counts={"downloaded" if kind == "d" else "layers": 1}, delivered=delivered)

    def _planned(self, image: str, job: str) -> Change:
        if image.endswith("="):
            return Change(closing=Closing(image, "unchanged", {}))
        layers = tuple(self.layout.layer(digest, job) for digest in self.layout.jobs[job][image])
        return Change(wait=((f"m:{image}", layers),), patch=((f"m:{image}", {"n": len(layers)}),))

    def _publish(self, image: str, job: str) -> None:
        """All images of a job go to one tag."""
        number = self.ask(lambda ledger: ledger.lane_begin(job, image))
        self.ask(lambda ledger: ledger.lane_published(job, number, {"image": image}))

    def _see_lanes(self) -> None:
        for job in self.opened:
            newest, _ = self.ask(lambda ledger, job=job: ledger.lane_newest(job))
            assert newest >= self.lanes.get(job, 0), f"lane {job} went back"
            self.lanes[job] = newest

    # --- the way out --------------------
    def calm(self, rounds: int = 400) -> None:
        """Honest workers finish what is left. Every job must close."""
        for job in sorted(self.layout.jobs):
            if job not in self.opened:
                self._open(job)
        for name in sorted(self.paused):
            self._resume(name)
        self.runs = []
        for _ in range(rounds):
            self._pump()
            for step in list(self.inbox.elements()):
                self._claim(step)
                while self.runs:
                    self._done(len(self.runs) - 1)
            if all(view.closed is not None for view in self.ledgers[0].jobs()):
                break
            self._time()
        open_jobs = [view.id for view in self.ledgers[0].jobs() if view.closed is None]
        assert not open_jobs, f"{open_jobs} hang"
        for _ in range(2 * LEASE_STEPS):  # what runs, or was sent, for nobody: until its deadline
            self._time()
