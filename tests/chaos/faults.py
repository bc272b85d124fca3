"""Does to a site what a plan says, one action at a time, and counts it.

Every fault ends before the next one begins, except for a worker that sleeps. A kill waits a moment for a
worker that has something to lose.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.chaos import plan
from tests.chaos.gate import BUSY, OPEN, REFUSING, RESETTING, STALLED
from tests.chaos.plan import Action
from tests.chaos.recovery import Recovery
from tests.chaos.site import Site, Supervised

#: Longest wait for a worker that is up and runs something (seconds).
VICTIM_WITHIN: Final = 15.0


@dataclass
class Faults:
    """`happened` counts by kind what was really done, `kills` processes of ours that were killed."""

    site: Site
    recovery: Recovery
    happened: Counter[str] = field(default_factory=Counter)
    kills: int = 0

    def __post_init__(self) -> None:
        self._sleepers: list[threading.Thread] = []
        self._table: Mapping[str, Callable[[Action], None]] = {
            plan.KILL_WORKER: self._kill_worker,
            plan.KILL_ALL: self._kill_all,
            plan.KILL_SCHEDULER: self._kill_scheduler,
            plan.FREEZE: self._freeze,
            plan.ROLLING: self._rolling,
            plan.VALKEY_RESTART: lambda action: self._restart(self.site.valkey.stop, action),
            plan.VALKEY_KILL: lambda action: self._restart(self.site.valkey.kill9, action, 0.5),
            plan.VALKEY_OUTAGE: lambda action: self._restart(self.site.valkey.stop, action, action.seconds),
            plan.SOURCE_KILL: self._kill_source,
            plan.DESTINATION_KILL: self._kill_destination,
            plan.CUT: self._cut,
            plan.STALL: self._stall,
            plan.REFUSE: self._refuse,
            plan.STORE_RESET: lambda action: self._store(RESETTING, action),
            plan.STORE_BUSY: lambda action: self._store(BUSY, action),
            plan.STORE_KILL: self._kill_store,
        }

    def do(self, action: Action) -> None:
        """Do it; returns when it is over and the quiet time after it, too."""
        if not action.kills and action.what != plan.FREEZE:
            self.recovery.disturb()
        self._table[action.what](action)
        self.happened[action.what] += 1
        time.sleep(action.gap)

    def end(self) -> None:
        """Waits until who sleeps is awake, and leaves every gate open."""
        for sleeper in self._sleepers:
            sleeper.join()
        for gate in self.site.gates:
            gate.set(OPEN)

    # --- our own processes ----------------------------------------------------------------------------------

    def _victim(self, action: Action) -> Supervised:
        """A worker that runs something, the one that the plan's number picks."""
        deadline = time.monotonic() + VICTIM_WITHIN
        while True:
            up = [worker for worker in self.site.workers if worker.ready]
            busy = [worker for worker in up if self.recovery.held_by(worker.process.pid)]
            if busy or (up and time.monotonic() > deadline):
                return (busy or up)[action.target % len(busy or up)]
            time.sleep(0.1)

    def _kill(self, what: str, one: Supervised) -> None:
        pid = one.process.pid
        one.kill9()
        self.recovery.died(what, pid)
        self.kills += 1

    def _kill_worker(self, action: Action) -> None:
        self._kill(action.what, self._victim(action))

    def _kill_all(self, action: Action) -> None:
        self._victim(action)
        for worker in self.site.workers:
            if not worker.frozen and worker.wait_ready():
                self._kill(action.what, worker)

    def _kill_scheduler(self, action: Action) -> None:
        one = self.site.schedulers[0]
        one.wait_ready()
        one.kill9()
        self.kills += 1

    def _freeze(self, action: Action) -> None:
        victim = self._victim(action)
        pid = victim.process.pid
        victim.freeze()
        self.recovery.died(action.what, pid)

        def wake() -> None:
            time.sleep(action.seconds)
            victim.thaw()

        self._sleepers.append(threading.Thread(target=wake, daemon=True))
        self._sleepers[-1].start()

    def _rolling(self, _action: Action) -> None:
        for worker in self.site.workers:
            if not worker.frozen:
                worker.restart()

    # --- servers --------------------------------------------------------------------------------------------

    def _restart(self, stop: Callable[[], None], _action: Action, away: float = 0.0) -> None:
        stop()
        time.sleep(away)
        self.site.valkey.start()

    def _kill_source(self, action: Action) -> None:
        self.site.source.kill9()
        time.sleep(action.seconds / 2)
        self.site.source.start()

    def _kill_destination(self, action: Action) -> None:
        self.site.destination.kill9()
        time.sleep(action.seconds / 2)
        self.site.destination.start()

    def _kill_store(self, action: Action) -> None:
        self.site.store.kill9()
        time.sleep(action.seconds)
        self.site.store.start()

    # --- the network ----------------------------------------------------------------------------------------

    def _cut(self, _action: Action) -> None:
        for gate in self.site.gates:
            gate.reset()

    def _stall(self, action: Action) -> None:
        for gate in self.site.gates:
            gate.set(STALLED)
        time.sleep(action.seconds)
        for gate in self.site.gates:
            gate.set(OPEN)

    def _refuse(self, action: Action) -> None:
        gate = self.site.gates[action.target % len(self.site.gates)]
        gate.set(REFUSING)
        time.sleep(action.seconds)
        gate.set(OPEN)

    def _store(self, mode: str, action: Action) -> None:
        self.site.to_store.set(mode)
        time.sleep(action.seconds)
        self.site.to_store.set(OPEN)
