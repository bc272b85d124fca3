"""The independent checker: is everything where it belongs, byte for byte, and nothing else left behind?

It reads both registries over plain HTTP, the store by boto3 and the ledger by a Redis client, and shares no
judgement with the product. Everything it finds wrong is a `Finding` with one of the words below; none is what
a good end looks like. `test_checker.py` plants each of them.
"""

from __future__ import annotations

import hashlib
import http.client
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config

from deploy.demo.accesslog import accesses
from tests.chaos.ledger import LedgerKeys
from tests.chaos.watcher import ACCEPT, Finding

MISSING, WRONG_BYTES, WRONG_TAG = "missing", "wrong bytes", "wrong tag"
WRONG_OBJECT, MULTIPART, STAGED, SESSION = "wrong object", "multipart", "staged", "upload session"
LEFT_OVER, MISCOUNTED, NOT_DONE = "left over", "miscounted", "not done"

#: What must be gone from the ledger when no job is open, by the beginning of its keys.
WORKING_KEYS: Final = {
    "s:": "step",
    "sub:": "subscription",
    "rnk:": "ranks of subscriptions",
    "draining": "step not yet told",
    "rem:": "barrier",
    "got:": "finished needs",
    "due": "lease",
    "fly:": "running step",
    "rdy:": "ready step",
    "ring:": "ready ring",
    "park:": "parked pairs",
    "walks": "walk through a paused job",
    "use:": "slot",
    "img:": "open image",
    "run:": "running set",
    "open": "open job",
    "cancelling": "job being cancelled",
    "us:": "kept upload session",
    "sessions": "kept upload session",
}
#: Keys of the installation, which stay; and of the broker, whose messages are only hints.
STANDING: Final = ("caps", "stopped", "w:", "turn:", "seq", "reaped", "distworker.", "_kombu.", "unacked")


@dataclass(frozen=True)
class Expected:
    """A tag at the end: `digests` are those it may lead to; with `optional` it need not be there."""

    name: str
    digests: Sequence[str]
    optional: bool = False


@dataclass
class Checker:
    """Collects findings; each method looks at one place. `hashed` counts the bytes that were reread,
    `sessions` the upload sessions that are empty, `refused` those that the registry was asked to end,
    `unwritten` those that took bytes and that nobody asked it to end."""

    findings: list[Finding] = field(default_factory=list)
    hashed: int = 0
    sessions: int = 0
    refused: int = 0
    unwritten: int = 0

    def find(self, kind: str, what: str) -> None:
        """Note something that must not be."""
        self.findings.append(Finding(kind, what))

    # --- registries -----------------------------------------------------------------------------------------

    def registry(self, source: int, destination: int, expected: Iterable[Expected]) -> None:
        """Every tag leads to one of its digests, everything below is there, hashes to its name, and is what
        the source has under that name."""
        with _Registry(source) as here, _Registry(destination) as there:
            rehashed: dict[str, bool] = {}
            for one in expected:
                repository, _, tag = one.name.rpartition(":")
                raw = there.get(repository, f"manifests/{tag}")
                if raw is None:
                    if not one.optional:
                        self.find(MISSING, f"{one.name} is not at the destination")
                    continue
                digest = _name(raw)
                if digest not in one.digests:
                    self.find(WRONG_TAG, f"{one.name} leads to {digest}, not to {' or '.join(one.digests)}")
                for name, kind in _below(there, repository, digest, raw):
                    self._content(here, there, repository, kind, name, rehashed)

    def _content(
        self,
        here: _Registry,
        there: _Registry,
        repository: str,
        kind: str,
        digest: str,
        rehashed: dict[str, bool],
    ) -> None:
        if not there.has(repository, f"{kind}/{digest}"):
            self.find(MISSING, f"{repository} has no {kind} {digest}")
        elif digest not in rehashed:
            raw = there.get(repository, f"{kind}/{digest}") or b""
            self.hashed += len(raw)
            rehashed[digest] = _name(raw) == digest
            if not rehashed[digest]:
                self.find(WRONG_BYTES, f"{repository} {kind} {digest} hashes to {_name(raw)}")
            elif here.get(repository, f"{kind}/{digest}") not in {None, raw}:
                self.find(WRONG_BYTES, f"{repository} {kind} {digest}: source and destination differ")

    def uploads(self, folder: Path, explained: int = 0, unwritten: int = 0) -> None:
        """Upload sessions that a registry on disk still has.

        One that took bytes was known to a worker, so somebody must have asked the registry to end it (2.8
        refuses that after a broken PUT: "upload resumed at wrong offset", and keeps it until its own
        purging). At most `unwritten` times its worker died when nobody else knew of it: Valkey was away when
        it was opened, or lost its last second. Of the empty ones the answer may have been lost, at most
        `explained` times.
        """
        asked = {
            access.path.rpartition("/")[2]
            for access in accesses(folder / "access.log")
            if access.method == "DELETE" and "/blobs/uploads/" in access.path
        }
        empty, begun = 0, list[str]()
        for session in sorted(folder.glob("data/docker/registry/v2/repositories/**/_uploads/*")):
            data = session / "data"
            if session.name in asked:
                self.refused += 1
            elif data.exists() and data.stat().st_size:
                name = f"{session.parents[1].name}/{session.name}"
                begun.append(f"{name} with {data.stat().st_size} bytes, that nobody ended")
            else:
                empty += 1
        self.sessions, self.unwritten = empty, len(begun)
        if len(begun) > unwritten:
            for what in begun:
                self.find(SESSION, what)
        if empty > explained:
            self.find(SESSION, f"{empty} empty upload sessions, of which {explained} are explained")

    # --- the store ------------------------------------------------------------------------------------------

    def store(self, client: Any, bucket: str, wanted: Iterable[str] = ()) -> None:
        """Every blob hashes to its name and all `wanted` ones are there; no multipart, nothing staged."""
        there: set[str] = set()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for item in (one for page in pages for one in page.get("Contents", ())):
            key = item["Key"]
            if "/blobs/sha256/" in key:
                name = f"sha256:{key.rpartition('/')[2]}"
                there.add(name)
                self._object(client, bucket, key, name)
            elif "/staging/" in key:
                self.find(STAGED, key)
        for name in sorted(set(wanted) - there):
            self.find(MISSING, f"the store has no {name}")
        for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ()):
            self.find(MULTIPART, f"{upload['Key']} {upload['UploadId']}")

    def _object(self, client: Any, bucket: str, key: str, name: str) -> None:
        seen = hashlib.sha256()
        with closing(client.get_object(Bucket=bucket, Key=key)["Body"]) as body:
            for chunk in body.iter_chunks(1024 * 1024):
                seen.update(chunk)
                self.hashed += len(chunk)
        if f"sha256:{seen.hexdigest()}" != name:
            self.find(WRONG_OBJECT, f"{key} hashes to {seen.hexdigest()}")

    # --- the ledger -----------------------------------------------------------------------------------------

    def ledger(self, keys: LedgerKeys) -> None:
        """Nothing of a job that is over is left, and nothing lives for ever that is not of the
        installation."""
        for key, lives in sorted(keys.keys().items()):
            kind = next((word for begin, word in WORKING_KEYS.items() if key.startswith(begin)), "")
            if kind:
                self.find(LEFT_OVER, f"{kind}: {key}")
            elif lives == -1 and not key.startswith(STANDING):
                self.find(LEFT_OVER, f"key without an end: {key}")

    def job(self, keys: LedgerKeys, job: str, listed: int, states: Sequence[str]) -> None:
        """Each listed image closed exactly once, in one of `states`; the counters say the same."""
        now = keys.job(job)
        if now is None:
            self.find(MISCOUNTED, f"job {job} is unknown")
            return
        twice = [image for image, times in Counter(image for image, _ in now.outcomes).items() if times > 1]
        if twice or now.total != listed or len(now.outcomes) != listed:
            said = f"{listed} listed, total {now.total}, {len(now.outcomes)} closed, twice: {twice[:5]}"
            self.find(MISCOUNTED, f"job {job}: {said}")
        counted = Counter(state for _, state in now.outcomes)
        ends = ("done", "failed", "unchanged", "cancelled", "superseded")
        if any(now.counters.get(state, 0) != counted[state] for state in ends):
            self.find(MISCOUNTED, f"job {job}: counters {dict(now.counters)}, records {dict(counted)}")
        wrong = {state: times for state, times in counted.items() if state not in states}
        if wrong or now.state in {"running", "cancelling"}:
            self.find(NOT_DONE, f"job {job} is {now.state}: {wrong} {'; '.join(now.errors[:3])}")


class _Registry:
    """Reads of one registry on loopback."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def __enter__(self) -> _Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, repository: str, rest: str) -> bytes | None:
        """The body, or None for a 404."""
        status, raw = self._ask("GET", repository, rest)
        return raw if status == 200 else None

    def has(self, repository: str, rest: str) -> bool:
        """Does HEAD say that it is there?"""
        return self._ask("HEAD", repository, rest)[0] == 200

    def _ask(self, method: str, repository: str, rest: str) -> tuple[int, bytes]:
        self._connection.request(method, f"/v2/{repository}/{rest}", headers=ACCEPT)
        answer = self._connection.getresponse()
        raw = answer.read()
        assert answer.status in {200, 404}, f"{method} {repository} {rest}: {answer.status} {raw[:200]!r}"
        return answer.status, raw


def _name(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def _below(registry: _Registry, repository: str, digest: str, raw: bytes) -> Iterator[tuple[str, str]]:
    """(digest, "manifests" or "blobs") of everything that a manifest names, itself included."""
    yield digest, "manifests"
    body: Mapping[str, Any] = json.loads(raw)
    for child in body.get("manifests", ()):
        below = registry.get(repository, f"manifests/{child['digest']}")
        if below is None:
            yield child["digest"], "manifests"
        else:
            yield from _below(registry, repository, child["digest"], below)
    for blob in (*body.get("layers", ()), *filter(None, [body.get("config")])):
        yield blob["digest"], "blobs"


def s3_client(endpoint: str, access_key: str, secret_key: str) -> Any:
    """A plain client of the S3 server, past every proxy."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 5}),
    )
