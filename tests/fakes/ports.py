"""Registries in memory behind the registry port, and a runner of one thread: whole jobs without a socket.

`Site` is one registry origin. It is as strict as distribution: a manifest is refused while a blob or child of
it is missing, a mount needs a readable source, blobs belong to repositories. It records every call, counts
the bytes it serves, and can be told to misbehave (see its fields). `Run` drives the whole graph over
`MemoryLedger`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from distworker import names
from distworker.blobstore.base import BlobStore
from distworker.blobstore.keys import job_key
from distworker.blobstore.memory import MemoryStore
from distworker.digest import Digest, Hasher, Verified, verify_bytes
from distworker.errors import (
    BlobUnknown,
    Denied,
    DistworkerError,
    ManifestUnknown,
    RepositoryUnknown,
    TagImmutable,
    Unavailable,
)
from distworker.manifest import Descriptor, Manifest, parse_manifest
from distworker.plan.codec import dump_request
from distworker.plan.model import JobRequest, Pair, Place
from distworker.registry.base import BodyFactory, ManifestHead, SessionNotes, UploadSession
from distworker.state.base import Change, Claim, StepSpec
from distworker.state.memory import MemoryLedger
from distworker.steps.base import Answer, Block, Context, Done
from distworker.steps.table import STEPS


@dataclass
class Repository:
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class Site:
    """One origin. Fields below `calls` are how it misbehaves."""

    host: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    calls: list[tuple[str, ...]] = field(default_factory=list)
    served: Counter[str] = field(default_factory=Counter)
    chunk: int = 30_000
    refuse_mounts: bool = False
    corrupt: set[str] = field(default_factory=set)  #: digests served with a flipped first byte
    corrupt_once: set[str] = field(default_factory=set)  #: the same, for one reading only
    breaks: dict[str, tuple[int, BaseException]] = field(default_factory=dict)  #: bytes → how reading ends
    blind: set[str] = field(default_factory=set)  #: digests for which HEAD of the blob is unclear
    hidden: dict[str, set[str]] = field(default_factory=dict)  #: credential → repositories it may not see
    immutable: set[str] = field(default_factory=set)  #: tags
    lag: int = 0  #: manifest PUTs given up because the registry did not see yet what it has
    no_head: bool = False  #: HEAD of a manifest answers 404
    no_digest_get: bool = False  #: GET of a manifest by digest answers 404
    errors: dict[str, DistworkerError] = field(default_factory=dict)  #: verb → what it raises
    lax: bool = False  #: a manifest is taken although parts of it are missing
    gate: threading.Event | None = None  #: uploads wait for it after their first chunk
    sessions: set[str] = field(default_factory=set)

    def repository(self, name: str) -> Repository:
        return self.repositories.setdefault(name, Repository())

    def count(self, *verbs: str) -> int:
        """How often these verbs were called."""
        return sum(call[0] in verbs for call in self.calls)

    @contextmanager
    def call(self, verb: str, *what: str) -> Iterator[None]:
        self.calls.append((verb, *what))
        if verb in self.errors:
            raise self.errors[verb]
        yield


class _Read:
    """A blob being read, in small pieces; the last one only after digest and size agreed."""

    def __init__(self, site: Site, data: bytes, hasher: Hasher) -> None:
        self._site = site
        self._data = data
        self._hasher = hasher
        self._proof: Verified | None = None

    def __iter__(self) -> Iterator[memoryview]:
        step = self._site.chunk
        held: memoryview | None = None
        for start in range(self._hasher.seen, len(self._data), step):
            if held is not None:
                yield held
            held = memoryview(self._data)[start : start + step]
            self._site.served[self._hasher.expected] += len(held)
            self._hasher.update(held)
            at, error = self._site.breaks.get(self._hasher.expected, (0, None))
            if error is not None and self._hasher.seen >= at:
                del self._site.breaks[self._hasher.expected]
                raise error
        self._proof = self._hasher.verify()
        if held is not None:
            yield held

    @property
    def verified(self) -> Verified:
        assert self._proof is not None
        return self._proof


class FakeRegistry:
    """A `Site` seen with one credential."""

    def __init__(self, site: Site, credential: str) -> None:
        self.site = site
        self.credential = credential

    @property
    def origin(self) -> str:
        return self.site.host

    def ping(self) -> bool:
        with self.site.call("ping"):
            return bool(self.credential)

    def _see(self, repository: str) -> Repository | None:
        if repository in self.site.hidden.get(self.credential, ()):
            return None
        return self.site.repositories.get(repository)

    def head_manifest(self, repository: str, reference: str) -> ManifestHead | None:
        with self.site.call("head_manifest", repository, reference):
            found = None if self.site.no_head else self._find(repository, reference)
            return None if found is None else ManifestHead(found.digest, found.media_type, found.size)

    def get_manifest(self, repository: str, reference: str, media_type: str = "") -> Manifest:
        with self.site.call("get_manifest", repository, reference):
            by_digest = ":" in reference
            found = self._find(repository, reference)
            if found is None or (by_digest and self.site.no_digest_get):
                raise ManifestUnknown(f"no {repository} {reference}", status=404)
            return found

    def _find(self, repository: str, reference: str) -> Manifest | None:
        repo = self._see(repository)
        digest = reference if ":" in reference else repo.tags.get(reference, "") if repo else ""
        if repo is None or digest not in repo.manifests:
            return None
        raw, media_type = repo.manifests[digest]
        return parse_manifest(raw, media_type, Digest.parse(digest))

    def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
        with self.site.call("put_manifest", repository, reference):
            repo = self.site.repository(repository)
            if self.site.lag > 0:
                self.site.lag -= 1
                raise Unavailable("it does not see yet what it has", delay=15.0)
            if not self.site.lax:
                require_parts(repo, manifest)
            if reference in self.site.immutable and repo.tags.get(reference) not in {None, manifest.digest}:
                raise TagImmutable(f"{reference} is immutable", status=412)
            assert verify_bytes(manifest.raw, manifest.digest)
            repo.manifests[manifest.digest] = (manifest.raw, manifest.media_type)
            if ":" not in reference:
                repo.tags[reference] = manifest.digest

    def delete_manifest(self, repository: str, digest: Digest) -> bool:
        with self.site.call("delete_manifest", repository, digest):
            repo = self.site.repository(repository)
            repo.tags = {tag: one for tag, one in repo.tags.items() if one != digest}
            return repo.manifests.pop(digest, None) is not None

    def delete_tag(self, repository: str, tag: str) -> bool:
        with self.site.call("delete_tag", repository, tag):
            return self.site.repository(repository).tags.pop(tag, None) is not None

    def has_blob(self, repository: str, digest: Digest, size: int | None = None) -> bool:
        with self.site.call("has_blob", repository, digest):
            repo = self._see(repository)
            held = None if repo is None or digest in self.site.blind else repo.blobs.get(digest)
            return held is not None and size in {None, len(held)}

    @contextmanager
    def read_blob(
        self, repository: str, digest: Digest, size: int, hasher: Hasher | None = None
    ) -> Iterator[_Read]:
        with self.site.call("read_blob", repository, digest):
            repo = self._see(repository)
            if repo is None or digest not in repo.blobs:
                raise BlobUnknown(f"no blob {digest} in {repository}", status=404)
            data = repo.blobs[digest]
            if digest in self.site.corrupt | self.site.corrupt_once:
                data = bytes([data[0] ^ 1]) + data[1:]
            self.site.corrupt_once.discard(digest)
            yield _Read(self.site, data, hasher or Hasher(digest, size))

    def mount_blob(self, repository: str, digest: Digest, sources: Sequence[str]) -> UploadSession | None:
        with self.site.call("mount_blob", repository, digest, *sources):
            for near in map(self._see, sources):
                if not self.site.refuse_mounts and near is not None and digest in near.blobs:
                    self.site.repository(repository).blobs[digest] = near.blobs[digest]
                    return None
            return self._session(repository)

    def start_upload(self, repository: str) -> UploadSession:
        with self.site.call("start_upload", repository):
            return self._session(repository)

    def _session(self, repository: str) -> UploadSession:
        location = f"{repository}/{len(self.site.calls)}"
        self.site.sessions.add(location)
        return UploadSession(repository, location)

    def upload_blob(
        self,
        repository: str,
        digest: Digest,
        size: int,
        body: BodyFactory,
        session: UploadSession | None = None,
        notes: SessionNotes | None = None,
    ) -> None:
        with self.site.call("upload_blob", repository, digest):
            if repository in self.site.hidden.get(self.credential, ()):
                raise Denied(f"no push to {repository}", status=403)
            opened = body(0)
            assert len(opened) == size
            data = bytearray()
            for chunk in opened:
                data += chunk
                if self.site.gate is not None:
                    assert self.site.gate.wait(20)
            verify_bytes(bytes(data), digest, size)
            self.site.repository(repository).blobs[digest] = bytes(data)
            if session is not None:
                self.site.sessions.discard(session.location)

    def cancel_upload(self, session: UploadSession) -> bool:
        self.site.calls.append(("cancel_upload", session.repository))
        self.site.sessions.discard(session.location)
        return True

    def tags(self, repository: str) -> Iterator[str]:
        with self.site.call("tags", repository):
            repo = self._see(repository)
            if repo is None:
                raise RepositoryUnknown(f"no repository {repository}", status=404)
            yield from list(repo.tags)

    def read_external(self, urls: Sequence[str], digest: Digest, size: int) -> AbstractContextManager[_Read]:
        raise AssertionError("external layers are left where they are")

    def referrers(self, repository: str, digest: Digest, artifact_type: str = "") -> Iterator[Descriptor]:
        with self.site.call("referrers", repository, digest):
            repo = self._see(repository) or Repository()
            for name, (raw, media_type) in list(repo.manifests.items()):
                found = parse_manifest(raw, media_type, Digest.parse(name))
                kind = found.artifact_type or (found.config.media_type if found.config else "")
                if found.subject and found.subject.digest == digest and artifact_type in {"", kind}:
                    yield Descriptor(media_type, found.digest, found.size, artifact_type=kind)


def require_parts(repo: Repository, manifest: Manifest) -> None:
    """Raises BlobUnknown when the repository lacks a blob or child of it."""
    for blob in manifest.blobs:
        if blob.digest not in repo.blobs and not blob.is_foreign:
            raise _lacking(str(blob.digest))
    for child in manifest.children:
        if child.digest not in repo.manifests and child.digest not in repo.blobs:
            raise _lacking(str(child.digest))


def _lacking(what: str) -> BlobUnknown:
    return BlobUnknown(f"manifest names {what}", status=400, registry_code="MANIFEST_BLOB_UNKNOWN")


class FakeRegistries:
    """The sites by host."""

    def __init__(self, *sites: Site) -> None:
        self.sites = {site.host: site for site in sites}

    def client(self, host: str, credential: str = "") -> FakeRegistry:
        return FakeRegistry(self.sites[host], credential)

    source = client


class FakeWatch:
    """Remembers the bytes; raises `stop` when it is set."""

    def __init__(self) -> None:
        self.bytes = 0
        self.durable = 0
        self.fences = 0
        self.stop: DistworkerError | None = None

    def moved(self, total: int) -> None:
        self.bytes = total

    def kept(self, total: int) -> None:
        self.durable = total

    def check(self) -> None:
        if self.stop is not None:
            raise self.stop

    def fence(self) -> None:
        self.fences += 1
        self.check()


class Run:
    """A fleet of one: ledger, store, sites, and a loop that claims and runs steps one by one."""

    def __init__(self, *sites: Site, store: BlobStore | None = None) -> None:
        self.now = 1000.0
        self.sites = {site.host: site for site in sites}
        self.store = store or MemoryStore()
        self.ledger = MemoryLedger(clock=lambda: self.now)
        self.watch = FakeWatch()
        self.context = Context(FakeRegistries(*sites), self.store, self.ledger, self.watch, window=50)
        self.ran: list[str] = []
        self.before: Callable[[Claim], None] = lambda claim: None

    def add(self, site: Site) -> Site:
        """One more registry."""
        self.sites[site.host] = self.context.registries.sites[site.host] = site  # type: ignore[attr-defined]
        return site

    def open(self, job: str, *pairs: Pair, window: int = 50) -> None:
        """Record a job as the service does."""
        request = JobRequest(id=job, kind="copy", pairs=pairs, created=self.now)
        self.store.put_bytes(job_key("default", job, "request.json"), dump_request(request))
        body = {"v": 1, "tenant": "default", "window": window}
        assert self.ledger.open_job(job, {"v": 1}, StepSpec(names.expand_id(job), job, body))

    def job(self, job: str, *pairs: Pair) -> Sequence[Mapping[str, Any]]:
        """Record a job, run everything there is to run, return its outcomes."""
        self.open(job, *pairs)
        self.drain()
        return self.outcomes(job)

    def outcomes(self, job: str) -> Sequence[Mapping[str, Any]]:
        return self.ledger.outcomes(job)

    def counters(self, job: str) -> Mapping[str, int]:
        view = self.ledger.job(job)
        assert view is not None
        return view.counters

    def drain(self, rounds: int = 60) -> None:
        """Until nothing is ready; waits of the ledger pass at once."""
        for _ in range(rounds):
            self.ledger.beat("me", 8, {}, [])
            if not self._pass() and not self.ledger.reap("me"):
                self.now += 30
                self.ledger.beat("me", 8, {}, [])
                if not self.ledger.reap("me") and not self.ledger.pump():
                    return
            self.now += 1

    def _pass(self) -> bool:
        admitted = self.ledger.pump()
        for step in admitted:
            self.step(step.id)
        return bool(admitted)

    def step(self, step: str) -> Answer | None:
        """Claim and run one admitted step and tell the ledger how it ended."""
        token = f"t{len(self.ran)}"
        claim = self.ledger.claim(step, token, "me")
        if not isinstance(claim, Claim):
            return None
        self.ran.append(step)
        self.before(claim)
        try:
            answer = STEPS[names.kind_of(step)](self.context, claim)
        except DistworkerError as error:
            self.ledger.fail(step, token, error.to_dict(), error.retry, 0.0)
            return None
        if isinstance(answer, Done):
            assert self.ledger.done(step, token, answer.change)
        elif isinstance(answer, Block):
            assert self.ledger.block(step, token, answer.needs)
        return answer


def registry_place(host: str, repository: str, tag: str = "", **more: Any) -> Place:
    return Place("registry", host, repository, tag, **more)


def store_place(host: str, repository: str, tag: str = "") -> Place:
    return Place("store", host, repository, tag)


def change_of(answer: Answer) -> Change:
    """The change of a finished step."""
    assert isinstance(answer, Done)
    return answer.change
