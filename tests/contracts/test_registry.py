"""The registry port, kept by our client over the fake registry and over real ones: one suite for all of them.

Real ones are Debian's docker-registry, open, with htpasswd, and with token login against a signing token
server, each with its blobs in a folder and in an S3 store to which it redirects.
"""

from __future__ import annotations

import contextlib
import json
import random
import secrets
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.servers import DockerRegistry, Swift, TokenAuth
from distworker.digest import Digest
from distworker.errors import (
    BlobUnknown,
    Denied,
    Draining,
    ManifestUnknown,
    RedirectRefused,
    RepositoryUnknown,
    Unauthorized,
    Unavailable,
)
from distworker.manifest import Manifest, parse_manifest
from distworker.mediatypes import OCI_INDEX, OCI_MANIFEST
from distworker.registry.base import Registry, UploadSession
from distworker.registry.pool import RegistryPool
from distworker.registry.profiles import HostProfile, UploadMode
from tests.contracts.registry_kit import (
    KINDS,
    MIB,
    PASSWORD,
    USER,
    Kind,
    One,
    Pieces,
    Registries,
    Running,
    pool_for,
    read,
    send,
)
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_token import SignedTokenServer

DATA = random.Random(11).randbytes(3 * MIB + 17)
DIGEST = Digest.of(DATA)
#: Ways of sending a blob; "auto" is one PUT where that is taken.
MODES: tuple[UploadMode, ...] = ("auto", "patch", "chunked")

Connect = Callable[..., Registry]


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registries]:
    """Real registries, shared by the tests of this module."""
    with contextlib.ExitStack() as stack:
        yield Registries(tmp_path_factory.mktemp("registries"), stack)


def kinds(wanted: Callable[[Kind], bool] = lambda kind: True, *, real: bool = False) -> list[Any]:
    """Parameters of `connect`: the fake and the real registries that are wanted."""
    found = [pytest.param(name, marks=pytest.mark.servers) for name in KINDS if wanted(KINDS[name])]
    return found if real else ["fake", *found]


@pytest.fixture(params=kinds())
def connect(request: pytest.FixtureRequest, registries: Registries) -> Iterator[Connect]:
    """Opens clients on one registry of the asked kind."""
    name: str = request.param
    with contextlib.ExitStack() as stack:
        if name == "fake":
            at, logged_in = Running(stack.enter_context(FakeRegistry()).host), False
        else:
            kind = KINDS[name]
            at = registries.get(name, request.getfixturevalue("swift") if kind.s3 else None)
            logged_in = kind.logged_in

        def make(password: str = PASSWORD if logged_in else "", mode: UploadMode = "auto") -> Registry:
            pool = pool_for(at, password, mode)
            stack.callback(pool.close)
            return pool.client(at.host)

        yield make


@pytest.fixture
def repo() -> str:
    """A repository nobody else has: registries are shared."""
    return f"team{secrets.token_hex(6)}/app"


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


@pytest.mark.parametrize("data", [b"{}", b"x", DATA], ids=["braces", "one", "3MiB"])
@pytest.mark.parametrize("mode", MODES)
def test_a_blob_goes_in_and_comes_out(connect: Connect, repo: str, data: bytes, mode: UploadMode) -> None:
    """Every upload mode, any size (chunks of 1 MiB); presence follows."""
    registry = connect(mode=mode)
    digest = Digest.of(data)
    assert not registry.has_blob(repo, digest)
    send(registry, repo, data)
    assert registry.has_blob(repo, digest)
    assert read(registry, repo, digest, len(data)) == data


@pytest.mark.parametrize("connect", kinds(lambda kind: not kind.s3), indirect=True)
@pytest.mark.parametrize("mode", MODES)
def test_the_empty_blob_goes_in_and_comes_out(connect: Connect, repo: str, mode: UploadMode) -> None:
    """Images hold it, and it is sent like any other."""
    registry = connect(mode=mode)
    digest = send(registry, repo, b"")
    assert registry.has_blob(repo, digest)
    assert read(registry, repo, digest, 0) == b""


@pytest.mark.servers
def test_the_empty_blob_is_not_taken_for_stored_where_the_registry_cannot_store_it(
    registries: Registries, swift: Swift, repo: str
) -> None:
    """docker-registry 2.8 on S3 completes an upload of no parts and answers 500 (distribution#3763)."""
    at = registries.get("open-s3", swift)
    pool = pool_for(at)
    registry = pool.client(at.host)
    with pytest.raises(Unavailable) as caught:
        send(registry, repo, b"")
    assert caught.value.fields["status"] == 500
    assert not registry.has_blob(repo, Digest.of(b""))
    pool.close()


def test_a_missing_blob_is_told(connect: Connect, repo: str) -> None:
    """BlobUnknown, before anything is read."""
    registry = connect()
    send(registry, repo, b"x")
    with pytest.raises(BlobUnknown), registry.read_blob(repo, Digest.of(b"gone"), 4):
        pytest.fail("the context was entered")


def test_a_blob_is_mounted_from_another_repository(connect: Connect, repo: str) -> None:
    """No bytes move; a blob nobody has gives a session that works."""
    registry = connect()
    digest = send(registry, f"{repo}-base", DATA)
    assert registry.mount_blob(repo, digest, [f"{repo}-base"]) is None
    assert read(registry, repo, digest, len(DATA)) == DATA
    session = registry.mount_blob(repo, Digest.of(b"new"), [f"{repo}-base"])
    assert session is not None
    registry.upload_blob(repo, Digest.of(b"new"), 3, lambda offset: One(b"new"[offset:]), session)
    assert registry.has_blob(repo, Digest.of(b"new"))


def test_a_session_can_be_cancelled(connect: Connect, repo: str) -> None:
    """Nothing raises, and the registry goes on."""
    registry = connect()
    registry.cancel_upload(registry.start_upload(repo))
    send(registry, repo, b"after")


def test_a_manifest_keeps_its_bytes(connect: Connect, repo: str) -> None:
    """By tag and by digest, HEAD and GET agree; an index over it too."""
    registry = connect()
    manifest = image(registry, repo)
    registry.put_manifest(repo, manifest.digest, manifest)
    entry = {"mediaType": OCI_MANIFEST, "digest": manifest.digest, "size": len(manifest.raw)}
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    index = parse_manifest(raw, OCI_INDEX)
    registry.put_manifest(repo, "v1", index)
    head = registry.head_manifest(repo, "v1")
    assert head is not None
    assert (head.digest, head.media_type, head.size) == (index.digest, OCI_INDEX, len(raw))
    assert registry.get_manifest(repo, "v1").raw == raw
    assert registry.get_manifest(repo, manifest.digest).raw == manifest.raw


def test_missing_manifests_and_repositories_are_told(connect: Connect, repo: str) -> None:
    """HEAD says None, GET and the tag list raise."""
    registry = connect()
    image(registry, repo)
    assert registry.head_manifest(repo, "gone") is None
    with pytest.raises(ManifestUnknown):
        registry.get_manifest(repo, "gone")
    with pytest.raises(RepositoryUnknown):
        list(registry.tags(f"{repo}-nothing"))


def test_a_manifest_whose_blobs_are_missing_is_refused(connect: Connect, repo: str) -> None:
    """The destination names what it lacks as BlobUnknown."""
    registry = connect()
    manifest = image(registry, repo)
    send(registry, f"{repo}-other", b"something")
    with pytest.raises(BlobUnknown):
        registry.put_manifest(f"{repo}-other", "v1", manifest)


def test_all_tags_are_listed(connect: Connect, repo: str) -> None:
    """Each once."""
    registry = connect()
    manifest = image(registry, repo)
    wanted = {f"v{number}" for number in range(12)}
    for tag in wanted:
        registry.put_manifest(repo, tag, manifest)
    listed = list(registry.tags(repo))
    assert (set(listed), len(listed)) == (wanted, 12)


def test_a_referrer_is_listed_under_its_subjects_tag(connect: Connect, repo: str) -> None:
    """None of these registries indexes subjects, so the client keeps the list, and loses no entry of it."""
    registry = connect()
    subject = image(registry, repo)
    registry.put_manifest(repo, subject.digest, subject)
    about = {"mediaType": OCI_MANIFEST, "digest": subject.digest, "size": subject.size}
    made = []
    for kind in ("x/signature", "x/sbom"):
        raw = json.dumps({**json.loads(subject.raw), "subject": about, "artifactType": kind}).encode()
        made.append(parse_manifest(raw, OCI_MANIFEST))
        registry.put_manifest(repo, made[-1].digest, made[-1])
    listed = registry.get_manifest(repo, str(subject.digest).replace(":", "-"))
    assert listed.media_type == OCI_INDEX
    assert [(one.digest, one.artifact_type) for one in listed.children] == [
        (made[0].digest, "x/signature"),
        (made[1].digest, "x/sbom"),
    ]
    assert [one.digest for one in registry.referrers(repo, subject.digest)] == [one.digest for one in made]


def test_manifests_and_tags_are_deleted(connect: Connect, repo: str) -> None:
    """A tag that shares its manifest is refused, one that stands alone goes, gone is gone."""
    registry = connect()
    manifest = image(registry, repo)
    for tag in ("v1", "v2"):
        registry.put_manifest(repo, tag, manifest)
    with pytest.raises(Denied):
        registry.delete_tag(repo, "v1")
    assert registry.delete_manifest(repo, manifest.digest)
    assert not registry.delete_manifest(repo, manifest.digest)
    assert registry.head_manifest(repo, "v1") is None
    registry.put_manifest(repo, "v3", manifest)
    assert registry.delete_tag(repo, "v3")
    assert not registry.delete_tag(repo, "v3")


def test_one_client_serves_many_threads(connect: Connect, repo: str) -> None:
    """Connections are per thread, logins are shared."""
    registry = connect()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            data = b"%d" % number * 1000
            assert read(registry, repo, send(registry, repo, data), len(data)) == data
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("connect", kinds(lambda kind: kind.logged_in, real=True), indirect=True)
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
            pool = pool_for(Running(server.host, (tokens.host,)), PASSWORD)
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
@pytest.mark.parametrize("name", [name for name in KINDS if KINDS[name].s3])
def test_blobs_behind_a_real_storage_are_read_by_redirect(
    registries: Registries, swift: Swift, repo: str, name: str
) -> None:
    """GET and HEAD are answered 307 to a signed address, which refuses anyone who brings a login along."""
    at = registries.get(name, swift)
    pool = pool_for(at, PASSWORD if KINDS[name].logged_in else "")
    registry = pool.client(at.host)
    assert not registry.has_blob(repo, DIGEST)
    send(registry, repo, DATA)
    assert registry.has_blob(repo, DIGEST)
    assert read(registry, repo, DIGEST, len(DATA)) == DATA
    pool.close()
    assert at.server is not None
    assert at.server.served()["GET", f"/v2/{repo}/blobs/{DIGEST}"] < 10_000


@pytest.mark.servers
def test_a_storage_that_nobody_allowed_is_not_reached(
    registries: Registries, swift: Swift, repo: str
) -> None:
    """The registry is private and allowed; what it redirects to is another port, and is not."""
    at = registries.get("open-s3", swift)
    pool = pool_for(replace(at, allow=()))
    registry = pool.client(at.host)
    send(registry, repo, DATA)
    with pytest.raises(RedirectRefused), registry.read_blob(repo, DIGEST, len(DATA)):
        pytest.fail("the context was entered")
    pool.close()


@pytest.mark.servers
@pytest.mark.parametrize("mode", MODES)
def test_a_large_blob_streams_both_ways_in_little_memory(
    registries: Registries, repo: str, mode: UploadMode
) -> None:
    """512 MiB up and down again; the traced peak of the client stays under 16 MiB."""
    body = Pieces(512 * MIB)
    digest = body.digest
    at = registries.get("open")
    pool = pool_for(at, mode=mode)
    registry = pool.client(at.host)
    tracemalloc.start()
    try:
        registry.upload_blob(repo, digest, len(body), lambda offset: Pieces(512 * MIB, start=offset))
        with registry.read_blob(repo, digest, len(body)) as blob:
            received = sum(len(chunk) for chunk in blob)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    pool.close()
    assert received == len(body)
    assert blob.verified.digest == digest
    assert peak < 16 * MIB


@pytest.mark.parametrize("connect", kinds(lambda kind: not kind.s3), indirect=True)
def test_a_chunked_upload_of_a_stopped_run_ends_well(connect: Connect, repo: str) -> None:
    """Stopped inside a chunk, distribution's session may be dead or not: either way the blob is whole."""
    registry = connect(mode="chunked")
    data = random.Random(repo).randbytes(5 * MIB // 2)
    noted: list[UploadSession] = []
    digest = Digest.of(data)

    def stopping(offset: int) -> One:
        return Stopped(data[offset:], 2 * MIB + 1000 - offset)

    with pytest.raises(Draining):
        registry.upload_blob(repo, digest, len(data), stopping, None, lambda one, _: noted.append(one))
    left = replace(noted[-1], begun=True)
    registry.upload_blob(repo, digest, len(data), lambda offset: One(data[offset:]), left)
    assert read(registry, repo, digest, len(data)) == data


class Stopped(One):
    """A body whose run is stopped after some bytes."""

    def __init__(self, data: bytes, count: int) -> None:
        super().__init__(data)
        self.count = count

    def __iter__(self) -> Iterator[bytes]:
        yield self.data[: self.count]
        raise Draining("this worker is stopping")
