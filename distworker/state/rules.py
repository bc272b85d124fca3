"""The ledger's numbers, in one table, each with its reason.

Both ledgers (`memory.py` and `ledger.py`) take one `Rules` value, so tests can shorten a lease without
sleeping and the two can be compared rule by rule. Operators do not tune these: a fleet whose workers disagree
about a lease loses work, so they change with a release.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distworker.errors import clean


@dataclass(frozen=True, slots=True)
class Rules:
    """Times are seconds, and every float is a time."""

    lease: float = 12.0  #: three beats of 4 s: one lost beat must not cost a 10 GB download
    resend: float = 10.0  #: a message not claimed by then is sent again
    resend_cap: float = (
        300.0  #: the re-send deadline doubles up to this: a dead fleet must not flood the broker
    )
    newer: float = 2.0  #: the same for a message that a worker too old for it took: another may be quicker
    reap_every: float = 0.9  #: every worker asks each second, one is answered
    gap: float = (
        6.0  #: the reaper slept longer: an outage or a clock jump, leases expired through nobody's fault
    )
    attempts: int = 5  #: charged attempts of one step, then it fails
    runs: int = 25  #: failed runs of one step, progress or not
    patience: float = 86400.0  #: a step given back uncharged with an error for so long fails with it
    idle: float = 3600.0  #: longest wait for a slot that counts as patience: a paused job must not use it up
    rounds: int = 3  #: times a step may find something missing again
    keep: float = 7 * 86400.0  #: records of a closed job, and lanes without a publish
    answer: float = (
        240.0  #: a repeated done/fail/release/block is answered as the first; workers ask for 120 s
    )
    hint: float = 3600.0  #: a location older than this is rarely worth a mount request
    hint_max: int = 8  #: repositories remembered for each (origin, credential, digest)
    scan: int = 64  #: closed ring entries looked at in a pump call
    batch: int = 200  #: overdue steps, or images of a cancelled job, handled in one script call
    tell: int = 500  #: subscribers told in one script call that a step is over
    ceiling: int = (
        70  #: percent of maxmemory; above it nothing is expanded or planned, what is planned goes on
    )
    full: float = 10.0  #: so long the reaper's finding holds that the server is above it
    spread: int = 10  #: windows of a job that may be open when all but one are of paused destinations
    window: int = 200  #: images of a job expanded at a time when its expand body names no `window`

    @property
    def live(self) -> float:
        """A worker whose last beat is older than this no longer counts."""
        return self.lease * 1.5

    def resend_after(self, sends: int) -> float:
        """Seconds until the next message, after `sends` unclaimed ones."""
        return min(self.resend * 2.0 ** min(sends, 16), self.resend_cap)


def admission_window(slots: int) -> int:
    """How many steps may be queued or running: what the live workers can run, plus a quarter on its way."""
    return max(2, -(-slots * 5 // 4))


def layer_window(window: int) -> int:
    """The part uploads and downloads may take, so that publish and plan never wait behind large layers."""
    return window - max(1, window // 8)


def worker_lost(attempts: int) -> dict[str, Any]:
    """The error of a step that died with its worker too often."""
    message = f"the worker running this step died or stalled; it was tried {attempts} times"
    return {"code": "worker_lost", "message": message, "retry": False}


#: Missing steps that an error names; it is shown on terminals.
_NAMED = 3


def never_there(missing: Sequence[str], rounds: int) -> dict[str, Any]:
    """The error of a step that found the same things missing again and again."""
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    message = f"still missing after {rounds} rounds of fetching it again: {', '.join(missing[:_NAMED])}{more}"
    return {"code": "blob_unknown", "message": clean(message), "retry": False}


#: The error of a job whose expand step ended without the number of its images: it must not end as "done".
NO_TOTAL = {
    "code": "internal",
    "message": "the expand step did not say how many images there are",
    "retry": False,
}
