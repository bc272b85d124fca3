"""The registry client that steps get: the port of `base.py`, one verb per module behind it.

`Client` is one registry seen with one credential, usable from any thread; `pool.py` makes and keeps them.
Connections are per thread and made on first use, so a client may be created before a fork.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final

from distworker import __version__, stopping
from distworker.digest import Digest, Hasher
from distworker.manifest import Descriptor, Manifest
from distworker.registry import blobs, deletes, external, foreseen, manifests, mount, sessions, uploads
from distworker.registry import ping as pinging
from distworker.registry.base import BlobRead, BodyFactory, ManifestHead, SessionNotes, UploadSession
from distworker.registry.budget import Budget
from distworker.registry.endpoint import Endpoint
from distworker.registry.http import HTTP
from distworker.registry.learned import Facts, MemoryFacts
from distworker.registry.listing import tags as listing
from distworker.registry.listing.base import Listing
from distworker.registry.listing.choose import listing_for
from distworker.registry.listing.ecr import Connect, connector
from distworker.registry.manifest_put import Publisher
from distworker.registry.mirrors import MirroredStream, Mirrors
from distworker.registry.profiles import HostProfile
from distworker.registry.referrers import Referrers
from distworker.registry.subjects import LocalLocks, SubjectLocks

#: Connections one thread keeps open; it uses two at once at most (storage beside registry).
_POOL_MAX: Final = 8
USER_AGENT: Final = f"distworker/{__version__}"


class Client:
    """One registry origin, one credential. See `base.Registry` for what each verb promises."""

    def __init__(
        self,
        at: Endpoint,
        profile: HostProfile,
        chunk: int,
        sleep: Callable[[float], None] = stopping.sleep,
        learned: Facts | None = None,
        api: Callable[[str], HTTP] | None = None,
        aws: Connect | None = None,
        clock: Callable[[], float] = time.monotonic,
        locks: SubjectLocks | None = None,
    ) -> None:
        self._at = at
        self._profile = profile
        self._learned: Facts = MemoryFacts() if learned is None else learned
        self._api = api or (lambda _: at.http)
        self._aws = aws
        self._listings: dict[str, Listing] = {}
        self._chunk = chunk
        self._sleep = sleep
        self._clock = clock
        self._referrers = Referrers(at, clock)
        self._uploader = uploads.Uploader(at, self._learned, sleep)
        self._publisher = Publisher(at, locks or LocalLocks(), sleep)

    def __repr__(self) -> str:
        return f"Client({self.origin!r})"

    @property
    def origin(self) -> str:
        """`host[:port]` as it stands in references."""
        return self._at.registry

    @property
    def at(self) -> Endpoint:
        """Its addresses, for verbs that span several registries."""
        return self._at

    def ping(self) -> bool:
        """Check that a registry answers there and takes our login; False when none was used."""
        return pinging.ping(self._at)

    def head_manifest(self, repository: str, reference: str) -> ManifestHead | None:
        """HEAD by tag or digest; None when there is none."""
        return manifests.head_manifest(self._at, repository, reference)

    def get_manifest(self, repository: str, reference: str, media_type: str = "") -> Manifest:
        """The manifest, verified."""
        return manifests.get_manifest(self._at, repository, reference, media_type)

    def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
        """PUT the exact bytes under a tag or digest, and list it with its subject."""
        foreseen.check_name(self._at, repository, "put manifest")
        self._publisher.put(repository, reference, manifest)

    def delete_manifest(self, repository: str, digest: Digest) -> bool:
        """Delete a manifest with all its tags; False when it was gone."""
        return deletes.delete_manifest(self._at, repository, digest)

    def delete_tag(self, repository: str, tag: str) -> bool:
        """Delete one tag and nothing that another needs; False when it was gone."""
        return deletes.delete_tag(self._at, repository, tag, alone=self._at.quirks.tag_deletes)

    def has_blob(self, repository: str, digest: Digest, size: int | None = None) -> bool:
        """HEAD the blob."""
        return blobs.has_blob(self._at, repository, digest, size)

    def read_blob(
        self, repository: str, digest: Digest, size: int, hasher: Hasher | None = None
    ) -> AbstractContextManager[BlobRead]:
        """Read the blob, resuming where the connection breaks."""
        call = blobs.blob_call(self._at, repository, digest)
        return blobs.BlobStream(
            self._at,
            call,
            digest,
            size,
            hasher=hasher,
            chunk=self._chunk,
            sleep=self._sleep,
            clock=self._clock,
        )

    def read_external(
        self, urls: Sequence[str], digest: Digest, size: int
    ) -> AbstractContextManager[BlobRead]:
        """Read a layer from the `urls` of its descriptor, as a stranger."""
        return external.read_external(
            self._at, urls, digest, size, chunk=self._chunk, sleep=self._sleep, clock=self._clock
        )

    def mount_blob(self, repository: str, digest: Digest, sources: Sequence[str]) -> UploadSession | None:
        """Mount from one of `sources`; a session when all were refused."""
        foreseen.check_name(self._at, repository, "mount blob")
        granted = self._at.quirks.mounts
        wanted = sources if granted != "none" else ()
        return mount.mount_blob(self._at, repository, digest, wanted, anonymous=granted == "anonymous")

    def start_upload(self, repository: str) -> UploadSession:
        """Open an upload session."""
        foreseen.check_name(self._at, repository, "start upload")
        return sessions.start_upload(self._at, repository)

    def upload_blob(
        self,
        repository: str,
        digest: Digest,
        size: int,
        body: BodyFactory,
        session: UploadSession | None = None,
        notes: SessionNotes | None = None,
    ) -> None:
        """Send the blob; returns once the registry holds it."""
        foreseen.check_name(self._at, repository, "start upload")
        self._uploader.upload(repository, digest, size, body, session, notes)

    def cancel_upload(self, session: UploadSession) -> bool:
        """Best effort; never raises. False: nobody answered."""
        return self._uploader.cancel(session)

    def tags(self, repository: str) -> Iterator[str]:
        """All tags, each once."""
        return listing.tags(self._at, repository, self._at.quirks)

    def listing(self) -> Listing:
        """What lists repositories and digests here: the product's own API where it has one."""
        name = self._at.quirks.list_api  # may change once, when the registry's challenge names its product
        if name not in self._listings:
            aws = self._aws or connector(self._profile.proxy, self._profile.ca_file)
            self._listings[name] = listing_for(self._at, self._api, aws)
        return self._listings[name]

    def budget(self) -> Budget | None:
        """The counted limit that this registry told last; None when it told none."""
        return self._at.http.budget.value

    def referrers(self, repository: str, digest: Digest, artifact_type: str = "") -> Iterator[Descriptor]:
        """What refers to a manifest."""
        return self._referrers.list(repository, digest, artifact_type)


class MirroredClient(Client):
    """A client to read through: it shares all with the one of the registry itself, and asks mirrors first."""

    def __init__(self, home: Client, mirrors: Mirrors) -> None:
        vars(self).update(vars(home))
        self._home = home
        self._mirrors = mirrors

    def head_manifest(self, repository: str, reference: str) -> ManifestHead | None:
        """HEAD by tag or digest; None when none of all has one."""
        return self._mirrors.first(
            self._home, repository, reference, lambda client, name: client.head_manifest(name, reference)
        )

    def get_manifest(self, repository: str, reference: str, media_type: str = "") -> Manifest:
        """The manifest, verified; of a mirror only where it may be asked so."""
        return self._mirrors.first(
            self._home,
            repository,
            reference,
            lambda client, name: client.get_manifest(name, reference, media_type),
        )

    def has_blob(self, repository: str, digest: Digest, size: int | None = None) -> bool:
        """HEAD the blob; one of all is enough, for it is only to be read."""
        return self._mirrors.first(
            self._home, repository, digest, lambda client, name: client.has_blob(name, digest, size)
        )

    def read_blob(
        self, repository: str, digest: Digest, size: int, hasher: Hasher | None = None
    ) -> AbstractContextManager[BlobRead]:
        """Read the blob, going on elsewhere where a mirror breaks."""
        return MirroredStream(
            self._mirrors.readers(self._home, repository, digest),
            digest,
            size,
            failed=self._mirrors.failed,
            hasher=hasher,
            chunk=self._chunk,
            sleep=self._sleep,
            clock=self._clock,
        )
