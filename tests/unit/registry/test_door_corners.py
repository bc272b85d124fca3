"""Corners of the door: the service's own servers, names without addresses, and the machine's real sockets."""

from __future__ import annotations

import socket

import pytest

from distworker.errors import AddressRefused
from distworker.registry.addresses import AddressPolicy, Allowed
from distworker.registry.door import Door, SystemWires
from tests.fakes.network import FakeWires
from tests.fakes.registry_server import FakeServer

WHOLE = Allowed.parse("10.0.0.0/8:6379")


@pytest.fixture
def wires() -> FakeWires:
    """Nobody is there until a test says so."""
    return FakeWires()


def test_a_network_entry_does_not_open_the_services_own_servers(wires: FakeWires) -> None:
    """Whatever name leads there: they are compared by address, as they resolve at that moment."""
    wires.name("redis.inner", "10.0.0.9")
    wires.name("guess.example", "10.0.0.9")
    door = Door(AddressPolicy((WHOLE,), frozenset({("redis.inner", 6379)})), wires=wires)
    with pytest.raises(AddressRefused, match="a server of this service"):
        door.open("guess.example", 6379, 1.0)
    assert wires.dialled == []
    # The neighbour on the same network and port is no server of ours.
    with pytest.raises(ConnectionRefusedError):
        door.open("10.0.0.8", 6379, 1.0)
    assert wires.dialled == [("10.0.0.8", 6379)]


def test_an_own_server_that_does_not_resolve_closes_nothing_else(wires: FakeWires) -> None:
    """A name that is gone is no reason to refuse a registry."""
    door = Door(AddressPolicy((WHOLE,), frozenset({("gone.inner", 6379)})), wires=wires)
    with pytest.raises(ConnectionRefusedError):
        door.open("10.0.0.8", 6379, 1.0)


def test_a_name_without_any_address_is_a_name_that_does_not_resolve() -> None:
    """Not a refusal: there was nothing to refuse."""

    class Nowhere(FakeWires):
        """Resolves to an empty list."""

        def resolve(self, host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
            """Nothing."""
            return []

    with pytest.raises(socket.gaierror) as caught:
        Door(AddressPolicy(), wires=Nowhere()).open("empty.example", 443, 1.0)
    assert caught.value.errno == socket.EAI_NONAME


def test_a_name_in_brackets_is_looked_up_without_them(wires: FakeWires) -> None:
    """As URLs write IPv6; nothing else is taken off."""
    with pytest.raises(ConnectionRefusedError):
        Door(AddressPolicy(), wires=wires).open("[2606:4700::1111]", 443, 1.0)
    wires.name("xx.example", "44.0.0.1")
    with pytest.raises(ConnectionRefusedError):
        Door(AddressPolicy(), wires=wires).open("xx.example", 443, 1.0)
    assert wires.asked == ["2606:4700::1111", "xx.example"]


def test_a_zone_is_no_part_of_the_address() -> None:
    """`fe80::1%eth0` is link-local, on whatever interface."""

    class Zoned(FakeWires):
        """Answers as getaddrinfo does for a link-local name."""

        def resolve(self, host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
            """One address with its interface."""
            return [(int(socket.AF_INET6), ("fe80::1%eth0", port))]

    with pytest.raises(AddressRefused, match="a link-local address"):
        Door(AddressPolicy(), wires=Zoned()).open("printer.example", 443, 1.0)


@pytest.mark.parametrize(
    ("port", "written"), [(443, '["[fd00::7]"]'), (5000, '["[fd00::7]:5000"]')], ids=["usual", "other"]
)
def test_the_advice_for_a_registry_at_an_ipv6_address_has_its_brackets(
    wires: FakeWires, port: int, written: str
) -> None:
    """So that it can be pasted."""
    with pytest.raises(AddressRefused) as caught:
        Door(AddressPolicy(), home=("fd00::7", port), wires=wires).open("[fd00::7]", port, 1.0)
    assert f"write {written} and below it private = true" in caught.value.message


def test_a_proxied_refusal_says_where_and_why(wires: FakeWires) -> None:
    """Host, port and reason, as without a proxy."""
    with pytest.raises(AddressRefused, match=r"^.*10\.0\.0\.7:5000 is a private address, and connecting"):
        Door(AddressPolicy(), wires=wires).check_proxied("10.0.0.7", 5000)


def test_real_names_and_sockets_are_used_where_nothing_else_is_given() -> None:
    """The machine's resolver, streams only, and the time that was asked for."""
    with FakeServer() as server:
        host, port = server.address
        targets = SystemWires().resolve("localhost", port)
        assert len(targets) == len(set(targets))
        assert {target[1][0] for target in targets} <= {"127.0.0.1", "::1"}
        made = SystemWires().connect((int(socket.AF_INET), (host, port)), 7.0)
        assert made.type == socket.SOCK_STREAM
        assert made.gettimeout() == 7.0
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        made.close()


def test_the_system_resolves_the_name_that_was_asked_for() -> None:
    """And no other: without a name the system would answer with this machine itself."""
    assert {target[1][:2] for target in SystemWires().resolve("192.0.2.1", 443)} == {("192.0.2.1", 443)}


def test_the_services_own_servers_are_resolved_for_their_port() -> None:
    """As they would be connected to."""
    asked: list[tuple[str, int]] = []

    class Asked(FakeWires):
        """Notes the port as well."""

        def resolve(self, host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
            """As the fake does."""
            asked.append((host, port))
            return [(socket.AF_INET, ("10.0.0.9", port))]

    door = Door(AddressPolicy((WHOLE,), frozenset({("redis.inner", 6379)})), wires=Asked())
    with pytest.raises(AddressRefused, match="a server of this service"):
        door.open("guess.example", 6379, 1.0)
    assert asked == [("guess.example", 6379), ("redis.inner", 6379)]
