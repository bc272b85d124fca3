"""The products with a listing API of their own, what they hold in these tests, and a server for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from distworker.digest import Digest
from tests.fakes.listing_servers import (
    GitHubApi,
    GitLabApi,
    GoogleRegistry,
    HarborApi,
    HubApi,
    Images,
    QuayApi,
)
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import FakeServer
from tests.unit.registry.listing.conftest import Connect

DIGESTS = [Digest.of(bytes([number])) for number in range(9)]
IMAGES: Images = {
    "team/app": {f"v{number}": DIGESTS[number % 4] for number in range(7)},
    "team/apps/deep/er": {"latest": DIGESTS[4]},
    "team/zoo": {"1": DIGESTS[5], "2": DIGESTS[6], "3": DIGESTS[7]},
    "other/app": {"x": DIGESTS[8]},
}
USERS = {"me": "SECRET-PASSWORD"}


@dataclass(frozen=True)
class Product:
    """One product: the host in references, where its API is, and a server for it."""

    host: str
    api: str
    serve: Callable[[Images], FakeServer]
    login: tuple[str, str] | None = None
    said: dict[str, str] = field(default_factory=dict)
    registry: str = ""  #: where the registry itself is, when that is another server than the API

    def open(self, connect: Connect, images: Images | None = None, **said: str) -> tuple[object, FakeServer]:
        """A client and the API's server."""
        server = self.serve(IMAGES if images is None else images)
        servers = {self.api: server, **({self.registry: FakeRegistry()} if self.registry else {})}
        return connect(self.host, servers, self.login, **{**self.said, **said}).listing(), server


PRODUCTS = {
    "hub": Product(
        "docker.io", "hub.docker.com", lambda images: HubApi(images, users=USERS), ("me", USERS["me"])
    ),
    "harbor": Product(
        "other.example",
        "other.example",
        lambda images: HarborApi(images, users=USERS),
        ("me", USERS["me"]),
        {"provider": "harbor"},
    ),
    "quay": Product("quay.io", "quay.io", QuayApi, ("$oauthtoken", QuayApi.token)),
    "ghcr": Product("ghcr.io", "api.github.com", GitHubApi, ("me", GitHubApi.token)),
    "gitlab": Product(
        "registry.gitlab.com",
        "gitlab.com",
        lambda images: GitLabApi({"team/app": [name for name in images if name.startswith("team/")]}),
        ("me", GitLabApi.token),
    ),
    "google": Product("europe-docker.pkg.dev", "europe-docker.pkg.dev", GoogleRegistry),
}
WITH_DIGESTS = [name for name in PRODUCTS if name != "gitlab"]
#: Those whose API is not the registry's own protocol.
APIS = [name for name in PRODUCTS if name != "google"]
