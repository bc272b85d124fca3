"""The registry port: what the rest of distworker may ask of a registry.

A `Registry` is one registry origin seen with one credential. Implementations hash and size-check every byte
they hand out, keep manifest bytes as received, and raise only the typed errors of `distworker.errors`. Words
are those of the OCI distribution spec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from distworker.digest import Digest, Hasher, Verified
from distworker.manifest import Descriptor, Manifest

#: One piece of a blob, as read; valid only until the next piece is asked for.
Chunk: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class ManifestHead:
    """What HEAD says of a manifest: a hint, never evidence (distribution-spec, "Pulling manifests")."""

    digest: Digest
    media_type: str
    size: int


class BlobRead(Protocol):
    """A blob being read. Iterate it once; the last chunk is handed out only after digest and size agreed."""

    def __iter__(self) -> Iterator[Chunk]: ...

    @property
    def verified(self) -> Verified:
        """The proof; only after the iteration ended."""
        ...


class Body(Protocol):
    """A blob being sent, from some byte on: knows how many bytes it has left and yields them once."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Chunk]: ...


#: Opens the blob at an offset, anew for each try (a half-consumed body is never sent again: dxf sent 0 bytes
#: that way). `len` of what it gives is what is left from there. A body that exists only once (the tee) raises
#: `UploadSessionLost` on the second call and for any offset but 0.
BodyFactory: TypeAlias = Callable[[int], Body]


@dataclass(frozen=True, slots=True)
class UploadSession:
    """An open upload. `location` is a capability: it is never logged, and lies elsewhere only encrypted.
    `min_chunk`: bytes that every chunk but the last must have (OCI-Chunk-Min-Length), 0 if nothing was said.
    `begun`: an earlier run opened it and may have sent something.
    """

    repository: str
    location: str = field(repr=False)
    min_chunk: int = 0
    begun: bool = False


#: Told of every session that is opened and of each step it takes, with the bytes that it then holds for sure.
SessionNotes: TypeAlias = Callable[[UploadSession, int], None]


class Registry(Protocol):
    """One origin, one credential."""

    @property
    def origin(self) -> str:
        """`host[:port]` as it stands in references; the key of caps, pauses and hints."""
        ...

    def ping(self) -> bool:
        """Check that a registry answers there and takes our login; raises the typed reason if not. True: it
        asked for a login and took ours. False: none was needed, or none is known and it lets anybody in."""
        ...

    def head_manifest(self, repository: str, reference: str) -> ManifestHead | None:
        """HEAD by tag or digest; None when the registry says 404."""
        ...

    def get_manifest(self, repository: str, reference: str, media_type: str = "") -> Manifest:
        """The manifest, verified against `reference` when that is a digest; ManifestUnknown on 404.
        `media_type`: what the descriptor with that digest states, for answers that name none or another.
        """
        ...

    def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
        """PUT the exact bytes under a tag or digest, and see that a `subject` finds it. A registry that does
        not see yet what it was just sent is waited for; BlobUnknown means that something is really missing.
        """
        ...

    def delete_manifest(self, repository: str, digest: Digest) -> bool:
        """Delete a manifest with all its tags; False when it was gone already. Denied: not offered there."""
        ...

    def delete_tag(self, repository: str, tag: str) -> bool:
        """Delete this tag and nothing that another tag leads to; False when it was gone already. Denied when
        the registry can only delete what other tags need."""
        ...

    def has_blob(self, repository: str, digest: Digest, size: int | None = None) -> bool:
        """HEAD the blob; an unclear answer counts as no, and so does another `size` (bytes) if given."""
        ...

    def read_blob(
        self, repository: str, digest: Digest, size: int, hasher: Hasher | None = None
    ) -> AbstractContextManager[BlobRead]:
        """Read `size` bytes, resuming by Range where the connection breaks; BlobUnknown on 404. `hasher` has
        seen the beginning already: only what comes after that is handed out, and proved with it."""
        ...

    def read_external(
        self, urls: Sequence[str], digest: Digest, size: int
    ) -> AbstractContextManager[BlobRead]:
        """Read a layer from the `urls` of its descriptor, which may lead anywhere: only where somebody asked
        for external layers, only after `read_blob` said BlobUnknown. Never with a login."""
        ...

    def mount_blob(self, repository: str, digest: Digest, sources: Sequence[str]) -> UploadSession | None:
        """Mount from one of the repositories `sources` of the same origin, the likeliest first. None:
        mounted. A session: refused by all, upload through it (or cancel it); an error of the registry counts
        as refused and gives a fresh session.
        """
        ...

    def start_upload(self, repository: str) -> UploadSession:
        """Open an upload session."""
        ...

    def upload_blob(
        self,
        repository: str,
        digest: Digest,
        size: int,
        body: BodyFactory,
        session: UploadSession | None = None,
        notes: SessionNotes | None = None,
    ) -> None:
        """Send the blob, through `session` if given; returns once the registry holds it under its digest. One
        that was `begun` is gone on with where the registry's way of sending allows, else cancelled. A run
        that is stopped (Lost, Draining) leaves a session that can be gone on with, any other end none.
        """
        ...

    def cancel_upload(self, session: UploadSession) -> bool:
        """Best effort; never raises. False: nobody answered, it may be open still."""
        ...

    def tags(self, repository: str) -> Iterator[str]:
        """All tags, each once, in the registry's order; RepositoryUnknown on 404."""
        ...

    def referrers(self, repository: str, digest: Digest, artifact_type: str = "") -> Iterator[Descriptor]:
        """What refers to a manifest (`subject`), each once, of one artifact type if given; often nothing."""
        ...


class Registries(Protocol):
    """Gives the `Registry` for a host and credential id; one per thread behind the scenes."""

    def client(self, host: str, credential: str = "") -> Registry:
        """`host` as in a parsed reference; `credential` an id of the operator's, `""` for the host's own."""
        ...

    def source(self, host: str, credential: str = "") -> Registry:
        """The same, only to read from: where the operator named mirrors, they may answer in its place. With a
        credential of its own it is always the registry itself, because a mirror would not ask for it.
        """
        ...
