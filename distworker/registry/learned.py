"""What registries show by their behaviour, remembered for a while so that it is found out once.

"Wants PATCH", "chunks of at most 4 MiB", "HEAD of manifests is no use" are facts: a short name and a short
text for one origin. `Facts` is the port; `MemoryFacts` one process, `SharedFacts` that process with a store
all workers share behind it. A fact is a hint that costs a request when it is wrong, so each has a life, and
whatever comes back from a store is checked like an answer of a registry. A store that is away is not waited
for: the process then remembers by itself.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from distworker.errors import InfrastructureError

#: Facts kept in one process.
KEPT: Final = 4096
#: Longest name; a fact about one repository has that repository's name behind a colon.
NAME_MAX: Final = 300
#: Seconds that what the shared store said, or that it said nothing, is not asked again.
ASK_AGAIN: Final = 60.0
#: Seconds a store that failed is left alone: its time-outs would be waited for at every blob.
AWAY: Final = 30.0
_DAY: Final = 86_400.0
_BYTES: Final = r"[1-9][0-9]{0,11}"
_YES_NO: Final = r"yes|no"


@dataclass(frozen=True, slots=True)
class Fact:
    """What a fact's text looks like, and how many seconds it is believed."""

    pattern: str
    life: float = _DAY


#: Every fact there is. A name may be followed by `:` and a repository.
FACTS: Final[Mapping[str, Fact]] = {
    "upload_mode": Fact(r"monolithic|patch|chunked"),
    "chunk_bytes": Fact(_BYTES),
    "monolithic_max": Fact(_BYTES),
    "range_is_stale": Fact(_YES_NO),
    "mounts": Fact(r"none|source|anonymous"),
    "head_manifests": Fact(_YES_NO),
    # Registries are upgraded, and a repository may answer otherwise than its neighbour: minutes only.
    "referrers": Fact(_YES_NO, 300.0),
}


class Facts(Protocol):
    """Where facts are remembered."""

    def get(self, origin: str, name: str) -> str:
        """What is known under `name` of `origin` (`host[:port]`), "" for nothing."""
        ...

    def put(self, origin: str, name: str, value: str) -> None:
        """Remember it for the fact's life."""
        ...


def checked(name: str, value: str) -> str:
    """`value` if it is one that the fact `name` may have, else ""."""
    fact = FACTS.get(name.partition(":")[0])
    good = fact is not None and len(name) <= NAME_MAX and isinstance(value, str)
    return value if good and fact and re.fullmatch(fact.pattern, value, re.ASCII) else ""


def life(name: str) -> float:
    """Seconds that the fact `name` is believed; KeyError for a name that is no fact."""
    return FACTS[name.partition(":")[0]].life


class MemoryFacts:
    """Facts of one process, the oldest given up first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._facts: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    def get(self, origin: str, name: str) -> str:
        """See `Facts.get`."""
        return self.find(origin, name) or ""

    def find(self, origin: str, name: str) -> str | None:
        """The fact, "" if it is known that nothing is known, None if it has not been asked lately."""
        with self._lock:
            value, until = self._facts.get((origin, name), (None, 0.0))
            return value if until > self._clock() else None

    def put(self, origin: str, name: str, value: str) -> None:
        """See `Facts.put`."""
        self.keep(origin, name, checked(name, value), life(name))

    def keep(self, origin: str, name: str, value: str, seconds: float) -> None:
        """Remember it for so long."""
        with self._lock:
            self._facts[origin, name] = (value, self._clock() + seconds)
            self._facts.move_to_end((origin, name))
            while len(self._facts) > KEPT:
                self._facts.popitem(last=False)


class SharedFacts:
    """Facts of this process before those that all workers share in `store`."""

    def __init__(self, store: Facts, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._near = MemoryFacts(clock)
        self._away_until = 0.0

    def get(self, origin: str, name: str) -> str:
        """See `Facts.get`."""
        known = self._near.find(origin, name)
        if known is not None or self._clock() < self._away_until:
            return known or ""
        try:
            value = checked(name, self._store.get(origin, name))
        except InfrastructureError:
            self._away_until = self._clock() + AWAY
            return ""
        self._near.keep(origin, name, value, min(ASK_AGAIN, life(name)))
        return value

    def put(self, origin: str, name: str, value: str) -> None:
        """See `Facts.put`."""
        good = checked(name, value)
        self._near.put(origin, name, good)
        if not good or self._clock() < self._away_until:
            return
        try:
            self._store.put(origin, name, good)
        except InfrastructureError:
            self._away_until = self._clock() + AWAY
