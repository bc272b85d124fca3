"""Amazon's registries: a password for twelve hours, from whatever account the operator gives."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from distworker.errors import (
    ConfigInvalid,
    Denied,
    DistworkerError,
    ProtocolError,
    Throttled,
    Unauthorized,
    Unavailable,
)
from distworker.registry.credentials import Login
from distworker.registry.logins.ecr import Account, EcrLogin, Place, place_of
from tests.fakes.providers import FakeAws, reply
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import Answer, FakeServer
from tests.unit.registry.conftest import fails
from tests.unit.registry.logins.conftest import Town

HOST = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
PUBLIC = "public.ecr.aws"
KEYS = Account(Login((HOST,), "AKIDEXAMPLE", "SECRET-AWS-KEY"))
HOURS = 3600.0


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without an account, a home or a metadata server."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, serve: Callable[[FakeServer], FakeServer]) -> FakeAws:
    """Amazon's servers, where its own client looks for them."""
    made = FakeAws()
    serve(made)
    for service in ("ECR", "ECR_PUBLIC", "STS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", made.url)
    return made


@pytest.fixture
def moto() -> Iterator[None]:
    """AWS as moto plays it, with accounts and roles."""
    with mock_aws():
        yield


def login(town: Town, host: str = HOST, account: Account = KEYS) -> EcrLogin:
    """A login by the town's clock."""
    return EcrLogin((host,), account, attempts=1, clock=town.clock, now=town.clock)


@pytest.mark.parametrize(
    ("host", "place"),
    [
        (HOST, Place("123456789012", "eu-west-1", fips=False)),
        (HOST.upper(), Place("123456789012", "eu-west-1", fips=False)),
        (
            "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
            Place("123456789012", "us-gov-west-1", fips=True),
        ),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", Place("123456789012", "cn-north-1", fips=False)),
        ("123456789012.dkr-ecr.eu-west-1.on.aws", Place("123456789012", "eu-west-1", fips=False)),
        (PUBLIC, Place("", "us-east-1", fips=False)),
    ],
)
def test_a_registrys_name_says_where_to_ask(host: str, place: Place) -> None:
    """Region and account stand in it."""
    assert place_of(host) == place


@pytest.mark.parametrize(
    "host",
    [
        "registry.example.com",
        f"{HOST}.evil.example",
        f"{HOST}:5000",
        "12345.dkr.ecr.eu-west-1.amazonaws.com",
        "123456789012.dkr.ecr.evil.example#.amazonaws.com",
        "123456789012.dkr.ecr..amazonaws.com",
        "x.public.ecr.aws",
    ],
)
def test_a_login_of_amazons_goes_to_nobody_else(host: str) -> None:
    """Nor is a server asked that a name made up."""
    with pytest.raises(ConfigInvalid, match="login: ecr"):
        EcrLogin((host,), KEYS)


@pytest.mark.usefixtures("moto")
def test_moto_makes_a_login(town: Town) -> None:
    """The client library, its models and the answer's shape are the real ones."""
    found = login(town).open(HOST, HOST)
    assert (found.username, found.password) == ("AWS", "123456789012-auth-token")


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        (HOST, "api.ecr.eu-west-1.amazonaws.com"),
        ("123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", "api.ecr-fips.us-east-1.amazonaws.com"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "api.ecr.cn-north-1.amazonaws.com.cn"),
        (PUBLIC, "api.ecr-public.us-east-1.amazonaws.com"),
    ],
)
def test_amazons_server_of_that_region_is_asked_through_the_proxy(town: Town, host: str, asked: str) -> None:
    """The operator's proxy sees which server that is; FIPS registries have FIPS servers."""
    with socket.create_server(("127.0.0.1", 0)) as proxy, ThreadPoolExecutor(1) as pool:
        first = pool.submit(first_line, proxy)
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        mine = EcrLogin((host,), KEYS, proxy=url, attempts=1, clock=town.clock, now=town.clock)
        with fails(Unavailable, registry=host):
            mine.open(host, host)
        assert first.result(30).split(" ")[:2] == ["CONNECT", f"{asked}:443"]


def first_line(server: socket.socket) -> str:
    """What the next client says first; it gets no answer."""
    connection, _ = server.accept()
    with connection, connection.makefile("rb") as file:
        return str(file.readline().decode().strip())


@pytest.mark.usefixtures("moto")
def test_a_role_is_taken_on_first(town: Town) -> None:
    """The login is then the other account's."""
    account = Account(KEYS.keys, role="arn:aws:iam::210987654321:role/mover")
    assert login(town, account=account).open(HOST, HOST).password == "210987654321-auth-token"


@pytest.mark.usefixtures("moto")
def test_the_accounts_of_the_machine_are_found(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables, as a container is given them; a role of the machine works the same way."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET-AWS-KEY")
    assert login(town, account=Account()).open(HOST, HOST).username == "AWS"


@pytest.mark.usefixtures("moto")
def test_a_profile_is_looked_up_in_the_machines_configuration(town: Town, tmp_path: Path) -> None:
    """By its name."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[mover]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = SECRET-AWS-KEY\n"
    )
    assert login(town, account=Account(profile="mover")).open(HOST, HOST).username == "AWS"


def test_an_access_key_is_read_when_it_is_used(town: Town, aws: FakeAws, tmp_path: Path) -> None:
    """A rotated one signs the next request."""
    user, secret = tmp_path / "id", tmp_path / "secret"
    user.write_text("AKIDONE\n")
    secret.write_text("SECRET-AWS-KEY\n")
    keys = Login((HOST,), username_file=str(user), password_file=str(secret))
    mine = login(town, account=Account(keys))
    first = mine.open(HOST, HOST)
    user.write_text("AKIDTWO\n")
    mine.refused(HOST, first)
    assert mine.open(HOST, HOST).password == "SECRET-AWS-2"
    signed = [seen.authorization for seen in aws.seen]
    assert "Credential=AKIDONE/" in signed[0]
    assert "Credential=AKIDTWO/" in signed[1]
    assert "/eu-west-1/ecr/" in signed[0]


def test_the_public_registry_has_a_service_of_its_own(town: Town, aws: FakeAws) -> None:
    """In us-east-1, whatever the registry's readers use."""
    found = login(town, PUBLIC).open(PUBLIC, PUBLIC)
    assert (found.username, found.password) == ("AWS", "SECRET-AWS-1")
    assert "/us-east-1/ecr-public/" in aws.seen[0].authorization


def test_a_pull_from_amazon(town: Town, aws: FakeAws) -> None:
    """The password goes to the registry as Basic, and nowhere before it was asked for."""
    registry = FakeRegistry(user="AWS", password="SECRET-AWS-1")
    town.add(PUBLIC, registry)
    digest = registry.put_blob("team/app", b"layer")
    assert town.client(PUBLIC, login(town, PUBLIC)).has_blob("team/app", digest)
    first, *others = [seen.authorization for seen in registry.seen]
    assert first == ""
    assert all(one.startswith("Basic ") for one in others)


def test_a_pull_goes_on_with_a_new_login_when_amazon_says_that_it_expired(town: Town, aws: FakeAws) -> None:
    """Its 403 names the reason; the request is sent once more, with what was made anew."""
    registry = FakeRegistry(user="AWS", password="SECRET-AWS-1")
    town.add(HOST, registry)
    data = b"layer" * 100
    digest = registry.put_blob("team/app", data)
    client = town.client(HOST, login(town))
    assert client.has_blob("team/app", digest)
    registry.password = "SECRET-AWS-2"
    said = "Your authorization token has expired. Reauthenticate and try again."
    registry.on("GET", "/blobs/", reply(403, errors=[{"code": "DENIED", "message": said}]))
    with client.read_blob("team/app", digest, len(data)) as reading:
        assert b"".join(bytes(chunk) for chunk in reading) == data
    assert aws.made == 2


def test_a_login_is_renewed_at_four_fifths_of_what_amazon_says(town: Town, aws: FakeAws) -> None:
    """`expiresAt` counts when it makes sense."""
    aws.expires = town.now + 10 * HOURS
    mine = login(town)
    first = mine.open(HOST, HOST)
    town.now += 7.9 * HOURS
    assert mine.open(HOST, HOST) is first
    town.now += 0.1 * HOURS
    assert mine.open(HOST, HOST).password == "SECRET-AWS-2"


@pytest.mark.parametrize("expires", [None, 0, 1_000_000.0 - 5, 10**10])
def test_an_end_that_makes_no_sense_is_twelve_hours(town: Town, aws: FakeAws, expires: Any) -> None:
    """A clock that is wrong makes neither a login per request nor one for ever."""
    aws.expires = expires
    mine = login(town)
    mine.open(HOST, HOST)
    town.now += 9.5 * HOURS
    mine.open(HOST, HOST)
    assert aws.made == 1
    town.now += 0.1 * HOURS
    mine.open(HOST, HOST)
    assert aws.made == 2


def test_an_expired_login_is_made_anew(town: Town, aws: FakeAws) -> None:
    """The registry said so; what another thread made since is kept."""
    mine = login(town)
    first = mine.open(HOST, HOST)
    mine.refused(HOST, first)
    second = mine.open(HOST, HOST)
    mine.refused(HOST, first)
    assert mine.open(HOST, HOST) is second
    assert aws.made == 2


def test_no_account_at_all_says_what_to_set(town: Town, aws: FakeAws) -> None:
    """Going on anonymously would end as a puzzling refusal."""
    with fails(ConfigInvalid, registry=HOST, field="login") as caught:
        login(town, account=Account()).open(HOST, HOST)
    assert "profile" in caught[0].message
    with fails(ConfigInvalid, registry=HOST, field="login") as caught:
        login(town, account=Account(profile="gone")).open(HOST, HOST)
    assert "'gone'" in caught[0].message
    assert aws.seen == []


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "UnrecognizedClientException", Unauthorized),
        (403, "InvalidSignatureException", Unauthorized),
        (400, "ExpiredTokenException", Unauthorized),
        (400, "SECRET SECRET", Unauthorized),
        (400, "AccessDeniedException", Denied),
        (400, "ThrottlingException", Throttled),
        (429, "Whatever", Throttled),
        (404, "UnknownOperationException", ProtocolError),
        (500, "ServerException", Unavailable),
    ],
)
def test_a_refusal_of_amazons_is_typed_and_quotes_nothing_but_a_code(
    town: Town, aws: FakeAws, status: int, code: str, kind: type[DistworkerError]
) -> None:
    """Its text names keys and accounts."""
    aws.always("POST", "/", reply(status, __type=code, message="SECRET-AWS-KEY is not valid"))
    with fails(kind, registry=HOST, phase="log in") as caught:
        login(town).open(HOST, HOST)
    if "SECRET" not in code:
        assert code in caught[0].message


def test_a_role_that_may_not_be_taken_on_is_named(town: Town, aws: FakeAws) -> None:
    """With the right that is missing."""
    said = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>SECRET</Message></Error></ErrorResponse>"
    aws.always("POST", "/", Answer(403, {"Content-Type": "text/xml"}, said))
    account = Account(KEYS.keys, role="arn:aws:iam::210987654321:role/mover")
    with fails(Denied, registry=HOST) as caught:
        login(town, account=account).open(HOST, HOST)
    assert "sts:AssumeRole on arn:aws:iam::210987654321:role/mover" in caught[0].message


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        [],
        "SECRET",
        ["SECRET"],
        {"x": "SECRET"},
        [{}],
        [{"authorizationToken": "SECRET%"}],
        [{"authorizationToken": "U0VDUkVU"}],
    ],
)
def test_an_answer_without_a_login_is_a_protocol_error(town: Town, aws: FakeAws, data: Any) -> None:
    """And quotes nothing."""
    aws.always("POST", "/", reply(200, authorizationData=data))
    with fails(ProtocolError, registry=HOST):
        login(town).open(HOST, HOST)


def test_a_server_that_is_away_is_an_outage(town: Town, aws: FakeAws) -> None:
    """The ledger tries again later."""
    aws.always("POST", "/", Answer(hangup=True))
    with fails(Unavailable, registry=HOST):
        login(town).open(HOST, HOST)
    aws.stop()
    with fails(Unavailable, registry=HOST):
        login(town).open(HOST, HOST)


def test_an_answer_that_is_no_json_is_a_protocol_error(town: Town, aws: FakeAws) -> None:
    """A page of a proxy, for example."""
    aws.always("POST", "/", Answer(200, {"Content-Type": "text/html"}, b"<html>SECRET"))
    with fails(ProtocolError, registry=HOST):
        login(town).open(HOST, HOST)


def test_proxies_of_the_environment_are_not_used(
    town: Town, aws: FakeAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the one that the registry's table names."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert login(town).open(HOST, HOST).password == "SECRET-AWS-1"
    proxied = EcrLogin(
        (HOST,), KEYS, proxy="http://127.0.0.1:9", attempts=1, clock=town.clock, now=town.clock
    )
    with fails(Unavailable, registry=HOST):
        proxied.open(HOST, HOST)
