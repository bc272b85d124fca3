"""Connections as the dialer makes them: their timeouts, their log lines, and tunnels through a proxy."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distworker.errors import AddressRefused, TLSError
from distworker.registry.addresses import AddressPolicy, Allowed
from distworker.registry.dialer import Dialer
from distworker.registry.pool import RegistryPool
from distworker.registry.profiles import HostProfile
from distworker.registry.tls import TLSFiles
from distworker.registry.waits import SEND_TIMEOUT
from tests.fakes.certificates import Issuer
from tests.fakes.network import Authority, FakeWires, make_authority
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import FakeServer
from tests.fakes.tunnel import TunnelProxy
from tests.unit.registry.conftest import fails

Serve = Callable[[FakeServer], FakeServer]
HOME = "reg.example"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who vouches for `reg.example`."""
    return make_authority(tmp_path_factory.mktemp("authority"), HOME)


def secured(serve: Serve, authority: Authority) -> FakeRegistry:
    """A registry that speaks https as `reg.example`."""
    fake = FakeRegistry()
    fake.known_as(HOME, authority.server)
    serve(fake)
    return fake


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_body_may_take_its_time_but_not_for_ever(serve: Serve, authority: Authority, scheme: str) -> None:
    """urllib3 would leave the short connect timeout on the socket while a body is sent."""
    fake = secured(serve, authority) if scheme == "https" else serve(FakeRegistry())
    wires = FakeWires()
    wires.name(HOME, "44.0.0.1")
    wires.serve("44.0.0.1", 443, fake)
    dialer = Dialer(ca_file=str(authority.ca_file), wires=wires)
    pool: Any = dialer.adapter().poolmanager.connection_from_url(f"{scheme}://{HOME}:443/")
    connection = pool._new_conn()
    connection.timeout = 7.0
    connection.connect()
    assert isinstance(connection.sock, socket.socket)
    assert connection.sock.gettimeout() == SEND_TIMEOUT
    connection.close()
    dialer.close()


def test_the_connect_timeout_is_the_one_that_was_asked_for() -> None:
    """It goes to the sockets below, not to be replaced by a default."""
    seen: list[float] = []

    class Watching(FakeWires):
        """Notes what it is given."""

        def connect(self, target: Any, timeout: float) -> socket.socket:
            """Refused."""
            seen.append(timeout)
            raise ConnectionRefusedError(111, "Connection refused")

    dialer = Dialer(wires=Watching())
    pool: Any = dialer.adapter().poolmanager.connection_from_url("http://44.0.0.1/")
    for timeout in (7.0, 3):
        connection = pool._new_conn()
        connection.timeout = timeout
        with pytest.raises(Exception, match="no connection"):
            connection.connect()
    assert [round(one) for one in seen] == [7, 3]
    dialer.close()


def test_debug_lines_of_the_library_keep_the_path_and_lose_the_query(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Queries hold upload state and signatures of storage."""
    caplog.set_level(logging.DEBUG, "urllib3.connectionpool")
    line = '%s://%s:%s "%s %s HTTP/1.1" %s'
    asked = "/v2/a/blobs/uploads/1?_state=SECRET-STATE?x=SECRET-TOO"
    logging.getLogger("urllib3.connectionpool").debug(line, "https", HOME, 443, "PUT", asked, 201)
    assert caplog.messages == [f'https://{HOME}:443 "PUT /v2/a/blobs/uploads/1 HTTP/1.1" 201']


def test_lines_without_parts_pass_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is swallowed."""
    caplog.set_level(logging.DEBUG, "urllib3.connectionpool")
    logging.getLogger("urllib3.connectionpool").debug("Resetting dropped connection")
    assert caplog.messages == ["Resetting dropped connection"]


def test_https_goes_through_a_tunnel_with_the_registrys_own_certificate(
    serve: Serve, authority: Authority
) -> None:
    """The proxy sees a name and a port; TLS is with the registry, by the roots of its profile."""
    fake = secured(serve, authority)
    blob = fake.put_blob("team/app", b"layer")
    with TunnelProxy(fake.address) as proxy:
        profile = HostProfile(ca_file=str(authority.ca_file), proxy=proxy.url)
        pool = RegistryPool({HOME: profile})
        assert pool.client(HOME).has_blob("team/app", blob)
        pool.close()
    assert set(proxy.asked) == {f"{HOME}:443"}


def test_a_tunnel_to_somebody_else_is_noticed(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    """A proxy that leads elsewhere shows a certificate that the profile's roots do not vouch for."""
    other = make_authority(tmp_path, HOME)
    fake = secured(serve, other)
    with TunnelProxy(fake.address) as proxy:
        pool = RegistryPool({HOME: HostProfile(ca_file=str(authority.ca_file), proxy=proxy.url)})
        with fails(TLSError):
            pool.client(HOME).ping()
        pool.close()
    assert [seen.path for seen in fake.seen] == []


def test_a_private_registry_behind_a_proxy_is_allowed_like_any_other(
    serve: Serve, authority: Authority
) -> None:
    """By the operator's list; without it nothing is sent."""
    fake = secured(serve, authority)
    with TunnelProxy(fake.address) as proxy:
        profile = HostProfile(ca_file=str(authority.ca_file), proxy=proxy.url)
        policy = AddressPolicy((Allowed.parse("10.0.0.7:443"),))
        pool = RegistryPool({"10.0.0.7": profile}, policy=policy)
        # The certificate is for another name: refused by TLS, after the tunnel was opened.
        with fails(TLSError):
            pool.client("10.0.0.7").ping()
        pool.close()
    assert set(proxy.asked) == {"10.0.0.7:443"}


@pytest.mark.parametrize(
    ("proxy", "port"),
    [
        ("http://10.0.0.7", 80),
        ("https://10.0.0.7", 443),
        ("http://10.0.0.7:3128", 3128),
        ("https://u:p@10.0.0.7:8443", 8443),
    ],
)
def test_only_the_proxys_own_port_is_open_to_the_proxy(proxy: str, port: int) -> None:
    """The usual one of its scheme when it names none; another service at its address stays closed."""
    dialer = Dialer(proxy=proxy, wires=FakeWires())
    assert set(dialer.proxies.values()) == {proxy}
    for other in {80, 443, 3128, 8443, 81, 444} - {port}:
        with pytest.raises(AddressRefused):
            dialer.door.open("10.0.0.7", other, 1.0)
    with pytest.raises(ConnectionRefusedError):  # nobody listens, but it was asked
        dialer.door.open("10.0.0.7", port, 1.0)


def test_without_a_proxy_there_is_none() -> None:
    """Not an empty one."""
    assert Dialer().proxies == {}


@pytest.mark.parametrize(
    ("host", "home"),
    [("reg.example", True), ("REG.Example", True), ("[::1]", True), ("reg.example.org", False)],
)
@pytest.mark.parametrize("through", ["", "http://proxy.example", "https://proxy.example"])
def test_the_client_certificate_goes_home_however_home_is_spelled(
    tmp_path: Path, host: str, home: bool, through: str
) -> None:
    """To a name in any case, to an address in brackets, and also through a proxy; to nobody else, and not to
    the proxy."""
    pair = Issuer(tmp_path).issue("worker")
    files = TLSFiles(pairs=((pair.names[0], pair.names[1]),))
    dialer = Dialer(home=(HOME, 443), realms=frozenset({("::1", 443)}), files=files)
    adapter = dialer.adapter()
    manager: Any = adapter.proxy_manager_for(through) if through else adapter.poolmanager
    pool = manager.connection_from_url(f"https://{host}/")
    contexts = adapter.contexts
    assert contexts.home is not contexts.abroad
    assert pool.conn_kw["ssl_context"] is (contexts.home if home else contexts.abroad)
    if through:
        assert manager.proxy_config.ssl_context is contexts.abroad
    dialer.close()
