"""One blob on its way into an S3 bucket: a single put when it is small, otherwise a multipart upload.

A thread of the writer's own sends a part while the caller fills the next one, as long as the process has
another buffer to give; otherwise the caller waits and fills the same one again. Nothing can be seen before
`commit` has the proof: the put, or the completion of the upload, is the last request. Leaving without a
commit aborts the upload, and a failing abort never hides the first error.
"""

from __future__ import annotations

import contextlib
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import quote

from distworker.blobstore.base import StoredObject, Unfinished
from distworker.blobstore.buffers import PartBuffers
from distworker.blobstore.parts import require_proof, require_room
from distworker.digest import Verified
from distworker.errors import DistworkerError, StoreUnavailable

_log = logging.getLogger(__name__)


class _Store(Protocol):
    """What the writer needs of its S3Store."""

    @property
    def client(self) -> Any: ...
    def at(self, key: str) -> dict[str, str]: ...
    def faults(self, action: str) -> AbstractContextManager[None]: ...
    def stat(self, key: str) -> StoredObject | None: ...
    def discard(self, write: Unfinished) -> None: ...


class S3Writer:
    """A BlobWriter; used by one thread. `part` is the part size in bytes, `buffers` the process's own."""

    def __init__(
        self,
        store: _Store,
        key: str,
        *,
        digest: str,
        size: int,
        token: str,
        part: int,
        buffers: PartBuffers,
    ) -> None:
        self._store = store
        self._key = key
        self._digest = digest
        self._size = size
        # Whoever finds the object can tell which claim wrote it.
        self._metadata = {"claim": quote(token)} if token else {}
        self._part = part
        self._buffers = buffers
        self._buffer = buffers.take(min(size, part))
        self._in_flight: bytearray | None = None
        self._filled = 0
        self._written = 0
        self._upload = ""
        self._sender: ThreadPoolExecutor | None = None
        self._sending: Future[None] | None = None
        self._parts: list[dict[str, Any]] = []

    def __enter__(self) -> S3Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._sender is not None:
                # A part that arrives after the abort would stay at the server for ever, so it is awaited.
                self._sender.shutdown(wait=True, cancel_futures=True)
            if self._upload:
                self._store.discard(Unfinished(self._key, self._upload, "", 0.0))
        except DistworkerError as fault:
            _log.warning("an unfinished upload of %s is left for the sweep: %s", self._key, fault)
        finally:
            self._give(self._in_flight, kind is None)
            self._give(self._buffer, kind is None)
            self._in_flight, self._buffer = None, bytearray()

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
        self._complete()
        self._upload = ""

    def _next_buffer(self) -> None:
        """Sends the full buffer and goes on with another one, or with the same once it is sent."""
        self._give(self._sent())
        self._send()
        self._filled = 0
        self._buffer = self._buffers.spare(self._part) or self._sent() or bytearray(self._part)

    def _give(self, buffer: bytearray | None, again: bool = True) -> None:
        if buffer is not None:
            self._buffers.give(buffer, again)

    def _send(self) -> None:
        """Hands the buffer to the sender, which has nothing to send just now."""
        sender = self._sender or self._begin()
        number, body = len(self._parts) + 1, self._buffer
        self._parts.append({"PartNumber": number})
        self._in_flight, self._buffer = body, bytearray()
        self._sending = sender.submit(self._send_part, number, body)

    def _begin(self) -> ThreadPoolExecutor:
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

    def _complete(self) -> None:
        try:
            with self._store.faults(f"complete {self._key}"):
                self._store.client.complete_multipart_upload(
                    **self._store.at(self._key),
                    UploadId=self._upload,
                    MultipartUpload={"Parts": self._parts},
                )
        except StoreUnavailable:
            # The answer to a completion may be lost and its repetition find the upload gone. Under a digest's
            # key only proved bytes are ever shown, so an object of this size is the blob.
            found = None
            with contextlib.suppress(DistworkerError):
                found = self._store.stat(self._key)
            if found is None or found.size != self._size:
                raise
