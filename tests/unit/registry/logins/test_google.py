"""Google's registries: a token for a signed assertion, from the metadata server, or the key as it is."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from distworker.digest import Digest
from distworker.errors import (
    ConfigInvalid,
    Denied,
    DistworkerError,
    ProtocolError,
    Throttled,
    Unauthorized,
    Unavailable,
)
from distworker.registry.logins.google import METADATA_URL, GoogleLogin, read_key
from distworker.registry.logins.wire import metadata_wire
from tests.fakes.providers import FakeGoogle, ServiceAccount, reply, service_account
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import Answer
from tests.fakes.registry_token import FakeTokenServer
from tests.unit.registry.conftest import MARK, fails, texts
from tests.unit.registry.logins.conftest import Town

HOST = "europe-docker.pkg.dev"
TOKEN_URI = "https://oauth2.googleapis.com/token"


@pytest.fixture(scope="module")
def account() -> ServiceAccount:
    """One account for all tests: making its key takes a while."""
    return service_account(TOKEN_URI)


@pytest.fixture
def key_file(tmp_path: Path, account: ServiceAccount) -> Path:
    """Its key file."""
    path = tmp_path / "key.json"
    path.write_text(account.text)
    return path


@pytest.fixture
def google(town: Town, account: ServiceAccount) -> FakeGoogle:
    """Google's token server."""
    made = FakeGoogle(account, TOKEN_URI)
    town.add("oauth2.googleapis.com", made)
    return made


def login(town: Town, **more: Any) -> GoogleLogin:
    """A login for `HOST` by the town's clock."""
    metadata = metadata_wire(HOST, "distworker-test", METADATA_URL, wires=town.network)
    return GoogleLogin((HOST,), town.wire(HOST), metadata, clock=town.clock, now=town.clock, **more)


def test_a_key_is_exchanged_for_a_token(town: Town, google: FakeGoogle, key_file: Path) -> None:
    """Signed, for Google's token server, for an hour from now; the key itself goes nowhere."""
    found = login(town, key_file=str(key_file)).open(HOST, HOST)
    assert (found.username, found.password) == ("oauth2accesstoken", "SECRET-GOOGLE-1")
    (claims,) = google.claims
    assert claims["iss"] == "mover@project.example"
    assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
    assert (claims["iat"], claims["exp"]) == (1_000_000, 1_003_600)
    assert all(b"PRIVATE" not in seen.body for seen in google.seen)


def test_a_pull_with_a_service_account(town: Town, google: FakeGoogle, key_file: Path) -> None:
    """From the key file to the bytes of a blob: the token is the password at the registry's token server."""
    tokens = FakeTokenServer({"oauth2accesstoken": "SECRET-GOOGLE-1"})
    registry = FakeRegistry(tokens=tokens)
    town.add("auth.example", tokens)
    town.add(HOST, registry)
    digest = registry.put_blob("project/repo/app", b"layer")
    client = town.client(HOST, login(town, key_file=str(key_file)), token_realms=("auth.example",))
    assert client.has_blob("project/repo/app", digest)
    assert client.ping()
    assert not client.has_blob("project/repo/app", Digest.of(b"other"))
    assert google.made == 1


def test_a_token_is_kept_for_four_fifths_of_its_life(town: Town, google: FakeGoogle, key_file: Path) -> None:
    """What the answer says counts."""
    mine = login(town, key_file=str(key_file))
    google.life = 1000
    first = mine.open(HOST, HOST)
    town.now += 799
    assert mine.open(HOST, HOST) is first
    town.now += 1
    assert mine.open(HOST, HOST).password == "SECRET-GOOGLE-2"


@pytest.mark.parametrize("life", [None, 0, -5, "soon", True, {"x": 1}, 10**12, 10**400, "3600"])
def test_a_life_that_makes_no_sense_is_an_hour_or_a_day(
    town: Town, google: FakeGoogle, key_file: Path, life: Any
) -> None:
    """Neither a login per request nor one for ever."""
    mine = login(town, key_file=str(key_file))
    google.life = life
    mine.open(HOST, HOST)
    mine.open(HOST, HOST)
    assert google.made == 1
    town.now += 24 * 3600
    mine.open(HOST, HOST)
    assert google.made == 2


def test_a_refused_token_is_made_anew(town: Town, google: FakeGoogle, key_file: Path) -> None:
    """Taken back before its time, for example."""
    mine = login(town, key_file=str(key_file))
    first = mine.open(HOST, HOST)
    mine.refused(HOST, first)
    assert mine.open(HOST, HOST).password == "SECRET-GOOGLE-2"


def test_a_rotated_key_is_used_for_the_next_token(town: Town, google: FakeGoogle, key_file: Path) -> None:
    """The file is read when a token is made."""
    mine = login(town, key_file=str(key_file))
    first = mine.open(HOST, HOST)
    other = service_account(TOKEN_URI)
    google.account = other
    key_file.write_text(other.text)
    mine.refused(HOST, first)
    assert mine.open(HOST, HOST).password == "SECRET-GOOGLE-2"


def test_the_machines_own_account_comes_from_the_metadata_server(town: Town) -> None:
    """Workload identity: nothing is configured."""
    metadata = FakeGoogle()
    town.add("169.254.169.254", metadata, port=80, tls=False)
    found = login(town).open(HOST, HOST)
    assert (found.username, found.password) == ("oauth2accesstoken", "SECRET-GOOGLE-1")
    assert town.network.dialled == [("169.254.169.254", 80)]
    assert [seen.path for seen in metadata.seen] == [
        "/computeMetadata/v1/instance/service-accounts/default/token"
    ]


def test_a_machine_without_a_metadata_server_is_told_so(town: Town) -> None:
    """Nobody listens there outside of the cloud."""
    with fails(Unavailable, registry=HOST, phase="log in"):
        login(town).open(HOST, HOST)


def test_a_machine_without_an_account_is_told_what_to_do(town: Town) -> None:
    """404 is the metadata server's answer."""
    metadata = FakeGoogle()
    metadata.always("GET", "/computeMetadata/", Answer(404))
    town.add("169.254.169.254", metadata, port=80, tls=False)
    with fails(ProtocolError, registry=HOST, status=404) as caught:
        login(town).open(HOST, HOST)
    assert "key_file" in caught[0].message


@pytest.mark.parametrize("user", ["_json_key", "_json_key_base64"])
def test_the_key_file_itself_as_the_password(town: Town, key_file: Path, user: str) -> None:
    """No token is made; the file is read at each use."""
    mine = login(town, key_file=str(key_file), username=user)
    found = mine.open(HOST, HOST)
    text = base64.b64decode(found.password).decode() if user.endswith("base64") else found.password
    assert (found.username, text) == (user, key_file.read_text())
    key_file.write_text("SECRET-OTHER")
    assert mine.open(HOST, HOST).password != found.password
    assert town.network.dialled == []


REFUSALS = [
    (400, {"error": "invalid_grant", "error_description": "SECRET"}, Unauthorized),
    (401, {"error": "SECRET SECRET"}, Unauthorized),
    (403, {"error": "access_denied"}, Denied),
    (404, {"error": 5}, ProtocolError),
    (429, {"error": "SECRET"}, Throttled),
    (500, {"error": "SECRET"}, Unavailable),
    (200, {}, ProtocolError),
    (200, {"access_token": ""}, ProtocolError),
    (200, {"access_token": ["SECRET"]}, ProtocolError),
    (200, {"access_token": "SECRET\nX: y"}, ProtocolError),
]


@pytest.mark.parametrize(("status", "body", "kind"), REFUSALS)
def test_a_refusal_is_typed_and_quotes_nothing_but_a_code(
    town: Town, google: FakeGoogle, key_file: Path, status: int, body: Any, kind: type[DistworkerError]
) -> None:
    """Descriptions hold the assertion, or a part of it."""
    google.always("POST", "/token", reply(status, **body))
    with fails(kind, registry=HOST, phase="log in", status=status):
        login(town, key_file=str(key_file)).open(HOST, HOST)


@pytest.mark.parametrize("body", [b"", b"SECRET", b'["SECRET"]', b"\xff", b"[" * 50_000])
def test_an_answer_that_is_no_object_is_a_protocol_error(
    town: Town, google: FakeGoogle, key_file: Path, body: bytes
) -> None:
    """A page of a proxy, for example."""
    google.always("POST", "/token", Answer(200, {}, body))
    with fails(ProtocolError, registry=HOST):
        login(town, key_file=str(key_file)).open(HOST, HOST)


def test_a_refusal_is_not_repeated_for_every_step(town: Town, google: FakeGoogle, key_file: Path) -> None:
    """A disabled account is asked for once a minute."""
    google.always("POST", "/token", reply(400, error="invalid_grant"))
    mine = login(town, key_file=str(key_file))
    for _ in range(3):
        with fails(Unauthorized, registry=HOST) as caught:
            mine.open(HOST, HOST)
    assert "invalid_grant" in caught[0].message
    assert len(google.seen) == 1


def elliptic() -> str:
    """A private key of another kind."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("SECRET", "not the JSON key"),
        ("[" * 50_000, "not the JSON key"),
        ({"type": "authorized_user"}, "not the JSON key"),
        ({"client_email": ""}, "lacks one of"),
        ({"private_key": 5}, "lacks one of"),
        ({"token_uri": "http://oauth2.googleapis.com/token"}, "not https"),
        ({"token_uri": "https://oauth2.googleapis.com/tökén"}, "not https"),
        ({"token_uri": "https://oauth2.googleapis.com/a b"}, "not https"),
        ({"private_key": "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----"}, "no RSA"),
        ({"private_key": elliptic()}, "no RSA"),
    ],
)
def test_a_key_file_that_is_none_is_named_and_not_quoted(
    account: ServiceAccount, change: Any, said: str
) -> None:
    """Each fault by itself."""
    text = change if isinstance(change, str) else json.dumps({**json.loads(account.text), **change})
    with pytest.raises(ConfigInvalid, match=said) as info:
        read_key(text, "key.json")
    assert "key.json" in info.value.message
    assert MARK not in " ".join(texts(info.value))


def test_a_key_shows_nothing(account: ServiceAccount) -> None:
    """Neither does the login that holds it."""
    assert "PrivateKey" not in repr(read_key(account.text, "key.json"))


@pytest.mark.parametrize("host", ["gcr.io", "eu.gcr.io", "europe-docker.pkg.dev", "docker.pkg.dev"])
def test_googles_own_hosts_are_known(town: Town, host: str) -> None:
    """Container Registry and Artifact Registry."""
    assert GoogleLogin((host,), town.wire(host), town.wire(host)).hosts == (host,)


@pytest.mark.parametrize(
    "host",
    ["registry.example.com", "gcr.io.evil.example", "evilgcr.io", "pkg.dev", "gcr.io:5000", "a.b.gcr.io"],
)
def test_a_token_of_googles_goes_to_nobody_else(town: Town, host: str) -> None:
    """It opens a whole project."""
    with pytest.raises(ConfigInvalid, match="login: google"):
        GoogleLogin((host,), town.wire("gcr.io"), town.wire("gcr.io"))
