"""Short waits inside a step, for registries that need a moment to see what they were just sent.

Anything longer is given back to the ledger: a waiting step holds a slot.
"""

from __future__ import annotations

import time

from distworker.steps.base import Watch

#: The longest a stop request goes unheard, in seconds.
_SLICE = 0.25


def pause(watch: Watch, seconds: float) -> None:
    """Wait, but raise at once when the run must stop."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        watch.check()
        time.sleep(min(left, _SLICE))
