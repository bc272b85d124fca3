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
from distworker.state.memory_records import LAYERS
from distworker.state.rules import Rules, admission_window, layer_window
from distworker.state.texts import step_text


class MemoryAdmission:
    """The part of the ledger that hands out slots, see `state.base.Ledger`."""

    rules: Rules
    _now: Callable[[], float]
    _lock: threading.RLock
    _graph: Graph
    _caps: dict[str, int]
    _pauses: dict[str, tuple[float, float]]  #: end and begin
    _workers: dict[str, WorkerView]

    def pump(self, limit: int = 64) -> Sequence[Admitted]:
        with self._lock:
            window = admission_window(sum(worker.slots for worker in self.workers()))
            admitted: list[Admitted] = []
            for kind in names.KINDS:
                self._pump_kind(kind, window, limit, admitted)
            return admitted

    def _pump_kind(self, kind: str, window: int, limit: int, admitted: list[Admitted]) -> None:
        ring = self._graph.ready.rings[kind]
        skipped = scanned = 0
        while ring and len(admitted) < limit and skipped < len(ring) and scanned < self.rules.scan:
            if len(self._graph.flying) >= window:
                return
            if kind in LAYERS and self._graph.layers_flying >= layer_window(window):
                return
            pair = ring[0]
            ring.rotate(-1)
            scanned += 1
            if self._closed(kind, pair[1]):
                skipped += 1
                continue
            skipped = 0
            step = self._graph.steps[self._graph.ready.pop(kind, *pair)]
            self._graph.fly(step)
            self._graph.set_due(step, self._now() + self.rules.resend_after(step.sends))
            step.sends += 1
            admitted.append(Admitted(step.id, step_text(step.id, step.body)))

    def _closed(self, kind: str, slot: str) -> bool:
        """Paused, or its slots are all taken."""
        origin = slot.split("|", 1)[0]
        now = self._now()
        if self._pause_ends(f"{slot}|{kind}", now) > now or self._pause_ends(origin, now) > now:
            return True
        if kind not in LAYERS or not origin or origin not in self._caps:
            return False
        return len(self._graph.use.get(slot, ())) >= self._caps[origin]

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
