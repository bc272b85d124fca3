"""How a run that did not finish its step is told to the ledger: given back uncharged, or failed.

What is nobody's fault here costs no attempt: our own store or Redis that is away (an operator mends it, the
step waits), a registry that asks for a pause, a worker that stops, a record that only a newer release reads.
The ledger keeps the reason and ends the wait after its patience. Everything else is a failure, tried again
only where that can help.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from distworker import names
from distworker.errors import (
    DistworkerError,
    InternalError,
    Interrupted,
    NewerVersion,
    RateLimited,
    RequestTimeout,
    StateUnavailable,
    StoreFull,
    StoreUnavailable,
    Throttled,
    Unavailable,
)
from distworker.plan.build import paced_by
from distworker.retrying import Backoff
from distworker.state.base import Claim

#: Time before a failed step is tried again.
STEP_BACKOFF: Final = Backoff(base=1, factor=2, cap=60, tries=1_000)
#: Runs that may end because the other side said nothing: each lasts a minute or more, and five would keep a
#: person waiting for ten.
SILENCES: Final = 2
#: Pause after a 429 that does not say how long to wait.
PAUSE_SECONDS: Final = 30.0
#: A step is taken up again after this time when its own Redis call failed, or when it is for a worker of a
#: newer release to do.
OURS_PAUSE_SECONDS: Final = 2.0
#: The same when the store is away, and when people must do something about it: make room, mend a key.
STORE_PAUSE_SECONDS: Final = 5.0
MEND_PAUSE_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Release after `delay` seconds; `pause` as in `Ledger.release`; `trouble`: the reason counts against the
    ledger's patience. `level` is the log's."""

    delay: float = 0.0
    pause: str = ""
    trouble: bool = True
    level: int = logging.WARNING


@dataclass(frozen=True, slots=True)
class Fail:
    """Fail, and try again after `delay` seconds if `retry`."""

    retry: bool
    delay: float


def ending(error: DistworkerError, claim: Claim, patient: bool = True) -> GiveBack | Fail:
    """What to tell the ledger. Not `patient`: a person waits for this very run (local mode), so a store that
    is away or full is told at once instead of being waited for."""
    if isinstance(error, Interrupted):
        return GiveBack(trouble=False, level=logging.INFO)
    if isinstance(error, (RateLimited, Throttled)):
        delay = PAUSE_SECONDS if error.delay is None else error.delay
        return GiveBack(delay, _pause(error, claim))
    if isinstance(error, (StateUnavailable, NewerVersion)):
        return GiveBack(OURS_PAUSE_SECONDS)
    if isinstance(error, (StoreUnavailable, StoreFull)) and patient:
        if isinstance(error, StoreUnavailable) and error.passing:
            return GiveBack(STORE_PAUSE_SECONDS)
        return GiveBack(MEND_PAUSE_SECONDS, level=logging.ERROR)
    retry = error.retry or isinstance(error, InternalError) or _was_there(error, claim)
    if isinstance(error, RequestTimeout) and claim.attempt >= SILENCES:
        retry = False
    return Fail(retry, STEP_BACKOFF.delay(claim.attempt) if error.delay is None else error.delay)


def _was_there(error: DistworkerError, claim: Claim) -> bool:
    """A server that this process never saw answer is taken for a mistake in its name, but planning of this
    image saw it: it is down for a while, and a worker that was just restarted does not know."""
    return isinstance(error, Unavailable) and names.kind_of(claim.id) not in (names.EXPAND, names.PLAN)


def _pause(error: DistworkerError, claim: Claim) -> str:
    """What a 429 pauses. The slot belongs to one end of the transfer, and the other end's limit must not
    close it. A 429 without the registry's own code comes from the gate before it, which counts addresses:
    all that goes there would meet it (Docker Hub's abuse limit, GitHub's secondary one)."""
    host = error.fields.get("registry")
    if host and host != paced_by(claim):
        return ""
    return "origin" if isinstance(error, Throttled) and not error.fields.get("registry_code") else "kind"
