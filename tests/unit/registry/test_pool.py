"""Which registries a pool gives clients for."""

from __future__ import annotations

import pytest

from distworker.errors import InvalidReference
from distworker.registry.addresses import AddressPolicy, Allowed
from distworker.registry.pool import RegistryPool
from distworker.registry.profiles import HostProfile

SINGLE = ("localhost", "localhost:5000", "LOCALDOMAIN", "2130706433:80")


@pytest.mark.parametrize("host", SINGLE)
def test_a_host_without_a_dot_is_refused_until_somebody_named_it(host: str) -> None:
    """What it means is decided by the resolver's search list, and some are numbers of inner addresses."""
    with pytest.raises(InvalidReference, match="without a dot"):
        RegistryPool().client(host)


@pytest.mark.parametrize("host", SINGLE)
def test_an_operator_may_name_a_host_without_a_dot(host: str) -> None:
    """In registries.toml, in the list of allowed addresses, or by typing it into a command of their own."""
    port = host.partition(":")[2] or "443"
    allowed = AddressPolicy((Allowed.parse(f"{host.partition(':')[0]}:{port}"),))
    for pool in (
        RegistryPool({host: HostProfile()}),
        RegistryPool(policy=allowed),
        RegistryPool(trust_named=True),
    ):
        assert pool.client(host).origin == host


@pytest.mark.parametrize(
    "host", ["reg.example", "reg.example:5000", "44.0.0.1", "[2001:db8::1]:5000", "docker.io"]
)
def test_any_other_host_needs_no_naming(host: str) -> None:
    """Names with a dot and addresses mean the same everywhere; the address policy judges them later."""
    assert RegistryPool().client(host).origin == host
