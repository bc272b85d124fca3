"""Delete blobs that nothing needs any more, in two passes with a grace between them, beside running jobs.

A run reads what is needed (`roots.py`), then goes through all blobs in order. A blob that is not needed is
marked with the time; one that a former run marked at least `grace` seconds ago, that was not written since
and is still not needed, is deleted. Right before each batch of deletions the refs, jobs and writers are asked
once more, under the agreement of `plan/refguard.py`; a step that relied on a deleted blob finds it missing
and brings it again. While a ref or its manifests cannot be read, nothing is deleted.

A run is done in bites of some seconds: where it stands lies in the store below `care/gc/`, so any process may
go on with it, and a killed one costs its last bite. Two at once waste work and harm nothing. Memory: about 40
bytes for each blob that is needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice, pairwise
from typing import Any, Final

from distworker.blobstore.base import BlobStore, StoredObject
from distworker.blobstore.keys import blobs_prefix, care_key
from distworker.care.digestset import DigestSet
from distworker.care.roots import Roots, Steps, no_steps
from distworker.digest import Digest
from distworker.errors import DistworkerError
from distworker.limits import MIB
from distworker.names import VERSION
from distworker.plan.fields import load_object, numbers
from distworker.plan.refguard import BATCH, Sentence, forget_dead

#: Seconds between the mark and the deletion, unless told otherwise.
GRACE: Final = 24 * 3600.0
#: Blobs that are judged at a time, and marks of one record.
_CHUNK: Final = 500
_LINES: Final = 5_000
#: Seconds by which a store's listing and its other answers may differ about one object.
_TICK: Final = 1.0
_STATE: Final = "gc/state"
_MARKS: Final = "gc/marks"
_RECORD_MAX: Final = 64 * MIB

#: What becomes of a blob: needed; first found unused; marked, but not for long enough; deleted (or due).
NEEDED, FRESH, WAITING, DUE = "needed", "new", "waiting", "due"


@dataclass
class Collected:
    """What a run has done so far. `deleted` blobs of `freed` bytes are gone, `marked` ones of `marked_bytes`
    wait for their grace; `finished`: the run is over. `unreadable` says why nothing is deleted."""

    blobs: int = 0
    deleted: int = 0
    freed: int = 0
    marked: int = 0
    marked_bytes: int = 0
    refs: int = 0
    finished: bool = False
    broken: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def counts(self) -> Mapping[str, int]:
        """The numbers alone, for those who only add up."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, int)}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A blob that nothing needs: since when that is known (0: found now), and what would become of it."""

    digest: Digest
    size: int
    since: float
    verdict: str


class Collector:
    """`bite` goes on with the tenant's run; `preview` says what it would delete now and changes nothing.
    `alive` is called before each ref and each deletion, and may raise to stop; that bite is then lost."""

    def __init__(
        self,
        store: BlobStore,
        tenant: str,
        *,
        steps: Steps = no_steps,
        grace: float = GRACE,
        alive: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._tenant = tenant
        self._steps = steps
        self._alive = alive
        self._grace = grace
        self._clock = clock

    def bite(self, seconds: float = 60.0) -> Collected:
        """Work for about `seconds`; what the run did so far. After `finished` the next bite begins a new run.

        Raises:
            StateUnavailable, StoreUnavailable: what was done is done, the rest comes with the next bite.
        """
        end = self._clock() + seconds
        run = _Run.resume(self._store, self._tenant, Roots(self._store, self._tenant, self._steps))
        if not run.roots.look(lambda: self._goes_on(end)):
            return run.pause()
        for chunk in run.chunks():
            run.keep_marks(self._chunk(run, chunk))
            run.passed(chunk)
            if self._clock() >= end:
                return run.pause()
        return run.finish()

    def _goes_on(self, end: float) -> bool:
        self._alive()
        return self._clock() < end

    def preview(self) -> tuple[Collected, Iterator[Candidate]]:
        """What the refs are like, and each blob that nothing needs now."""
        roots = Roots(self._store, self._tenant, self._steps)
        run = _Run(self._store, self._tenant, roots, {"started": roots.now()})
        roots.look()
        return run.told(), self._candidates(run)

    def _candidates(self, run: _Run) -> Iterator[Candidate]:
        for chunk in run.chunks():
            for blob, since, verdict in self._judged(run, chunk):
                if verdict != NEEDED:
                    yield Candidate(_digest(run.name(blob)), blob.size, since, verdict)

    def _judged(self, run: _Run, chunk: Sequence[StoredObject]) -> Iterator[tuple[StoredObject, float, str]]:
        for blob in chunk:
            name = run.name(blob)
            since = run.marked(name)
            if name.partition("/")[2] in run.roots.needed:
                yield blob, 0.0, NEEDED
            elif since is None or blob.modified > since + _TICK:
                yield blob, 0.0, FRESH
            else:
                yield blob, since, DUE if run.started - since >= self._grace else WAITING

    def _chunk(self, run: _Run, chunk: Sequence[StoredObject]) -> Iterator[tuple[str, float]]:
        """Delete what is due; gives the marks of what stays, in order."""
        judged = list(self._judged(run, chunk))
        due = {blob.key: (blob, since) for blob, since, verdict in judged if verdict == DUE}
        gone: set[str] = set()
        if not run.roots.unreadable:
            waiting = iter(due.values())
            while batch := list(islice(waiting, BATCH)):
                gone |= self._delete(run, batch)
        run.counts.blobs += len(chunk)
        for blob, since, verdict in judged:
            if verdict == NEEDED or blob.key in gone:
                continue
            run.counts.marked += 1
            run.counts.marked_bytes += blob.size
            yield run.name(blob), since or max(run.started, blob.modified)

    def _delete(self, run: _Run, batch: Sequence[tuple[StoredObject, float]]) -> set[str]:
        gone: set[str] = set()
        digests = [_digest(run.name(blob)) for blob, _ in batch]
        with Sentence(self._store, self._tenant, digests, self._clock) as sentence:
            run.roots.look(lambda: self._goes_on(math.inf))
            if run.roots.unreadable:
                return gone
            for (blob, since), digest in zip(batch, digests, strict=True):
                self._alive()
                if digest.hex in run.roots.needed:
                    continue
                found = self._store.stat(blob.key)
                if found is None or found.modified > since + _TICK or not sentence.in_time():
                    continue
                self._store.delete(blob.key)
                gone.add(blob.key)
                run.counts.deleted += 1
                run.counts.freed += blob.size
        return gone


class _Run:
    """Where a run stands, and what it knows; all of it can be put into the store and taken up again."""

    def __init__(self, store: BlobStore, tenant: str, roots: Roots, state: Mapping[str, Any]) -> None:
        self.roots = roots
        self.counts = Collected(**numbers(state.get("counts", {})))
        self.started = float(state["started"])
        self._store = store
        self._tenant = tenant
        self._cursor = str(state.get("cursor", ""))
        self._pieces = [str(name) for name in state.get("pieces", ())]
        self._marks = [str(name) for name in state.get("marks", ())]
        self._prefix = blobs_prefix(tenant)
        self._lines: list[str] = []
        self._old = self._read_marks()
        self._next = next(self._old, None)

    @classmethod
    def resume(cls, store: BlobStore, tenant: str, roots: Roots) -> _Run:
        """The run that stands in the store, or a new one."""
        try:
            state = load_object(store.get_bytes(care_key(tenant, _STATE), MIB) or b"{}")
            run = cls(store, tenant, roots, state)
            # All or none: a ref that counts as known without what it needs would be a ref to delete from.
            for piece in [_piece(store.get_bytes(run._key(name), _RECORD_MAX)) for name in run._pieces]:
                for digests, data in zip(run._sets(), piece, strict=True):
                    digests.load(data)
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls(store, tenant, roots, {"started": roots.now()})
        return run

    def name(self, blob: StoredObject) -> str:
        """`sha256/<hex>`."""
        return blob.key.removeprefix(self._prefix)

    def chunks(self) -> Iterator[Sequence[StoredObject]]:
        """The blobs that were not judged yet."""
        found = (blob for blob in self._store.list(self._prefix, self._cursor) if _is_blob(self.name(blob)))
        while chunk := list(islice(found, _CHUNK)):
            yield chunk

    def marked(self, name: str) -> float | None:
        """When a former run marked this blob. Ask in order: the marks are read along."""
        while self._next is not None and self._next[0] < name:
            self._next = next(self._old, None)
        return self._next[1] if self._next is not None and self._next[0] == name else None

    def keep_marks(self, marks: Iterator[tuple[str, float]]) -> None:
        """Take down the marks of this run, in order."""
        for name, since in marks:
            self._lines.append(f"{name} {since!r}\n")
            if len(self._lines) >= _LINES:
                self._write_lines()

    def passed(self, chunk: Sequence[StoredObject]) -> None:
        """These are judged."""
        self._cursor = chunk[-1].key

    def pause(self) -> Collected:
        """Put down where it stands."""
        self._write_lines()
        drained = [digests.drain() for digests in self._sets()]
        body = b"".join(drained)
        head = b" ".join(b"%d" % len(data) for data in drained)
        self._pieces.append(self._write("piece", head + b" " + _seal(body) + b"\n" + body))
        state = {
            "v": VERSION,
            "started": self.started,
            "cursor": self._cursor,
            "pieces": self._pieces,
            "marks": self._marks,
            "counts": {name: count for name, count in self.told().counts().items() if name != "finished"},
        }
        self._store.put_bytes(care_key(self._tenant, _STATE), json.dumps(state).encode())
        return self.counts

    def finish(self) -> Collected:
        """The marks of this run take the place of the former ones."""
        self._write_lines()
        record = {"v": VERSION, "marks": self._marks}
        self._store.put_bytes(care_key(self._tenant, _MARKS), json.dumps(record).encode())
        self._store.delete(care_key(self._tenant, _STATE))
        own = {self._key(name) for name in self._marks}
        for found in list(self._store.list(self._key(""))):
            if found.key not in own:
                self._store.delete(found.key)
        forget_dead(self._store, self._tenant, self.roots.now())
        self.counts.finished = True
        return self.told()

    def told(self) -> Collected:
        """The counts, with what is said of the refs now."""
        self.counts.refs = self.roots.refs
        self.counts.broken = self.roots.broken
        self.counts.unreadable = self.roots.unreadable
        return self.counts

    def _sets(self) -> tuple[DigestSet, DigestSet, DigestSet]:
        return self.roots.needed, self.roots.read, self.roots.known

    def _key(self, name: str) -> str:
        return care_key(self._tenant, "gc/parts") + "/" + name

    def _write(self, kind: str, data: bytes) -> str:
        """Under a name of its own: two processes at one run never mix what they found."""
        name = f"{kind}-{secrets.token_hex(8)}"
        self._store.put_bytes(self._key(name), data)
        return name

    def _write_lines(self) -> None:
        if self._lines:
            self._marks.append(self._write("marks", "".join(self._lines).encode()))
            self._lines = []

    def _read_marks(self) -> Iterator[tuple[str, float]]:
        """The marks of the last finished run, in order."""
        data = self._store.get_bytes(care_key(self._tenant, _MARKS), MIB)
        if data is None:
            return
        with contextlib.suppress(ValueError, TypeError, KeyError):
            for part in load_object(data)["marks"]:
                shard = self._store.get_bytes(self._key(str(part)), _RECORD_MAX) or b""
                for line in shard.decode().splitlines():
                    name, _, since = line.partition(" ")
                    yield name, float(since)


def _piece(data: bytes | None) -> Sequence[bytes]:
    """Takes apart what `pause` put together; ValueError when it is not there or not whole."""
    head, _, body = (data or b"").partition(b"\n")
    *sizes, seal = head.split() or [b""]
    lengths = [int(text) for text in sizes]
    # Also when the disk changed a bit: a set that lost a digest would cost a blob that is needed.
    if len(lengths) != 3 or sum(lengths) != len(body) or seal != _seal(body):
        raise ValueError("not a whole piece")
    ends = [0, lengths[0], lengths[0] + lengths[1], len(body)]
    return [body[start:end] for start, end in pairwise(ends)]


def _seal(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _is_blob(name: str) -> bool:
    try:
        _digest(name)
    except DistworkerError:
        return False
    return True


def _digest(name: str) -> Digest:
    return Digest.parse(name.replace("/", ":", 1))
