"""Amazon ECR by its own API: repositories of an account, and tags with their digests.

The registry's own protocol needs a registry login; this needs an AWS one, which whoever can make the other
has (AWS: Amazon ECR API reference). boto3 signs and sends, as the account that logs in to the registry; its
client is made when first asked, and boto3 not imported before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
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
from distworker.registry.providers import provider_of
from distworker.registry.waits import THROTTLE_WAIT

#: Makes boto3's client for the ECR of a host.
Connect = Callable[[str], Any]
#: Entries of one page: the most ECR gives.
_PAGE: Final = 1000
#: Exceptions of botocore's that say that there is no account to ask as.
_NO_ACCOUNT: Final = frozenset(
    {
        *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"),
        *("ProfileNotFound", "TokenRetrievalError", "ConfigParseError"),
    }
)
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
    """Clients as the account that the machine has (role, profile, variables)."""

    def connect(host: str) -> Any:
        from distworker.registry.logins.ecr import Account, EcrLogin  # noqa: PLC0415 - see the module text

        return EcrLogin((host,), Account(), ca_file=ca_file, proxy=proxy).api(host)

    return connect


class ECRListing:
    """One account's private registry in one region."""

    def __init__(self, at: Endpoint, connect: Connect) -> None:
        self._at = at
        self._connect = connect

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
        account = _account(self._at.registry)
        client = _asked(where, lambda: self._connect(self._at.registry))
        cursor, cursors, count = "", {""}, 0
        while True:
            more = {"nextToken": cursor} if cursor else {}
            asked = {"registryId": account, "maxResults": _PAGE, **parameters, **more}
            answer = _asked(where, partial(getattr(client, operation), **asked))
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


def _asked(where: Where, ask: Callable[[], Any]) -> Any:
    """What AWS answers, its client's exceptions as ours."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - see the module text
    from botocore.parsers import ResponseParserError  # noqa: PLC0415

    fault: TransferError
    try:
        return ask()
    except ClientError as error:
        fault = _refused(error, where)
    except BotoCoreError as error:
        fault = _broken(type(error).__name__, where)
    except (ResponseParserError, AttributeError, KeyError, TypeError, ValueError) as error:
        # What botocore raises for an answer it cannot read is none of its own classes.
        fault = ProtocolError(
            f"{where}: Amazon ECR's answer cannot be read ({type(error).__name__})", **where.fields
        )
    # Raised out here: botocore's exception holds the request.
    raise fault


def _account(registry: str) -> str:
    """The account, which stands in the host's name."""
    if provider_of(registry) != "ecr":
        raise ConfigInvalid(
            f'{registry} does not have the name of an Amazon ECR registry; take list_api = "ecr" out of '
            "registries.toml",
            field="list_api",
        )
    return registry.partition(".")[0]


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
    if name in _NO_ACCOUNT:
        return AuthRequired(
            f"{where}: listing Amazon ECR needs AWS credentials, and none are configured here", **where.fields
        )
    return Unavailable(f"{where}: Amazon ECR cannot be asked ({name})", **where.fields)
