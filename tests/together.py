"""What `make test` runs: all tests, in two lanes at once. Whole fleets mostly wait, for leases and for
outages; beside them the rest has a processor to itself.

The lane of the fleets is given by its folders, the other one is everything else: first what `make coverage`
measures, then what is left. Each part's output is printed when it is over. Exit status 1 when one failed.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Tests that start whole fleets.
FLEETS = ("tests/scenarios", "tests/chaos")
PYTEST = ("pytest", "-p", "tests.no_skips", "-p", "no:cacheprovider", "-q", "--durations=15")


def lanes(covered: Sequence[str]) -> dict[str, list[tuple[str, ...]]]:
    """The parts of each lane, as words after `python -m`. `covered`: the folders that coverage measures."""
    left_out = tuple(f"--ignore={folder}" for folder in (*covered, *FLEETS))
    return {
        "fleets": [(*PYTEST, *FLEETS)],
        "the rest": [("tests.coverage_gate", *covered), (*PYTEST, *left_out)],
    }


class Lane:
    """Runs its parts one after the other, in a thread; the first that fails does not keep the next from
    running."""

    def __init__(self, name: str, parts: Sequence[Sequence[str]], said: threading.Lock) -> None:
        self.failed = 0
        self._name = name
        self._parts = parts
        self._said = said
        self._running: subprocess.Popen[str] | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self) -> int:
        """How many parts failed."""
        while self._thread.is_alive():
            self._thread.join(1.0)
        return self.failed

    def stop(self) -> None:
        """End what runs, and begin nothing more."""
        self._stopped = True
        if self._running is not None:
            self._running.terminate()

    def _run(self) -> None:
        for part in self._parts:
            if self._stopped:
                return
            began = time.monotonic()
            self._running = subprocess.Popen(
                [sys.executable, "-m", *part],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            output, _ = self._running.communicate()
            self.failed += self._running.returncode != 0
            with self._said:
                print(f"--- {self._name}: {' '.join(part)}", output, sep="\n")
                print(f"--- {self._name}: {time.monotonic() - began:.0f} s", flush=True)


def main(covered: Sequence[str]) -> int:
    """Runs everything; see the module text."""
    said = threading.Lock()
    running = [Lane(name, parts, said) for name, parts in lanes(covered).items()]
    print(f"{len(running)} lanes of tests run at once; each part is shown when it is over", flush=True)
    try:
        failed = sum(lane.wait() for lane in running)
    except KeyboardInterrupt:
        for lane in running:
            lane.stop()
        return 130
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
