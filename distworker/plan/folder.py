"""A job's folder in the store, `<tenant>/jobs/<job>/`: what outlives Redis, and what each record says.

    request.json        what was asked for; written before the ledger hears of the job
    list.json           the frozen list is complete: its name and length (`frozen.py`)
    list-….jsonl        the list, 1,000 images a shard
    local.json          a process of its own runs the job (`--local`): no fleet ever takes it up
    paused.json         an operator holds the job; gone when it is resumed
    cancelled.json      an operator stopped the job: nobody starts it again
    closed.json         how the job ended: nobody starts it again
    report-….jsonl      how its images ended, 1,000 a part; complete once closed.json is there

Every record is written whole, more than once if need be, always with the same meaning. A job is **lost**
when its folder has a request, the ledger does not know it, and no note says that it is over or whose it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from distworker.blobstore.base import BlobStore, StoredObject
from distworker.blobstore.keys import care_key, job_key, jobs_prefix
from distworker.errors import InvalidReference, InvalidRequest, LimitExceeded
from distworker.limits import MIB
from distworker.names import VERSION
from distworker.plan.codec import ID, REQUEST_MAX, dump_request, load_request
from distworker.plan.fields import load_object
from distworker.plan.model import JobRequest
from distworker.reference import parse_host

REQUEST_FILE: Final = "request.json"
LIST_FILE: Final = "list.json"
LOCAL_FILE: Final = "local.json"
PAUSED_FILE: Final = "paused.json"
CANCELLED_FILE: Final = "cancelled.json"
CLOSED_FILE: Final = "closed.json"
#: Beginnings of the names of shards and of report parts.
SHARD: Final = "list-"
REPORT: Final = "report-"
#: What an earlier job of the same id leaves and a new one must not be taken for. The shards may stay: without
#: an index nobody reads them, and a second sender of the same request must not take them away.
_STALE: Final = (LIST_FILE, LOCAL_FILE, PAUSED_FILE, CANCELLED_FILE, CLOSED_FILE)
_NOTE_MAX: Final = MIB
_TEXT_MAX: Final = 500
_FLEET: Final = "fleet"
_HELD: Final = "held"


@dataclass(frozen=True, slots=True)
class Folder:
    """The names in a job's folder, and when the youngest of them was written (Unix seconds, by the store's
    clock)."""

    job: str
    names: frozenset[str]
    modified: float

    @property
    def over(self) -> bool:
        """Nobody may start this job again."""
        return CLOSED_FILE in self.names

    @property
    def ended(self) -> bool:
        """It is over, or somebody stopped it."""
        return self.over or self.cancelled

    @property
    def cancelled(self) -> bool:
        """It was stopped by somebody."""
        return CANCELLED_FILE in self.names

    @property
    def local(self) -> bool:
        """It is some process's own."""
        return LOCAL_FILE in self.names

    @property
    def paused(self) -> bool:
        """It is held by somebody."""
        return PAUSED_FILE in self.names

    @property
    def asked(self) -> bool:
        """There is a request."""
        return REQUEST_FILE in self.names

    @property
    def frozen(self) -> bool:
        """Its list is complete."""
        return LIST_FILE in self.names


def folders(store: BlobStore, tenant: str) -> Iterator[Folder]:
    """Every job's folder of the tenant, in the order of ids, read as it is asked for. What has another name
    than a job can have, a copy of a folder for example, is none."""
    prefix = jobs_prefix(tenant)
    found = store.list(prefix)
    for job, items in groupby(found, lambda item: item.key[len(prefix) :].partition("/")[0]):
        if ID.fullmatch(job):
            yield _folder(job, items)


def folder(store: BlobStore, tenant: str, job: str) -> Folder:
    """One job's folder; empty when there is none, and for what is no job's id."""
    if not ID.fullmatch(job):
        return Folder(job, frozenset(), 0.0)
    return _folder(job, store.list(job_key(tenant, job, REQUEST_FILE).removesuffix(REQUEST_FILE)))


def _folder(job: str, items: Iterator[StoredObject]) -> Folder:
    seen = {item.key.rpartition("/")[2]: item.modified for item in items}
    return Folder(job, frozenset(seen), max(seen.values(), default=0.0))


def write_request(store: BlobStore, request: JobRequest, *, local: bool = False) -> None:
    """Keep a new job's request, and nothing of an earlier job of that id. `local`: see `local.json`.

    In this order: as long as `closed.json` of the earlier one stands, nobody starts either of them again.

    Raises:
        InvalidRequest: more than one job can hold.
    """
    data = dump_request(request)
    if len(data) > REQUEST_MAX:
        raise InvalidRequest(f"pairs: {len(data)} bytes in one request; make it several", field="pairs")
    before = folder(store, request.tenant, request.id).names
    if local:
        write_note(store, request.tenant, request.id, Note(LOCAL_FILE))
    store.put_bytes(job_key(request.tenant, request.id, REQUEST_FILE), data)
    parts = sorted(name for name in before if name.startswith(REPORT))
    for name in (*parts, *(name for name in _STALE if name in before)):
        if not (local and name == LOCAL_FILE):
            store.delete(job_key(request.tenant, request.id, name))


def read_request(store: BlobStore, tenant: str, job: str) -> JobRequest:
    """The job's request.

    Raises:
        InvalidRequest: it is missing, damaged, or another job's.
    """
    data = store.get_bytes(job_key(tenant, job, REQUEST_FILE), REQUEST_MAX)
    if data is None:
        raise InvalidRequest(f"job {job}: its request is not in the store; submit it again")
    request = load_request(data)
    if (request.id, request.tenant) != (job, tenant):
        raise InvalidRequest(f"job {job}: the request in the store belongs to another job", field="id")
    return request


@dataclass(frozen=True, slots=True)
class Note:
    """A small record of a job: `closed.json` and the marks of operators."""

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)


def write_note(store: BlobStore, tenant: str, job: str, note: Note) -> None:
    """Keep it; the last writer wins."""
    data = json.dumps({"v": VERSION, "job": job, **note.fields}, ensure_ascii=False).encode()
    store.put_bytes(job_key(tenant, job, note.name), data)


def read_note(store: BlobStore, tenant: str, job: str, name: str) -> Mapping[str, Any] | None:
    """Its fields, or None; raises InvalidRequest when it is damaged."""
    data = store.get_bytes(job_key(tenant, job, name), _NOTE_MAX)
    if data is None:
        return None
    try:
        return load_object(data)
    except ValueError:
        raise InvalidRequest(f"job {job}: {name} in the store is damaged") from None


def remove_note(store: BlobStore, tenant: str, job: str, name: str) -> None:
    """Take it away; no error when it is not there."""
    store.delete(job_key(tenant, job, name))


def read_fleet(store: BlobStore, tenant: str) -> str:
    """Whose jobs these are, as `write_fleet` was told; "" when nobody said so."""
    return _text(store, care_key(tenant, _FLEET))


def write_fleet(store: BlobStore, tenant: str, fleet: str) -> None:
    """Say whose jobs these are: only that fleet takes lost ones up by itself."""
    store.put_bytes(care_key(tenant, _FLEET), fleet.encode())


def note_origin(store: BlobStore, tenant: str, origin: str, *, paused: bool) -> None:
    """Remember, or forget, that an operator holds this registry."""
    key = care_key(tenant, f"{_HELD}/{hashlib.sha256(origin.encode()).hexdigest()}")
    if paused:
        store.put_bytes(key, origin.encode())
    else:
        store.delete(key)


def noted_origins(store: BlobStore, tenant: str) -> Iterator[str]:
    """The registries that operators hold."""
    for item in store.list(care_key(tenant, _HELD) + "/"):
        with contextlib.suppress(InvalidReference):
            yield parse_host(_text(store, item.key))


def _text(store: BlobStore, key: str) -> str:
    """A note of a few words; a damaged one says something, but no more than that."""
    try:
        data = store.get_bytes(key, _NOTE_MAX) or b""
    except LimitExceeded:
        return "(damaged)"
    return data.decode(errors="replace")[:_TEXT_MAX]
