"""Corners of the address policy that changing a character of it would round off."""

from __future__ import annotations

import ipaddress

import pytest

from distworker.errors import ConfigInvalid
from distworker.registry.addresses import AddressPolicy, Allowed, inner, kind_of


@pytest.mark.parametrize("port", [1, 65535])
def test_the_first_and_the_last_port_may_be_named(port: int) -> None:
    """Both ends of the range belong to it."""
    assert Allowed.parse(f"minio.example:{port}") == Allowed("minio.example", port)


def test_a_network_entry_has_no_host() -> None:
    """It opens addresses, not a name that happens to be empty."""
    entry = Allowed.parse("[fd00::/8]:443")
    assert entry == Allowed("", 443, ipaddress.ip_network("fd00::/8"))
    assert not entry.names("", 443)


def test_a_host_whose_name_has_an_x_keeps_it() -> None:
    """Only brackets are taken off."""
    assert Allowed.parse("xXmail.exampleX:25") == Allowed("xxmail.examplex", 25)


def test_the_complaint_about_an_entry_shows_both_forms() -> None:
    """What to write instead."""
    with pytest.raises(ConfigInvalid, match=r"such as minio\.example\.com:9000 or 10\.1\.0\.0/16:443"):
        Allowed.parse("minio.example.com")


def test_behind_a_proxy_an_address_is_allowed_by_its_own_entry_only() -> None:
    """Host and port both count, as they do without a proxy."""
    policy = AddressPolicy((Allowed.parse("10.0.0.7:5000"),))
    assert policy.refusal_of_name("10.0.0.7", 5000) == ""
    assert policy.refusal_of_name("10.0.0.7", 5001) == "a private address"
    assert policy.refusal_of_name("10.0.0.8", 5000) == "a private address"


def test_behind_a_proxy_a_network_entry_opens_addresses_on_its_port() -> None:
    """The service's own servers are resolved where the proxy is, so none is looked up here."""
    policy = AddressPolicy((Allowed.parse("10.0.0.0/8:443"),), frozenset({("redis.inner", 443)}))
    assert policy.refusal_of_name("10.0.0.7", 443) == ""
    assert policy.refusal_of_name("10.0.0.7", 444) == "a private address"


@pytest.mark.parametrize("written", ["fd00:ec2::254", "FD00:EC2::254", "[fd00:ec2::254]"])
def test_a_metadata_address_is_reached_only_where_it_is_written_out(written: str) -> None:
    """An operator may mean it; a name that resolves to it was not meant."""
    address = ipaddress.ip_address("fd00:ec2::254")
    policy = AddressPolicy((Allowed(written.lower(), 80), Allowed("metadata.example", 80)))
    assert policy.refusal(written, 80, address, lambda *_: ()) == ""
    assert policy.refusal("metadata.example", 80, address, lambda *_: ()) == "a cloud's metadata address"


@pytest.mark.parametrize(
    "text", ["::7f00:1", "::a00:1", "::ffff:0:7f00:1", "3fff::1", "5f00::1", "192.88.99.1"]
)
def test_old_and_special_forms_are_not_the_public_internet(text: str) -> None:
    """IPv4 inside IPv6 in both old ways, documentation, segment routing, relays of 6to4."""
    assert kind_of(inner(ipaddress.ip_address(text))) == "a private address"
