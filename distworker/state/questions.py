"""What operators and upkeep ask of the whole ledger: what is late and why, which steps are open."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from distworker.state import wire
from distworker.state.base import Overdue
from distworker.state.connection import Connection
from distworker.state.packing import merged
from distworker.state.reasons import overdue_of

#: Steps whose bodies are read in one call.
PAGE: Final = 200
#: Reasons whose second word is a moment in milliseconds.
_TIMED: Final = "paused"


class Questions:
    """The part of the Redis ledger that only reads, see `state.base.Ledger`."""

    _redis: Connection

    def overdue(self, limit: int = 100) -> Sequence[Overdue]:
        return [_overdue(*row) for row in wire.loads(self._redis.run("overdue", limit))]

    def open_steps(self, kinds: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        start = self._redis.key("step")
        escaped = "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in start)
        for kind in kinds:
            found: list[str] = []
            cursor = 0
            while True:
                with self._redis.errors():
                    cursor, page = self._redis.client.scan(cursor, match=f"{escaped}{kind}:*", count=1000)
                found += [str(name)[len(start) :] for name in page]
                while len(found) >= PAGE or (found and not cursor):
                    yield from self._bodies(found[:PAGE])
                    del found[:PAGE]
                if not cursor:
                    break

    def _bodies(self, steps: Sequence[str]) -> list[tuple[str, Mapping[str, Any]]]:
        return [(step, merged(body, step)) for step, body in wire.loads(self._redis.run("bodies", *steps))]


def _overdue(
    step: str,
    job: str,
    state: str,
    since: float,
    deadline: float,
    worker: str,
    why: Sequence[Any],
    error: str,
    body: Sequence[str],
) -> Overdue:
    if why[0] == _TIMED:
        why = [*why[:-1], why[-1] / 1000]
    return overdue_of(
        step,
        job,
        state,
        float(since),
        deadline / 1000 if deadline >= 0 else None,
        worker,
        why,
        json.loads(error or "{}"),
        merged(body, step),
    )
