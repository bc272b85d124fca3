"""The way from logins to providers: https, no redirect, no quotation; and one way to the metadata server."""

from __future__ import annotations

import pytest

from distworker.errors import (
    AddressRefused,
    ProtocolError,
    RealmRefused,
    RedirectRefused,
    Throttled,
    TLSError,
    Unavailable,
)
from distworker.limits import TOKEN_BODY_MAX
from distworker.registry.addresses import AddressPolicy, Allowed
from distworker.registry.logins.google import METADATA_URL
from distworker.registry.logins.wire import metadata_wire
from tests.fakes.providers import FakeGoogle
from tests.fakes.registry_server import Answer, FakeServer
from tests.unit.registry.conftest import fails
from tests.unit.registry.logins.conftest import Town

URL = "https://auth.example/token"
BODY = b"client_secret=SECRET-CLIENT"
HERE = "r.example"


@pytest.fixture
def server(town: Town) -> FakeServer:
    """A provider that answers 404 until told otherwise."""
    made = FakeServer()
    town.add("auth.example", made)
    return made


def test_status_and_body_come_back_as_they_are(town: Town, server: FakeServer) -> None:
    """What they mean is the login's business; the connection is not kept."""
    server.on("POST", "/token", Answer(400, {}, b'{"error": "invalid_grant"}'))
    assert town.wire(HERE)("POST", URL, {"X-Test": "1"}, BODY) == (400, b'{"error": "invalid_grant"}')
    (seen,) = server.seen
    assert (seen.body, seen.headers["X-Test"], seen.headers["User-Agent"]) == (BODY, "1", "distworker-test")
    assert seen.headers["Connection"] == "close"
    assert seen.authorization == ""


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_login_is_never_redirected(town: Town, server: FakeServer, status: int) -> None:
    """The secret in its body would go along."""
    evil = FakeServer()
    town.add("evil.example", evil)
    server.on("POST", "/token", Answer(status, {"Location": "https://evil.example/SECRET-STATE"}))
    with fails(RedirectRefused, registry=HERE, phase="log in"):
        town.wire(HERE)("POST", URL, {}, BODY)
    assert evil.seen == []


def test_faults_are_retried_and_then_typed_without_a_word_of_the_server(
    town: Town, server: FakeServer
) -> None:
    """A provider may echo what it was sent."""
    server.always("POST", "/token", Answer(503, {}, b'{"error": "cannot take SECRET-CLIENT"}'))
    with fails(Unavailable, registry=HERE, status=503):
        town.wire(HERE)("POST", URL, {}, BODY)
    assert len(server.seen) == 3
    assert len(town.sleeps) == 2


def test_a_fault_that_passes_is_not_noticed(town: Town, server: FakeServer) -> None:
    """One 500 is no reason to fail a copy."""
    server.on("POST", "/token", Answer(500), Answer(hangup=True), Answer(200, {}, b"ok"))
    assert town.wire(HERE)("POST", URL, {}, BODY) == (200, b"ok")


def test_a_throttled_login_says_when_to_come_back(town: Town, server: FakeServer) -> None:
    """The ledger waits, not the worker."""
    server.always("POST", "/token", Answer(429, {"Retry-After": "120"}, b"SECRET-CLIENT"))
    with fails(Throttled, registry=HERE, delay=120.0):
        town.wire(HERE)("POST", URL, {}, BODY)


def test_an_endless_answer_is_cut(town: Town, server: FakeServer) -> None:
    """Tokens are small."""
    server.on("POST", "/token", Answer(200, {}, b"SECRET" * TOKEN_BODY_MAX))
    with fails(ProtocolError, registry=HERE):
        town.wire(HERE)("POST", URL, {}, BODY)


@pytest.mark.parametrize(
    "url", ["http://auth.example/token", "ftp://auth.example/", "https://me:SECRET@auth.example/", "nonsense"]
)
def test_a_login_travels_by_https_only(town: Town, server: FakeServer, url: str) -> None:
    """Whatever a key file or a setting says."""
    with fails(RealmRefused, registry=HERE):
        town.wire(HERE)("POST", url, {}, BODY)
    assert town.network.dialled == []


def test_a_provider_at_a_private_address_is_refused_until_the_operator_names_it(town: Town) -> None:
    """A key file from elsewhere could name a server of ours."""
    inner = FakeServer()
    town.add("auth.example", inner)
    town.network.name("auth.example", "10.0.0.7")
    town.network.serve("10.0.0.7", 443, inner)
    with fails(AddressRefused, registry=HERE):
        town.wire(HERE)("POST", URL, {}, BODY)
    assert town.network.dialled == []
    named = AddressPolicy((Allowed("auth.example", 443),))
    assert town.wire(HERE, policy=named)("POST", URL, {}, BODY)[0] == 404


def test_a_provider_must_show_a_certificate_that_is_trusted(town: Town, server: FakeServer) -> None:
    """There is no switch."""
    with fails(TLSError, registry=HERE):
        town.wire(HERE, ca_file="")("POST", URL, {}, BODY)
    assert server.seen == []


def test_only_the_login_made_for_it_reaches_the_metadata_server(town: Town) -> None:
    """It gives secrets to whoever asks from inside; and its own wire reaches nothing else."""
    google, other = FakeGoogle(), FakeServer()
    town.add("169.254.169.254", google, port=80, tls=False)
    town.add("auth.example", other)
    headers = {"Metadata-Flavor": "Google"}
    with fails(RealmRefused, registry=HERE):
        town.wire(HERE)("GET", METADATA_URL, headers, None)
    with fails(AddressRefused, registry=HERE):
        town.wire(HERE)("GET", "https://169.254.169.254/computeMetadata/", headers, None)
    wire = metadata_wire(HERE, "distworker-test", METADATA_URL, wires=town.network)
    for url in (URL, "http://169.254.169.254:8080/", "https://169.254.169.254/"):
        with fails(RealmRefused, registry=HERE):
            wire("GET", url, headers, None)
    assert town.network.dialled == []
    assert wire("GET", METADATA_URL, headers, None)[0] == 200
    assert town.network.dialled == [("169.254.169.254", 80)]
