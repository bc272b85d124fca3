"""`make fuzz`: every parser of foreign text against changed inputs.

    FUZZ_SECONDS   for all targets together, 600 unless given
    FUZZ_TARGETS   names separated by commas, all unless given

Prints executions per target; ends with 1 and the smallest breaking input when one raised anything that it may
not raise, returned what it may not return, or hung.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence

from tests.fuzz.runner import Outcome, run, until
from tests.fuzz.targets import TARGETS, Target


def main(targets: Sequence[Target] = TARGETS) -> int:
    """Exit status 1 when a target broke."""
    seconds = float(os.environ.get("FUZZ_SECONDS") or 600)
    names = {name.strip() for name in (os.environ.get("FUZZ_TARGETS") or "").split(",")} - {""}
    chosen = [target for target in targets if not names or target.name in names]
    if not chosen or names - {target.name for target in chosen}:
        print(f"no such target; there are: {', '.join(target.name for target in targets)}", file=sys.stderr)
        return 2
    start = random.SystemRandom().randrange(1 << 32)
    print(f"{seconds:.0f} s for {len(chosen)} targets, seed {start}", flush=True)
    outcomes = []
    for target in chosen:
        outcomes.append(run(target, until(seconds / len(chosen)), start))
        _print(outcomes[-1])
    return int(any(outcome.error is not None for outcome in outcomes))


def _print(outcome: Outcome) -> None:
    verdict = "ok" if outcome.error is None else f"BROKEN by {outcome.breaking!r}"
    print(f"{outcome.target:<16} {outcome.executions:>9} executions  {verdict}", flush=True)
    if outcome.error is not None:
        print(f"{'':16} {type(outcome.error).__name__}: {outcome.error}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
