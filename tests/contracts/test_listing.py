"""Listing by the specification against a real registry, in pages small enough to need several."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from deploy.demo.servers import DockerRegistry
from distworker.digest import Digest
from distworker.errors import Denied, RepositoryUnknown
from distworker.manifest import parse_manifest
from distworker.registry.client import Client
from distworker.registry.pool import RegistryPool
from distworker.registry.profiles import HostProfile
from distworker.registry.quirks import Quirks
from tests.unit.registry.conftest import Sent

pytestmark = pytest.mark.servers
TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = b"{}"
Connect = Callable[..., Client]


@pytest.fixture
def connect(registry: DockerRegistry) -> Iterator[Connect]:
    """Clients on Debian's docker-registry."""
    pools: list[RegistryPool] = []

    def make(**quirks: object) -> Client:
        profile = HostProfile(plain_http=True, private=True, quirks=Quirks(**quirks))  # type: ignore[arg-type]
        pools.append(RegistryPool({registry.host: profile}))
        client = pools[-1].client(registry.host)
        assert isinstance(client, Client)
        return client

    yield make
    for pool in pools:
        pool.close()


def push(client: Client, repository: str, *tags: str) -> Digest:
    """A small image under these tags."""
    digest = Digest.of(CONFIG)
    client.upload_blob(repository, digest, len(CONFIG), Sent(CONFIG).at)
    raw = (
        b'{"schemaVersion":2,"mediaType":"%s","layers":[],"config":{"mediaType":"application/vnd.docker.container'
        b'.image.v1+json","size":2,"digest":"%s"}}'
    ) % (TYPE.encode(), digest.encode())
    manifest = parse_manifest(raw, TYPE)
    for tag in tags:
        client.put_manifest(repository, tag, manifest)
    return Digest.of(raw)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_tags_come_whole_in_pages_of_any_size(connect: Connect, size: int) -> None:
    """Debian's registry pages nothing; newer ones link: the list is the same."""
    names = [f"v{number}" for number in range(5)]
    push(connect(), "team/app", *names)
    assert sorted(connect(page_size=size).tags("team/app")) == names
    assert sorted(connect(page_size=size, last_pagination=True).tags("team/app")) == names


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_the_catalogue_comes_whole_in_pages_of_any_size(connect: Connect, size: int) -> None:
    """Followed by the registry's own links."""
    names = ["other", "team/app", "team/apps/deep", "team/zoo"]
    for name in names:
        push(connect(), name, "latest")
    listing = connect(page_size=size).listing()
    assert list(listing.repositories()) == names
    assert list(listing.repositories("team/app")) == ["team/app"]
    assert listing.digests("team/app") is None


def test_a_repository_that_is_not_there_has_no_tags(connect: Connect) -> None:
    """Typed, for tags; an empty catalogue is an empty list."""
    assert list(connect().listing().repositories()) == []
    with pytest.raises(RepositoryUnknown):
        list(connect().tags("team/app"))
    with pytest.raises(Denied):
        list(connect(catalog=False).listing().repositories())
