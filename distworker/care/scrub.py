"""Read every blob again, at a set rate, and put aside those whose bytes are not what their name says.

A round goes through all blobs in key order, then through all refs and what they need; where it stands lies in
the store, so it goes on in bites, in any process. A bad blob is read twice before it is moved to the
quarantine, with a note beside it: nobody reads it under its name any more, and whoever needs it brings it
again. `Scrubbed.damaged` names the refs that lost something, with the digest to pull them by. Beside running
jobs nothing can be taken that is good: a blob that was written anew while it was read is left alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from distworker.blobstore.base import BlobStore, StoredObject
from distworker.blobstore.keys import blob_key, blobs_prefix, care_key, quarantine_key
from distworker.care.digestset import DigestSet
from distworker.care.refs import Ref, below, head_of, kept, refs
from distworker.digest import Digest
from distworker.errors import DistworkerError, InfrastructureError
from distworker.limits import MIB
from distworker.manifest import Descriptor, Manifest
from distworker.names import VERSION
from distworker.plan.fields import load_object, numbers

#: Bytes a second unless told otherwise: 4 TB a day.
RATE: Final = 50_000_000
#: What stands behind the key of a quarantined blob to name its note.
NOTE: Final = ".json"
_STATE: Final = "scrub"
#: Damaged refs of one round that are remembered as told, so that no bite has them brought once more.
_TOLD_MAX: Final = 20_000


@dataclass(frozen=True, slots=True)
class Damaged:
    """A ref that is not whole: what it names, if that can be told, and what is wrong."""

    ref: Ref
    digest: Digest | None
    reason: str


@dataclass
class Scrubbed:
    """What a round has done so far. `bad` blobs are in the quarantine; `damaged` are the refs found in this
    bite alone, each told once while blobs are read and once more at the end if it is so still. `finished`:
    the round is over."""

    blobs: int = 0
    bytes: int = 0
    bad: int = 0
    refs: int = 0
    refs_damaged: int = 0
    finished: bool = False
    damaged: list[Damaged] = field(default_factory=list)

    def counts(self) -> Mapping[str, int]:
        """The numbers alone."""
        return {name: value for name, value in asdict(self).items() if type(value) is int}


class Scrubber:
    """`bite` goes on with the tenant's round. `alive` is called before every chunk and may raise to stop;
    `rate` is bytes a second, 0 for as fast as the store gives them."""

    def __init__(
        self,
        store: BlobStore,
        tenant: str,
        *,
        rate: int = RATE,
        alive: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._tenant = tenant
        self._rate = rate
        self._alive = alive
        self._clock = clock
        self._sleep = sleep
        self._due = 0.0
        self._there = DigestSet()
        self._told: set[str] = set()

    def bite(self, seconds: float = 60.0, *, anew: bool = False) -> Scrubbed:
        """Work for about `seconds`; what the round did so far. `anew`: begin another round.

        Raises:
            StoreUnavailable: the blob it stopped at is read again by the next bite.
        """
        end = self._clock() + seconds
        done, cursor = (Scrubbed(), "") if anew else self._load()
        self._due = self._clock()
        bad: set[str] = set()
        if not self._below_refs(cursor):
            for blob in self._store.list(blobs_prefix(self._tenant), cursor):
                if self._clock() >= end:
                    return self._paused(done, cursor, bad)
                if self._blob(blob, done):
                    bad.add(blob.key)
                cursor = blob.key
            cursor = self._refs_start()
        for ref in refs(self._store, self._tenant, cursor):
            if self._clock() >= end:
                return self._paused(done, cursor, bad)
            done.refs += 1
            done.refs_damaged += self._look(ref, done, "refs")
            cursor = ref.key
        done.finished = True
        self._store.delete(care_key(self._tenant, _STATE))
        return done

    # --- where it stands ---------------------
    def _refs_start(self) -> str:
        return f"{self._tenant}/refs/"

    def _below_refs(self, cursor: str) -> bool:
        return cursor.startswith(self._refs_start())

    def _load(self) -> tuple[Scrubbed, str]:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            state = load_object(self._store.get_bytes(care_key(self._tenant, _STATE), MIB) or b"")
            self._told = {str(mark) for mark in state.get("told", ())}
            return Scrubbed(**numbers(state["counts"])), str(state["cursor"])
        return Scrubbed(), ""

    def _paused(self, done: Scrubbed, cursor: str, bad: set[str]) -> Scrubbed:
        if bad and not self._below_refs(cursor):
            # Whoever needs them is told now, not at the end of a round of weeks.
            for ref in refs(self._store, self._tenant):
                self._look(ref, done, "blobs")
        told = sorted(self._told)[:_TOLD_MAX]
        state: dict[str, Any] = {"v": VERSION, "cursor": cursor, "counts": done.counts(), "told": told}
        self._store.put_bytes(care_key(self._tenant, _STATE), json.dumps(state).encode())
        return done

    # --- blobs ---------------------
    def _blob(self, blob: StoredObject, done: Scrubbed) -> bool:
        """Read it; True when it was bad and is put aside."""
        name = blob.key.removeprefix(blobs_prefix(self._tenant))
        try:
            digest = Digest.parse(name.replace("/", ":", 1))
        except DistworkerError:
            return False
        before = self._store.stat(blob.key)
        found = self._read(blob.key, digest, done)
        if before is None or found in {None, digest.hex}:
            done.blobs += found is not None
            return False
        again = self._read(blob.key, digest, done)
        now = self._store.stat(blob.key)
        if now is None or again in {None, digest.hex} or now.modified != before.modified:
            return False
        aside = quarantine_key(self._tenant, digest)
        note = {"v": VERSION, "digest": digest, "size": now.size, "found": again, "modified": now.modified}
        self._store.put_bytes(aside + NOTE, json.dumps(note).encode())
        self._store.move(blob.key, aside)
        done.bad += 1
        return True

    def _read(self, key: str, digest: Digest, done: Scrubbed) -> str | None:
        """What its bytes hash to; None when it is gone."""
        hasher = hashlib.new(digest.algorithm)
        try:
            with self._store.open(key) as chunks:
                for chunk in chunks:
                    self._alive()
                    hasher.update(chunk)
                    done.bytes += len(chunk)
                    self._pace(len(chunk))
        except FileNotFoundError:
            return None
        return hasher.hexdigest()

    def _pace(self, count: int) -> None:
        if not self._rate:
            return
        now = self._clock()
        # What was not used in the last second is not made up for.
        self._due = max(self._due, now - 1.0) + count / self._rate
        if self._due > now:
            self._sleep(self._due - now)

    # --- refs ---------------------
    def _look(self, ref: Ref, done: Scrubbed, phase: str) -> bool:
        """Is something below it missing? Looks at sizes only: the bytes were read before. It is told once in
        each phase of the round: at the end again, for what was found after it had been brought."""
        self._alive()
        digest: Digest | None = None
        try:
            head = head_of(self._store, ref)
            if head is None:
                return False
            digest = head.digest
            root = kept(self._store, self._tenant, digest, head.media_type)
            reason = f"manifest {digest} is missing" if root is None else self._lacks(root)
        except InfrastructureError:
            raise
        except DistworkerError as error:
            reason = error.message
        mark = hashlib.sha256(f"{phase} {ref.key}".encode()).hexdigest()[:16]
        if reason and mark not in self._told:
            self._told.add(mark)
            done.damaged.append(Damaged(ref, digest, reason))
        return bool(reason)

    def _lacks(self, root: Manifest) -> str:
        for blob in self._needs(root, set()):
            if blob.digest.hex in self._there:
                continue
            found = self._store.stat(blob_key(self._tenant, blob.digest))
            if found is None or found.size != blob.size:
                if found is None and blob.is_foreign:
                    continue
                return f"blob {blob.digest} is {'missing' if found is None else 'of another size'}"
            self._there.add(blob.digest.hex)
        return ""

    def _needs(self, manifest: Manifest, seen: set[str]) -> Iterator[Descriptor]:
        yield from manifest.blobs
        for child in manifest.children:
            if child.digest not in seen:
                seen.add(child.digest)
                found = below(self._store, self._tenant, child)
                if found is None:
                    yield child
                else:
                    yield from self._needs(found, seen)
