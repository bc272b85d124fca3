"""Wall, CPU and memory of what ran: CPU of a child by the kernel's own account, the rest by /proc.

The kernel's account of a child's memory is useless here: it begins with the size of the process that forked.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.demo.processes import clean_environment
from deploy.demo.swift import ROOT

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """Seconds of wall and of CPU (user and system, all threads), and the peak of resident memory in bytes."""

    wall: float
    cpu: float
    peak: int = 0

    def plus(self, other: Cost) -> Cost:
        """Two processes that worked on the same thing at the same time: `self` is the one that was waited
        for."""
        return Cost(self.wall, self.cpu + other.cpu, max(self.peak, other.peak))


class RunFailed(Exception):
    """A measured command ended with an error; the text has its last lines."""


def child(argv: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end and return what it cost, children included."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [str(word) for word in argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=clean_environment(environment),
        cwd=ROOT,
    )
    assert process.stdout is not None
    with _Peak(process.pid) as peak:
        output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.stdout.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = "\n".join(output.decode(errors="replace").splitlines()[-8:])
        raise RunFailed(f"{Path(argv[0]).name} ended with {process.returncode}:\n{last}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak.bytes)


class _Peak:
    """The peak of a child's memory, read again and again until its output ends; `bytes` so far."""

    EVERY = 0.02  # seconds

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(self.EVERY):
            self.bytes = max(self.bytes, peak_of(self._pid))


def cpu_of(pid: int) -> float:
    """CPU seconds a living process has used so far (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_of(pid: int) -> int:
    """Peak of resident memory of a living process, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
