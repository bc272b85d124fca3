"""Amazon ECR by its own API: repositories of an account, and tags with their digests.

The registry's own protocol needs a registry login; this needs an AWS one, which whoever can make the other
has (AWS: Amazon ECR API reference). boto3 signs and sends: its client is made from the region in the
registry's name, when first asked, and boto3 not imported before. Proxy variables of the environment are not
read; AWS credentials come from where `connect` takes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from distworker import limits
from distworker.digest import Digest
from distworker.errors import (
    AuthRequired,
    ConfigInvalid,
    Denied,
    LimitExceeded,
    ProtocolError,
    RepositoryUnknown,
    Throttled,
    TransferError,
    Unauthorized,
    Unavailable,
)
from distworker.reference import parse_repository
from distworker.registry.endpoint import Endpoint
from distworker.registry.faults import Where
from distworker.registry.listing import api
from distworker.registry.listing.tags import tags
from distworker.registry.waits import CONNECT_TIMEOUT, READ_TIMEOUT, THROTTLE_WAIT

#: Makes boto3's client for ECR in a region.
Connect = Callable[[str], Any]
_HOST: Final = re.compile(
    r"([0-9]{12})\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.aws)", re.ASCII
)
#: Entries of one page: the most ECR gives.
_PAGE: Final = 1000
_SIGNED_OUT: Final = frozenset(
    {
        "UnrecognizedClientException",
        "ExpiredTokenException",
        "InvalidSignatureException",
        "InvalidClientTokenId",
    }
)
_DENIED: Final = frozenset({"AccessDeniedException", "AccessDenied", "OptInRequired"})
_SLOWED: Final = frozenset({"ThrottlingException", "Throttling", "TooManyRequestsException"})


def connector(proxy: str = "", ca_file: str = "") -> Connect:
    """boto3's own way to credentials (role, profile, variables), and the registry's proxy or none."""

    def connect(region: str) -> Any:
        import boto3  # noqa: PLC0415 - see the module text
        from botocore.config import Config  # noqa: PLC0415

        config = Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            retries={"total_max_attempts": 4, "mode": "standard"},
            proxies={"http": proxy, "https": proxy} if proxy else {},
        )
        session = boto3.session.Session()
        return session.client("ecr", region_name=region, config=config, verify=ca_file or True)

    return connect


class ECRListing:
    """One account's private registry in one region."""

    def __init__(self, at: Endpoint, connect: Connect) -> None:
        self._at = at
        self._connect = connect
        self._client: Any = None

    def repositories(self, prefix: str = "") -> Iterator[str]:
        """See `Listing.repositories`."""
        if prefix:
            parse_repository(prefix)
        where = self._at.where("list repositories")
        found = self._pages(where, "describe_repositories", "repositories")
        return api.names((api.text(one, "repositoryName") for one in found), prefix)

    def tags(self, repository: str) -> Iterator[str]:
        """See `Listing.tags`; from the registry."""
        return tags(self._at, repository, self._at.quirks)

    def digests(self, repository: str) -> Mapping[str, Digest] | None:
        """See `Listing.digests`."""
        where = self._at.where("list tags", repository)
        found = self._pages(
            where,
            "list_images",
            "imageIds",
            repositoryName=parse_repository(repository),
            filter={"tagStatus": "TAGGED"},
        )
        return api.tag_map(
            ((api.text(one, "imageTag"), api.text(one, "imageDigest")) for one in found), where
        )

    def _pages(self, where: Where, operation: str, name: str, **parameters: Any) -> Iterator[Any]:
        account, _ = _place(self._at.registry)
        cursor, cursors, count = "", {""}, 0
        while True:
            more = {"nextToken": cursor} if cursor else {}
            answer = self._ask(where, operation, registryId=account, maxResults=_PAGE, **parameters, **more)
            found = answer.get(name, [])
            count += len(found)
            if count > limits.TAGS_MAX or len(cursors) > limits.PAGES_MAX:
                raise LimitExceeded(f"{where}: a longer list than we follow", **where.fields)
            yield from found
            cursor = answer.get("nextToken") or ""
            if not cursor:
                return
            if cursor in cursors:
                raise ProtocolError(f"{where}: the registry's pages go in a circle", **where.fields)
            cursors.add(cursor)

    def _ask(self, where: Where, operation: str, **parameters: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - see the module text

        fault: TransferError
        try:
            if self._client is None:
                self._client = self._connect(_place(self._at.registry)[1])
            answer: dict[str, Any] = getattr(self._client, operation)(**parameters)
        except ClientError as error:
            fault = _refused(error, where)
        except BotoCoreError as error:
            fault = _broken(type(error).__name__, where)
        else:
            return answer
        # Raised out here: botocore's exception holds the request.
        raise fault


def _place(registry: str) -> tuple[str, str]:
    """Account and region, which stand in the host's name."""
    match = _HOST.fullmatch(registry)
    if match is None:
        raise ConfigInvalid(
            f'{registry} does not have the name of an Amazon ECR registry; take list_api = "ecr" out of '
            "registries.toml",
            field="list_api",
        )
    return match[1], match[2]


def _refused(error: Any, where: Where) -> TransferError:
    said = error.response.get("Error", {})
    code = str(said.get("Code", ""))[:60]
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    fields = {**where.fields, "registry_code": code, "status": status if isinstance(status, int) else None}
    if code == "RepositoryNotFoundException":
        return RepositoryUnknown(f"{where}: Amazon ECR has no such repository, or hides it", **fields)
    if code in _DENIED:
        return Denied(f"{where}: the AWS login may not list this ({code})", **fields)
    if code in _SIGNED_OUT:
        return Unauthorized(f"{where}: Amazon ECR refuses the AWS login ({code})", **fields)
    if code in _SLOWED:
        return Throttled(f"{where}: Amazon ECR wants slower requests ({code})", **fields, delay=THROTTLE_WAIT)
    if isinstance(status, int) and status >= 500:
        return Unavailable(f"{where}: Amazon ECR answered {status} ({code})", **fields)
    return ProtocolError(f"{where}: Amazon ECR answered {code or status}", **fields)


def _broken(name: str, where: Where) -> TransferError:
    """What botocore says without having an answer, by the class of its exception."""
    if name in {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}:
        return AuthRequired(
            f"{where}: listing Amazon ECR needs AWS credentials, and none are configured here", **where.fields
        )
    return Unavailable(f"{where}: Amazon ECR cannot be asked ({name})", **where.fields)
