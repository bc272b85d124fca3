"""Use cases around a job: create it, look at it, pause, cancel, retry and recover it. The same for the fleet
and the local mode.

A job is written to the store, then recorded in the ledger, then its first step is handed out; each may be
repeated, so a caller that saw an error can ask again with the same id. Reading needs the ledger only.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from distworker import names
from distworker.blobstore.base import BlobStore
from distworker.errors import (
    ConfigInvalid,
    InfrastructureError,
    InvalidRequest,
    JobRunning,
    JobUnknown,
    NoWorker,
    StateUnavailable,
)
from distworker.plan.folder import (
    CANCELLED_FILE,
    PAUSED_FILE,
    Note,
    folder,
    note_origin,
    read_fleet,
    read_request,
    remove_note,
    write_fleet,
    write_note,
    write_request,
)
from distworker.plan.frozen import every_frozen, read_index
from distworker.plan.model import JobRequest
from distworker.service import retry as retrying
from distworker.service.opening import first_step, job_record
from distworker.service.payload import parse_request
from distworker.service.recover import OPENED, Looked, Recovery, lost_text
from distworker.service.reports import read_outcomes, read_view
from distworker.service.retry import Retried
from distworker.service.runner import Dispatcher
from distworker.state.base import CANCELLING, RUNNING, JobView, Ledger, Overdue, WorkerView

if TYPE_CHECKING:
    from distworker.state.turns import TurnView

log = logging.getLogger(__name__)

UNKNOWN: Final = "there is no job {}; `distworker status` lists the ones there are"

#: Digits of ids, in ASCII order so that ids sort by time; without i, l, o and u, which people misread.
_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"


def new_job_id(now: Callable[[], float] = time.time, random: Callable[[int], int] = secrets.randbelow) -> str:
    """A short id that sorts by time of creation: the UTC day, 4 digits for the time of day, 4 random ones
    (`20261123-7f3kq2xm`). Two jobs of the same 82 ms get the same id by a chance of one in a million."""
    moment = now()
    day = datetime.fromtimestamp(moment, UTC).strftime("%Y%m%d")
    return f"{day}-{_base32(int(moment % 86400 / 86400 * 32**4))}{_base32(random(32**4))}"


def _base32(number: int) -> str:
    return "".join(_DIGITS[number >> shift & 31] for shift in (15, 10, 5, 0))


class Jobs:
    """The use cases. `dispatch` brings admitted steps to workers; `store` gives the store when a job is made
    or what happened to it is to outlive Redis: watching and cancelling work without one. `fleet` names
    whose jobs these are; with `local` this process does the work itself."""

    def __init__(
        self,
        ledger: Ledger,
        store: Callable[[], BlobStore],
        dispatch: Dispatcher,
        *,
        tenant: str = names.TENANT,
        window: int = 200,
        fleet: str = "",
        local: bool = False,
        new_id: Callable[[], str] = new_job_id,
        now: Callable[[], float] = time.time,
        upkeep: Callable[[], Sequence[TurnView]] = tuple,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._dispatch = dispatch
        self._tenant = tenant
        self._window = window
        self._fleet = fleet
        self._local = local
        self._new_id = new_id
        self._now = now
        self._upkeep = upkeep

    def parse(self, payload: Mapping[str, Any]) -> JobRequest:
        """The job a payload asks for (see `payload.py`), with a fresh id unless it brings one.

        Raises:
            InvalidRequest, InvalidReference: the field is named.
        """
        return parse_request(payload, new_id=self._new_id(), created=self._now(), tenant=self._tenant)

    def submit(self, payload: Mapping[str, Any]) -> str:
        """`create` what `payload` asks for; returns the job's id."""
        request = self.parse(payload)
        self.create(request)
        return request.id

    def create(self, request: JobRequest) -> bool:
        """Record the job and ring its start; False when that id is known already (nothing is changed).

        Raises:
            InvalidRequest: more than one job can hold.
            ConfigInvalid: the settings name no store.
            StateUnavailable, StoreUnavailable, StoreFull: asking again with the same id is safe. Where the
            store has the request already, the sweep for lost jobs starts it too.
        """
        if self._ledger.job(request.id) is not None:
            return False
        write_request(self._store(), request, local=self._local)
        opened = self._ledger.open_job(request.id, job_record(request), first_step(request, self._window))
        self._ring()
        self._settle(f"job {request.id} is recorded in the store; `distworker recover` finds it there")
        return opened

    def view(self, job: str) -> JobView:
        """The job as it stands; raises JobUnknown."""
        found = self._ledger.job(job)
        if found is None:
            raise JobUnknown(UNKNOWN.format(job))
        return found

    def recent(self, limit: int = 50) -> Sequence[JobView]:
        """The newest jobs first."""
        return self._ledger.jobs(limit)

    def outcomes(self, job: str, start: int = 0) -> Iterator[Mapping[str, Any]]:
        """Every closed image of the job from number `start` on, in the order in which they closed."""
        while page := self._ledger.outcomes(job, start, 1000):
            yield from page
            start += len(page)

    def kept(self, job: str) -> tuple[JobView, Iterator[Mapping[str, Any]]]:
        """A job that Redis does not know, from its report in the store, and its outcomes.

        Raises:
            JobUnknown: the store has no report of it either; says so when it is a lost job.
            StoreUnavailable, ConfigInvalid: the store cannot be asked.
        """
        store = self._store()
        found = folder(store, self._tenant, job)
        view = read_view(store, self._tenant, job) if found.over else None
        if view is None:
            raise JobUnknown(lost_text(found) or UNKNOWN.format(job))
        return view, read_outcomes(store, self._tenant, job)

    def find(self, job: str) -> tuple[JobView, Iterator[Mapping[str, Any]]]:
        """The job and its outcomes, from Redis, or from the store once Redis has forgotten it. Raises
        JobUnknown."""
        view = self._ledger.job(job)
        if view is not None:
            return view, self.outcomes(job)
        try:
            return self.kept(job)
        except (ConfigInvalid, InfrastructureError):
            raise JobUnknown(UNKNOWN.format(job)) from None

    def cancel(self, job: str) -> bool:
        """Stop the job; False when it is over already. Raises JobUnknown."""
        stopped = self._ledger.cancel(job)
        view, _ = self.find(job)
        if stopped:
            self._remember(view, lambda store, tenant: write_note(store, tenant, job, Note(CANCELLED_FILE)))
        return stopped

    def pause(self, job: str) -> bool:
        """Admit no step of the job until it is resumed; what runs goes on. False when it is over already.
        Raises JobUnknown."""
        held = self._ledger.pause_job(job)
        view, _ = self.find(job)
        if held:
            self._remember(view, lambda store, tenant: write_note(store, tenant, job, Note(PAUSED_FILE)))
        return held

    def resume(self, job: str) -> bool:
        """Let the job go on; False when it is over already. Raises JobUnknown."""
        resumed = self._ledger.resume_job(job)
        view, _ = self.find(job)
        if resumed:
            self._remember(view, lambda store, tenant: remove_note(store, tenant, job, PAUSED_FILE))
            self._ring()
        return resumed

    def pause_origin(self, origin: str) -> None:
        """Admit nothing that asks this registry until it is resumed."""
        self._ledger.pause_origin(origin)
        self._note(partial(note_origin, origin=origin, paused=True), self._tenant)
        self._settle("pause it again")

    def resume_origin(self, origin: str) -> bool:
        """Let work at this registry go on; False when no operator had paused it."""
        resumed = self._ledger.resume_origin(origin)
        self._note(partial(note_origin, origin=origin, paused=False), self._tenant)
        if resumed:
            self._ring()
            self._settle("resume it again")
        return resumed

    def paused_origins(self) -> Sequence[str]:
        """Registries that an operator paused."""
        return self._ledger.paused_origins()

    def overdue(self, limit: int = 100) -> Sequence[Overdue]:
        """Steps that are late or held up, and why."""
        return self._ledger.overdue(limit)

    def recover(self, jobs: Sequence[str] = (), *, dry: bool = False) -> Iterator[Looked]:
        """Open lost jobs again, these, or all that there are: then they are this fleet's from now on. Each as
        it is looked at.

        Raises:
            StateUnavailable, StoreUnavailable, ConfigInvalid: doing it again goes on where this stopped.
        """
        store = self._store()
        recovery = Recovery(self._ledger, store, self._tenant, self._window, dry=dry, now=self._now)
        if not (jobs or dry) and read_fleet(store, self._tenant) != self._fleet:
            write_fleet(store, self._tenant, self._fleet)
        opened = False
        for looked in recovery.named(jobs) if jobs else recovery.every():
            opened |= looked.action == OPENED
            yield looked
        if opened and not dry:
            self._ring()

    def retry(self, job: str, *, cancelled: bool = False, priority: int | None = None) -> Retried:
        """Make a job of the images of `job` that failed, and of the cancelled ones if asked; see `retry.py`.

        Raises:
            JobUnknown, JobRunning: there is nothing to retry yet.
            InvalidRequest: its list or request is gone from the store, or it is more than one job can hold.
            StateUnavailable, StoreUnavailable: asking again is safe.
        """
        view = self._ledger.job(job)
        outcomes = self.outcomes(job)
        if view is None:
            view, outcomes = self.kept(job)
        if is_open(view):
            raise JobRunning(
                f"job {job} is not over: wait for it (`distworker status {job} --follow`)"
                f" or stop it (`distworker cancel {job}`)"
            )
        what = retrying.wanted(view, outcomes, cancelled)
        if what.nothing:
            return Retried("", 0, what.left_out, joined=False)
        store = self._store()
        new, running = retrying.next_id(self._ledger, store, self._tenant, job)
        if running:
            return Retried(new, 0, what.left_out, joined=True)
        request = read_request(store, str(view.record.get("tenant") or self._tenant), job)
        frozen = read_index(store, request.tenant, job)
        pairs = request.pairs
        if frozen is not None:
            pairs = retrying.pairs_again(every_frozen(store, request.tenant, job, frozen), what)
        elif not what.rest:
            raise InvalidRequest(f"job {job}: its list is no longer in the store; start the job again")
        if not pairs:
            return Retried("", 0, what.left_out, joined=False)
        self.create(retrying.again(request, pairs, new, self._now(), priority))
        return Retried(new, len(pairs), what.left_out, joined=False)

    def _remember(self, view: JobView, write: Callable[[BlobStore, str], None]) -> None:
        """As `_note`, of a job."""
        self._settle(f"look at `distworker status {view.id}`, and do it again where it is gone")
        self._note(write, str(view.record.get("tenant") or self._tenant))

    def _note(self, write: Callable[[BlobStore, str], None], tenant: str) -> None:
        """Note in the store what an operator did, for when Redis loses it. The ledger has it: trouble here is
        told and no failure."""
        try:
            write(self._store(), tenant)
        except ConfigInvalid as error:
            log.debug("not noted in the store: %s", error)
        except InfrastructureError as error:
            log.warning("done, but not noted in the store, so a loss of Redis would undo it: %s", error)

    def workers(self) -> Sequence[WorkerView]:
        """The live workers."""
        return self._ledger.workers()

    def upkeep(self) -> Sequence[TurnView]:
        """How it stands with each sweep that is switched on."""
        return self._upkeep()

    def require_worker(self) -> None:
        """Raises NoWorker unless somebody is there who would do the work."""
        if not any(worker.slots > 0 for worker in self._ledger.workers()):
            raise NoWorker(
                "no live worker: start one with `celery -A tasks worker`,"
                " or add --local to copy from this machine"
            )

    def _settle(self, otherwise: str) -> None:
        """Acknowledge only what outlives a crash of Redis, or say that it might not. After ringing: workers
        need not wait for the disk."""
        try:
            kept = self._ledger.settle()
        except StateUnavailable as error:
            log.warning("Redis did not confirm that this outlives a crash (%s); %s", error, otherwise)
            return
        if not kept:
            log.warning("Redis did not confirm that this outlives a crash; should it be lost, %s", otherwise)

    def _ring(self) -> None:
        """Hand the first step out now. The job is recorded: if this fails, the workers' pumps do it."""
        try:
            admitted = self._ledger.pump()
            if admitted:
                self._dispatch(admitted)
        except InfrastructureError as error:
            log.warning("the job is recorded, its start is left to the workers: %s", error)


def is_open(view: JobView) -> bool:
    """Whether the job still runs or winds down."""
    return view.state in {RUNNING, CANCELLING}
