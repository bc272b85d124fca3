"""A town of providers and their registries, reached by name over https through the fake network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from distworker.registry.base import Registry
from distworker.registry.credentials import ConfiguredCredentials, Way
from distworker.registry.logins.wire import Wire
from distworker.registry.pool import RegistryPool
from distworker.registry.profiles import HostProfile
from distworker.retrying import Backoff
from tests.fakes.network import Authority, FakeWires, make_authority
from tests.fakes.registry_server import FakeServer

NAMES = (
    *("team.azurecr.io", "login.microsoftonline.com", "login.microsoftonline.us", "oauth2.googleapis.com"),
    "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
    *("europe-docker.pkg.dev", "public.ecr.aws", "ghcr.io", "auth.example", "evil.example"),
)


class Town:
    """Servers by name, wires to them, and clients of the registries among them. `now` is everybody's time."""

    def __init__(self, authority: Authority, stack: contextlib.ExitStack) -> None:
        self.authority, self.stack = authority, stack
        self.network = FakeWires()
        self.sleeps: list[float] = []
        self.now = 1_000_000.0
        self._servers = 0

    def clock(self) -> float:
        """Seconds, as told."""
        return self.now

    def add(self, host: str, server: FakeServer, *, port: int = 443, tls: bool = True) -> None:
        """Start a server, known as `host` at a public address."""
        server.known_as(host, self.authority.server if tls else None)
        self.stack.enter_context(server)
        self._servers += 1
        address = host if host.replace(".", "").isdigit() else f"44.0.1.{self._servers}"
        self.network.name(host, address)
        self.network.serve(address, port, server)

    def wire(self, registry: str, **more: Any) -> Wire:
        """The way to providers that trusts the town's authority and waits for nothing."""
        return Wire(
            registry,
            "distworker-test",
            **{"ca_file": str(self.authority.ca_file), **more},
            backoff=Backoff(tries=3),
            sleep=self.sleeps.append,
            wires=self.network,
        )

    def client(self, host: str, way: Way, **profile: Any) -> Registry:
        """A client of `host` that logs in in this way."""
        pool = RegistryPool(
            {host: HostProfile(ca_file=str(self.authority.ca_file), **profile)},
            ConfiguredCredentials({"main": way}),
            backoff=Backoff(tries=3),
            sleep=self.sleeps.append,
            wires=self.network,
        )
        self.stack.callback(pool.close)
        return pool.client(host)


@pytest.fixture(scope="session")
def town_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One certificate for all names of the town."""
    return make_authority(tmp_path_factory.mktemp("town"), *NAMES)


@pytest.fixture
def town(town_authority: Authority) -> Iterator[Town]:
    """An empty town."""
    with contextlib.ExitStack() as stack:
        yield Town(town_authority, stack)
