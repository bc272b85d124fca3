"""Admission of the in-memory ledger: which ready step gets a slot next, within what the live workers can run.

The counterpart of `pump.lua` on dictionaries; see `memory.py` for lock and clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from distworker import names
from distworker.state.base import Admitted, WorkerView
from distworker.state.memory_graph import Graph
from distworker.state.memory_records import LAYERS, Step
from distworker.state.rules import Rules, admission_window, layer_window
from distworker.state.texts import step_text


class MemoryAdmission:
    """The part of the ledger that hands out slots, see `state.base.Ledger`."""

    rules: Rules
    _now: Callable[[], float]
    _lock: threading.RLock
    _graph: Graph
    _stopped: set[str]
    _caps: dict[str, int]
    memory_full: bool  #: no plan and no expand is admitted; a process has no ceiling of its own, tests set it
    _pauses: dict[str, tuple[float, float]]  #: end and begin
    _workers: dict[str, WorkerView]

    def pump(self, limit: int = 64) -> Sequence[Admitted]:
        with self._lock:
            window = admission_window(sum(worker.slots for worker in self.workers()))
            admitted: list[Admitted] = []
            kinds = (names.PLAN, names.EXPAND) if self.memory_full else ()
            rings = [name for name, ring in self._graph.ready.rings.items() if ring and name[0] not in kinds]
            looks = max(1, self.rules.scan // max(1, len(rings)))
            for name in rings:
                self._pump_ring(name, window, limit, looks, admitted)
            return admitted

    def _pump_ring(self, name: str, window: int, limit: int, looks: int, admitted: list[Admitted]) -> None:
        ring = self._graph.ready.rings[name]
        skipped = looked = 0
        while ring and len(admitted) < limit and skipped < len(ring) and looked < looks:
            if len(self._graph.flying) >= window:
                return
            if name[0] in LAYERS and self._graph.layers_flying >= layer_window(window):
                return
            job, slot = ring[0]
            ring.rotate(-1)
            park = self._parked_as(job, slot)
            if park:
                self._graph.ready.park(park, name, job, slot)
                looked += 1
            elif self._closed(name[0], slot):
                skipped += 1
                looked += 1
            else:
                skipped = 0
                self._admit(self._graph.steps[self._graph.ready.pop(name, job, slot)], admitted)

    def _admit(self, step: Step, admitted: list[Admitted]) -> None:
        self._graph.fly(step)
        self._graph.set_due(step, self._now() + self.rules.resend_after(step.sends))
        step.sends += 1
        admitted.append(Admitted(step.id, step_text(step.id, step.body)))

    def _parked_as(self, job: str, slot: str) -> str:
        """Under which name an operator's pause takes this pair out of its ring."""
        if self._graph.paused(job):
            return f"j|{job}"
        origin = slot.split("|", 1)[0]
        return f"o|{origin}" if origin in self._stopped else ""

    def _closed(self, kind: str, slot: str) -> bool:
        """Paused, or its slots are all taken."""
        origin = slot.split("|", 1)[0]
        if self._paused_until(kind, slot) or origin in self._stopped:
            return True
        if kind not in LAYERS or not origin or origin not in self._caps:
            return False
        return len(self._graph.use.get(slot, ())) >= self._caps[origin]

    def _paused_until(self, kind: str, slot: str) -> float:
        """Until when a slot is paused for that kind; 0 when it is not."""
        now = self._now()
        ends = max(self._pause_ends(f"{slot}|{kind}", now), self._pause_ends(slot.split("|", 1)[0], now))
        return ends if ends > now else 0.0

    def _pause_ends(self, name: str, now: float) -> float:
        """Until when that name is paused; a pause that begins later than now is of a clock that went back."""
        ends, begins = self._pauses.get(name, (0.0, 0.0))
        return ends if begins <= now else 0.0

    def workers(self) -> Sequence[WorkerView]:
        with self._lock:
            oldest = self._now() - self.rules.live
            for owner in [name for name, worker in self._workers.items() if worker.seen <= oldest]:
                del self._workers[owner]
            return [replace(worker) for _, worker in sorted(self._workers.items())]
