"""Before a process works on a Redis: is it there, and fit for the ledger?

A server that must not be used ends the start with its remedy; one that is away is waited for, told once and
at each doubling, so that machines of a site may come up in any order. What the operator risks is said loudly.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from distworker.errors import StateRefused, StateUnavailable
from distworker.retrying import Backoff

log = logging.getLogger(__name__)

BACKOFF: Final = Backoff(base=0.5, factor=2, cap=5, tries=1_000_000)
#: What a Redis without any persistence means; `doctor` says the same.
NOTHING_KEPT: Final = (
    "Redis keeps nothing on disk: a restart of it loses every open job; set appendonly yes there"
)


def await_ledger(
    check: Callable[[], Mapping[str, Any]], sleep: Callable[[float], None] = time.sleep
) -> Mapping[str, Any]:
    """`check()`'s answer, as soon as the server is there.

    Raises:
        StateRefused: it is there, and waiting does not help.
    """
    failures = 0
    while True:
        try:
            facts = check()
        except StateRefused:
            raise
        except StateUnavailable as error:
            failures += 1
            if not failures & (failures - 1):
                log.warning("waiting for Redis before any work is taken (%d): %s", failures, error)
            sleep(BACKOFF.delay(failures))
        else:
            break
    if failures:
        log.info("Redis is there after %d failures", failures)
    if facts.get("persistence") == "none":
        log.warning(NOTHING_KEPT)
    return facts
