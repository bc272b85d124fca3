"""Shared knowledge of the in-memory ledger: slots per origin, where blobs have been seen, the lanes of tags.

The counterpart of `origins.py` on dictionaries; see `memory.py` for lock and clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distworker.state.memory_graph import Graph
from distworker.state.rules import Rules


class MemoryOrigins:
    """The part of the ledger that concerns origins, see `state.base.Ledger`."""

    rules: Rules
    _now: Callable[[], float]
    _lock: threading.RLock
    _graph: Graph
    _caps: dict[str, int]
    _stopped: set[str]  #: origins an operator paused: the graph's set
    _hints: dict[tuple[str, str, str], dict[str, float]]
    _lanes: dict[str, tuple[int, int, Mapping[str, Any]]]  #: last number, newest published, its note
    _lane_images: dict[tuple[str, str], int]

    def pause_origin(self, origin: str) -> None:
        with self._lock:
            self._stopped.add(origin)
            # what stands still no longer counts in the windows of its jobs
            for _, job in sorted(self._graph.jobs.items()):
                self._graph.room(job)

    def resume_origin(self, origin: str) -> bool:
        with self._lock:
            if origin not in self._stopped:
                return False
            self._stopped.remove(origin)
            self._graph.ready.unpark(f"o|{origin}")
            return True

    def paused_origins(self) -> Sequence[str]:
        with self._lock:
            return sorted(self._stopped)

    def _remember(self, origin: str, credential: str, digest: str, repository: str) -> None:
        places = self._hints.setdefault((origin, credential, digest), {})
        places.pop(repository, None)
        places[repository] = self._now() + self.rules.hint
        while len(places) > self.rules.hint_max:
            del places[next(iter(places))]

    def hints(self, origin: str, credential: str, digests: Sequence[str]) -> Mapping[str, Sequence[str]]:
        with self._lock:
            found = {}
            for digest in digests:
                places = self._hints.get((origin, credential, digest), {})
                if places and max(places.values()) > self._now():
                    found[digest] = list(reversed(places))
            return found

    def lane_begin(self, lane: str, image: str) -> int:
        with self._lock:
            number, newest, note = self._lanes.get(lane, (0, 0, {}))
            if (lane, image) not in self._lane_images:
                number = max(number + 1, int(self._now() * 1000))
                self._lane_images[lane, image] = number
                self._lanes[lane] = (number, newest, note)
            return self._lane_images[lane, image]

    def lane_busy(self, lane: str) -> bool:
        with self._lock:
            number, newest, _ = self._lanes.get(lane, (0, 0, {}))
            return number > newest

    def lane_newest(self, lane: str) -> tuple[int, Mapping[str, Any]]:
        with self._lock:
            return self._lanes.get(lane, (0, 0, {}))[1:]

    def lane_published(
        self, lane: str, sequence: int, note: Mapping[str, Any]
    ) -> tuple[int, Mapping[str, Any]]:
        with self._lock:
            number, newest, known = self._lanes.get(lane, (sequence, 0, {}))
            if sequence >= newest:
                newest, known = sequence, dict(note)
            self._lanes[lane] = (max(number, sequence), newest, known)
            return newest, known

    def set_caps(self, caps: Mapping[str, int]) -> None:
        with self._lock:
            self._caps = dict(caps)
