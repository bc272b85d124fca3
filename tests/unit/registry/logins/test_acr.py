"""Azure's registries: an application logs in, the registry trades that for a refresh token of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distworker.digest import Digest
from distworker.errors import ConfigInvalid, Denied, DistworkerError, ProtocolError, Unauthorized, Unavailable
from distworker.registry.credentials import Login
from distworker.registry.logins.acr import USER, AcrLogin, Application
from tests.fakes.providers import FakeAcr, FakeEntra, form, reply
from tests.fakes.registry_server import FakeServer
from tests.unit.registry.conftest import fails
from tests.unit.registry.logins.conftest import Town

HOST = "team.azurecr.io"
ENTRA = "login.microsoftonline.com"
TENANT = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def entra(town: Town) -> FakeEntra:
    """Entra, with one application."""
    made = FakeEntra("app-id", "SECRET-CLIENT")
    town.add(ENTRA, made)
    return made


@pytest.fixture
def acr(town: Town) -> FakeAcr:
    """A registry of Azure's."""
    made = FakeAcr(HOST)
    assert made.tokens is not None
    town.stack.enter_context(made.tokens)
    town.add(HOST, made)
    return made


def login(town: Town, secret: str = "SECRET-CLIENT", **more: Any) -> AcrLogin:
    """The application's login."""
    pair = Login((HOST,), "app-id", secret)
    return AcrLogin((HOST,), town.wire(HOST), Application(TENANT, pair, **more), clock=town.clock)


def test_two_exchanges_make_an_identity_token(town: Town, entra: FakeEntra, acr: FakeAcr) -> None:
    """Client credentials at Entra, then the registry's own exchange, which names registry and tenant."""
    found = login(town).open(HOST, HOST)
    assert (found.username, found.password, found.identity_token) == (USER, "", "SECRET-REFRESH-1")
    assert entra.lines() == [f"POST /{TENANT}/oauth2/v2.0/token"]
    (exchange,) = acr.seen
    assert exchange.line == "POST /oauth2/exchange"
    assert form(exchange) == {
        "grant_type": "access_token",
        "service": HOST,
        "tenant": TENANT,
        "access_token": "SECRET-ENTRA-1",
    }


def test_a_pull_with_an_application(town: Town, entra: FakeEntra, acr: FakeAcr) -> None:
    """From the client secret to a blob: the refresh token is posted to the registry's token server."""
    digest = acr.put_blob("team/app", b"layer")
    client = town.client(HOST, login(town))
    assert client.has_blob("team/app", digest)
    assert not client.has_blob("team/app", Digest.of(b"other"))
    posted = [form(seen) for seen in acr.seen if seen.line == "POST /oauth2/token"]
    assert {one["refresh_token"] for one in posted} == {"SECRET-REFRESH-1"}
    assert acr.exchanged == 1
    assert all(b"SECRET-REFRESH" not in seen.body for seen in entra.seen)


def test_a_federated_workload_needs_no_secret(
    town: Town, entra: FakeEntra, acr: FakeAcr, tmp_path: Path
) -> None:
    """The cluster writes a token into a file and renews it; it is read when it is used."""
    file = tmp_path / "token"
    file.write_text("SECRET-CLIENT\n")
    mine = login(town, secret="", token_file=str(file))
    found = mine.open(HOST, HOST)
    assert found.identity_token == "SECRET-REFRESH-1"
    (seen,) = entra.seen
    assert form(seen)["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert "client_secret" not in form(seen)
    file.unlink()
    mine.refused(HOST, found)
    with fails(ConfigInvalid, field="token_file"):
        mine.open(HOST, HOST)


def test_a_secret_in_a_file_is_read_when_it_is_used(
    town: Town, entra: FakeEntra, acr: FakeAcr, tmp_path: Path
) -> None:
    """Rotating it needs no restart."""
    file = tmp_path / "secret"
    file.write_text("SECRET-CLIENT\n")
    pair = Login((HOST,), "app-id", password_file=str(file))
    mine = AcrLogin((HOST,), town.wire(HOST), Application(TENANT, pair), clock=town.clock)
    first = mine.open(HOST, HOST)
    entra.secret = "SECRET-ROTATED"
    file.write_text("SECRET-ROTATED\n")
    mine.refused(HOST, first)
    assert mine.open(HOST, HOST).identity_token == "SECRET-REFRESH-2"


def test_the_token_is_renewed_before_an_hour_is_over(town: Town, entra: FakeEntra, acr: FakeAcr) -> None:
    """It does not say how long it lives; what the registry refused is made anew at once."""
    mine = login(town)
    first = mine.open(HOST, HOST)
    town.now += 47 * 60
    assert mine.open(HOST, HOST) is first
    town.now += 60
    second = mine.open(HOST, HOST)
    mine.refused(HOST, first)
    assert mine.open(HOST, HOST) is second
    mine.refused(HOST, second)
    assert mine.open(HOST, HOST).identity_token == "SECRET-REFRESH-3"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": "invalid_request", "error_description": "SECRET"}, Unauthorized),
        (401, {"error": "invalid_client", "error_description": "SECRET"}, Unauthorized),
        (503, {"error": "SECRET"}, Unavailable),
        (200, {"refresh_token": "SECRET"}, ProtocolError),
    ],
)
def test_what_entra_refuses_never_reaches_the_registry(
    town: Town, entra: FakeEntra, acr: FakeAcr, status: int, body: Any, kind: type[DistworkerError]
) -> None:
    """And its description, which quotes the request, reaches nobody."""
    entra.always("POST", "/oauth2/", reply(status, **body))
    with fails(kind, registry=HOST, phase="log in"):
        login(town).open(HOST, HOST)
    assert acr.seen == []


def test_a_wrong_secret_says_what_to_check(town: Town, entra: FakeEntra, acr: FakeAcr) -> None:
    """Tenant, id and secret."""
    mine = login(town, secret="SECRET-WRONG")
    with fails(Unauthorized, registry=HOST, status=401) as caught:
        mine.open(HOST, HOST)
    assert "invalid_client" in caught[0].message
    assert "tenant" in caught[0].message


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"errors": [{"code": "UNAUTHORIZED", "message": "SECRET"}]}, Unauthorized),
        (403, {"errors": [{"code": "DENIED", "message": "SECRET"}]}, Denied),
        (404, {}, ProtocolError),
        (200, {"access_token": "SECRET"}, ProtocolError),
    ],
)
def test_what_the_registry_refuses_to_exchange_is_typed(
    town: Town, entra: FakeEntra, acr: FakeAcr, status: int, body: Any, kind: type[DistworkerError]
) -> None:
    """An application without a role on it, or a host that is no registry of Azure's."""
    acr.always("POST", "/oauth2/exchange", reply(status, **body))
    with fails(kind, registry=HOST, phase="log in"):
        login(town).open(HOST, HOST)


def test_each_cloud_has_an_entra_of_its_own(town: Town) -> None:
    """A secret of one is not shown to another."""
    other = FakeServer()
    town.add("login.microsoftonline.us", other)
    mine = AcrLogin(
        ("team.azurecr.us",),
        town.wire("team.azurecr.us"),
        Application(TENANT, Login(("team.azurecr.us",), "app-id", "SECRET-CLIENT")),
    )
    with fails(ProtocolError, registry="team.azurecr.us", status=404):
        mine.open("team.azurecr.us", "x")
    assert other.count("POST") == 1


@pytest.mark.parametrize(
    "host",
    [
        "registry.example.com",
        "azurecr.io",
        ".azurecr.io",
        "azurecr.io.evil.example",
        "x.azurecr.io:444",
        "a/b.azurecr.io",
    ],
)
def test_a_token_of_azures_goes_to_nobody_else(town: Town, host: str) -> None:
    """The exchange sends it to the host itself."""
    with pytest.raises(ConfigInvalid, match="login: acr"):
        AcrLogin((host,), town.wire(HOST), Application(TENANT, Login((host,), "app-id", "pw")))


@pytest.mark.parametrize("tenant", ["", "a/b", "../x", "a?b", "a b", "x" * 200])
def test_a_tenant_that_is_none_is_refused(town: Town, tenant: str) -> None:
    """It becomes a part of an address."""
    with pytest.raises(ConfigInvalid, match="tenant"):
        AcrLogin((HOST,), town.wire(HOST), Application(tenant, Login((HOST,), "app-id", "pw")))
