"""docker-registry's access log (Apache's combined format): what was asked and how much was really sent."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_LINE = re.compile(
    r'^\S+ \S+ \S+ \[[^\]]*\] "(?P<method>[A-Z]+) (?P<path>\S+) [^"]*" (?P<status>\d{3}) (?P<sent>\d+)'
    r' "[^"]*" "(?P<agent>[^"]*)"'
)


@dataclass(frozen=True, slots=True)
class Access:
    """One answered request: `sent` bytes of body went out, `path` has no query."""

    method: str
    path: str
    status: int
    sent: int
    agent: str


def accesses(log: Path) -> list[Access]:
    """Every request of the log, in the order in which they were finished; other lines are passed over."""
    if not log.exists():
        return []
    found = (_LINE.match(line) for line in log.read_text(errors="replace").splitlines())
    return [
        Access(m["method"], m["path"].partition("?")[0], int(m["status"]), int(m["sent"]), m["agent"])
        for m in found
        if m
    ]


def served_bytes(log: Path) -> dict[tuple[str, str], int]:
    """Bytes of body sent in answers, by (method, path); a path asked twice counts twice."""
    total: Counter[tuple[str, str]] = Counter()
    for access in accesses(log):
        total[access.method, access.path] += access.sent
    return dict(total)
