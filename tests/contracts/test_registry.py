"""The registry port, kept by our client over the fake registry and over real ones: one suite for all of them.

Real ones are Debian's docker-registry, open, with htpasswd, and with token login against a signing token
server.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import secrets
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from deploy.demo.servers import DockerRegistry, Htpasswd, S3Storage, Swift, TokenAuth
from distworker.digest import Digest
from distworker.errors import BlobUnknown, Denied, ManifestUnknown, RepositoryUnknown, Unauthorized
from distworker.manifest import Manifest, parse_manifest
from distworker.mediatypes import OCI_INDEX, OCI_MANIFEST
from distworker.registry.base import Chunk, Registry
from distworker.registry.client import RegistryPool
from distworker.registry.credentials import ConfiguredCredentials, Login
from distworker.registry.profiles import HostProfile, UploadMode
from distworker.registry.quirks import Quirks
from tests.conftest import BUCKET
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_token import SignedTokenServer

MIB = 1 << 20
DATA = random.Random(11).randbytes(3 * MIB + 17)
DIGEST = Digest.of(DATA)
USER, PASSWORD = "me", "pass:word"

Connect = Callable[..., Registry]


class Pieces:
    """A body of `size` bytes made while it is sent: piece `n` is a function of `n`."""

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


def pool_for(host: str, password: str, realms: tuple[str, ...], mode: UploadMode = "auto") -> RegistryPool:
    """Clients for one plain-http registry, logged in if there is a password."""
    logins = ConfiguredCredentials({"main": Login((host,), USER, password)} if password else {})
    quirks = Quirks(chunk_bytes=MIB)
    profile = HostProfile(plain_http=True, private=True, token_realms=realms, upload_mode=mode, quirks=quirks)
    return RegistryPool({host: profile}, logins)


@pytest.fixture(
    params=[
        "fake",
        pytest.param("open", marks=pytest.mark.servers),
        pytest.param("htpasswd", marks=pytest.mark.servers),
        pytest.param("token", marks=pytest.mark.servers),
    ]
)
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connect]:
    """Opens clients on one registry of the asked kind."""
    with contextlib.ExitStack() as stack:
        realms: tuple[str, ...] = ()
        if request.param == "fake":
            server = stack.enter_context(FakeRegistry())
            host = server.host
        else:
            auth: Htpasswd | TokenAuth | None = None
            if request.param == "htpasswd":
                auth = Htpasswd(USER, PASSWORD)
            elif request.param == "token":
                tokens = SignedTokenServer({USER: PASSWORD})
                stack.enter_context(tokens)
                realms = (tokens.host,)
                certificate = tokens.write_certificate(tmp_path / "cert.pem")
                auth = TokenAuth(tokens.realm, tokens.service, tokens.issuer, certificate)
            host = stack.enter_context(DockerRegistry(tmp_path / "registry", auth=auth)).host
        logged_in = request.param in {"htpasswd", "token"}

        def make(password: str = PASSWORD if logged_in else "", mode: UploadMode = "auto") -> Registry:
            pool = pool_for(host, password, realms, mode)
            stack.callback(pool.close)
            return pool.client(host)

        yield make


def send(registry: Registry, repository: str, data: bytes) -> Digest:
    """Upload `data` in one piece."""
    digest = Digest.of(data)
    registry.upload_blob(repository, digest, len(data), lambda offset: _One(data[offset:]))
    return digest


class _One:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Chunk]:
        yield self.data


def read(registry: Registry, repository: str, digest: Digest, size: int) -> bytes:
    """Download, with proof."""
    with registry.read_blob(repository, digest, size) as blob:
        data = b"".join(bytes(chunk) for chunk in blob)
        assert (blob.verified.digest, blob.verified.size) == (digest, size)
    return data


def image(registry: Registry, repository: str) -> Manifest:
    """A small image whose blobs are there."""
    config, layer = send(registry, repository, b"{}"), send(registry, repository, b"layer")
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 5}],
    }
    return parse_manifest(json.dumps(document, indent=2).encode(), OCI_MANIFEST)


def test_a_login_that_works_pings(connect: Connect) -> None:
    """Ping says nothing when all is well, and the origin is the reference's host."""
    registry = connect()
    registry.ping()
    assert registry.origin.startswith("127.0.0.1:")


@pytest.mark.parametrize("data", [b"", b"{}", b"x", DATA], ids=["empty", "braces", "one", "3MiB"])
@pytest.mark.parametrize("mode", ["auto", "patch", "chunked"])
def test_a_blob_goes_in_and_comes_out(connect: Connect, data: bytes, mode: UploadMode) -> None:
    """Every upload mode, any size (chunks of 1 MiB); presence follows."""
    registry = connect(mode=mode)
    digest = Digest.of(data)
    assert not registry.has_blob("team/app", digest)
    send(registry, "team/app", data)
    assert registry.has_blob("team/app", digest)
    assert read(registry, "team/app", digest, len(data)) == data


def test_a_missing_blob_is_told(connect: Connect) -> None:
    """BlobUnknown, before anything is read."""
    registry = connect()
    send(registry, "team/app", b"x")
    with pytest.raises(BlobUnknown), registry.read_blob("team/app", Digest.of(b"gone"), 4):
        pytest.fail("the context was entered")


def test_a_blob_is_mounted_from_another_repository(connect: Connect) -> None:
    """No bytes move; a blob nobody has gives a session that works."""
    registry = connect()
    digest = send(registry, "team/base", DATA)
    assert registry.mount_blob("team/app", digest, ["team/base"]) is None
    assert read(registry, "team/app", digest, len(DATA)) == DATA
    session = registry.mount_blob("team/app", Digest.of(b"new"), ["team/base"])
    assert session is not None
    registry.upload_blob("team/app", Digest.of(b"new"), 3, lambda offset: _One(b"new"[offset:]), session)
    assert registry.has_blob("team/app", Digest.of(b"new"))


def test_a_session_can_be_cancelled(connect: Connect) -> None:
    """Nothing raises, and the registry goes on."""
    registry = connect()
    registry.cancel_upload(registry.start_upload("team/app"))
    send(registry, "team/app", b"after")


def test_a_manifest_keeps_its_bytes(connect: Connect) -> None:
    """By tag and by digest, HEAD and GET agree; an index over it too."""
    registry = connect()
    manifest = image(registry, "team/app")
    registry.put_manifest("team/app", manifest.digest, manifest)
    entry = {"mediaType": OCI_MANIFEST, "digest": manifest.digest, "size": len(manifest.raw)}
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    index = parse_manifest(raw, OCI_INDEX)
    registry.put_manifest("team/app", "v1", index)
    head = registry.head_manifest("team/app", "v1")
    assert head is not None
    assert (head.digest, head.media_type, head.size) == (index.digest, OCI_INDEX, len(raw))
    assert registry.get_manifest("team/app", "v1").raw == raw
    assert registry.get_manifest("team/app", manifest.digest).raw == manifest.raw


def test_a_referrer_is_listed_under_its_subjects_tag(connect: Connect) -> None:
    """None of these registries indexes subjects, so the client keeps the list, and loses no entry of it."""
    registry = connect()
    subject = image(registry, "team/app")
    registry.put_manifest("team/app", subject.digest, subject)
    about = {"mediaType": OCI_MANIFEST, "digest": subject.digest, "size": subject.size}
    made = []
    for kind in ("x/signature", "x/sbom"):
        raw = json.dumps({**json.loads(subject.raw), "subject": about, "artifactType": kind}).encode()
        made.append(parse_manifest(raw, OCI_MANIFEST))
        registry.put_manifest("team/app", made[-1].digest, made[-1])
    listed = registry.get_manifest("team/app", str(subject.digest).replace(":", "-"))
    assert listed.media_type == OCI_INDEX
    assert [(one.digest, one.artifact_type) for one in listed.children] == [
        (made[0].digest, "x/signature"),
        (made[1].digest, "x/sbom"),
    ]


def test_manifests_and_tags_are_deleted(connect: Connect) -> None:
    """A tag that shares its manifest is refused, one that stands alone goes, gone is gone."""
    registry = connect()
    manifest = image(registry, "team/app")
    for tag in ("v1", "v2"):
        registry.put_manifest("team/app", tag, manifest)
    with pytest.raises(Denied):
        registry.delete_tag("team/app", "v1")
    assert registry.delete_manifest("team/app", manifest.digest)
    assert not registry.delete_manifest("team/app", manifest.digest)
    assert registry.head_manifest("team/app", "v1") is None
    registry.put_manifest("team/app", "v3", manifest)
    assert registry.delete_tag("team/app", "v3")
    assert not registry.delete_tag("team/app", "v3")


def test_missing_manifests_and_repositories_are_told(connect: Connect) -> None:
    """HEAD says None, GET and the tag list raise."""
    registry = connect()
    image(registry, "team/app")
    assert registry.head_manifest("team/app", "gone") is None
    with pytest.raises(ManifestUnknown):
        registry.get_manifest("team/app", "gone")
    with pytest.raises(RepositoryUnknown):
        list(registry.tags("team/nothing"))


def test_a_manifest_whose_blobs_are_missing_is_refused(connect: Connect) -> None:
    """The destination names what it lacks as BlobUnknown."""
    registry = connect()
    manifest = image(registry, "team/app")
    send(registry, "team/other", b"something")
    with pytest.raises(BlobUnknown):
        registry.put_manifest("team/other", "v1", manifest)


def test_all_tags_are_listed(connect: Connect) -> None:
    """Each once."""
    registry = connect()
    manifest = image(registry, "team/app")
    wanted = {f"v{number}" for number in range(12)}
    for tag in wanted:
        registry.put_manifest("team/app", tag, manifest)
    listed = list(registry.tags("team/app"))
    assert (set(listed), len(listed)) == (wanted, 12)


def test_one_client_serves_many_threads(connect: Connect) -> None:
    """Connections are per thread, logins are shared."""
    registry = connect()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            data = b"%d" % number * 1000
            assert read(registry, "team/app", send(registry, "team/app", data), len(data)) == data
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("connect", ["htpasswd", "token"], indirect=True)
@pytest.mark.servers
def test_a_wrong_password_is_unauthorized(connect: Connect) -> None:
    """At ping already."""
    with pytest.raises(Unauthorized):
        connect(password="wrong").ping()


@pytest.mark.servers
def test_a_token_for_less_than_asked_is_denied(tmp_path: Path) -> None:
    """A real registry and a token server that grants nothing on one repository."""
    tokens = SignedTokenServer({USER: PASSWORD})
    tokens.denied.add("closed/app")
    with tokens:
        auth = TokenAuth(
            tokens.realm, tokens.service, tokens.issuer, tokens.write_certificate(tmp_path / "cert.pem")
        )
        with DockerRegistry(tmp_path / "registry", auth=auth) as server:
            pool = pool_for(server.host, PASSWORD, (tokens.host,))
            with pytest.raises(Denied):
                pool.client(server.host).start_upload("closed/app")
            pool.close()


@pytest.mark.servers
def test_a_plain_registry_spoken_to_over_tls_says_what_to_set(tmp_path: Path) -> None:
    """The sentence names the setting."""
    with DockerRegistry(tmp_path / "registry") as server:
        pool = RegistryPool({server.host: HostProfile(private=True)})
        with pytest.raises(Exception, match="plain_http = true"):
            pool.client(server.host).ping()
        pool.close()


@pytest.mark.servers
def test_blobs_behind_a_real_storage_are_read_by_redirect(tmp_path: Path, swift: Swift) -> None:
    """GET and HEAD are answered 307 to a signed address, which refuses anyone who brings a login along."""
    storage = S3Storage(swift.endpoint, BUCKET, swift.access_key, swift.secret_key)
    server = DockerRegistry(tmp_path / "registry", auth=Htpasswd(USER, PASSWORD), storage=storage)
    repository = f"redirected/{secrets.token_hex(6)}"
    with server:
        pool = pool_for(server.host, PASSWORD, ())
        registry = pool.client(server.host)
        assert not registry.has_blob(repository, DIGEST)
        send(registry, repository, DATA)
        assert registry.has_blob(repository, DIGEST)
        assert read(registry, repository, DIGEST, len(DATA)) == DATA
        pool.close()
    assert server.served()["GET", f"/v2/{repository}/blobs/{DIGEST}"] < 10_000


@pytest.mark.servers
@pytest.mark.parametrize("mode", ["auto", "chunked"])
def test_a_large_blob_streams_both_ways_in_little_memory(tmp_path: Path, mode: UploadMode) -> None:
    """512 MiB up (in one PUT or in chunks) and down again; the client's traced peak stays under 16 MiB."""
    body = Pieces(512 * MIB)
    digest = body.digest
    with DockerRegistry(tmp_path / "registry") as server:
        pool = pool_for(server.host, "", (), mode)
        registry = pool.client(server.host)
        tracemalloc.start()
        try:
            registry.upload_blob("big/one", digest, len(body), lambda offset: Pieces(512 * MIB, start=offset))
            with registry.read_blob("big/one", digest, len(body)) as blob:
                received = sum(len(chunk) for chunk in blob)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        pool.close()
    assert received == len(body)
    assert blob.verified.digest == digest
    assert peak < 16 * MIB
