"""What is late and why, and which steps are open, asked of the in-memory ledger.

The counterpart of `questions.py` and `overdue.lua` on dictionaries; see `memory.py` for lock and clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from distworker import names
from distworker.state.base import Overdue, WorkerView
from distworker.state.memory_graph import Graph
from distworker.state.memory_records import DELAY, QUEUED, RUN, WAIT, Step
from distworker.state.reasons import overdue_of
from distworker.state.rules import Rules

#: Steps listed of one pair, and waiters of one step.
EACH: Final = 10


class MemoryQuestions:
    """The part of the ledger that only reads, see `state.base.Ledger`."""

    rules: Rules
    memory_full: bool
    _now: Callable[[], float]
    _lock: threading.RLock
    _graph: Graph
    _stopped: set[str]
    _parked_as: Callable[[str, str], str]
    _paused_until: Callable[[str, str], float]
    workers: Callable[[], Sequence[WorkerView]]

    def overdue(self, limit: int = 100) -> Sequence[Overdue]:
        with self._lock:
            found: dict[str, tuple[Any, ...]] = {}
            for step, why in (*self._late(), *self._held_up()):
                found.setdefault(step, why)
            rows = list(found)
            for name in rows:  # it grows while it is walked: who waits for a waiter waits as well
                for waiter in self._waiters(name):
                    if waiter not in found and len(rows) < limit:
                        found[waiter] = ("waits", name)
                        rows.append(waiter)
            return [self._overdue(self._graph.steps[name], found[name]) for name in rows[:limit]]

    def _overdue(self, step: Step, why: tuple[Any, ...]) -> Overdue:
        timed = why[0] in ("lease", "unclaimed", "delayed")
        return overdue_of(
            step.id,
            step.spec.job,
            step.state,
            float(step.since),
            step.due if timed else None,
            step.owner,
            why,
            step.error or {},
            step.body,
        )

    def _late(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Steps with a deadline, by deadline."""
        timed = [(step.due, step.id) for step in self._graph.steps.values() if step.due is not None]
        now = self._now()
        for due, name in sorted(timed):
            step = self._graph.steps[name]
            if step.state == DELAY:
                yield name, ("delayed",)
            elif step.state == RUN and due <= now:
                yield name, ("lease",)
            elif step.state == QUEUED and (due <= now or step.sends > 1):
                yield name, ("unclaimed", step.sends)

    def _held_up(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Ready steps that no pump would admit."""
        ready = self._graph.ready
        opened = sorted(name for name, job in self._graph.jobs.items() if job.open)
        for mark, paused in (("j", opened), ("o", sorted(self._stopped))):
            for name in paused:
                for ring, job, slot in sorted(ready.parked.get(f"{mark}|{name}", ()), key="|".join):
                    yield from ((step, (mark, name)) for step in ready.first(ring, job, slot, EACH))
        nobody = not self.workers()
        for ring, pairs in ready.rings.items():
            for job, slot in list(pairs)[: self.rules.scan]:
                why = self._why(ring[0], job, slot, nobody)
                if why:
                    yield from ((step, why) for step in ready.first(ring, job, slot, EACH))

    def _why(self, kind: str, job: str, slot: str, nobody: bool) -> tuple[Any, ...] | None:
        park, ends = self._parked_as(job, slot), self._paused_until(kind, slot)
        if park:
            return (park[0], park[2:])
        if self.memory_full and kind in (names.PLAN, names.EXPAND):
            return ("memory",)
        if ends:
            return ("paused", slot.split("|", 1)[0], ends)
        return ("nobody",) if nobody else None

    def _waiters(self, name: str) -> Iterator[str]:
        """Those of its first subscribers that wait for nothing but their needs."""
        step = self._graph.steps[name]
        for waiter in step.ranked()[:EACH]:
            found = self._graph.steps.get(waiter)
            if found and found.state == WAIT:
                yield waiter

    def open_steps(self, kinds: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        with self._lock:
            found = [(step.id, step.body) for step in self._graph.steps.values() if step.kind in kinds]
        yield from found
