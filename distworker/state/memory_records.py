"""The records of the work graph in memory: steps, subscriptions, jobs, and the ring of ready steps.

Plain values that `memory_graph.py` moves about; nothing here knows a rule of the graph, except in which
order ready steps are served: by priority, in turn over (job, slot), inside a pair by age.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distworker import names
from distworker.state.base import CANCELLING, RUNNING, StepSpec

WAIT, READY, QUEUED, RUN, DELAY = "wait", "ready", "queued", "run", "delay"
DRAIN = "drain"  #: over; seen only by those who are being told
ROOTS = (names.PUBLISH, names.PLAN, names.EXPAND)
LAYERS = (names.UPLOAD, names.DOWNLOAD)
#: The subscriber of a layer step that was spawned by itself: nobody's barrier, but it is wanted.
NOBODY = "*"

Delivered = Mapping[str, Any]


@dataclass(slots=True)
class Subscription:
    """One subscriber's wish: its own way to do the step, and its age."""

    spec: StepSpec
    order: int


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a step has done nothing but being given back with an error."""

    used: float
    given_back: float
    counts_until: float  #: a longer wait for a slot is no fault of the error


@dataclass(slots=True)
class Step:
    """A step from its first wish to its end. A root step has no `home`: its spec is its own."""

    id: str
    spec: StepSpec
    home: str = ""
    state: str = WAIT
    subscribers: dict[str, Subscription] = field(default_factory=dict)
    barrier: dict[str, None] = field(default_factory=dict)
    got: dict[str, Delivered] = field(default_factory=dict)
    settled: bool = False  #: the needs of the current spec are subscribed to
    order: int = 0  #: age among ready steps, kept for life, so that what returns goes to the front
    due: float | None = None
    sends: int = 0
    attempts: int = 0
    runs: int = 0
    rounds: int = 0
    unwanted: bool = False  #: queued or running for nobody; dropped as soon as its worker asks
    token: str = ""
    owner: str = ""
    held: list[str] = field(default_factory=list)
    via: str = ""  #: of the spec that was claimed
    tee: str = ""
    moved: int = 0
    size: int = 0
    patches: dict[str, Any] = field(default_factory=dict)
    since: int = 0  #: second in which it came into its state
    error: Mapping[str, Any] | None = None  #: the last one
    patience: Patience | None = None  #: used up by being given back with an error

    def ranked(self) -> list[str]:
        """Its subscribers: the home, then in the order in which they would become home."""
        if self.root:
            return list(self.subscribers)
        return sorted(self.subscribers, key=lambda s: (s != self.home, *rank_of(self.subscribers[s])))

    def afresh(self) -> None:
        """Tries, rounds, patience and errors belong to the way it was done."""
        self.attempts = self.runs = self.rounds = 0
        self.patience = self.error = None

    @property
    def kind(self) -> str:
        return names.kind_of(self.id)

    @property
    def root(self) -> bool:
        return self.kind in ROOTS

    @property
    def body(self) -> dict[str, Any]:
        return {**self.spec.body, **self.patches}

    @property
    def image(self) -> str:
        """The image this root step is of."""
        return self.id[2:]


@dataclass(slots=True)
class Job:
    """A job from its opening until its record is forgotten; `first` is its expand step's spec."""

    id: str
    record: Mapping[str, Any]
    first: StepSpec
    created: float
    number: int
    state: str = RUNNING
    closed: float | None = None
    total: int | None = None
    cursor: int = 0
    stop: bool = False  #: no more images are expanded
    error: Mapping[str, Any] | None = None
    paused: bool = False
    images: dict[str, None] = field(default_factory=dict)
    running: dict[str, None] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    outcomes: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def open(self) -> bool:
        return self.state in (RUNNING, CANCELLING)

    @property
    def window(self) -> int:
        return int(self.first.body.get("window", 0))

    def count(self, name: str, amount: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + amount


def slot_of(spec: StepSpec) -> str:
    """The capped slot of a spec: `origin|credential`."""
    return f"{spec.origin}|{spec.credential}"


def rank_of(subscription: Subscription) -> tuple[int, int]:
    """Smaller is served first: by priority, then by age."""
    return (-subscription.spec.priority, subscription.order)


class ReadySteps:
    """Ready steps: a heap for each (ring, job, slot), and rings of the pairs that have any, in turn.

    A ring is named by kind and priority, as `u5`; `rings` has them in the order in which they are served.
    Pairs that stand in `parked` (under what an operator paused) are in no ring.
    """

    def __init__(self) -> None:
        self.rings: dict[str, deque[tuple[str, str]]] = {
            f"{kind}{priority}": deque() for kind in names.KINDS for priority in range(9, -1, -1)
        }
        self.parked: dict[str, set[tuple[str, str, str]]] = {}
        self._heaps: dict[tuple[str, str, str], list[tuple[int, str]]] = {}
        self._where: dict[str, tuple[str, str, str]] = {}
        self._sizes: dict[tuple[str, str, str], int] = {}

    def add(self, step: Step) -> None:
        key = (f"{step.kind}{step.spec.priority}", step.spec.job, slot_of(step.spec))
        if not self._sizes.get(key):
            self.rings[key[0]].append(key[1:])
        heapq.heappush(self._heaps.setdefault(key, []), (step.order, step.id))
        self._sizes[key] = self._sizes.get(key, 0) + 1
        self._where[step.id] = key

    def remove(self, step: Step) -> None:
        """Take it out; its entry in the heap becomes stale and is skipped later."""
        self._leave(step.id)

    def pop(self, ring: str, job: str, slot: str) -> str:
        """The best step of one pair that is in the ring."""
        key = (ring, job, slot)
        heap = self._heaps[key]
        while True:
            step = heapq.heappop(heap)[1]
            if self._where.get(step) == key:
                self._leave(step)
                return step

    def first(self, ring: str, job: str, slot: str, count: int) -> list[str]:
        """The steps of a pair that would be served next."""
        key = (ring, job, slot)
        return [step for _, step in sorted(set(self._heaps[key])) if self._where.get(step) == key][:count]

    def park(self, name: str, ring: str, job: str, slot: str) -> None:
        """Out of its ring, while `name` is paused."""
        self.rings[ring].remove((job, slot))
        self.parked.setdefault(name, set()).add((ring, job, slot))

    def unpark(self, name: str) -> None:
        """Back into their rings."""
        for ring, job, slot in sorted(self.parked.pop(name, ()), key="|".join):
            self.rings[ring].append((job, slot))

    def _leave(self, step: str) -> None:
        key = self._where.pop(step)
        self._sizes[key] -= 1
        if self._sizes[key]:
            return
        del self._sizes[key], self._heaps[key]
        for name in [name for name, pairs in self.parked.items() if key in pairs]:
            self.parked[name].remove(key)
            if not self.parked[name]:
                del self.parked[name]
            return
        self.rings[key[0]].remove(key[1:])
