"""Turns at upkeep: of all who would sweep, one does, once each time it is due.

A turn is taken under a token, for a limited time, and kept by telling of life; whoever dies in the middle of
one is followed by somebody else when its time runs out. What was swept is recorded with the end of the turn,
by the one who still holds it. Many may ring for the same sweep, on a schedule or because nobody else did: one
of them is told to.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from distworker.state.connection import Connection

#: Seconds a turn holds without a sign of life: longer than any single request of a sweep.
LEASE: Final = 120.0
#: Seconds between two rings for the same sweep while nobody takes it.
RING_AGAIN: Final = 30.0


@dataclass(frozen=True, slots=True)
class TurnView:
    """How it stands with one sweep. Times are Unix seconds, 0 if never.

    `ended`, `took` (seconds) and `swept` are of the last whole round; `error` is of the last turn, "" when it
    went well; `owner` sweeps just now, "" when nobody does; `so_far` is what this round swept until now.
    """

    name: str
    ended: float = 0.0
    took: float = 0.0
    swept: Mapping[str, int] = field(default_factory=dict)
    error: str = ""
    due: float = 0.0
    owner: str = ""
    so_far: Mapping[str, int] = field(default_factory=dict)


class Turns:
    """The turns of one fleet. Every method raises StateUnavailable when Redis is away."""

    def __init__(self, redis: Connection) -> None:
        self._redis = redis

    def take(self, name: str, owner: str, every: float) -> str | None:
        """A token when `name` is due (each `every` seconds) and nobody else is at it, else None."""
        token = secrets.token_hex(8)
        answer = self._redis.run("turn", "take", name, token, owner, _ms(LEASE), _ms(every))
        return token if answer == "taken" else None

    def keep(self, name: str, token: str) -> bool:
        """Hold the turn for another `LEASE` from now; False when it is somebody else's by now."""
        return bool(self._redis.run("turn", "keep", name, token, _ms(LEASE)))

    def end(
        self, name: str, token: str, swept: Mapping[str, int], again: float, *, over: bool, error: str = ""
    ) -> bool:
        """Give the turn back; it is due again in `again` seconds. `over`: the round is whole and counts as
        the last one, otherwise the next turn goes on with it. False: the turn was lost, nothing changed."""
        record = json.dumps(dict(swept))
        return bool(self._redis.run("turn", "end", name, token, _ms(again), int(over), record, error))

    def ring(self, name: str, slack: float, every: float) -> bool:
        """Should the caller ring for this sweep now? It is overdue by `slack` seconds, nobody is at it, and
        nobody rang for it lately."""
        return bool(self._redis.run("turn", "ring", name, _ms(slack), _ms(RING_AGAIN), _ms(every)))

    def views(self, names: Sequence[str]) -> Sequence[TurnView]:
        """How it stands with each of these sweeps."""
        now = self._redis.now()
        with self._redis.errors(), self._redis.client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(self._redis.key("turn", name))
            found = pipe.execute()
        return [_view(name, fields, now) for name, fields in zip(names, found, strict=True)]


def counted(swept: Mapping[str, int]) -> str:
    """What was swept, for people: `2 multiparts, 1 sessions`, or `nothing`."""
    found = [f"{count} {name.replace('_', ' ')}" for name, count in swept.items() if count]
    return ", ".join(found) or "nothing"


def _view(name: str, fields: Mapping[str, str], now: float) -> TurnView:
    def seconds(field: str) -> float:
        return float(fields.get(field, 0)) / 1000

    return TurnView(
        name=name,
        ended=seconds("ended"),
        took=seconds("took"),
        swept=_counts(fields.get("swept", "")),
        error=fields.get("error", ""),
        due=seconds("due"),
        owner=fields.get("owner", "") if seconds("until") > now else "",
        so_far=_counts(fields.get("sum", "")),
    )


def _counts(text: str) -> Mapping[str, int]:
    # cjson writes an empty table as an object
    return {name: int(count) for name, count in json.loads(text or "{}").items()}


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
