"""What a hostile server tries: answers and lists that never end, names that are none."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from distworker import limits
from distworker.digest import Digest
from distworker.errors import (
    LimitExceeded,
    ProtocolError,
    Unavailable,
)
from distworker.registry.addresses import AddressPolicy
from distworker.registry.base import Registry
from distworker.registry.door import Door, SystemWires, Target
from distworker.registry.faults import Where
from distworker.registry.listing.pages import Page, walk
from distworker.registry.pool import RegistryPool
from distworker.registry.profiles import HostProfile
from distworker.registry.waits import ADDRESSES_TRIED_MAX
from tests.fakes.typed import fails

WHERE = Where("list tags", "reg.example", "team/app")
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


class Flood:
    """A server of raw bytes: says `first`, then `again` as fast as it can, up to `times` of it."""

    def __init__(self, first: bytes, again: bytes, times: int) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._first, self._again, self._times = first, again, times
        self.finished = False  #: was all of it taken?
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._socket.accept()
                with peer, contextlib.suppress(OSError):
                    peer.recv(65536)
                    peer.sendall(self._first)
                    for _ in range(self._times):
                        peer.sendall(self._again)
                    self.finished = True

    def __enter__(self) -> Flood:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


@contextlib.contextmanager
def client_of(host: str) -> Iterator[Registry]:
    """A client that never waits."""
    pool = RegistryPool({host: HostProfile(plain_http=True, private=True)}, sleep=lambda _: None)
    yield pool.client(host)
    pool.close()


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (CHUNKED + b"0\r\n", b"X: y\r\n" * 10_000),
        (CHUNKED, b"1;" + b"x" * 60_000 + b"\r\n[\r\n"),
    ],
    ids=["trailers", "chunk-extensions"],
)
def test_what_stands_between_the_pieces_of_a_body_is_not_read_for_ever(first: bytes, again: bytes) -> None:
    """It comes fast enough for any pace, and would go on: the client leaves long before the end."""
    with Flood(first, again, 2000) as server, client_of(server.host) as client:
        with pytest.raises((ProtocolError, Unavailable)):
            list(client.tags("team/app"))
        assert not server.finished


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example", "xn--" + "a" * 80 + ".example"])
def test_a_redirect_to_a_name_that_is_none_is_a_typed_error(host: str) -> None:
    """Python's resolver raises something of its own for these."""
    head = f"HTTP/1.1 307 x\r\nLocation: https://{host}/x\r\n"
    answer = f"{head}Connection: close\r\nContent-Length: 0\r\n\r\n".encode()
    with Flood(answer, b"", 0) as server, client_of(server.host) as client, fails(Unavailable) as caught:
        client.has_blob("team/app", Digest.of(b"x"))
    assert "cannot be resolved" in caught[0].message


class Silent(SystemWires):
    """A name with hundreds of addresses at which nobody answers."""

    def __init__(self) -> None:
        self.tried = 0

    def resolve(self, host: str, port: int) -> list[Target]:
        """Two hundred public ones."""
        return [(int(socket.AF_INET), (f"44.0.0.{last}", port)) for last in range(200)]

    def connect(self, target: Target, timeout: float) -> socket.socket:
        """Nobody."""
        self.tried += 1
        raise TimeoutError


def test_of_hundreds_of_silent_addresses_a_few_are_tried() -> None:
    """Each costs the whole connect timeout, and the owner of the name says how many there are."""
    wires = Silent()
    with pytest.raises(TimeoutError):
        Door(AddressPolicy(), wires=wires).open("evil.example", 443, 10.0)
    assert wires.tried == ADDRESSES_TRIED_MAX


def test_names_of_any_length_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of pages with one name of megabytes each are within the count of pages and of names."""
    monkeypatch.setattr(limits, "NAMES_BYTES_MAX", 1000)

    def fetch(url: str) -> Page[str]:
        return Page([url + "x" * 400], url + "n")

    with fails(LimitExceeded) as caught:
        list(walk("u", fetch, WHERE, "tags"))
    assert "too long" in caught[0].message
