"""What the registry contracts share: registries of every kind, clients on them, small verbs over the port.

Real registries are started once for a module and shared by its tests, which keep to repositories of their
own.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.demo.servers import DockerRegistry, Htpasswd, S3Storage, Swift, TokenAuth
from distworker.digest import Digest
from distworker.manifest import Manifest
from distworker.registry.addresses import AddressPolicy, Allowed
from distworker.registry.base import Chunk, Registry
from distworker.registry.credentials import ConfiguredCredentials, Login
from distworker.registry.pool import RegistryPool
from distworker.registry.profiles import HostProfile, UploadMode
from distworker.registry.quirks import Quirks
from tests.conftest import BUCKET
from tests.fakes.registry_token import SignedTokenServer

MIB = 1 << 20
USER, PASSWORD = "me", "pass:word"


class One:
    """A body of one piece."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Chunk]:
        yield self.data


class Pieces:
    """The bytes from `start` on of a blob of `size` bytes, made while it is sent: piece `n` is a function of
    `n`.
    """

    def __init__(self, size: int, piece: int = MIB, start: int = 0) -> None:
        self.size, self.piece, self.start = size, piece, start

    def __len__(self) -> int:
        return self.size - self.start

    def __iter__(self) -> Iterator[Chunk]:
        yield from self.at(self.start)

    def at(self, offset: int) -> Iterable[bytes]:
        """The bytes from `offset`, a multiple of the piece."""
        for start in range(offset, self.size, self.piece):
            seed = start.to_bytes(8, "big")
            yield (seed * (self.piece // 8))[: min(self.piece, self.size - start)]

    @property
    def digest(self) -> Digest:
        """Its sha256."""
        made = hashlib.sha256()
        for piece in self.at(0):
            made.update(piece)
        return Digest.parse(f"sha256:{made.hexdigest()}")


@dataclass(frozen=True)
class Kind:
    """A real registry: how it asks who one is, and whether its blobs lie in an S3 store behind redirects."""

    auth: str = ""
    s3: bool = False

    @property
    def logged_in(self) -> bool:
        """Does it want a login?"""
        return bool(self.auth)


KINDS = {
    "open": Kind(),
    "htpasswd": Kind("htpasswd"),
    "token": Kind("token"),
    "open-s3": Kind(s3=True),
    "htpasswd-s3": Kind("htpasswd", s3=True),
    "token-s3": Kind("token", s3=True),
}


@dataclass(frozen=True)
class Running:
    """A registry that runs, with what a client needs to know of it."""

    host: str
    realms: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    server: DockerRegistry | None = None


class Registries:
    """Real registries of each kind, started when first asked for."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._running: dict[str, Running] = {}

    def get(self, name: str, swift: Swift | None = None) -> Running:
        """The one of this kind; those with S3 need the store's server."""
        if name not in self._running:
            self._running[name] = self._start(name, KINDS[name], swift)
        return self._running[name]

    def _start(self, name: str, kind: Kind, swift: Swift | None) -> Running:
        folder = self._folder / name
        folder.mkdir(parents=True)
        realms: tuple[str, ...] = ()
        auth: Htpasswd | TokenAuth | None = None
        if kind.auth == "htpasswd":
            auth = Htpasswd(USER, PASSWORD)
        elif kind.auth == "token":
            tokens = self._stack.enter_context(SignedTokenServer({USER: PASSWORD}))
            realms = (tokens.host,)
            auth = TokenAuth(
                tokens.realm, tokens.service, tokens.issuer, tokens.write_certificate(folder / "cert.pem")
            )
        storage = None
        if kind.s3:
            assert swift is not None
            storage = S3Storage(swift.endpoint, BUCKET, swift.access_key, swift.secret_key)
        server = self._stack.enter_context(DockerRegistry(folder, auth=auth, storage=storage))
        allow = (swift.endpoint.removeprefix("http://"),) if swift is not None and kind.s3 else ()
        return Running(server.host, realms, allow, server)


def pool_for(at: Running, password: str = "", mode: UploadMode = "auto") -> RegistryPool:
    """Clients for one plain-http registry, logged in if there is a password."""
    logins = ConfiguredCredentials({"main": Login((at.host,), USER, password)} if password else {})
    profile = HostProfile(
        plain_http=True,
        private=True,
        token_realms=at.realms,
        upload_mode=mode,
        quirks=Quirks(chunk_bytes=MIB),
    )
    policy = AddressPolicy(tuple(Allowed.parse(text) for text in at.allow))
    return RegistryPool({at.host: profile}, logins, policy=policy)


def send(registry: Registry, repository: str, data: bytes) -> Digest:
    """Upload `data` in one piece."""
    digest = Digest.of(data)
    registry.upload_blob(repository, digest, len(data), lambda offset: One(data[offset:]))
    return digest


def read(registry: Registry, repository: str, digest: Digest, size: int) -> bytes:
    """Download, with proof."""
    with registry.read_blob(repository, digest, size) as blob:
        data = b"".join(bytes(chunk) for chunk in blob)
        assert (blob.verified.digest, blob.verified.size) == (digest, size)
    return data


def copy_tree(
    source: tuple[Registry, str], destination: tuple[Registry, str], reference: str, to: str
) -> dict[Digest, Manifest]:
    """Everything below `reference`, children first, by the port's verbs alone; all manifests by digest."""
    (here, repository), (there, target) = source, destination
    manifest = here.get_manifest(repository, reference)
    copied = {manifest.digest: manifest}
    for child in manifest.children:
        copied |= copy_tree(source, destination, child.digest, child.digest)
    for blob in manifest.blobs:
        if not there.has_blob(target, blob.digest):
            assert send(there, target, read(here, repository, blob.digest, blob.size)) == blob.digest
    there.put_manifest(target, to, manifest)
    return copied
