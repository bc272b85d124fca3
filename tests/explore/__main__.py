"""`make explore FAULTS=2`: every history of every small world with so many faults, each state to its end.

`SECONDS=600` bounds each world, `WORLDS="one image"` chooses. A broken promise is printed as the history that
breaks it, and the exit code is 1.
"""

from __future__ import annotations

import os
import sys

from tests.explore.explorer import Explorer
from tests.explore.layouts import LAYOUTS


def main() -> int:
    """Explore and report."""
    budget, seconds = int(os.environ.get("FAULTS", "2")), float(os.environ.get("SECONDS", "600"))
    wanted = [name for name in os.environ.get("WORLDS", "").split(",") if name] or list(LAYOUTS)
    for name in wanted:
        explorer = Explorer(LAYOUTS[name], budget, deep=True, seconds=seconds, sample=10)
        try:
            explorer.run()
        except AssertionError as error:
            print(f"{name}: {error}")
            return 1
        seen = "all of them" if explorer.complete else "not all of them"
        print(
            f"{name}, {budget} faults: {explorer.states} states ({seen}), {explorer.moves} moves, up to "
            f"{explorer.depth} in a row, {explorer.endings} brought to their end",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
