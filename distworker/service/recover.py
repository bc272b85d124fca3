"""Open again what a loss of Redis left behind, from what the store keeps of each job (`plan/folder.py`).

A lost job comes back under its id with its frozen list, so with the same image ids, and held if it was held.
Images that are at their destination already end `unchanged` by a HEAD, and the store's blobs are there:
nothing stored or delivered moves again. What the ledger knows is left alone, so this is safe beside running
jobs, beside a sender that is just submitting, and twice at once: opening a job is idempotent by its id.

A job that ended is never started again: it has `closed.json` or `cancelled.json`. A job that ended while the
store was away for a week has neither, and the ledger has forgotten it: therefore a folder in which nothing
was written for as long as the ledger keeps a closed job is opened only when it is named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from distworker.blobstore.base import BlobStore
from distworker.blobstore.keys import job_key
from distworker.errors import ConfigInvalid, DistworkerError, InfrastructureError, NewerVersion
from distworker.plan.folder import (
    CLOSED_FILE,
    REPORT,
    Folder,
    Note,
    folder,
    folders,
    noted_origins,
    read_fleet,
    read_request,
    write_fleet,
    write_note,
)
from distworker.service.opening import first_step, job_record
from distworker.service.upkeep import Bite
from distworker.state.base import CANCELLED, Ledger
from distworker.state.rules import Rules

#: What became of a job's folder.
OPENED, KNOWN, CLOSED, STOPPED, LOCAL, OLD, BROKEN, MISSING = (
    *("opened", "known", "closed", "cancelled", "local", "old", "broken", "missing"),
)
#: Seconds without a write after which a job is opened only by name. An hour less than the ledger keeps closed
#: jobs, for clocks that differ.
OLD_AFTER: Final = Rules().keep - 3600.0


@dataclass(frozen=True, slots=True)
class Looked:
    """One job: what became of it, and the sentence about it. `paused`: it comes back held."""

    job: str
    action: str
    text: str
    paused: bool = False


class Recovery:
    """One look at the store. With `dry` on nothing is changed, and `opened` means that it would be."""

    def __init__(
        self,
        ledger: Ledger,
        store: BlobStore,
        tenant: str,
        window: int,
        *,
        dry: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._tenant = tenant
        self._window = window
        self._dry = dry
        self._now = now
        self._opened = False

    def every(self) -> Iterator[Looked]:
        """Every job of the store in the order of ids, each when it is asked for."""
        for found in folders(self._store, self._tenant):
            if found.asked:
                yield self._look(found, named=False)

    def named(self, jobs: Sequence[str]) -> Iterator[Looked]:
        """These jobs."""
        for job in jobs:
            found = folder(self._store, self._tenant, job)
            if found.asked:
                yield self._look(found, named=True)
            else:
                yield Looked(job, MISSING, "the store holds no request of this job; submit it again")

    def _look(self, found: Folder, *, named: bool) -> Looked:
        reason = self._left_alone(found, named=named)
        if reason is not None:
            return reason
        try:
            return self._open(found)
        except DistworkerError as error:
            # One bad request keeps no other job from coming back; servers that are away do.
            if isinstance(error, InfrastructureError) and not isinstance(error, NewerVersion):
                raise
            return Looked(found.job, BROKEN, error.message)

    def _left_alone(self, found: Folder, *, named: bool) -> Looked | None:
        """Why the job is not opened; None when it is lost."""
        job = found.job
        if found.over:
            return Looked(job, CLOSED, "is over; `distworker retry` runs again what failed")
        view = self._ledger.job(job)
        if view is not None:
            return Looked(job, KNOWN, f"is known to Redis: {view.state}")
        if found.local:
            return Looked(job, LOCAL, "belongs to a process that ran it with --local")
        if found.cancelled:
            self._close_cancelled(job)
            return Looked(job, STOPPED, "was cancelled and is not started again")
        if not named and self._now() - found.modified > OLD_AFTER:
            said = "nothing was written for it for a week, it may be over: name it to start it"
            return Looked(job, OLD, said)
        return None

    def _open(self, found: Folder) -> Looked:
        request = read_request(self._store, self._tenant, found.job)
        how = "with its frozen list" if found.frozen else "its list is made anew: it had released no image"
        if self._dry:
            return Looked(found.job, OPENED, f"would be opened again, {how}", found.paused)
        for name in sorted(found.names):
            if name.startswith(REPORT):  # of an end that was not recorded to its own end
                self._store.delete(job_key(self._tenant, found.job, name))
        self._hold_registries()
        first = first_step(request, self._window)
        if not self._ledger.open_job(request.id, job_record(request), first, paused=found.paused):
            return Looked(found.job, KNOWN, "was opened by somebody else just now")
        if found.paused:
            how += "; it is paused, as it was"
        return Looked(found.job, OPENED, f"opened again, {how}", found.paused)

    def _hold_registries(self) -> None:
        """Before the first lost job: what operators paused was lost with it."""
        if not self._opened:
            for origin in noted_origins(self._store, self._tenant):
                self._ledger.pause_origin(origin)
        self._opened = True

    def _close_cancelled(self, job: str) -> None:
        if not self._dry:
            write_note(self._store, self._tenant, job, Note(CLOSED_FILE, {"state": CANCELLED}))


def sweep_lost(
    ledger: Ledger, store: BlobStore, tenant: str, window: int, fleet: str, bite: Bite
) -> tuple[Mapping[str, int], bool]:
    """Open lost jobs: how many were, and whether to go on. Listing goes on past the end of a bite that opened
    nothing: a bite that begins at the top must come further than the one before.

    Raises:
        ConfigInvalid: the store's jobs are another fleet's: to this one's Redis all of them look lost.
    """
    owner = read_fleet(store, tenant)
    if owner not in ("", fleet):
        raise ConfigInvalid(
            f"upkeep.lost_jobs: the jobs of this store are those of the fleet at {owner}; set it to 0 here,"
            " or take them over with `distworker recover`",
            field="upkeep.lost_jobs",
        )
    if not owner:
        write_fleet(store, tenant, fleet)
    opened = 0
    for looked in Recovery(ledger, store, tenant, window).every():
        bite.alive()
        opened += looked.action == OPENED
        if opened and not bite.left:
            return {"jobs_recovered": opened}, True
    return {"jobs_recovered": opened}, False


def lost_text(found: Folder) -> str:
    """What to tell somebody who asks for a job that the ledger does not know; "" when the store does not
    either."""
    if not found.asked or found.over or found.local:
        return ""
    job = found.job
    return f"Redis does not know job {job}, but the store does: `distworker recover {job}` brings it back"
