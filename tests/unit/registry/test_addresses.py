"""The address policy: what is public, what hides inside IPv6, and what an operator's list opens."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distworker.errors import ConfigInvalid
from distworker.registry.addresses import Address, AddressPolicy, Allowed, inner, kind_of

PUBLIC = ("44.0.0.1", "1.1.1.1", "2606:4700::1111", "2002:2c00:1::1", "64:ff9b::2c00:1", "::ffff:44.0.0.1")
LOOPBACK = ("127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::")
PRIVATE = (
    *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "198.18.0.1", "192.0.2.1"),
    *("fc00::1", "fd12:3456::1", "fec0::1", "2001:db8::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"),
    *("64:ff9b:1::a00:1", "2002:a00:1::1", "2001:0:102:304::1", "240.0.0.1", "64:ff9b:1::"),
)
LINK = ("169.254.1.1", "fe80::1", "febf::1")
METADATA = ("169.254.169.254", "fd00:ec2::254", "168.63.129.16", "192.0.0.192", "100.100.100.200")
NOWHERE = ("0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "239.255.255.255", "ff02::1", "255.255.255.255")


def address(text: str) -> Address:
    return ipaddress.ip_address(text)


def nobody(host: str, port: int) -> list[Address]:
    return []


def refusal(policy: AddressPolicy, host: str, port: int, text: str) -> str:
    return policy.refusal(host, port, address(text), nobody)


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_free(text: str) -> None:
    """Also where a public IPv4 address is carried inside IPv6."""
    assert refusal(AddressPolicy(), "any.example", 443, text) == ""


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (LOOPBACK, "this machine itself"),
        (LINK, "a link-local address"),
        (METADATA, "a cloud's metadata address"),
        (NOWHERE, "an address that no server has"),
    ],
    ids=["loopback", "link-local", "metadata", "nowhere"],
)
def test_what_is_not_public_is_named(texts: tuple[str, ...], kind: str) -> None:
    """In the words that the refusal shows."""
    assert {text: kind_of(inner(address(text))) for text in texts} == dict.fromkeys(texts, kind)


@pytest.mark.parametrize("text", [*LOOPBACK, *PRIVATE, *LINK, *METADATA, *NOWHERE])
def test_everything_else_is_closed(text: str) -> None:
    """Whatever name led there."""
    assert refusal(AddressPolicy(), "any.example", 443, text)


@pytest.mark.parametrize("text", [*LOOPBACK, *PRIVATE, *LINK])
def test_a_named_host_may_be_private_on_its_port_only(text: str) -> None:
    """Another port of the same host is another service."""
    policy = AddressPolicy((Allowed.parse("reg.corp:5000"),))
    assert refusal(policy, "reg.corp", 5000, text) == ""
    assert refusal(policy, "REG.corp", 5000, text) == ""
    assert refusal(policy, "reg.corp", 5001, text)
    assert refusal(policy, "other.corp", 5000, text)


@pytest.mark.parametrize("text", [*METADATA, *NOWHERE])
def test_a_name_never_opens_metadata(text: str) -> None:
    """Whoever controls the name of a private registry must not reach the cloud's secrets by it."""
    assert refusal(AddressPolicy((Allowed.parse("reg.corp:80"),)), "reg.corp", 80, text)


def test_only_the_address_itself_opens_metadata() -> None:
    """Written out, by somebody who means it; an address that no server has stays closed all the same."""
    policy = AddressPolicy((Allowed.parse("169.254.169.254:80"), Allowed.parse("0.0.0.0:80")))
    assert refusal(policy, "169.254.169.254", 80, "169.254.169.254") == ""
    assert refusal(policy, "0.0.0.0", 80, "0.0.0.0")


def test_a_network_opens_its_addresses_on_one_port() -> None:
    """IPv4 and IPv6, but never metadata inside it."""
    opened = ("10.1.0.0/16:443", "[fd12::/16]:443", "169.254.0.0/16:80")
    policy = AddressPolicy(tuple(Allowed.parse(one) for one in opened))
    assert refusal(policy, "store.corp", 443, "10.1.2.3") == ""
    assert refusal(policy, "store.corp", 443, "::ffff:10.1.2.3") == ""
    assert refusal(policy, "store.corp", 443, "fd12::7") == ""
    assert refusal(policy, "store.corp", 80, "169.254.3.3") == ""
    assert refusal(policy, "store.corp", 443, "10.2.0.1")
    assert refusal(policy, "store.corp", 5000, "10.1.2.3")
    assert refusal(policy, "store.corp", 80, "169.254.169.254")


def test_a_network_never_opens_our_own_servers() -> None:
    """Redis, broker and store of this service are found by their names and stay closed, unless named."""
    own = frozenset({("redis.corp", 6379)})
    wide, named = Allowed.parse("10.0.0.0/8:6379"), Allowed.parse("redis.corp:6379")

    def resolve(host: str, port: int) -> list[Address]:
        return [address("::ffff:10.0.0.9")] if host == "redis.corp" else []

    policy = AddressPolicy((wide,), own)
    assert policy.refusal("evil.example", 6379, address("10.0.0.9"), resolve) == "a server of this service"
    assert policy.refusal("evil.example", 6379, address("10.0.0.8"), resolve) == ""
    both = AddressPolicy((wide, named), own)
    assert both.refusal("redis.corp", 6379, address("10.0.0.9"), resolve) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "reg.corp",
        "reg.corp:",
        ":443",
        "reg.corp:0",
        "reg.corp:65536",
        "10.0.0.0/8",
        "10.0.0.1/8:443",
        "x/8:1",
    ],
)
def test_an_entry_that_says_less_than_host_and_port_is_refused(text: str) -> None:
    """The sentence shows what was written and how it should look."""
    with pytest.raises(ConfigInvalid, match="allow_hosts") as info:
        Allowed.parse(text)
    assert info.value.fields["field"] == "allow_hosts"


@pytest.mark.parametrize(
    "name",
    ["localhost", "a.localhost", "metadata.google.internal", "printer.local", "LOCALHOST", "localhost."],
)
def test_behind_a_proxy_inner_names_are_closed(name: str) -> None:
    """The proxy would resolve them on its side of the wall."""
    assert AddressPolicy().refusal_of_name(name, 443) == "a name of the inside"
    named = AddressPolicy((Allowed.parse(f"{name.rstrip('.')}:443"),))
    assert named.refusal_of_name(name, 443) == ""


def test_behind_a_proxy_addresses_are_judged_and_names_are_the_proxys() -> None:
    """What is written as an address needs no name server to be judged."""
    assert AddressPolicy().refusal_of_name("10.0.0.1", 443) == "a private address"
    for spelling in ("127.1", "0x7f.1", "2130706433", "0177.1", "127.0.0.1.", "::1", "::ffff:7f00:1"):
        assert AddressPolicy().refusal_of_name(spelling, 443) == "this machine itself", spelling
    assert AddressPolicy().refusal_of_name("fe80::1%eth0", 443) == "a link-local address"
    assert AddressPolicy().refusal_of_name("44.0.0.1", 443) == ""
    assert AddressPolicy().refusal_of_name("reg.example", 443) == ""


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_what_is_open_is_global(one: Address) -> None:
    """Whatever the address: without a list, nothing that Python does not call global is ever open."""
    if not AddressPolicy().refusal("any.example", 443, one, nobody):
        true = inner(one)
        assert true.is_global
        assert not (true.is_multicast or true.is_loopback or true.is_link_local or true.is_unspecified)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_means_the_same_inside_ipv6(one: ipaddress.IPv4Address) -> None:
    """Mapped, 6to4 and NAT64 spellings are judged as the address they carry."""
    number = int(one)
    spellings = (f"::ffff:{one}", str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80))))
    expected = AddressPolicy().refusal("any.example", 443, one, nobody)
    assert {refusal(AddressPolicy(), "any.example", 443, text) for text in spellings} == {expected}
    nat64 = ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) | number)
    assert AddressPolicy().refusal("any.example", 443, nat64, nobody) == expected
