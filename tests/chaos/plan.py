"""What happens to a fleet in one chaos run, drawn from a seed: every kind of fault, in an order of chance.

The same seed and number of kills make the same plan. A plan is walked through from its begin to its end, one
action at a time (only a frozen worker sleeps beside the others), so that a run can be repeated.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

#: Faults by what a reader of the report calls them.
KILL_WORKER: Final = "kill -9 of one worker"
KILL_ALL: Final = "kill -9 of all workers"
KILL_SCHEDULER: Final = "kill -9 of the scheduler"
FREEZE: Final = "worker frozen for three leases"
ROLLING: Final = "rolling restart of the workers"
VALKEY_RESTART: Final = "restart of Valkey"
VALKEY_KILL: Final = "kill -9 of Valkey"
VALKEY_OUTAGE: Final = "Valkey away for seconds"
SOURCE_KILL: Final = "kill -9 of the source registry"
DESTINATION_KILL: Final = "kill -9 of the destination registry"
CUT: Final = "all connections cut"
STALL: Final = "all connections silent for seconds"
REFUSE: Final = "a server refuses connections"
STORE_RESET: Final = "the store resets connections"
STORE_BUSY: Final = "the store answers 503"
STORE_KILL: Final = "kill -9 of the store"
FAULTS: Final = (
    *(KILL_WORKER, KILL_ALL, KILL_SCHEDULER, FREEZE, ROLLING, VALKEY_RESTART, VALKEY_KILL, VALKEY_OUTAGE),
    *(SOURCE_KILL, DESTINATION_KILL, CUT, STALL, REFUSE, STORE_RESET, STORE_BUSY, STORE_KILL),
)
#: What people do meanwhile: newer content under the same tags as a second job, and a job cancelled midway.
NEWER: Final = "a second job brings newer content for the same tags"
CANCEL: Final = "a job is cancelled midway"

#: Workers of the fleet; a kill of all of them counts as so many kills.
WORKERS: Final = 3
#: Kills that a plan has in any case: one worker, all workers, the scheduler.
LEAST_KILLS: Final = 1 + WORKERS + 1


@dataclass(frozen=True)
class Action:
    """One thing that happens: to whom (where that is open), for how long, and the quiet time after it."""

    what: str
    target: int = 0
    seconds: float = 0.0
    gap: float = 3.0

    @property
    def kills(self) -> int:
        """Processes of ours that it kills."""
        return {KILL_WORKER: 1, KILL_ALL: WORKERS, KILL_SCHEDULER: 1}.get(self.what, 0)


def draw(
    seed: str, kills: int, *, pace: float = 1.0, outage: float = 6.0, frozen: float = 38.0
) -> list[Action]:
    """A plan with every kind of fault and at least `kills` kills; `pace` stretches the quiet times,
    `outage` is how long Valkey is away, `frozen` how long a worker sleeps (three leases of 12 s and more)."""
    chance = random.Random(f"plan {seed}")
    kinds = [kind for kind in FAULTS if kind != FREEZE]
    missing = kills - LEAST_KILLS
    while missing > 0:
        kind = KILL_ALL if missing >= WORKERS and chance.random() < 0.12 else KILL_WORKER
        kinds.append(kind)
        missing -= WORKERS if kind == KILL_ALL else 1
    chance.shuffle(kinds)
    # Early, so that it wakes up while the others still work; the cancel while that job still runs.
    kinds.insert(1, FREEZE)
    kinds.insert(min(4, len(kinds)), CANCEL)
    kinds.insert(len(kinds) // 2, NEWER)
    seconds = {FREEZE: frozen, VALKEY_OUTAGE: outage}
    return [
        Action(
            kind,
            chance.randrange(1000),
            seconds.get(kind) or chance.uniform(1.0, 4.0),
            pace * chance.uniform(1.5, 4.0),
        )
        for kind in kinds
    ]
