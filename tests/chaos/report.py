"""What a chaos run says of itself: faults, recovery, extra bytes, ends, findings; for people and as JSON."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.chaos import checker
from tests.chaos.content import MIB
from tests.chaos.recovery import Kill, quantile

HANGS: Final = "hangs"


@dataclass
class Report:
    """What a run did and found. Times are seconds, `extra_per_kill` bytes read from the source again."""

    seed: str
    rounds: int = 0
    images: int = 0
    kills: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    recovery: dict[str, float] = field(default_factory=dict)
    recovery_undisturbed: dict[str, float] = field(default_factory=dict)
    recovered: list[dict[str, Any]] = field(default_factory=list)
    source_bytes: int = 0
    unique_bytes: int = 0
    extra_per_kill: int = 0
    rehashed_bytes: int = 0
    upload_sessions: dict[str, int] = field(default_factory=dict)
    swept: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    retried: int = 0
    phases: dict[str, float] = field(default_factory=dict)
    looks: int = 0
    wall: float = 0.0
    findings: list[dict[str, str]] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Findings that something is not there or not over."""
        words = {checker.MISSING, checker.MISCOUNTED, checker.NOT_DONE, HANGS}
        return sum(one["kind"] in words for one in self.findings)

    @property
    def wrong(self) -> int:
        """Findings of every other kind."""
        return len(self.findings) - self.lost

    def text(self) -> str:
        """For people."""
        faults = "\n".join(f"  {number:>4}  {kind}" for kind, number in sorted(self.faults.items()))
        found = "\n".join(f"  {one['kind']}: {one['what']}" for one in self.findings) or "  none"
        return (
            f"seed {self.seed}: {self.rounds} rounds, {self.images} images, {self.kills} kills,"
            f" {self.wall:.0f} s\n{faults}\n"
            f"recovery of a kill, s:          {_seconds(self.recovery)}\n"
            f"  without another fault in it:  {_seconds(self.recovery_undisturbed)}\n"
            f"read from the source: {self.source_bytes / MIB:.1f} MiB for {self.unique_bytes / MIB:.1f} MiB"
            f" of content; {self.extra_per_kill / 1024:.0f} KiB more per kill, whatever the fault\n"
            f"ends of images: {self.outcomes}; {self.retried} brought by `retry`; tags looked at"
            f" {self.looks} times; {self.rehashed_bytes / MIB:.0f} MiB reread\n"
            f"swept: {self.swept}; upload sessions that are left and explained: {self.upload_sessions}\n"
            f"seconds of: {self.phases}\n"
            f"{self.lost} lost, {self.wrong} wrong; findings:\n{found}"
        )


class Clock:
    """Adds what each phase took."""

    def __init__(self, phases: dict[str, float]) -> None:
        self._phases = phases
        self._since = time.monotonic()

    def phase(self, name: str) -> None:
        """The phase of that name ends now."""
        now = time.monotonic()
        self._phases[name] = round(self._phases.get(name, 0.0) + now - self._since, 1)
        self._since = now


def quantiles(kills: Sequence[Kill]) -> dict[str, float]:
    """p50, p95 and the longest recovery of the kills that hit a running step."""
    values = [kill.seconds for kill in kills if kill.steps and not kill.open]
    shares = {"p50": 0.5, "p95": 0.95, "max": 1.0}
    return {"kills": len(values)} | {name: round(quantile(values, s), 2) for name, s in shares.items()}


def _seconds(quantiles: Mapping[str, float]) -> str:
    words = [f"{name} {quantiles[name]:.1f}" for name in ("p50", "p95", "max")]
    return f"{' '.join(words)} ({quantiles['kills']:.0f} kills that hit a running step)"
