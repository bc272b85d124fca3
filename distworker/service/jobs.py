"""Use cases around a job: create it, look at it, cancel it. The same for the fleet and for the local mode.

A job is written to the store, then recorded in the ledger, then its first step is handed out; each may be
repeated, so a caller that saw an error can ask again with the same id. Reading needs the ledger only.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from distworker import names
from distworker.blobstore.base import BlobStore
from distworker.errors import InfrastructureError, JobUnknown, NoWorker, StateUnavailable
from distworker.plan.folder import write_request
from distworker.plan.model import JobRequest, Place
from distworker.service.payload import parse_request
from distworker.service.runner import Dispatcher
from distworker.state.base import CANCELLING, RUNNING, JobView, Ledger, StepSpec, WorkerView

if TYPE_CHECKING:
    from distworker.state.turns import TurnView

log = logging.getLogger(__name__)

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
    """The use cases. `dispatch` brings admitted steps to workers; `store` gives the store when a job is made:
    watching and cancelling work without one."""

    def __init__(
        self,
        ledger: Ledger,
        store: Callable[[], BlobStore],
        dispatch: Dispatcher,
        *,
        tenant: str = "default",
        window: int = 200,
        new_id: Callable[[], str] = new_job_id,
        now: Callable[[], float] = time.time,
        upkeep: Callable[[], Sequence[TurnView]] = tuple,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._dispatch = dispatch
        self._tenant = tenant
        self._window = window
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
            StateUnavailable, StoreUnavailable, StoreFull: nothing was started; asking again with the same id
            is safe.
        """
        if self._ledger.job(request.id) is not None:
            return False
        write_request(self._store(), request)
        opened = self._ledger.open_job(request.id, job_record(request), first_step(request, self._window))
        self._ring()
        self._settle(f"job {request.id} is recorded in the store; `distworker recover` finds it there")
        return opened

    def view(self, job: str) -> JobView:
        """The job as it stands; raises JobUnknown."""
        found = self._ledger.job(job)
        if found is None:
            raise JobUnknown(f"there is no job {job}; `distworker status` lists the ones there are")
        return found

    def recent(self, limit: int = 50) -> Sequence[JobView]:
        """The newest jobs first."""
        return self._ledger.jobs(limit)

    def outcomes(self, job: str, start: int = 0) -> Iterator[Mapping[str, Any]]:
        """Every closed image of the job from number `start` on, in the order in which they closed."""
        while page := self._ledger.outcomes(job, start, 1000):
            yield from page
            start += len(page)

    def cancel(self, job: str) -> bool:
        """Stop the job; False when it is over already. Raises JobUnknown."""
        stopped = self._ledger.cancel(job)
        if not stopped:
            self.view(job)
            return False
        self._settle(f"ask `distworker status {job}`, and cancel it again if it runs")
        return True

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
            log.warning("Redis did not say that it has this on its disk (%s); %s", error, otherwise)
            return
        if not kept:
            log.warning("Redis has not put this on its disk yet; should it lose that, %s", otherwise)

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


def first_step(request: JobRequest, window: int) -> StepSpec:
    """The expand step that everything of the job grows from; `window` images are worked on at a time."""
    return StepSpec(
        id=names.expand_id(request.id),
        job=request.id,
        body={"v": names.VERSION, "tenant": request.tenant, "window": window},
        priority=request.priority,
    )


def job_record(request: JobRequest) -> dict[str, Any]:
    """What the ledger keeps of a request for `status`: small whatever the job's size."""
    first = request.pairs[0]
    return {
        "v": names.VERSION,
        "kind": request.kind,
        "tenant": request.tenant,
        "priority": request.priority,
        "pairs": len(request.pairs),
        "source": _spelled(first.source, first.all_tags),
        "destination": _spelled(first.destination, first.all_tags),
        "labels": dict(request.labels),
    }


def _spelled(place: Place, all_tags: bool) -> str:
    tag = ":*" if all_tags else f":{place.tag}" if place.tag else ""
    digest = f"@{place.digest}" if place.digest else ""
    return f"{place.host}/{place.repository}{tag}{digest}"
