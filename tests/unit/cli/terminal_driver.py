"""Run by test_interrupt.py in a terminal of its own: the real command line over a job that never ends."""

from __future__ import annotations

import fcntl
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

from distworker.cli import main, work
from tests.unit.cli.fake_jobs import WORKER, FakeJobs, view


@contextmanager
def endless(*_: Any) -> Iterator[FakeJobs]:
    jobs = FakeJobs([view()])
    jobs.view = lambda job: view(job=job)  # type: ignore[method-assign]
    try:
        yield jobs
    finally:
        print("closing", flush=True)
        if sys.argv[1] == "slow":
            time.sleep(600)
        print("closed", flush=True)


if __name__ == "__main__":
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that the byte of Ctrl-C becomes a signal
    work.fleet = work.local = endless  # type: ignore[assignment]
    work.workers = lambda config: [WORKER]
    work.require_redis = lambda config: None
    sys.argv[2:] = ["copy", "alpine:1", "dst.example/alpine:1", *sys.argv[2:]]
    sys.exit(main.run(sys.argv[2:]))
