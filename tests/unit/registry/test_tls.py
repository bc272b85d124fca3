"""TLS is verified always, with the system's roots and the operator's; and nothing of the environment is
used."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from distworker.errors import ConfigInvalid, RequestTimeout, TLSError, Unavailable
from distworker.registry import tls
from distworker.registry.client import RegistryPool
from distworker.registry.profiles import HostProfile
from distworker.retrying import Backoff
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import Answer, FakeServer, Seen
from tests.unit.registry.conftest import Rig, fails

Serve = Callable[[FakeServer], FakeServer]


class TLSRegistry(FakeRegistry):
    """A fake registry behind its own certificate for 127.0.0.1."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        super().__init__()
        self.certificate = write_certificate(folder, address)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, folder / "key.pem")
        self._http.socket = context.wrap_socket(
            self._http.socket, server_side=True, do_handshake_on_connect=False
        )


def write_certificate(folder: Path, address: str) -> Path:
    """A self-signed certificate for an address, and its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test registry")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    unlocked = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, unlocked)
    (folder / "key.pem").write_bytes(pem)
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return folder / "cert.pem"


@pytest.fixture
def pool() -> Iterator[Callable[..., RegistryPool]]:
    """Pools that never wait, closed afterwards."""
    made: list[RegistryPool] = []

    def make(host: str, **profile: object) -> RegistryPool:
        profiles = {host: HostProfile(**{"private": True, **profile})}  # type: ignore[arg-type]
        made.append(RegistryPool(profiles, backoff=Backoff(tries=2), sleep=lambda _: None))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_named_ca_is_trusted(tmp_path: Path, serve: Serve, pool: Callable[..., RegistryPool]) -> None:
    """With its CA in the profile the registry answers, over one connection."""
    server = TLSRegistry(tmp_path)
    serve(server)
    client = pool(server.host, ca_file=str(server.certificate)).client(server.host)
    client.ping()
    client.ping()
    assert server.lines() == ["GET /v2/", "GET /v2/"]


def test_an_unknown_ca_is_refused_for_good(
    tmp_path: Path, serve: Serve, pool: Callable[..., RegistryPool]
) -> None:
    """One try, a typed error that names the remedy, no request sent."""
    server = TLSRegistry(tmp_path)
    serve(server)
    with fails(TLSError) as caught:
        pool(server.host).client(server.host).ping()
    assert "ca_file" in caught[0].message
    assert server.seen == []


def test_another_hosts_certificate_is_refused(
    tmp_path: Path, serve: Serve, pool: Callable[..., RegistryPool]
) -> None:
    """A trusted CA does not make a wrong name right."""
    server = TLSRegistry(tmp_path, "127.9.9.9")
    serve(server)
    with fails(TLSError):
        pool(server.host, ca_file=str(server.certificate)).client(server.host).ping()
    assert server.seen == []


def test_a_ca_file_that_is_none_is_named(tmp_path: Path, pool: Callable[..., RegistryPool]) -> None:
    """Missing, or without a certificate in it."""
    (tmp_path / "empty.pem").write_text("nothing")
    for name in ("gone.pem", "empty.pem"):
        with pytest.raises(ConfigInvalid, match=name):
            pool("r.example", ca_file=str(tmp_path / name)).client("r.example").ping()


def test_plain_http_where_tls_is_expected_names_the_setting(
    serve: Serve, pool: Callable[..., RegistryPool]
) -> None:
    """Never healed by speaking http after all."""
    server = FakeRegistry()
    serve(server)
    with fails(TLSError) as caught:
        pool(server.host).client(server.host).ping()
    assert f'["{server.host}"] and below it plain_http = true' in caught[0].message


def test_tls_where_plain_http_is_configured_says_so(rig: Callable[..., Rig]) -> None:
    """Go servers tell; the sentence names the setting to remove."""
    r = rig()
    r.fake.always("GET", "/v2/", Answer(400, {}, b"Client sent an HTTP request to an HTTPS server.\n"))
    with fails(TLSError) as caught:
        r.client.ping()
    assert "plain_http" in caught[0].message


def test_contexts_are_shared(tmp_path: Path) -> None:
    """Loading the roots again for each connection would cost 15 ms."""
    path = str(write_certificate(tmp_path, "127.0.0.1"))
    assert tls.context(path) is tls.context(path)
    assert tls.context() is not tls.context(path)
    assert tls.context().verify_mode is ssl.CERT_REQUIRED
    assert tls.context().check_hostname


def test_nothing_listening_is_told(pool: Callable[..., RegistryPool]) -> None:
    """Refused, unresolvable: both clear, and a mistake as long as nobody ever answered there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{taken.getsockname()[1]}"
        with fails(Unavailable) as caught:
            pool(host).client(host).ping()
    assert "refused" in caught[0].message
    with fails(Unavailable) as caught:
        pool("x").client("nowhere.invalid").ping()
    assert "cannot be resolved" in caught[0].message


def test_a_handshake_that_never_ends_times_out(
    monkeypatch: pytest.MonkeyPatch, pool: Callable[..., RegistryPool]
) -> None:
    """A port that accepts and says nothing holds nobody for long."""
    monkeypatch.setattr("distworker.registry.http.CONNECT_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        with fails(RequestTimeout):
            pool(host).client(host).ping()


def test_the_environment_is_not_used(
    rig: Callable[..., Rig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither .netrc nor proxy variables nor CA variables touch a request."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password SECRET\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    r = rig()
    r.client.ping()
    assert [one.authorization for one in r.fake.seen] == [""]


def test_a_configured_proxy_is_used(serve: Serve, pool: Callable[..., RegistryPool]) -> None:
    """Plain values decide, for this host only."""

    class Proxy(FakeServer):
        def handle(self, request: Seen) -> Answer:
            return Answer(200, {"Content-Type": "application/json"}, b"{}")

    proxy = Proxy()
    serve(proxy)
    pool("far.example", plain_http=True, proxy=proxy.url).client("far.example").ping()
    assert [one.headers["Host"] for one in proxy.seen] == ["far.example"]


def test_a_proxy_that_is_down_is_told_apart(pool: Callable[..., RegistryPool]) -> None:
    """Without its address, which may hold a password."""
    proxied = pool("far.example", plain_http=True, proxy="http://me:SECRET@127.0.0.1:9")
    with fails(Unavailable) as caught:
        proxied.client("far.example").ping()
    assert "proxy" in caught[0].message


# Newer Pythons warn of any fork beside threads; prefork workers do it all the same.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_connections_are_not_shared_with_a_forked_child(rig: Callable[..., Rig]) -> None:
    """A child that used its parent's connection would mix up their replies."""
    r = rig()
    r.client.ping()
    child = os.fork()
    if child == 0:
        try:
            r.client.ping()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    r.client.ping()
    assert r.fake.lines() == ["GET /v2/"] * 3
