"""One blob on its way into an S3 bucket: a single put when it is small, otherwise a multipart upload.

A thread of the writer's own sends a part while the caller fills the next one, as long as the process has
another buffer to give; otherwise the caller waits and fills the same one again. Nothing can be seen before
`commit` has the proof: the put, or the completion of the upload, is the last request. Leaving without a
commit aborts the upload, or leaves it for a later writer where that was asked for and can be (s3_resume.py);
what fails then never hides the first error. An upload that another writer went on with is left alone.
"""

from __future__ import annotations

import contextlib
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any
from urllib.parse import quote

from distworker.blobstore.base import Unfinished
from distworker.blobstore.buffers import PartBuffers
from distworker.blobstore.parts import require_proof, require_room
from distworker.blobstore.s3_faults import PartGoneError, UploadGoneError
from distworker.blobstore.s3_resume import Begun, Notes, Seal, Store
from distworker.digest import Digest, Hasher, MarkedHasher, Verified
from distworker.errors import DistworkerError, StoreUnavailable

_log = logging.getLogger(__name__)


class S3Writer:
    """A BlobWriter; used by one thread. `part` is the part size in bytes, `buffers` the process's own.
    `notes`: where it writes down how far it got; `begun`: what it goes on with."""

    def __init__(
        self,
        store: Store,
        key: str,
        *,
        digest: Digest,
        size: int,
        token: str,
        part: int,
        buffers: PartBuffers,
        notes: Notes | None = None,
        begun: Begun | None = None,
    ) -> None:
        self._store = store
        self._key = key
        self._digest = digest
        self._size = size
        # Whoever finds the object can tell which claim wrote it.
        self._metadata = {"claim": quote(token)} if token else {}
        self._part = part
        self._buffers = buffers
        self._notes = notes
        self._buffer = buffers.take(min(size, part))
        self._in_flight: bytearray | None = None
        self._filled = 0
        self._upload = begun.partial.upload if begun else ""
        self._sender: ThreadPoolExecutor | None = None
        self._sending: Future[None] | None = None
        self._parts: list[dict[str, Any]] = begun.parts if begun else []
        self._sent_parts = len(self._parts)  # that the server said it has
        self._seal = Seal([one["ETag"] for one in self._parts])
        self._marks = begun.hasher if begun else MarkedHasher(digest, size, part) if notes else None
        self.hasher: Hasher = self._marks or Hasher(digest, size)
        self._written = self.hasher.seen
        self._keep = self._spoiled = False

    @property
    def kept(self) -> int:
        """As in `BlobWriter`: what is written down, if anything is."""
        return self._notes.parts * self._part if self._notes else 0

    def keep(self) -> None:
        """As in `BlobWriter`."""
        self._keep = True

    def __enter__(self) -> S3Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._sender is not None:
                # A part that arrives after the abort would stay at the server for ever, so it is awaited.
                self._sender.shutdown(wait=True, cancel_futures=not self._keep)
            if self._upload:
                self._leave()
        except DistworkerError as fault:
            _log.warning("an unfinished upload of %s is left for the sweep: %s", self._key, fault)
        finally:
            self._give(self._in_flight, kind is None)
            self._give(self._buffer, kind is None)
            self._in_flight, self._buffer = None, bytearray()

    def _leave(self) -> None:
        """Take the upload back, or leave it for the next writer."""
        notes = self._notes
        if notes is not None and notes.parts and notes.taken(self._upload):
            return
        if notes is not None and self._keep and not self._spoiled:
            self._note(now=True)
            if notes.parts:
                return
        if notes is not None:
            notes.forget()
        self._store.discard(Unfinished(self._key, self._upload, "", 0.0))

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        require_room(self._digest, self._size, self._written + len(chunk))
        with memoryview(chunk) as view:
            done = 0
            while done < len(view):
                if self._filled == self._part:
                    self._next_buffer()
                step = min(len(view) - done, self._part - self._filled)
                self._buffer[self._filled : self._filled + step] = view[done : done + step]
                self._filled += step
                done += step
        self._written += len(chunk)

    def commit(self, proof: Verified) -> None:
        require_proof(proof, self._digest, self._size, self._written)
        del self._buffer[self._filled :]
        if not self._upload:
            with self._store.faults(f"write {self._key}"):
                self._store.client.put_object(
                    **self._store.at(self._key), Body=self._buffer, Metadata=self._metadata
                )
            return
        self._give(self._sent())
        self._send()
        self._buffer = self._sent() or bytearray()
        if self._notes is not None:
            self._notes.check(self._upload)
        self._complete()
        self._upload = ""
        if self._notes is not None:
            with contextlib.suppress(DistworkerError):  # the blob is there; a sweep finds the record
                self._notes.forget()

    def _next_buffer(self) -> None:
        """Sends the full buffer and goes on with another one, or with the same once it is sent."""
        self._give(self._sent())
        del self._buffer[self._filled :]  # a larger one, when another worker's part size is gone on with
        self._send()
        self._filled = 0
        self._buffer = self._buffers.spare(self._part) or self._sent() or bytearray(self._part)

    def _give(self, buffer: bytearray | None, again: bool = True) -> None:
        if buffer is not None:
            self._buffers.give(buffer, again)

    def _send(self) -> None:
        """Hands the buffer to the sender, which has nothing to send just now."""
        sender = self._sender or self._begin()
        if self._notes is not None:
            self._notes.check(self._upload)
        number, body = len(self._parts) + 1, self._buffer
        self._parts.append({"PartNumber": number})
        self._in_flight, self._buffer = body, bytearray()
        self._sending = sender.submit(self._send_part, number, body)

    def _begin(self) -> ThreadPoolExecutor:
        if not self._upload:
            with self._store.faults(f"write {self._key}"):
                answer = self._store.client.create_multipart_upload(
                    **self._store.at(self._key), Metadata=self._metadata
                )
            self._upload = str(answer["UploadId"])
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="s3-part")
        return self._sender

    def _sent(self) -> bytearray | None:
        """Waits for the part being sent and returns its buffer; raises what went wrong with it."""
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.result()
        buffer, self._in_flight = self._in_flight, None
        return buffer

    def _send_part(self, number: int, body: bytearray) -> None:
        with self._store.faults(f"write part {number} of {self._key}"):
            answer = self._store.client.upload_part(
                **self._store.at(self._key), UploadId=self._upload, PartNumber=number, Body=body
            )
        self._parts[number - 1]["ETag"] = answer["ETag"]
        self._seal.add(answer["ETag"])
        self._sent_parts = number
        self._note()

    def _note(self, now: bool = False) -> None:
        """Write down what the server has, short of the end: what is whole needs no going on."""
        if self._notes is None or self._marks is None:
            return
        count, seal = self._sent_parts, self._seal
        if count * self._part >= self._size:
            count = (self._size - 1) // self._part
            seal = Seal([one["ETag"] for one in self._parts[:count]])
        self._notes.note(
            self._upload, self._part, count, seal.text(), self._marks.state_at(count * self._part), now
        )

    def _complete(self) -> None:
        try:
            with self._store.faults(f"complete {self._key}"):
                self._store.client.complete_multipart_upload(
                    **self._store.at(self._key),
                    UploadId=self._upload,
                    MultipartUpload={"Parts": self._parts},
                )
        except StoreUnavailable as fault:
            self._spoiled = isinstance(fault, PartGoneError | UploadGoneError)
            # The answer to a completion may be lost and its repetition find the upload gone. Under a digest's
            # key only proved bytes are ever shown, so an object of this size is the blob.
            found = None
            with contextlib.suppress(DistworkerError):
                found = self._store.stat(self._key)
            if found is None or found.size != self._size:
                raise
