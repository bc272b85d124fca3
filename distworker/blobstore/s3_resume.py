"""The record that lets another process go on with a multipart upload whose writer is gone.

What a server keeps of an unfinished upload cannot be read back, so the hash over it cannot be made again.
Instead its state is written down beside the upload every few parts, with the count and the ETags of the parts
it is over. A successor puts its own token into the record, checks that the server still has exactly those
parts, and goes on hashing and sending from there; the completion names every ETag, so a part that anybody
changed since is refused. Without a record, with a damaged one or after a lost part, the blob starts again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

from distworker.blobstore.base import StoredObject, Unfinished
from distworker.blobstore.keys import partial_key
from distworker.blobstore.parts import PART_MAX, PART_MIN
from distworker.blobstore.s3_faults import UploadGoneError
from distworker.digest import Digest, MarkedHasher
from distworker.errors import InfrastructureError, LimitExceeded, Lost, StoreUnavailable

log = logging.getLogger(__name__)

#: A blob of fewer bytes (four of the smallest parts) is sooner read again than gone on with.
RESUME_MIN: Final = 4 * PART_MIN
#: A record is written after so many parts, or so many seconds with one at least: a small request for 32 MiB.
NOTE_PARTS: Final = 4
NOTE_SECONDS: Final = 5.0
#: Half a lease: a writer that slept longer looks whether others went on before it sends another part.
ASLEEP: Final = 6.0
_RECORD_MAX: Final = 4096
_VERSION: Final = 1


class Store(Protocol):
    """What writers need of their S3Store."""

    @property
    def client(self) -> Any: ...
    def at(self, key: str) -> dict[str, str]: ...
    def faults(self, action: str) -> AbstractContextManager[None]: ...
    def stat(self, key: str) -> StoredObject | None: ...
    def get_bytes(self, key: str, limit: int) -> bytes | None: ...
    def put_bytes(self, key: str, data: bytes) -> None: ...
    def delete(self, key: str) -> None: ...
    def discard(self, write: Unfinished) -> None: ...


@dataclass(frozen=True, slots=True)
class Partial:
    """What a record says: `parts` parts of `part` bytes each of a blob of `size` are in `upload`; `seal` is
    over their ETags, `state` the hash after them. `token` names the claim whose upload it is now, `turn`
    counts those who took it over: a record of an earlier turn was written by somebody who does not know yet.
    """

    token: str
    upload: str
    size: int
    part: int
    parts: int
    seal: str
    state: str
    turn: int = 0
    v: int = _VERSION

    @classmethod
    def parse(cls, raw: bytes) -> Partial | None:
        """None for what is no record, or one of a newer release."""
        try:
            fields = json.loads(raw)
            found = cls(**fields)
            texts = (found.token, found.upload, found.seal, found.state)
            numbers = (found.size, found.part, found.parts, found.turn, found.v)
        except (ValueError, TypeError, RecursionError):
            return None
        good = all(type(text) is str for text in texts) and all(type(number) is int for number in numbers)
        good = good and found.v == _VERSION and PART_MIN <= found.part <= PART_MAX
        return found if good and 0 < found.parts * found.part < found.size else None


class Seal:
    """The ETags of the parts of an upload, in order, as one hash."""

    def __init__(self, etags: Sequence[str] = ()) -> None:
        self._hash = hashlib.sha256()
        for etag in etags:
            self.add(etag)

    def add(self, etag: str) -> None:
        """The next part's."""
        self._hash.update(etag.strip('"').encode() + b"\n")

    def text(self) -> str:
        """Over all that came."""
        return self._hash.hexdigest()


@dataclass(frozen=True, slots=True)
class Begun:
    """An upload that was taken over: its record, the hash over its parts, and what its completion names."""

    partial: Partial
    hasher: MarkedHasher
    parts: list[dict[str, Any]]


class Notes:
    """The record of one blob in `store`, for the writer with `token`."""

    def __init__(
        self, store: Store, key: str, token: str, size: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._blob = key
        self._key = partial_key(key)
        self._token = token
        self._size = size
        self._clock = clock
        self._noted_at = self._awake_at = clock()
        self._turn = 0
        self.parts = 0  #: that the record counts

    # --- taking over ---------------------------------------------------------------------------------------
    def take_over(self, digest: Digest) -> Begun | None:
        """The upload of an earlier writer, now ours; None when there is none that can be gone on with."""
        try:
            return self._take_over(digest)
        except StoreUnavailable as fault:
            if fault.passing:
                raise
            log.info("an unfinished upload of %s is not gone on with: %s", self._blob, fault)
            return None

    def _take_over(self, digest: Digest) -> Begun | None:
        partial = self.read()
        if partial is None:
            return None
        begun = self._begun(partial, digest)
        if begun is None:
            log.info("an unfinished upload of %s cannot be gone on with; it starts again", self._blob)
            self._store.discard(Unfinished(self._blob, partial.upload, partial.token, 0.0))
            self._store.delete(self._key)
            return None
        self.parts, self._turn = partial.parts, begun.partial.turn
        self._write(begun.partial)
        return begun

    def _begun(self, partial: Partial, digest: Digest) -> Begun | None:
        if partial.size != self._size:
            return None
        try:
            seen = partial.parts * partial.part
            hasher = MarkedHasher(digest, self._size, partial.part, seen, partial.state)
            parts = self._listed(partial)
        except (ValueError, UploadGoneError, FileNotFoundError):
            return None
        if Seal([part["ETag"] for part in parts]).text() != partial.seal:
            return None
        mine = Partial(**{**asdict(partial), "token": self._token, "turn": partial.turn + 1})
        return Begun(mine, hasher, parts)

    def _listed(self, partial: Partial) -> list[dict[str, Any]]:
        """The first parts of the upload as the server has them; ValueError when one is missing or of another
        size."""
        found: list[dict[str, Any]] = []
        while len(found) < partial.parts:
            with self._store.faults(f"list the parts of {self._blob}"):
                page = self._store.client.list_parts(
                    **self._store.at(self._blob), UploadId=partial.upload, PartNumberMarker=len(found)
                )
            entries: Sequence[Mapping[str, Any]] = page.get("Parts", ())
            if not entries:
                raise ValueError("parts are missing")
            for entry in entries[: partial.parts - len(found)]:
                if (entry["PartNumber"], entry["Size"]) != (len(found) + 1, partial.part):
                    raise ValueError("a part is missing or of another size")
                found.append({"PartNumber": entry["PartNumber"], "ETag": entry["ETag"]})
        return found

    # --- writing it down -----------------------------------------------------------------------------------
    def note(self, upload: str, part: int, parts: int, seal: str, state: str, now: bool = False) -> None:
        """Write down that `parts` parts are there, when it is time or `now`. What fails here only means that
        less is gone on with; but raises Lost when another writer went on with the upload meanwhile."""
        self._awake_at = self._clock()
        due = parts - self.parts >= NOTE_PARTS or self._awake_at - self._noted_at >= NOTE_SECONDS
        if not (due or now) or not state or parts <= self.parts:
            return
        try:
            self._require_ours(upload)
            self._write(Partial(self._token, upload, self._size, part, parts, seal, state, self._turn))
        except InfrastructureError as fault:
            log.info("how far %s got is not written down: %s", self._blob, fault)
        else:
            self.parts = parts

    def _write(self, partial: Partial) -> None:
        self._store.put_bytes(self._key, json.dumps(asdict(partial)).encode())
        self._noted_at = self._awake_at = self._clock()

    # --- whose is it? --------------------------------------------------------------------------------------
    def check(self, upload: str) -> None:
        """Raises Lost when this writer slept for long and another one went on with its upload meanwhile."""
        if self.parts and self._clock() - self._awake_at > ASLEEP:
            self._require_ours(upload)
            self._awake_at = self._clock()

    def _require_ours(self, upload: str) -> None:
        if self.taken(upload):
            raise Lost(f"another run went on with the upload of {self._blob}")

    def read(self) -> Partial | None:
        """What the record says just now."""
        try:
            raw = self._store.get_bytes(self._key, _RECORD_MAX)
        except LimitExceeded:
            return None
        return Partial.parse(raw) if raw else None

    def taken(self, upload: str) -> bool:
        """Did another writer go on with our upload?"""
        partial = self.read()
        ours = partial is None or partial.token == self._token or partial.turn <= self._turn
        return not ours and partial is not None and partial.upload == upload

    def forget(self) -> None:
        """The upload is over: so is its record, unless it is of another one by now."""
        partial = self.read() if self.parts else None
        if partial is not None and partial.token == self._token:
            self._store.delete(self._key)
