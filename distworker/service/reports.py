"""The report of a closed job in the store: how it and each of its images ended, for when Redis forgets it.

Numbered parts first, `closed.json` last, then the ledger is told; killed anywhere in between it is done again
and comes out the same. From then on nobody starts the job again. Until then a loss of Redis runs it again,
which costs a HEAD for each image. Shards of lists that were not taken go with it.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from distworker import names
from distworker.blobstore.base import BlobStore
from distworker.blobstore.keys import job_key
from distworker.errors import InvalidRequest, LimitExceeded, NewerVersion
from distworker.limits import MIB
from distworker.plan.fields import load_object, numbers
from distworker.plan.folder import CLOSED_FILE, REPORT, Folder, Note, folder, read_note, write_note
from distworker.plan.frozen import abandoned, read_index
from distworker.service.upkeep import Bite
from distworker.state.base import (
    CANCELLED,
    COUNTERS,
    DONE,
    FAILED,
    SUPERSEDED,
    UNCHANGED,
    JobView,
    Ledger,
)

#: Outcomes in one part. The longest outcome is a failed image with long names: about 2 kB.
PART_LINES: Final = 1_000
_PART_MAX: Final = 16 * MIB
#: Closed jobs of one look at the ledger.
_AT_ONCE: Final = 100
#: How an image may end; each has a counter of that name.
IMAGE_STATES: Final = (DONE, UNCHANGED, FAILED, CANCELLED, SUPERSEDED)
#: State of a job whose record in Redis ran out before the store could be written.
FORGOTTEN: Final = "forgotten"
#: What ids of images look like: the job's, and the number in its list.
_IMAGE: Final = re.compile(r"[a-z0-9-]+-[0-9]{1,9}", re.ASCII)

log = logging.getLogger(__name__)

Check = Callable[[], None]


def sweep_reports(
    ledger: Ledger, store: BlobStore, tenant: str, bite: Bite
) -> tuple[Mapping[str, int], bool]:
    """Keep the reports of closed jobs that have none: how many were kept, and whether there are more."""
    waiting = ledger.unreported(_AT_ONCE)
    kept = 0
    for job in waiting:
        if not bite.left:
            return {"reports": kept}, True
        kept += keep_report(ledger, store, tenant, job, bite.alive)
    return {"reports": kept}, kept == _AT_ONCE


def keep_report(ledger: Ledger, store: BlobStore, tenant: str, job: str, check: Check = lambda: None) -> bool:
    """Write the report of this closed job; False when the ledger lost it meanwhile. `check` is called before
    each part."""
    view = ledger.job(job)
    if view is None:
        fields: dict[str, Any] = {"state": FORGOTTEN}
    elif view.closed is None:
        return False
    else:
        tenant = str(view.record.get("tenant") or tenant)
        ended = sum(view.counters.get(state, 0) for state in IMAGE_STATES)
        if _write_parts(ledger, store, tenant, job, check) != ended:
            return False
        fields = _fields(view, ended)
    found = folder(store, tenant, job)
    if found.asked:
        for name in _abandoned(store, tenant, found):
            store.delete(job_key(tenant, job, name))
        write_note(store, tenant, job, Note(CLOSED_FILE, fields))
    ledger.reported(job)
    return True


def _abandoned(store: BlobStore, tenant: str, found: Folder) -> Sequence[str]:
    """Of a list whose index is damaged everything stays: the reports of other jobs must not wait for it."""
    try:
        return abandoned(found, read_index(store, tenant, found.job))
    except (InvalidRequest, LimitExceeded, NewerVersion) as error:
        log.warning("job %s: %s", found.job, error.message)
        return ()


def _write_parts(ledger: Ledger, store: BlobStore, tenant: str, job: str, check: Check) -> int:
    """The parts that are not there yet; returns how many outcomes all parts hold. A closed job's outcomes do
    not change, so a part that is there is right."""
    there = folder(store, tenant, job).names
    number = total = 0
    while True:
        check()
        outcomes = ledger.outcomes(job, total, PART_LINES)
        if not outcomes:
            return total
        name = f"{REPORT}{number:05d}.jsonl"
        if name not in there:
            lines = (json.dumps({"v": names.VERSION, **each}, ensure_ascii=False) for each in outcomes)
            store.put_bytes(job_key(tenant, job, name), ("\n".join(lines) + "\n").encode())
        number, total = number + 1, total + len(outcomes)


def _fields(view: JobView, ended: int) -> dict[str, Any]:
    return {
        "state": view.state,
        "created": view.created,
        "closed": view.closed,
        "record": dict(view.record),
        "counters": dict(view.counters),
        "error": view.error,
        "images": ended,
        "parts": -(-ended // PART_LINES),
    }


def read_view(store: BlobStore, tenant: str, job: str) -> JobView | None:
    """The job as it ended; None when the store has no report of it. Raises InvalidRequest when damaged."""
    note = read_note(store, tenant, job, CLOSED_FILE)
    if note is None:
        return None
    try:
        return JobView(
            id=job,
            state=str(note["state"]),
            created=float(note.get("created") or 0),
            closed=float(note.get("closed") or 0),
            record=_record(note.get("record") or {}),
            counters={**dict.fromkeys(COUNTERS, 0), **numbers(note.get("counters") or {})},
            running={},
            error=_error(note.get("error")),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InvalidRequest(f"job {job}: {CLOSED_FILE} in the store is damaged") from None


def read_outcomes(store: BlobStore, tenant: str, job: str, start: int = 0) -> Iterator[Mapping[str, Any]]:
    """The outcomes that the report holds, from number `start` on."""
    number, skip = divmod(start, PART_LINES)
    while True:
        data = store.get_bytes(job_key(tenant, job, f"{REPORT}{number:05d}.jsonl"), _PART_MAX)
        if data is None:
            return
        for line in data.splitlines()[skip:]:
            try:
                yield _outcome(load_object(line))
            except (ValueError, KeyError):
                said = f"job {job}: part {number} of its report in the store is damaged"
                raise InvalidRequest(said) from None
        number, skip = number + 1, 0


def _outcome(record: dict[str, Any]) -> Mapping[str, Any]:
    """KeyError or ValueError unless it says which image ended how."""
    if record["state"] not in IMAGE_STATES or not _IMAGE.fullmatch(str(record["image"])):
        raise ValueError("no outcome of an image")
    _error(record.get("error"))
    return record


def _error(value: object) -> Mapping[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise ValueError("not an error")
    return value


def _record(value: object) -> dict[str, Any]:
    if isinstance(value, dict) and isinstance(value.get("labels", {}), dict):
        numbers({"pairs": value.get("pairs", 1)})
        return value
    raise ValueError("not a job's record")
