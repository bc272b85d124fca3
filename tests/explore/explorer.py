"""Every history of a small world with a given number of faults, breadth first; each state is seen once.

A state is the ledger of the model together with its workers and messages. States that differ only in names of
tokens, ages or the hour are one. After every move the invariants are checked, and from a sample of the states
(all of them, if asked) honest workers must be able to bring every job to its end.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distworker.state.base import StepSpec
from distworker.state.memory import MemoryLedger
from distworker.state.rules import Rules
from tests.contracts.ledger_storm import Clock
from tests.explore import invariants, records
from tests.explore.world import Layout, Move, World

#: Few of everything, so that every limit is reached.
RULES = Rules(attempts=2, runs=3, rounds=1, batch=100, resend_cap=20.0, answer=1e6, patience=6.0, tell=1)
START = 1_700_000_000.0


def new_world(layout: Layout) -> World:
    """On the model alone."""
    clock = Clock(START)
    return World([MemoryLedger(RULES, clock)], clock, layout)


#: Specs, layouts and rules never change, so all copies share them; kept alive, so that ids stay their own.
_shared: dict[int, Any] = {}


def _find(number: int) -> Any:
    return _shared[number]


def _reduce(thing: Any) -> tuple[Any, ...]:
    _shared[id(thing)] = thing
    return _find, (id(thing),)


#: How a copy of a world is made of what is not copied: a lock is made anew.
_TABLE: dict[type, Any] = {
    type(threading.RLock()): lambda lock: (threading.RLock, ()),
    StepSpec: _reduce,
    Layout: _reduce,
    Rules: _reduce,
}


def take(world: World) -> bytes:
    """The world as it is now."""
    out = io.BytesIO()
    pickler = pickle.Pickler(out, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = _TABLE  # type: ignore[assignment]
    pickler.dump(world)
    return out.getvalue()


def restore(snapshot: bytes) -> World:
    """A world of its own."""
    world = pickle.loads(snapshot)
    assert isinstance(world, World)
    return world


def model_of(world: World) -> MemoryLedger:
    """The world's model."""
    ledger = world.ledgers[0]
    assert isinstance(ledger, MemoryLedger)
    return ledger


def shape(world: World) -> tuple[Any, ...]:
    """The state in canonical form: ages become ranks, times distances from now, a token the place of the run
    that holds it."""
    ledger, now = model_of(world), world.clock.now
    graph = ledger._graph
    tokens = {run.claim.token: n for n, run in enumerate(world.runs)}
    ages = sorted({step.order for step in graph.steps.values()} | {*_subscribed(ledger)})
    special = _Special({age: rank for rank, age in enumerate(ages)}, tokens, now)
    pauses = [(name, end - now) for name, (end, begin) in ledger._pauses.items() if max(end, begin) > now]
    return (
        tuple([(name, special.record(graph.steps[name])) for name in sorted(graph.steps)]),
        tuple([special.record(job) for job in graph.jobs.values()]),
        tuple([(kind, *ring) for kind, ring in graph.ready.rings.items() if ring]),
        tuple(sorted(pauses)),
        tuple([(run.claim.id, run.late, run.claim.attempt, run.claim.tee is None) for run in world.runs]),
        tuple([ledger._answers.get(token, (0, None))[1] for token in tokens]),
        tuple(sorted(world.inbox.items())),
        (len(world.opened), *sorted(world.cancelled), "", *sorted(world.paused), *world.lanes.items()),
        tuple([(name, *sorted(places)) for name, places in sorted(graph.ready.parked.items())]),
        round(now - (ledger._reaped or 0)),
        tuple([round(now - worker.seen) for worker in ledger._workers.values()]),
    )


def _subscribed(ledger: MemoryLedger) -> Iterator[int]:
    for step in ledger._graph.steps.values():
        for subscription in step.subscribers.values():
            yield subscription.order


class _Special:
    """Fields of records that need more than a look; any other field is itself."""

    def __init__(self, ages: Mapping[int, int], tokens: Mapping[str, int], now: float) -> None:
        self._ways: dict[str, Callable[[Any], Any]] = {
            "order": lambda age: ages.get(age, -1),
            "token": lambda token: tokens.get(token, -1 if token else -2),
            "due": lambda due: due and round(due - now, 3),
            "patience": lambda used: used and (min(used.used, 8), min(now - used.given_back, 8)),
            "sends": lambda sends: min(sends, 2),
            "subscribers": lambda those: tuple([(n, _way(s.spec), ages[s.order]) for n, s in those.items()]),
            **_WAYS,
        }

    def record(self, record: Any) -> tuple[Any, ...]:
        """All fields of it."""
        values = []
        for name in _fields(type(record)):
            value, way = getattr(record, name), self._ways.get(name)
            values.append(way(value) if way else value)
        return tuple(values)


def _way(spec: StepSpec) -> tuple[str, str]:
    return spec.job, spec.via


def _ignored(value: Any) -> None:
    return None


#: Those that are the same in every state.
_WAYS: dict[str, Callable[[Any], Any]] = {
    "spec": _way,
    "barrier": tuple,
    "got": tuple,
    "held": tuple,
    "images": tuple,
    "running": tuple,
    "patches": len,
    "error": bool,
    "closed": bool,
    "counters": lambda counters: tuple(counters.items()),
    "outcomes": lambda outcomes: tuple([(o["image"], o["state"]) for o in outcomes]),
    **dict.fromkeys(("record", "first", "created", "number", "owner", "since"), _ignored),
}


@functools.cache
def _fields(kind: type) -> tuple[str, ...]:
    return tuple(one.name for one in dataclasses.fields(kind))


@dataclass
class Explorer:
    """See the module text. `budget`: faults in one history; `sample`: one state in so many is brought to its
    end; `limit`: states at most; `seconds`: at most (0: no end)."""

    layout: Layout
    budget: int
    begin: Sequence[Move] = ()  #: what happened before
    deep: bool = False  #: go to the bottom of every second state first, where not all of them can be seen
    sample: int = 20
    limit: int = 10**9
    seconds: float = 0.0
    states: int = 0
    moves: int = 0
    endings: int = 0
    depth: int = 0
    complete: bool = False
    came: dict[int, tuple[int, Move | None]] = field(default_factory=dict)  #: state → from where, by what
    edges: dict[tuple[Any, ...], tuple[int, Move]] = field(default_factory=dict)

    def run(self) -> None:
        """Until everything was seen, or a limit is reached."""
        end = time.monotonic() + (self.seconds or 10**9)
        first = new_world(self.layout)
        for move in self.begin:
            first.make(move)
        start = self._key(first)
        self.came[start] = (0, None)
        wide, steep, turn = deque([(start, take(first), 0)]), deque[tuple[int, bytes, int]](), 0
        while wide or steep:
            turn += 1
            frontier = steep if self.deep and steep and (turn % 2 or not wide) else wide
            key, snapshot, depth = frontier.pop() if self.deep and turn % 2 else frontier.popleft()
            self.depth = max(depth, self.depth)
            for move in restore(snapshot).moves(self.budget):
                world = restore(snapshot)
                before = _outline(world)
                self._make(world, key, move)
                self.edges.setdefault((before, *_kind(world, move)), (key, move))
                after = self._key(world)
                if after in self.came:
                    continue
                self.came[after] = (key, move)
                self.states += 1
                if self.states % self.sample == 0:
                    self._calm(restore(take(world)), after)
                if self.states >= self.limit or time.monotonic() > end:
                    return
                (steep if self.deep and turn % 2 else wide).append((after, take(world), depth + 1))
        self.complete = True

    def path(self, key: int) -> list[Move]:
        """The moves that lead to a state."""
        moves: list[Move] = []
        while (move := self.came[key][1]) is not None:
            moves.append(move)
            key = self.came[key][0]
        return moves[::-1]

    def paths(self) -> list[list[Move]]:
        """For every kind of move in every outline of a state what makes it, from `begin` on; none of them is
        the beginning of another."""
        found = [(*self.path(key), move) for key, move in self.edges.values()]
        begun = {path[:n] for path in found for n in range(len(path))}
        return [list(path) for path in found if path not in begun]

    def _key(self, world: World) -> int:
        return hash((shape(world), world.faults))

    def _make(self, world: World, key: int, move: Move) -> None:
        self.moves += 1
        try:
            world.make(move)
            found = records.of_model(model_of(world))
            invariants.check(found)
            invariants.check_moves(found, world.moved)
        except AssertionError as error:
            raise AssertionError(f"after {[*self.path(key), move]}: {error}") from error

    def _calm(self, world: World, key: int) -> None:
        self.endings += 1
        try:
            world.calm()
            invariants.check_nothing_left(records.of_model(model_of(world)))
        except AssertionError as error:
            raise AssertionError(f"no way out after {self.path(key)}: {error}") from error


def _outline(world: World) -> tuple[Any, ...]:
    """Which kinds of steps are in which state, and what the workers do: enough to tell situations apart."""
    steps = model_of(world)._graph.steps.values()
    return (
        tuple(sorted({(s.kind, s.state, s.unwanted) for s in steps})),
        tuple(sorted({(run.claim.id[0], run.late) for run in world.runs})),
        bool(world.cancelled),
        tuple(sorted(world.paused)),
    )


def planned(layout: Layout) -> list[Move]:
    """The honest history after which all images are planned and nothing else happened."""
    world, done = new_world(layout), list[Move]()

    def make(move: Move) -> None:
        world.make(move)
        done.append(move)

    for job in sorted(layout.jobs):
        make(("open", job))
    for _ in range(100):
        make(("pump",))
        early = [step for step in sorted(world.inbox) if step[0] in "jp"]
        if not early:
            return done
        for step in early:
            make(("claim", step))
            make(("done", 0))
    raise AssertionError("planning does not end")


def _kind(world: World, move: Move) -> tuple[Any, ...]:
    """The move without the names of steps and runs."""
    name, *rest = move
    return (name, *(word for word in rest[1:]))
