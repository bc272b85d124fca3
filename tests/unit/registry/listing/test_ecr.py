"""Amazon ECR's API, against moto's imitation and against answers that it does not give."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ProfileNotFound
from botocore.parsers import ResponseParserError
from moto import mock_aws

from distworker.digest import Digest
from distworker.errors import (
    AuthRequired,
    Denied,
    InvalidReference,
    LimitExceeded,
    ProtocolError,
    RepositoryUnknown,
    Throttled,
    TransferError,
    Unauthorized,
    Unavailable,
)
from distworker.registry.client import Client
from distworker.registry.credentials import Login
from distworker.registry.listing.base import Listing
from distworker.registry.listing.ecr import ECRListing, connector
from distworker.registry.logins.ecr import Account, EcrLogin
from distworker.registry.pool import RegistryPool
from tests.unit.registry.conftest import fails
from tests.unit.registry.listing.conftest import Connect

HOST = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


@pytest.fixture
def aws() -> Iterator[Any]:
    """boto3's client of an imitated account, and no way to the real one."""
    with mock_aws():
        yield boto3.client("ecr", region_name="eu-west-1")


def manifest(number: int) -> str:
    """Some manifest, each number another."""
    media_type = "application/vnd.docker.distribution.manifest.v2+json"
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": {"digest": f"sha256:{number:064}"},
            "layers": [],
        }
    )


def test_tags_come_from_the_registry(listing: Listing) -> None:
    """Its own protocol has them; nobody is there to ask in this test."""
    with pytest.raises(Unavailable):
        list(listing.tags("team/app"))


@pytest.fixture
def listing(connect: Connect) -> Listing:
    """The listing of that account's registry, as the table of registries makes it."""
    return connect(HOST, {}).listing()


def test_repositories_of_the_account_are_listed(aws: Any, listing: Listing) -> None:
    """All, or those below a prefix."""
    for name in ("team/app", "team/apps/x", "other"):
        aws.create_repository(repositoryName=name)
    assert sorted(listing.repositories()) == ["other", "team/app", "team/apps/x"]
    assert list(listing.repositories("team/app")) == ["team/app"]


def test_digests_of_a_repository_are_listed(aws: Any, listing: Listing) -> None:
    """Tagged images only; two tags may share a digest."""
    aws.create_repository(repositoryName="team/app")
    put = [
        aws.put_image(repositoryName="team/app", imageManifest=manifest(number), imageTag=tag)
        for number, tag in ((1, "a"), (2, "b"))
    ]
    put.append(aws.put_image(repositoryName="team/app", imageManifest=manifest(1), imageTag="c"))
    first, second, _ = (Digest.parse(one["image"]["imageId"]["imageDigest"]) for one in put)
    assert listing.digests("team/app") == {"a": first, "b": second, "c": first}


def test_a_repository_that_is_not_there_is_typed(aws: Any, listing: Listing) -> None:
    """Amazon's own error, as ours."""
    with fails(
        RepositoryUnknown, registry=HOST, repository="team/app", registry_code="RepositoryNotFoundException"
    ):
        listing.digests("team/app")


def test_names_are_checked_before_anything_is_asked(listing: Listing) -> None:
    """Here without any AWS."""
    with pytest.raises(InvalidReference):
        list(listing.repositories("../x"))
    with pytest.raises(InvalidReference):
        listing.digests("Team")


class Scripted:
    """Answers in turn; the calls are kept."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, operation: str) -> Any:
        def call(**parameters: Any) -> Any:
            self.calls.append((operation, parameters))
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def scripted(connect: Connect, *answers: dict[str, Any] | Exception) -> tuple[Listing, Scripted]:
    """A listing whose AWS says this."""
    aws = Scripted(*answers)
    at = connect(HOST, {})._at
    hosts: list[str] = []

    def made(host: str) -> Scripted:
        hosts.append(host)
        assert hosts == [HOST], "one client for one walk"
        return aws

    return ECRListing(at, made), aws


def test_pages_are_followed_by_their_tokens(connect: Connect) -> None:
    """With account and size each time."""
    listing, aws = scripted(
        connect,
        {"repositories": [{"repositoryName": "a"}, {}, {"repositoryName": 7}], "nextToken": "t1"},
        {"repositories": [{"repositoryName": "b"}], "nextToken": "t2"},
        {"repositories": []},
    )
    assert list(listing.repositories()) == ["a", "b"]
    same = {"registryId": "123456789012", "maxResults": 1000}
    assert aws.calls == [
        ("describe_repositories", same),
        ("describe_repositories", {**same, "nextToken": "t1"}),
        ("describe_repositories", {**same, "nextToken": "t2"}),
    ]


def test_tokens_that_repeat_end_the_walk(connect: Connect) -> None:
    """A circle."""
    listing, aws = scripted(connect, *[{"repositories": [], "nextToken": "t"}] * 5)
    with fails(ProtocolError, registry=HOST):
        list(listing.repositories())
    assert len(aws.calls) == 2


@pytest.mark.parametrize("limit", ["PAGES_MAX", "TAGS_MAX"])
def test_limits_hold(connect: Connect, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Pages and entries are bounded."""
    monkeypatch.setattr(f"distworker.limits.{limit}", 2)
    pages = [{"repositories": [{"repositoryName": f"a{n}"}], "nextToken": f"t{n}"} for n in range(5)]
    listing, _ = scripted(connect, *pages)
    with fails(LimitExceeded, registry=HOST):
        list(listing.repositories())


def refused(code: str, status: int = 400) -> ClientError:
    """What boto3 raises; its text is not to be shown."""
    return ClientError(
        {
            "Error": {"Code": code, "Message": "SECRET-KEY-ID is not good"},
            "ResponseMetadata": {"HTTPStatusCode": status},
        },
        "DescribeRepositories",
    )


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (refused("AccessDeniedException"), Denied),
        (refused("UnrecognizedClientException"), Unauthorized),
        (refused("ExpiredTokenException"), Unauthorized),
        (refused("ThrottlingException"), Throttled),
        (refused("ServerException", 500), Unavailable),
        (refused("InvalidParameterException"), ProtocolError),
        (ClientError({}, "x"), ProtocolError),
        (NoCredentialsError(), AuthRequired),
        (ProfileNotFound(profile="x"), AuthRequired),
        (ValueError("SECRET is no JSON"), ProtocolError),
        (ResponseParserError("SECRET is no answer"), ProtocolError),
        (EndpointConnectionError(endpoint_url="https://SECRET/"), Unavailable),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_boto3_raises_is_typed(connect: Connect, raised: Exception, kind: type[TransferError]) -> None:
    """With Amazon's code, and without its text or anything of boto3's below."""
    listing, _ = scripted(connect, raised)
    with fails(kind, registry=HOST, phase="list repositories"):
        list(listing.repositories())


def test_the_client_is_made_as_the_profile_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry's proxy or none, its CA, its region; the environment's proxy is not used."""
    monkeypatch.setenv("HTTPS_PROXY", "http://wrong.example")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    proxy = "http://proxy.example:3128"
    client = connector(proxy)(HOST)
    assert client.meta.region_name == "eu-west-1"
    assert client.meta.config.proxies == {"http": proxy, "https": proxy}
    plain = connector()(HOST)
    assert plain._endpoint.http_session._proxy_config.proxy_url_for("https://ecr.example/") is None


def test_lists_are_asked_as_the_account_that_logs_in(aws: Any) -> None:
    """Keys of registries.toml, not those of the machine; each walk makes its client, for roles end."""
    aws.create_repository(repositoryName="team/app")
    keys = EcrLogin((HOST,), Account(Login((HOST,), "AKIDEXAMPLE", "SECRET-AWS-KEY")))
    made: list[Any] = []

    def client(host: str) -> Any:
        made.append(keys.api(host))
        return made[-1]

    pool = RegistryPool(aws={HOST: client})
    registry = pool.client(HOST)
    assert isinstance(registry, Client)
    assert list(registry.listing().repositories()) == ["team/app"]
    assert list(registry.listing().repositories("team")) == ["team/app"]
    assert [one._request_signer._credentials.access_key for one in made] == ["AKIDEXAMPLE"] * 2
    pool.close()


def test_boto3_is_not_imported_before_it_is_needed() -> None:
    """It costs a quarter of a second that copies between other registries need not pay."""
    rooms = "distworker.registry.pool, distworker.service.wiring"
    code = f"import sys, {rooms}; sys.exit('botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
