"""Runs one step: claim it, do it, tell the ledger how it ended, and let the next ones start.

The same runner serves the Celery tasks and the local mode; only the dispatcher differs. It promises that a
step ends in the ledger exactly once (every call is fenced by the claim's token), that a lease is kept while
the step runs and while its end is being told, and that an interrupted run (lost lease, nobody wants it, this
worker stops) changes nothing. Two threads for a whole process: one beats for all running steps, one reaps and
pumps; both outlive a Redis that is away. Failures reach the caller as `StepFailed` with one clear sentence;
tracebacks stay in the worker's log. Never: hold a slot while waiting for another step, retry inside a step,
or put a secret into a sentence.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from distworker import logs, names
from distworker.blobstore.base import BlobStore
from distworker.errors import (
    Cancelled,
    DistworkerError,
    Draining,
    InfrastructureError,
    InternalError,
    Interrupted,
    Lost,
    StateUnavailable,
)
from distworker.registry.base import Registries
from distworker.retrying import Backoff
from distworker.service.background import Repeat
from distworker.service.endings import Fail, GiveBack, ending
from distworker.service.watch import RunWatch, not_ours
from distworker.state.base import Admitted, Beat, Claim, Ledger, Refusal
from distworker.state.sessions import MemorySessions
from distworker.steps.base import Answer, Block, Context, Done, Sessions, Step

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Takes steps that were admitted and brings each to a free worker; may raise InfrastructureError.
Dispatcher = Callable[[Sequence[Admitted]], None]

#: A lease lasts 12 s (`state/rules.py`), so two beats in a row may be lost before it runs out.
BEAT_SECONDS: Final = 4.0
#: Overdue steps are looked for once a second by one elected process; the others only pump.
UPKEEP_SECONDS: Final = 1.0
#: Longest wait for a background thread that is in the middle of a call to a Redis that is away.
STOP_SECONDS: Final = 10.0
#: Caps are told again this often (seconds): a Redis that lost its data gets them back.
CAPS_SECONDS: Final = 60.0
#: How long the end of a step is told again and again to a Redis that does not answer. After an outage the
#: ledger grants everything running one more lease before it takes steps back, so a late `done` still counts.
PATIENCE_SECONDS: Final = 120.0
#: Retries of ledger calls and of the background threads: quick at first, because leases are short.
LEDGER_BACKOFF: Final = Backoff(base=0.2, factor=2, cap=4, tries=1_000)


class StepFailed(Exception):
    """A step is over and failed; the text is `code: message`. Only for the task's FAILURE state."""


@dataclass(frozen=True, slots=True)
class Equipment:
    """What every step of this process works with; the watch is added for each run."""

    registries: Registries
    store: BlobStore
    steps: Mapping[str, Step]
    window: int = 200
    part_size: int = 8 * 1024 * 1024
    sessions: Sessions = field(default_factory=MemorySessions)


@dataclass(frozen=True, slots=True)
class Presence:
    """How this process shows itself: `owner` is unique in the fleet, `info` is published with every beat.

    `caps` are the operator's slots per registry origin; every process of the fleet tells the same ones.
    """

    owner: str
    slots: int
    info: Mapping[str, Any] = field(default_factory=dict)
    caps: Mapping[str, int] = field(default_factory=dict)


class Runner:
    """One per process, made after any fork. `start` before the first `run`, `stop` at the end.

    `failure_level` is the log's for failed steps; `patient` as in `endings.ending`.
    """

    def __init__(
        self,
        ledger: Ledger,
        equipment: Equipment,
        dispatch: Dispatcher,
        presence: Presence,
        *,
        clock: Callable[[], float] = time.monotonic,
        beat_seconds: float = BEAT_SECONDS,
        upkeep_seconds: float = UPKEEP_SECONDS,
        failure_level: int = logging.ERROR,
        patient: bool = True,
    ) -> None:
        self._ledger = ledger
        self._equipment = equipment
        self._dispatch = dispatch
        self._presence = presence
        self._clock = clock
        self._failure_level = failure_level
        self._patient = patient
        self._active: dict[str, RunWatch] = {}
        self._lock = threading.Lock()
        self._draining = False
        self._caps_due = 0.0
        self._stopping = threading.Event()
        self._threads = [
            Repeat("beat", self.beat, beat_seconds, self._stopping, LEDGER_BACKOFF),
            Repeat("upkeep", self.upkeep, upkeep_seconds, self._stopping, LEDGER_BACKOFF),
        ]

    # --- life of the process --------------------------------------------------------------------------------

    def start(self) -> None:
        """Start beating and pumping; the first beat makes this process visible to others."""
        for thread in self._threads:
            thread.start()

    def drain(self) -> None:
        """Hand running steps over at their next chunk; what is claimed from now on is given back at once."""
        self._draining = True
        with self._lock:
            for watch in self._active.values():
                watch.stop(Draining("this worker is stopping"))

    def stop(self) -> None:
        """End the threads and take leave. Running steps that are left over come back when their lease runs
        out."""
        self.drain()
        self._stopping.set()
        for thread in self._threads:
            thread.join(STOP_SECONDS)
        try:
            self._ledger.farewell(self._presence.owner)
        except StateUnavailable as error:
            log.warning("could not say goodbye to the ledger: %s", error)

    # --- one step -------------------------------------------------------------------------------------------

    def run(self, step: str) -> str:
        """Claim and do `step`; returns the sentence an operator reads about this run.

        Raises:
            StepFailed: the step failed for good.
            StateUnavailable: the ledger stayed away; the step comes back by itself when its lease runs out.
        """
        token = secrets.token_hex(8)
        claim = self._insist(lambda: self._ledger.claim(step, token, self._presence.owner))
        if isinstance(claim, Refusal):
            level = logging.INFO if claim.reason == "newer" else logging.DEBUG
            return self._said(f"superseded: {step} is {_REFUSED.get(claim.reason, claim.reason)}", level)
        try:
            with self._watched(claim) as watch, logs.bind(**_labels(claim)):
                return self._settle(claim, watch, self._attempt(claim, watch))
        finally:
            if (
                not self._draining
            ):  # what we gave back would come straight back to us; the others pump each second
                self.pump()

    def _attempt(self, claim: Claim, watch: RunWatch) -> Answer | DistworkerError:
        log.debug("%s starts, attempt %d", names.VERBS.get(names.kind_of(claim.id), "step"), claim.attempt)
        try:
            watch.check()
            work = self._equipment.steps[names.kind_of(claim.id)]
            with watch.bound():
                return work(self._context(watch), claim)
        except DistworkerError as error:
            return watch.reason or error  # a connection that was hung up fails in many ways
        except Exception as error:
            log.exception("%s failed unexpectedly", claim.id)
            kind = type(error).__name__
            return InternalError(f"{kind} in step {claim.id}; the worker's log has the details")

    def _context(self, watch: RunWatch) -> Context:
        kit = self._equipment
        return Context(
            registries=kit.registries,
            store=kit.store,
            knowledge=self._ledger,
            watch=watch,
            window=kit.window,
            part_size=kit.part_size,
            sessions=kit.sessions,
        )

    def _settle(self, claim: Claim, watch: RunWatch, answer: Answer | DistworkerError) -> str:
        """Tell the ledger how the run ended."""
        tell = self._ledger
        if watch.handed_over:  # the ledger would repeat what it answered to that
            return self._said(_SUPERSEDED)
        if isinstance(answer, Done):
            held = self._insist(lambda: tell.done(claim.id, claim.token, answer.change), watch)
            return self._said(answer.text) if held else self._said(_SUPERSEDED)
        if isinstance(answer, Block):
            held = self._insist(lambda: tell.block(claim.id, claim.token, answer.needs), watch)
            return self._said(f"waits: {answer.text}") if held else self._said(_SUPERSEDED)
        if isinstance(answer, (Cancelled, Lost)):
            return self._said(f"superseded: {answer.message}")
        end = ending(answer, claim, self._patient)
        if isinstance(end, GiveBack):
            return self._give_back(claim, watch, answer, end)
        return self._fail(claim, watch, answer, end)

    def _give_back(self, claim: Claim, watch: RunWatch, error: DistworkerError, end: GiveBack) -> str:
        reason = error.to_dict() if end.trouble else None
        held = self._insist(
            lambda: self._ledger.release(claim.id, claim.token, end.delay, end.pause, reason), watch
        )
        text = f"given back for {end.delay:.0f} s: {error}"
        return self._said(text, end.level) if held else self._said(_SUPERSEDED)

    def _fail(self, claim: Claim, watch: RunWatch, error: DistworkerError, end: Fail) -> str:
        record, progressed = error.to_dict(), watch.progressed
        verdict = self._insist(
            lambda: self._ledger.fail(claim.id, claim.token, record, end.retry, end.delay, progressed), watch
        )
        if verdict == "lost":
            return self._said(_SUPERSEDED)
        if verdict == "retry":
            return self._said(f"tries again in {end.delay:.0f} s: {error}", logging.WARNING)
        raise StepFailed(self._said(str(error), self._failure_level))

    @staticmethod
    def _said(text: str, level: int = logging.INFO) -> str:
        clean = logs.redact(text)
        log.log(level, "%s", clean)
        return clean

    # --- in the background ----------------------------------------------------------------------------------

    def beat(self) -> None:
        """One sign of life for all running steps; stops those that the ledger says are lost, and those that
        are over their time (`watch.py`)."""
        with self._lock:
            active = list(self._active.values())
        now = self._clock()
        late = [watch for watch in active if watch.overdue(now)]
        running = [watch for watch in active if watch not in late]
        runs = Counter(watch.id for watch in running)
        lost = self._sign(running)
        for watch in running:
            # The answer names steps. A run that slept through its lease may stand beside the one after it.
            if watch.id in lost and runs[watch.id] == 1:
                watch.stop(not_ours(self._ledger.known(watch.id)))
            elif watch.id in lost and (reason := self._refusal(watch)):
                watch.stop(reason)
        for watch in late:
            if watch.draining and not watch.handed_over:
                self._ledger.release(watch.id, watch.token)
                watch.handed_over = True
                log.warning("%s is given back although its run has not ended yet", watch.id)

    def _refusal(self, watch: RunWatch) -> Interrupted | None:
        """Ask the ledger now, for this run alone."""
        return not_ours(self._ledger.known(watch.id)) if self._sign([watch]) else None

    def _sign(self, running: Sequence[RunWatch]) -> Collection[str]:
        who = self._presence
        beats = [Beat(watch.id, watch.token, watch.bytes, watch.size) for watch in running]
        return set(self._ledger.beat(who.owner, 0 if self._draining else who.slots, who.info, beats))

    def upkeep(self) -> None:
        """Take back overdue steps (if elected) and admit ready ones."""
        if self._clock() >= self._caps_due:
            self._ledger.set_caps(self._presence.caps)
            self._caps_due = self._clock() + CAPS_SECONDS
        self._ledger.reap(self._presence.owner)
        if not self._draining:
            self._dispatch_admitted()

    def pump(self) -> None:
        """Admit ready steps now; trouble is left to the next `upkeep`."""
        try:
            self._dispatch_admitted()
        except InfrastructureError as error:
            log.warning("could not hand out ready steps yet: %s", error)
        except Exception:  # the step before this is over and told: how it ended must not change
            log.exception("could not hand out ready steps yet")

    def _dispatch_admitted(self) -> None:
        admitted = self._ledger.pump()
        if admitted:
            self._dispatch(admitted)

    # --- helpers --------------------------------------------------------------------------------------------

    @contextmanager
    def _watched(self, claim: Claim) -> Iterator[RunWatch]:
        size = claim.body.get("size")
        watch = RunWatch(claim.id, claim.token, size if isinstance(size, int) else 0, self._refusal)
        with self._lock:
            self._active[claim.token] = watch
            if self._draining:
                watch.stop(Draining("this worker is stopping"))
        try:
            yield watch
        finally:
            with self._lock:
                del self._active[claim.token]

    def _insist(self, call: Callable[[], T], watch: RunWatch | None = None) -> T:
        """Repeat an idempotent ledger call while Redis is away and the run may still hold its step."""
        end = self._clock() + PATIENCE_SECONDS
        failures = 0
        while True:
            try:
                return call()
            except StateUnavailable:
                failures += 1
                if self._clock() >= end or (watch is not None and watch.lost):
                    raise
                if self._stopping.wait(LEDGER_BACKOFF.delay(failures, random=random.random)):
                    raise


_REFUSED: Final = {
    "superseded": "done, or another worker has it",
    "newer": "of a newer release and left to its workers",
    "unknown": "over",
}
_SUPERSEDED: Final = "superseded: the step moved on without this run"


def _labels(claim: Claim) -> dict[str, str]:
    """What each log line of this run carries."""
    kind, name = names.kind_of(claim.id), claim.id.partition(":")[2]
    labels = {"job": claim.job, "step": claim.id}
    if kind in {names.PUBLISH, names.PLAN}:
        labels["image"] = name
    elif kind in {names.UPLOAD, names.DOWNLOAD}:
        labels["digest"] = str(claim.body.get("digest", ""))
    return labels
