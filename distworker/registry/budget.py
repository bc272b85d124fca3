"""A registry's counted limit, as its headers tell it: how many pulls, in how long, and how many are left.

Docker Hub sends `ratelimit-limit: 100;w=21600` and `ratelimit-remaining: 20;w=21600` with manifests, HEAD
included, and HEAD is not counted (Docker Hub usage and limits). The numbers changed several times, so none is
known here. No headers means that nothing is counted for this login or image.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from distworker.errors import clean

_COUNT: Final = re.compile(r"\s*([0-9]{1,9})\s*(?:;\s*w\s*=\s*([0-9]{1,9})\s*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Budget:
    """`limit` requests in `window` seconds, of which `remaining` are left; `source` is who is counted.

    `window` is 0 when it was not told. `seen` is the Unix time of the answer.
    """

    limit: int
    remaining: int
    window: int = 0
    source: str = ""
    seen: float = 0.0

    @property
    def share(self) -> float:
        """What is left, from 0.0 to 1.0."""
        return min(self.remaining / self.limit, 1.0) if self.limit else 0.0


def read_budget(header: Callable[[str], str], now: float) -> Budget | None:
    """The budget in the headers of one answer; None when it tells none that can be read."""
    limit = _COUNT.fullmatch(header("RateLimit-Limit"))
    remaining = _COUNT.fullmatch(header("RateLimit-Remaining"))
    if limit is None or remaining is None:
        return None
    return Budget(
        int(limit[1]),
        int(remaining[1]),
        int(limit[2] or remaining[2] or 0),
        clean(header("Docker-RateLimit-Source"), 60),
        now,
    )


class BudgetGauge:
    """The newest budget that an origin told, for any thread to read."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.value: Budget | None = None

    def see(self, header: Callable[[str], str]) -> None:
        """Look at the headers of one answer; those that tell nothing change nothing."""
        self.value = read_budget(header, self._clock()) or self.value
