"""The cases' world, with the hosts of services and their listing APIs in it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from distworker.registry.client import Client
from distworker.registry.credentials import ConfiguredCredentials, Login
from distworker.registry.pool import RegistryPool
from distworker.registry.profiles import HostProfile
from distworker.registry.providers import quirks_of
from distworker.retrying import Backoff
from tests.fakes.network import Authority
from tests.fakes.registry_server import FakeServer
from tests.fakes.world import World
from tests.unit.registry.cases.conftest import world

__all__ = ["connect", "world"]

#: Gives a client for a host: `connect(host, {host: server}, login, **keys of registries.toml)`.
Connect = Callable[..., Client]


@pytest.fixture
def connect(world: World, authority: Authority, request: pytest.FixtureRequest) -> Connect:
    """Make a client for a registry as the table has it, after giving names to servers."""
    numbers = itertools.count(1)

    def make(
        host: str,
        servers: dict[str, FakeServer],
        login: tuple[str, str] | None = None,
        provider: str = "",
        identity: str = "",
        **said: Any,
    ) -> Client:
        for name, server in servers.items():
            world.add(name, server, f"44.0.1.{next(numbers)}")
        profile = HostProfile(ca_file=str(authority.ca_file), quirks=quirks_of(host, provider, said))
        entry = Login((host,), *(login or ("", "")), identity_token=identity)
        entries = {"main": entry} if login or identity else {}
        pool = RegistryPool(
            {host: profile},
            ConfiguredCredentials(entries),
            backoff=Backoff(tries=2),
            sleep=world.sleeps.append,
            clock=world.clock,
            wires=world.network,
        )
        request.addfinalizer(pool.close)
        made = pool.client(host)
        assert isinstance(made, Client)
        return made

    return make
