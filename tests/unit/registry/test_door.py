"""The door and the connections behind it: one look-up, checked addresses, bounded heads and bodies."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from distworker.digest import Digest
from distworker.errors import (
    AddressRefused,
    DigestMismatch,
    ProtocolError,
    RedirectRefused,
    RequestTimeout,
    Unavailable,
)
from distworker.registry import call
from distworker.registry.addresses import AddressPolicy, Allowed
from distworker.registry.base import Registry
from distworker.registry.door import Door, SystemWires
from distworker.registry.pool import RegistryPool
from distworker.registry.profiles import HostProfile
from tests.fakes.network import FakeWires
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import Answer, FakeServer
from tests.fakes.world import Clock
from tests.unit.registry.conftest import Rig, fails

Serve = Callable[[FakeServer], FakeServer]


@pytest.fixture
def wires(serve: Serve) -> Iterator[FakeWires]:
    """A network where a registry listens at 44.0.0.1:80 and another server at 10.0.0.7:80."""
    made = FakeWires()
    for address in ("44.0.0.1", "10.0.0.7"):
        made.serve(address, 80, serve(FakeRegistry()))
    yield made


def open_once(door: Door, host: str, port: int = 80) -> None:
    door.open(host, port, 5.0).close()


def test_a_public_host_is_reached_at_the_address_that_was_checked(wires: FakeWires) -> None:
    """One look-up for each connection, and the connection goes to its answer."""
    wires.name("reg.example", "44.0.0.1")
    open_once(Door(AddressPolicy(), wires=wires), "reg.example")
    assert wires.asked == ["reg.example"]
    assert wires.dialled == [("44.0.0.1", 80)]


def test_a_second_answer_of_the_name_server_is_never_used(wires: FakeWires) -> None:
    """DNS rebinding: each connection is checked anew, with the answer it will use."""
    door = Door(AddressPolicy(), wires=wires)
    wires.name("rebound.example", "44.0.0.1")
    open_once(door, "rebound.example")
    wires.name("rebound.example", "10.0.0.7")
    with pytest.raises(AddressRefused):
        open_once(door, "rebound.example")
    assert wires.dialled == [("44.0.0.1", 80)]


def test_of_several_addresses_only_the_open_ones_are_tried(wires: FakeWires) -> None:
    """A closed one beside them is passed over, a silent one too."""
    wires.name("mixed.example", "10.0.0.7", "44.0.0.9", "44.0.0.1")
    open_once(Door(AddressPolicy(), wires=wires), "mixed.example")
    assert wires.dialled == [("44.0.0.9", 80), ("44.0.0.1", 80)]


def test_a_failure_of_an_open_address_is_told_and_not_the_closed_one(wires: FakeWires) -> None:
    """An outage is an outage."""
    wires.name("mixed.example", "44.0.0.9", "10.0.0.7")
    with pytest.raises(ConnectionRefusedError):
        open_once(Door(AddressPolicy(), wires=wires), "mixed.example")


def test_a_name_without_addresses_does_not_exist(wires: FakeWires) -> None:
    """As the resolver says it."""
    with pytest.raises(socket.gaierror):
        open_once(Door(AddressPolicy(), wires=wires), "nobody.example")


@pytest.mark.parametrize(
    "host", ["127.1", "0x7f.1", "2130706433", "0", "[::1]", "::ffff:127.0.0.1", "0177.0.0.1"]
)
def test_every_spelling_of_this_machine_is_known(wires: FakeWires, host: str) -> None:
    """What the C library takes for an address is judged as that address; nothing is dialled."""
    with pytest.raises(AddressRefused):
        open_once(Door(AddressPolicy(), wires=wires), host)
    assert wires.dialled == []


@pytest.mark.parametrize("spelling", ["127.1", "2130706433"])
def test_the_machines_own_resolver_is_judged_the_same(spelling: str) -> None:
    """The real one, so that the fake is not believed alone."""
    with pytest.raises(AddressRefused, match="this machine itself"):
        Door(AddressPolicy(), wires=SystemWires()).open(spelling, 80, 1.0)


def test_the_refusal_says_what_to_write_for_the_registry_itself(wires: FakeWires) -> None:
    """The table and its key; the port only where it is not the usual one."""
    wires.name("reg.corp.example", "10.0.0.7")
    for port, table in ((443, '["reg.corp.example"]'), (5000, '["reg.corp.example:5000"]')):
        door = Door(AddressPolicy(), home=("reg.corp.example", port), wires=wires)
        with pytest.raises(AddressRefused) as info:
            door.open("reg.corp.example", port, 1.0)
        assert f"write {table} and below it private = true into registries.toml" in info.value.message


def test_the_refusal_says_what_to_write_for_what_it_leads_to(wires: FakeWires) -> None:
    """`allow_hosts`, with the port; IPv6 in brackets."""
    door = Door(AddressPolicy(), home=("reg.example", 443), wires=wires)
    for host, shown in (("10.0.0.7", "10.0.0.7:80"), ("[::1]", "[::1]:80")):
        with pytest.raises(AddressRefused) as info:
            door.open(host, 80, 1.0)
        assert f'add "{shown}" to allow_hosts in distworker.toml' in info.value.message


def test_the_operators_proxy_may_stand_anywhere(wires: FakeWires) -> None:
    """Exactly its host and port."""
    door = Door(AddressPolicy(), proxy=("10.0.0.7", 80), wires=wires)
    open_once(door, "10.0.0.7")
    with pytest.raises(AddressRefused):
        open_once(door, "10.0.0.7", 81)


def test_a_proxy_is_not_asked_for_inner_hosts(serve: Serve, rig: Callable[..., Rig]) -> None:
    """The client refuses before anything is sent."""
    proxy = serve(FakeServer())
    pool = RegistryPool({"10.0.0.7:5000": HostProfile(plain_http=True, proxy=proxy.url)})
    with fails(AddressRefused):
        pool.client("10.0.0.7:5000").ping()
    pool.close()
    assert proxy.seen == []


def test_a_registry_at_a_private_address_needs_its_operators_word(wires: FakeWires) -> None:
    """Without it the error names host and remedy; with it all works, and only for this registry."""
    wires.name("reg.corp.example", "10.0.0.7")
    closed = RegistryPool({"reg.corp.example": HostProfile(plain_http=True)}, wires=wires)
    with fails(AddressRefused) as caught:
        closed.client("reg.corp.example").ping()
    assert "private = true" in caught[0].message
    assert caught[0].retry is False
    opened = RegistryPool({"reg.corp.example": HostProfile(plain_http=True, private=True)}, wires=wires)
    opened.client("reg.corp.example").ping()
    opened.close()
    closed.close()


def test_whoever_runs_it_locally_is_the_operator(wires: FakeWires) -> None:
    """A registry named in the request may be private; what it leads to may not."""
    wires.name("reg.corp.example", "10.0.0.7")
    pool = RegistryPool({"reg.corp.example": HostProfile(plain_http=True)}, wires=wires, trust_named=True)
    pool.client("reg.corp.example").ping()
    pool.close()


def test_a_private_registry_does_not_open_another(serve: Serve) -> None:
    """Each client reaches its own registry only, although both are configured."""
    one, two = FakeRegistry(), FakeRegistry()
    serve(one)
    serve(two)
    one.always("GET", "/v2/", Answer(307, {"Location": f"{two.url}/v2/"}))
    profile = HostProfile(plain_http=True, private=True)
    pool = RegistryPool({one.host: profile, two.host: profile})
    with fails(RedirectRefused) as caught:
        pool.client(one.host).ping()
    pool.close()
    assert f'add "{two.host}" to allow_hosts' in caught[0].message
    assert two.seen == []


class Raw:
    """A server of raw bytes: says `first`, then `again` and again until it is stopped."""

    def __init__(self, first: bytes, again: bytes) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._first, self._again = first, again
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        peer, _ = self._socket.accept()
        with peer, contextlib.suppress(OSError):
            peer.sendall(self._first)
            while not self._stop.wait(0.002):
                peer.sendall(self._again)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self._socket.close()


@contextlib.contextmanager
def client_of(server: Raw, clock: Clock | None = None) -> Iterator[Registry]:
    """A client that never waits."""
    pool = RegistryPool(
        {server.host: HostProfile(plain_http=True, private=True)},
        sleep=lambda _: None,
        clock=clock or Clock(),
    )
    yield pool.client(server.host)
    pool.close()


def test_a_head_that_drips_ends_with_the_time_for_the_whole_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, the head never does."""
    monkeypatch.setattr(call, "READ_TIMEOUT", 0.4)
    with (
        Raw(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x") as server,
        client_of(server) as client,
        fails(RequestTimeout),
    ):
        client.ping()


def test_a_head_without_end_is_cut_off() -> None:
    """By its size, before http.client's own hundred headers of 64 KiB each."""
    line = b"X-Long: " + b"y" * 4000 + b"\r\n"
    with (
        Raw(b"HTTP/1.1 200 OK\r\n", line) as server,
        client_of(server) as client,
        fails(ProtocolError) as caught,
    ):
        client.ping()
    assert "headers exceed" in caught[0].message


EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"


@pytest.mark.parametrize(
    "early", [EARLY, b"HTTP/1.1 102 Processing\r\n\r\n" * 3, b"HTTP/1.1 100 Continue\r\n\r\n"]
)
def test_an_answer_may_be_announced(early: bytes) -> None:
    """What comes before the final answer is not it, and does not stand in the way of the next one."""
    final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    with Raw(early + final, b"") as server, client_of(server) as client:
        client.ping()


def test_announcements_without_end_are_cut_off() -> None:
    """They are a part of the head, which is bounded."""
    with Raw(b"", EARLY * 100) as server, client_of(server) as client, fails(ProtocolError):
        client.ping()


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "again"),
    [(PLAIN, b"x"), (CHUNKED, b"0"), (CHUNKED + b"1;", b"x"), (CHUNKED + b"0\r\n", b"X: y\r\n")],
    ids=["body", "chunk-size", "chunk-extension", "trailers"],
)
def test_whatever_drips_is_given_up(first: bytes, again: bytes) -> None:
    """A body, and all that stands between the pieces of a chunked one; the test's clock passes."""
    clock = Clock()
    clock.step = 1.0
    with (
        Raw(first, again) as server,
        client_of(server, clock) as client,
        pytest.raises((RequestTimeout, Unavailable)) as info,
    ):
        list(client.tags("team/app"))
    assert info.value.fields["registry"] == server.host


def test_a_slow_reader_is_not_held_against_the_server() -> None:
    """The clock runs between the reads, not during them: nothing is cut."""
    clock = Clock()
    with Raw(PLAIN, b"x" * 200_000) as server, client_of(server, clock) as client:
        size = 1_000_000
        with pytest.raises(DigestMismatch), client.read_blob("team/app", Digest.of(b"other"), size) as blob:
            for _ in blob:
                clock.forward(3600.0)


def test_allowed_entries_are_values() -> None:
    """So that a policy can be compared and reused."""
    assert Allowed.parse("Reg.Corp:5000") == Allowed("reg.corp", 5000)
