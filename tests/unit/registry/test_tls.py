"""TLS is verified always, with the system's roots and the operator's; and nothing of the environment is
used."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distworker.errors import ConfigInvalid, RequestTimeout, TLSError, Unavailable
from distworker.registry import tls
from distworker.registry.addresses import AddressPolicy, Allowed
from distworker.registry.pool import RegistryPool
from distworker.registry.profiles import HostProfile
from distworker.registry.tls import TLSFiles
from distworker.retrying import Backoff
from tests.fakes.certificates import Issuer, server_side
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import Answer, FakeServer, Seen
from tests.unit.registry.conftest import Rig, fails

Pool = Callable[..., RegistryPool]
Serve = Callable[[FakeServer], FakeServer]


class TLSRegistry(FakeRegistry):
    """A fake registry behind TLS; `shown` has the common name of each client's certificate, "" for none."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self.shown: list[str] = []
        self.context = context
        self._http.socket = context.wrap_socket(
            self._http.socket, server_side=True, do_handshake_on_connect=False
        )

    def opened(self, connection: socket.socket) -> None:
        """See FakeServer; here the handshake is finished first, so that the certificate can be looked at."""
        super().opened(connection)
        assert isinstance(connection, ssl.SSLSocket)
        with contextlib.suppress(OSError):
            connection.do_handshake()
            peer = connection.getpeercert() or {}
            parts: Any = peer.get("subject", ())
            self.shown.append(next((value for ((key, value),) in parts if key == "commonName"), ""))


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    """An authority that nobody else knows."""
    return Issuer(tmp_path)


@pytest.fixture
def look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates are looked at for changes with each request."""
    monkeypatch.setattr("distworker.registry.tls.TLS_LOOK_SECONDS", 0.0)


@pytest.fixture
def pool() -> Iterator[Pool]:
    """Pools that never wait, closed afterwards. `near`: what the operator named besides."""
    made: list[RegistryPool] = []

    def make(host: str, near: tuple[str, ...] = (), **profile: object) -> RegistryPool:
        profiles = {host: HostProfile(**{"private": True, **profile})}  # type: ignore[arg-type]
        policy = AddressPolicy(tuple(Allowed.parse(one) for one in near))
        made.append(RegistryPool(profiles, backoff=Backoff(tries=2), sleep=lambda _: None, policy=policy))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_named_ca_is_trusted(issuer: Issuer, serve: Serve, pool: Pool) -> None:
    """With its CA in the profile the registry answers, over one connection."""
    server = TLSRegistry(server_side(issuer.issue("server", "127.0.0.1")))
    serve(server)
    client = pool(server.host, ca_file=str(issuer.ca_file)).client(server.host)
    client.ping()
    client.ping()
    assert server.lines() == ["GET /v2/", "GET /v2/"]
    assert len(server.shown) == 1


def test_an_unknown_ca_is_refused_for_good(issuer: Issuer, serve: Serve, pool: Pool) -> None:
    """One try, a typed error that names the remedy, no request sent."""
    server = TLSRegistry(server_side(issuer.issue("server", "127.0.0.1")))
    serve(server)
    with fails(TLSError) as caught:
        pool(server.host).client(server.host).ping()
    assert "ca_file" in caught[0].message
    assert not caught[0].retry
    assert server.seen == []


@pytest.mark.parametrize(
    ("names", "days", "reason"),
    [
        (("127.9.9.9",), (-1, 2), "IP address mismatch"),
        (("127.0.0.1",), (-9, -1), "certificate has expired"),
        (("127.0.0.1",), (1, 9), "certificate is not yet valid"),
    ],
    ids=["another host", "expired", "not yet valid"],
)
def test_a_trusted_ca_does_not_make_a_wrong_certificate_right(
    names: tuple[str, ...], days: tuple[int, int], reason: str, issuer: Issuer, serve: Serve, pool: Pool
) -> None:
    """Name and dates are checked as ever; the sentence says which it was."""
    server = TLSRegistry(server_side(issuer.issue("server", *names, days=days)))
    serve(server)
    with fails(TLSError) as caught:
        pool(server.host, ca_file=str(issuer.ca_file)).client(server.host).ping()
    assert reason in caught[0].message
    assert ".;" not in caught[0].message, "some of OpenSSL's reasons are sentences, some are not"
    assert server.seen == []


def test_an_old_protocol_is_refused(issuer: Issuer, serve: Serve, pool: Pool) -> None:
    """TLS 1.1 is no protection any more."""
    context = server_side(issuer.issue("server", "127.0.0.1"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    server = TLSRegistry(context)
    serve(server)
    with fails(TLSError):
        pool(server.host, ca_file=str(issuer.ca_file)).client(server.host).ping()
    assert server.seen == []


def test_a_certificate_failure_is_not_healed_by_http(issuer: Issuer, serve: Serve, pool: Pool) -> None:
    """Whoever can break TLS could otherwise read along: no plain request reaches the port."""
    plain = FakeRegistry()
    serve(plain)
    for certificate in (None, str(issuer.ca_file)):
        with fails(TLSError):
            pool(plain.host, ca_file=certificate or "").client(plain.host).get_manifest("team/app", "v1")
    assert plain.seen == []


def test_a_ca_is_added_to_the_systems_roots(issuer: Issuer, tmp_path: Path) -> None:
    """`verify=<file>` of requests would replace them, and with them every public storage host."""
    usual = {one["serialNumber"] for one in tls.contexts().home.get_ca_certs()}
    more = {one["serialNumber"] for one in tls.contexts(TLSFiles((str(issuer.ca_file),))).home.get_ca_certs()}
    assert usual < more
    assert len(more - usual) == 1


def test_a_ca_file_that_is_none_is_named(tmp_path: Path, pool: Pool) -> None:
    """Missing, or without a certificate in it."""
    (tmp_path / "empty.pem").write_text("nothing")
    for name in ("gone.pem", "empty.pem"):
        with pytest.raises(ConfigInvalid, match=name):
            pool("r.example", ca_file=str(tmp_path / name)).client("r.example").ping()


# --- certificates of clients --------------------------------------------------------------------------------
def test_a_client_certificate_is_shown_where_it_is_wanted(issuer: Issuer, serve: Serve, pool: Pool) -> None:
    """Both halves by name, or both in one file."""
    server = TLSRegistry(server_side(issuer.issue("server", "127.0.0.1"), clients=issuer.ca_file))
    serve(server)
    pair = issuer.issue("worker")
    both = pair.certificate.with_name("both.pem")
    both.write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())
    for files in (
        {"client_cert": pair.names[0], "client_key": pair.names[1]},
        {"client_cert": str(both)},
    ):
        pool(server.host, ca_file=str(issuer.ca_file), **files).client(server.host).ping()
    assert server.shown == ["worker", "worker"]
    assert server.lines() == ["GET /v2/", "GET /v2/"]


def test_without_the_wanted_certificate_the_error_names_the_setting(
    issuer: Issuer, serve: Serve, pool: Pool
) -> None:
    """None, or one of another authority."""
    server = TLSRegistry(server_side(issuer.issue("server", "127.0.0.1"), clients=issuer.ca_file))
    serve(server)
    stranger = Issuer(issuer.ca_file.parent, "others").issue("stranger")
    for files in ({}, {"client_cert": stranger.names[0], "client_key": stranger.names[1]}):
        with fails(TLSError) as caught:
            pool(server.host, ca_file=str(issuer.ca_file), **files).client(server.host).ping()
        assert "client_cert" in caught[0].message
    assert server.seen == []


def test_a_client_certificate_is_shown_to_its_registry_and_named_token_servers_only(
    issuer: Issuer, serve: Serve, pool: Pool
) -> None:
    """A storage host that asks for it gets none, though it is trusted by the same authority."""
    pair = issuer.issue("worker")
    shown = server_side(issuer.issue("server", "127.0.0.1"))
    shown.verify_mode = ssl.CERT_OPTIONAL
    shown.load_verify_locations(issuer.ca_file)
    storage, realm, registry = TLSRegistry(shown), TLSRegistry(shown), TLSRegistry(shown)
    for server in (storage, realm, registry):
        server.known_as(f"127.0.0.1:{server.address[1]}", None)
        serve(server)
    digest = registry.put_blob("team/app", b"layer")
    storage.put_blob("team/app", b"layer")
    at, token = f"/v2/team/app/blobs/{digest}", "https://{}/token"
    registry.on("GET", at, Answer(401, {"WWW-Authenticate": f'Bearer realm="{token.format(realm.host)}"'}))
    registry.on("GET", at, Answer(307, {"Location": f"https://{storage.host}{at}"}))
    realm.always("GET", "/token", Answer(200, {}, b'{"token": "t", "expires_in": 300}'))
    client = pool(
        registry.host,
        near=(storage.host,),
        ca_file=str(issuer.ca_file),
        client_cert=pair.names[0],
        client_key=pair.names[1],
        token_realms=(realm.host,),
    ).client(registry.host)
    with client.read_blob("team/app", digest, 5) as blob:
        assert b"".join(blob) == b"layer"
    assert (registry.shown, realm.shown, storage.shown) == (["worker"], ["worker"], [""])


def test_a_lone_half_a_wrong_half_and_a_locked_key_are_named(issuer: Issuer, tmp_path: Path) -> None:
    """Each sentence says which file is at fault, and none asks for a passphrase on the terminal."""
    good, other = issuer.issue("good"), issuer.issue("other")
    locked = issuer.issue("locked", passphrase=b"SECRET-WORD")
    (tmp_path / "text").write_text("nothing")
    text, gone = str(tmp_path / "text"), str(tmp_path / "gone")
    wrong = {
        (good.names[0], ""): ("good.cert", "no PEM key"),
        (good.names[0], gone): ("gone", "No such file"),
        (gone, good.names[1]): ("gone", "No such file"),
        (good.names[0], text): ("text", "no PEM key"),
        (text, good.names[1]): ("text", "no PEM certificate"),
        (good.names[0], other.names[1]): ("other.key", "does not belong to"),
        locked.names: ("locked.key", "encrypted"),
    }
    for pair, (file, reason) in wrong.items():
        with pytest.raises(ConfigInvalid, match=f"{file}: .*{reason}"):
            tls.contexts(TLSFiles(pairs=(pair,)))
    broken = tmp_path / "broken.cert"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(ConfigInvalid, match=r"broken.cert: .*cannot be used together"):
        tls.contexts(TLSFiles(pairs=((str(broken), good.names[1]),)))


# --- rotation -----------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("look_always")
def test_replaced_certificates_are_taken_up_and_running_reads_go_on(
    issuer: Issuer, serve: Serve, pool: Pool
) -> None:
    """A rotation needs no restart and cuts nobody off."""
    server = TLSRegistry(server_side(issuer.issue("server", "127.0.0.1"), clients=issuer.ca_file))
    serve(server)
    data = bytes(range(256)) * 4096
    digest = server.put_blob("team/app", data)
    pair = issuer.issue("worker")
    client = pool(
        server.host, ca_file=str(issuer.ca_file), client_cert=pair.names[0], client_key=pair.names[1]
    ).client(server.host)
    with client.read_blob("team/app", digest, len(data)) as blob:
        pieces = iter(blob)
        got = [bytes(next(pieces))]
        new = issuer.issue("renewed")
        pair.certificate.write_bytes(new.certificate.read_bytes())
        pair.key.write_bytes(new.key.read_bytes())
        client.ping()
        got += [bytes(piece) for piece in pieces]
    assert b"".join(got) == data
    assert server.shown == ["worker", "renewed"]
    assert server.count("GET", "/blobs/") == 1


@pytest.mark.usefixtures("look_always")
def test_a_rotation_that_is_half_done_changes_nothing_yet(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """The certificate is there before its key: the old pair serves on, and the log says why."""
    pair, new = issuer.issue("worker"), issuer.issue("renewed")
    files = TLSFiles(pairs=(pair.names,))
    before = tls.contexts(files)
    pair.certificate.write_bytes(new.certificate.read_bytes())
    assert tls.contexts(files) is before
    assert "does not belong to" in caplog.text
    pair.key.write_bytes(new.key.read_bytes())
    after = tls.contexts(files)
    assert after is not before
    assert tls.contexts(files) is after


@pytest.mark.usefixtures("look_always")
def test_a_file_that_vanishes_costs_nobody_a_connection(
    issuer: Issuer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was read from it serves on, and a folder that is gone is told too."""
    folder = tmp_path / "certs"
    folder.mkdir()
    (folder / "ca.crt").write_bytes(issuer.ca_file.read_bytes())
    files = TLSFiles((str(issuer.ca_file),), folders=(str(folder),))
    before = tls.contexts(files)
    issuer.ca_file.unlink()
    assert tls.contexts(files) is before
    assert f"{issuer.ca_file}: cannot be read" in caplog.text
    (folder / "ca.crt").unlink()
    folder.rmdir()
    assert tls.contexts(files) is before
    assert f"{folder}: cannot be listed" in caplog.text


def test_files_are_looked_at_now_and_then_and_not_with_each_request(issuer: Issuer) -> None:
    """Within half a minute nothing is read again."""
    files = TLSFiles((str(issuer.ca_file),))
    before = tls.contexts(files)
    issuer.ca_file.write_bytes(Issuer(issuer.ca_file.parent, "others").ca_file.read_bytes())
    assert tls.contexts(files) is before


def test_a_failed_first_look_leaves_nothing_behind(issuer: Issuer, tmp_path: Path) -> None:
    """The file that was missing is found once it is there."""
    late = tmp_path / "late.pem"
    files = TLSFiles((str(late),))
    with pytest.raises(ConfigInvalid):
        tls.contexts(files)
    late.write_bytes(issuer.ca_file.read_bytes())
    assert tls.contexts(files).home is tls.contexts(files).abroad


def test_plain_http_where_tls_is_expected_names_the_setting(serve: Serve, pool: Pool) -> None:
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


def test_contexts_are_shared_within_a_profile_and_never_between_two(issuer: Issuer) -> None:
    """Loading the roots again for each connection would cost 15 ms; a pool opened under one profile must not
    serve another (CVE-2024-35195)."""
    plain, private = TLSFiles(), TLSFiles((str(issuer.ca_file),))
    shown = TLSFiles((str(issuer.ca_file),), (issuer.issue("worker").names,))
    assert tls.contexts(private) is tls.contexts(TLSFiles((str(issuer.ca_file),)))
    all_of_them = [tls.contexts(plain).home, tls.contexts(private).home, tls.contexts(shown).home]
    all_of_them.append(tls.contexts(shown).abroad)
    assert len({id(one) for one in all_of_them}) == 4
    for one in all_of_them:
        assert one.verify_mode is ssl.CERT_REQUIRED
        assert one.check_hostname
        assert one.minimum_version is ssl.TLSVersion.TLSv1_2


def test_hosts_and_credentials_have_connections_of_their_own(
    issuer: Issuer, serve: Serve, pool: Pool
) -> None:
    """The profile that trusts our authority says nothing for the one that does not."""
    server = TLSRegistry(server_side(issuer.issue("server", "127.0.0.1")))
    serve(server)
    pool(server.host, ca_file=str(issuer.ca_file)).client(server.host).ping()
    with fails(TLSError):
        pool(server.host).client(server.host).ping()


def test_nothing_listening_is_told(pool: Pool) -> None:
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


def test_a_handshake_that_never_ends_times_out(monkeypatch: pytest.MonkeyPatch, pool: Pool) -> None:
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


def test_a_configured_proxy_is_used(serve: Serve, pool: Pool) -> None:
    """Plain values decide, for this host only."""

    class Proxy(FakeServer):
        def handle(self, request: Seen) -> Answer:
            return Answer(200, {"Content-Type": "application/json"}, b"{}")

    proxy = Proxy()
    serve(proxy)
    pool("far.example", plain_http=True, proxy=proxy.url).client("far.example").ping()
    assert [one.headers["Host"] for one in proxy.seen] == ["far.example"]


@pytest.mark.parametrize("place", ["127.0.0.1:9", "no-such-proxy.invalid:3128"])
def test_a_proxy_that_is_down_is_told_apart(pool: Pool, place: str) -> None:
    """Without its address, which may hold a password; one that never answered is a mistake, not an outage."""
    proxied = pool("far.example", plain_http=True, proxy=f"http://me:SECRET@{place}")
    with fails(Unavailable) as caught:
        proxied.client("far.example").ping()
    assert "the proxy for far.example" in caught[0].message
    assert caught[0].retry is False


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
