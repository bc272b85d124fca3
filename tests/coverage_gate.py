"""`make coverage`: lines and branches of the registry room that its tests run, each at least 95 %.

Two numbers, because coverage's own limit is over both together and lets many untested branches hide behind
many lines. Measured with the tests of the folders that are named, those left out that need a server; what is
left out of the count says why where it stands (`pragma: no cover - reason`), or in pyproject.toml.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
#: Percent, of lines and of branches.
FLOOR = 95.0
#: Run besides the folders that are given: the contract that the fake registry keeps.
CONTRACT = "tests/contracts/test_registry.py"


def main(folders: Sequence[str]) -> int:
    """Runs the tests of these folders; exit status 1 when one failed or a number is too low."""
    options = ["-q", "-p", "tests.no_skips", "-p", "no:cacheprovider", "-m", "not servers"]
    tested = _coverage("run", "-m", "pytest", *options, *folders, CONTRACT)
    if tested:
        return tested
    _coverage("report")
    _coverage("json", "-q", "-o", ".coverage-registry.json")
    totals = json.loads((ROOT / ".coverage-registry.json").read_text(encoding="utf-8"))["totals"]
    faults = too_low(totals)
    print("\n".join(faults) or f"lines and branches are both above {FLOOR:.0f} %", flush=True)
    return int(bool(faults))


def too_low(totals: Mapping[str, Any]) -> list[str]:
    """A sentence for each number of coverage's totals that is under the floor."""
    found = {
        "lines": (totals["covered_lines"], totals["num_statements"]),
        "branches": (totals["covered_branches"], totals["num_branches"]),
    }
    return [
        f"only {run} of {all_} {what} are run by the tests; {FLOOR:.0f} % is the least"
        for what, (run, all_) in found.items()
        if not all_ or 100 * run < FLOOR * all_
    ]


def _coverage(*words: str) -> int:
    return subprocess.run([sys.executable, "-m", "coverage", *words], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
