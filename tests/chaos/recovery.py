"""How long the work of a dead worker stays undone: from its death until each of its steps runs elsewhere.

The steps are those that the ledger still says it runs right after the kill. One has recovered when another
run holds it, or when it is over or waits for something; queued or given back is not yet running. A kill's
time is that of its slowest step.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import redis

from tests.chaos.ledger import LedgerKeys, StepNow


@dataclass
class Kill:
    """One death. `open` are the steps that nobody has taken up yet, by their token; `disturbed` when another
    fault fell into its time."""

    what: str
    at: float
    steps: int
    open: dict[str, str]
    seconds: float = 0.0
    disturbed: bool = False


@dataclass
class Recovery:
    """Asks the ledger a few times a second, as long as the context is open; Valkey's outages count."""

    url: str
    every: float = 0.25
    kills: list[Kill] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._running: list[StepNow] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def held_by(self, pid: int) -> list[StepNow]:
        """What that process ran when last looked at."""
        return [step for step in self._running if step.state == "run" and f"-{pid}-" in step.owner]

    def died(self, what: str, pid: int) -> None:
        """That process was killed, or frozen, just now."""
        at = time.monotonic()
        try:
            with LedgerKeys(self.url) as ledger:
                self._running = ledger.steps()
        except redis.RedisError:
            pass  # what was seen last is a quarter of a second old
        held = {step.id: step.token for step in self.held_by(pid)}
        with self._lock:
            self.kills.append(Kill(what, at, len(held), held))

    def disturb(self) -> None:
        """Another fault happens: what is being recovered from now takes as long as both."""
        with self._lock:
            for kill in self.kills:
                kill.disturbed = kill.disturbed or bool(kill.open)

    def _watch(self) -> None:
        with LedgerKeys(self.url) as ledger:
            while not self._stop.wait(self.every):
                try:
                    self._look(ledger)
                except redis.RedisError:
                    continue

    def _look(self, ledger: LedgerKeys) -> None:
        self._running = ledger.steps()
        with self._lock:
            waiting = {step for kill in self.kills for step in kill.open}
            if not waiting:
                return
            now = {step.id: step for step in ledger.steps(*waiting)}
            for kill in self.kills:
                for step in [one for one in kill.open if recovered(now[one], kill.open[one])]:
                    del kill.open[step]
                    kill.seconds = time.monotonic() - kill.at

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(30)


def recovered(step: StepNow, token: str) -> bool:
    """Does another run hold it, or is it over, or does it wait for what it needs?"""
    return step.state in {"", "wait"} or (step.state == "run" and step.token != token)


def quantile(values: list[float], share: float) -> float:
    """The smallest value that so large a share of them does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
