"""A store in an S3 bucket, by boto3: Amazon's, Ceph's, Swift's, MinIO's or any other with multipart uploads.

One client per process, made when first needed (a client must not cross a fork).
Payloads are unsigned and unchecksummed unless asked: a blob is known by its digest, which is proved before it
is shown and again by whoever takes it; the extra hashing costs three times the CPU of the transfer.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
)

from distworker.blobstore.base import StoredObject, Unfinished
from distworker.blobstore.buffers import PartBuffers
from distworker.blobstore.parts import READ_CHUNK, part_size
from distworker.blobstore.probe import probe
from distworker.blobstore.s3_client import S3Options, make_client
from distworker.blobstore.s3_copy import copy
from distworker.blobstore.s3_faults import (
    MISSING,
    PART_GONE,
    PAST_END,
    UPLOAD_GONE,
    PartGoneError,
    PastEndError,
    UploadGoneError,
    fault,
)
from distworker.blobstore.s3_resume import RESUME_MIN, Notes
from distworker.blobstore.s3_writer import S3Writer
from distworker.digest import Digest, MarkedHasher
from distworker.errors import DistworkerError, LimitExceeded, StoreUnavailable

__all__ = ["S3Options", "S3Store"]

#: Keys of one listing answer, the most that S3 gives.
_PAGE: Final = 1000


class S3Store:
    """A BlobStore in one bucket and prefix; safe for threads and across forks."""

    def __init__(self, options: S3Options) -> None:
        self._options = options
        self._prefix = f"{options.prefix.strip('/')}/" if options.prefix.strip("/") else ""
        self._buffers = PartBuffers(part_size(0, options.part_size), options.buffers)
        self._client: Any = None
        self._owner = 0
        self._lock = threading.Lock()

    def stat(self, key: str) -> StoredObject | None:
        try:
            with self.faults(f"look at {key}"):
                answer = self.client.head_object(**self.at(key))
        except FileNotFoundError:
            return None
        return StoredObject(key, int(answer["ContentLength"]), _seconds(answer))

    def get_bytes(self, key: str, limit: int) -> bytes | None:
        try:
            with self.open(key) as chunks:
                data = bytearray()
                for chunk in chunks:
                    data += chunk
                    if len(data) > limit:
                        raise LimitExceeded(f"{key} has more than the {limit} bytes allowed")
                return bytes(data)
        except FileNotFoundError:
            return None

    def put_bytes(self, key: str, data: bytes) -> None:
        with self.faults(f"write {key}"):
            # A bytearray: of bytes the client makes a file, and for a file it waits for "100 Continue" first.
            self.client.put_object(**self.at(key), Body=bytearray(data))

    @contextmanager
    def open(self, key: str, offset: int = 0) -> Iterator[Iterator[bytes]]:
        wanted = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            with self.faults(f"read {key}"):
                answer = self.client.get_object(**self.at(key), **wanted)
        except PastEndError:
            yield iter(())
            return
        body = answer["Body"]
        try:
            if offset and not answer.get("ContentRange", "").startswith(f"bytes {offset}-"):
                raise StoreUnavailable(f"{self.describe()} cannot read {key}: it does not answer byte ranges")
            yield self._chunks(body, key, int(answer["ContentLength"]))
        finally:
            body.close()

    def _chunks(self, body: Any, key: str, left: int) -> Iterator[bytes]:
        while left:
            with self.faults(f"read {key}"):
                chunk = body.read(min(READ_CHUNK, left))
            if not chunk:
                raise StoreUnavailable(f"{self.describe()} ended {key} {left} bytes early")
            left -= len(chunk)
            yield chunk

    def writer(self, key: str, proof_for: Digest, size: int, token: str, resume: bool = False) -> S3Writer:
        part = part_size(size, self._options.part_size)
        notes, begun = None, None
        if resume and size >= RESUME_MIN and MarkedHasher.possible(proof_for, part):
            notes = Notes(self, key, token, size)
            begun = notes.take_over(proof_for)
        return S3Writer(
            self,
            key,
            digest=proof_for,
            size=size,
            token=token,
            part=begun.partial.part if begun else part,
            buffers=self._buffers,
            notes=notes,
            begun=begun,
        )

    def delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError), self.faults(f"delete {key}"):
            self.client.delete_object(**self.at(key))

    def move(self, key: str, to: str) -> bool:
        if key == to:
            return self.stat(key) is not None  # S3 refuses to copy an object onto itself
        try:
            with self.faults(f"move {key}"):
                copy(self.client, self.at(key), self.at(to))
        except FileNotFoundError:
            return False
        self.delete(key)
        return True

    def list(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        more: dict[str, Any] = {"StartAfter": self._prefix + after} if after else {}
        while True:
            with self.faults(f"list {prefix or 'the store'}"):
                page = self.client.list_objects_v2(
                    Bucket=self._options.bucket, Prefix=self._prefix + prefix, MaxKeys=_PAGE, **more
                )
            for entry in page.get("Contents", ()):
                key = entry["Key"].removeprefix(self._prefix)
                yield StoredObject(key, int(entry["Size"]), _seconds(entry))
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def unfinished(self) -> Iterator[Unfinished]:
        more: dict[str, Any] = {}
        while True:
            with self.faults("list unfinished uploads"):
                page = self.client.list_multipart_uploads(
                    Bucket=self._options.bucket, Prefix=self._prefix, MaxUploads=_PAGE, **more
                )
            for entry in page.get("Uploads", ()):
                key = entry["Key"].removeprefix(self._prefix)
                yield Unfinished(key, entry["UploadId"], "", entry["Initiated"].timestamp())
            if not page.get("IsTruncated"):
                return
            more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def discard(self, write: Unfinished) -> None:
        with contextlib.suppress(UploadGoneError, FileNotFoundError), self.faults("abort an upload"):
            self.client.abort_multipart_upload(**self.at(write.key), UploadId=write.handle)

    def check(self) -> None:
        probe(self)

    def describe(self) -> str:
        parts = urlsplit(self._options.endpoint)
        port = f":{parts.port}" if parts.port else ""
        place = f"{parts.scheme}://{parts.hostname}{port}" if parts.hostname else self._options.region
        under = f", prefix {self._prefix}" if self._prefix else ""
        return f"S3 bucket {self._options.bucket} at {place}{under}"

    def make_bucket(self) -> None:
        """Creates the bucket unless it is there; for the demo and tests, where nobody else does."""
        region = self._options.region
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            self.client.create_bucket(Bucket=self._options.bucket, **place)
        except ClientError as error:
            if _code(error) not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise self._refused("make the bucket", error) from error
        except BotoCoreError as error:
            raise self._broken("make the bucket", error) from error

    def close(self) -> None:
        """Closes the connections of this process; the next use opens new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    @property
    def client(self) -> Any:
        """This process's client, made on first use; also after a fork."""
        with self._lock:
            if self._client is None or self._owner != os.getpid():
                self._client = make_client(self._options)
                self._owner = os.getpid()
            return self._client

    def at(self, key: str) -> dict[str, str]:
        """The request fields that name an object."""
        return {"Bucket": self._options.bucket, "Key": self._prefix + key}

    @contextmanager
    def faults(self, action: str) -> Iterator[None]:
        """Turns the client's errors into the port's: FileNotFoundError for a missing object, StoreFull, or
        StoreUnavailable with one sentence that has no URL in it."""
        try:
            yield
        except ClientError as error:
            code = _code(error)
            if code in MISSING:
                raise FileNotFoundError(f"{self.describe()} cannot {action}: it is not there") from error
            if code in UPLOAD_GONE:
                raise UploadGoneError(f"{self.describe()} cannot {action}: a sweep discarded it") from error
            if code in PART_GONE:
                raise PartGoneError(self._refused(action, error).message) from error
            if code in PAST_END:
                raise PastEndError(f"{self.describe()} cannot {action}: it has fewer bytes") from error
            raise self._refused(action, error) from error
        except (BotoCoreError, OSError) as error:
            raise self._broken(action, error) from error

    def _refused(self, action: str, error: ClientError) -> DistworkerError:
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return fault(self.describe(), action, _code(error), status)

    def _broken(self, action: str, error: BaseException) -> StoreUnavailable:
        where, mended = f"{self.describe()} cannot {action}", False
        if isinstance(error, ConnectTimeoutError | ReadTimeoutError):
            text = "no answer for too long; check the server and the network"
        elif isinstance(error, SSLError):
            text, mended = "its certificate or handshake failed; give the right CA file for the store", True
        elif isinstance(error, NoCredentialsError | PartialCredentialsError):
            text, mended = "no credentials; give the store an access key and a secret key", True
        elif isinstance(error, ParamValidationError):
            text, mended = "the request is not a valid one; correct the name of the bucket", True
        else:
            text = f"the connection failed ({type(error).__name__}); check the endpoint and the network"
        return StoreUnavailable(f"{where}: {text}", passing=False if mended else None)


def _seconds(entry: Mapping[str, Any]) -> float:
    """When an object was put there; servers always say so, imitations sometimes not."""
    changed = entry.get("LastModified")
    return float(changed.timestamp()) if changed is not None else 0.0


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
