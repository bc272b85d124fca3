"""Amazon's registries: a password for twelve hours from `GetAuthorizationToken`, under the user `AWS`.

Region and account stand in the registry's name; `public.ecr.aws` has a service of its own in us-east-1. Who
asks is decided by what the operator gives: keys, a profile, a role to take on, or nothing, which means the
account that the machine has anyway. AWS is asked through its own client, at an address made from the
registry's name; proxy variables of the environment are not used. Errors hold AWS's code and never its text,
which may quote a key's id.
"""

from __future__ import annotations

import base64
import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import boto3
from botocore import exceptions as aws
from botocore.config import Config

from distworker.errors import (
    ConfigInvalid,
    Denied,
    DistworkerError,
    ProtocolError,
    Throttled,
    TransferError,
    Unauthorized,
    Unavailable,
)
from distworker.registry.credentials import Credential, Login
from distworker.registry.logins.files import PHASE
from distworker.registry.logins.minted import Keeper, Minted
from distworker.registry.waits import THROTTLE_WAIT

PUBLIC: Final = "public.ecr.aws"
#: Seconds a password lives (AWS docs, GetAuthorizationToken), and the longest it may claim to.
_LIFE: Final = 12 * 3600.0
_LIFE_MAX: Final = 24 * 3600.0

_HOST: Final = re.compile(
    r"(?P<account>[0-9]{12})\.dkr[.-]ecr(?P<fips>-fips)?\.(?P<region>[a-z]{2}(?:-[a-z]+)+-[0-9]{1,2})"
    r"\.(?:amazonaws\.com(?:\.cn)?|on\.aws)",
    re.ASCII,
)
_THROTTLED: Final = frozenset({"Throttling", "ThrottlingException", "TooManyRequestsException", "SlowDown"})
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
#: What botocore raises for an answer of another shape than it expects.
_UNREADABLE: Final = (AttributeError, KeyError, TypeError, ValueError)
_NO_ACCOUNT: Final = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.ProfileNotFound,
    aws.TokenRetrievalError,
)


@dataclass(frozen=True, slots=True)
class Account:
    """Who asks: an access key as user and password, a profile of the AWS configuration, a role (its ARN) to
    take on; all may be missing.
    """

    keys: Login | None = None
    profile: str = ""
    role: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a registry is: AWS account ("" for the public one), region, and whether by FIPS endpoints."""

    account: str
    region: str
    fips: bool


def place_of(host: str) -> Place:
    """What the name of an ECR registry says.

    Raises:
        ConfigInvalid: it is none.
    """
    if host.lower() == PUBLIC:
        return Place("", "us-east-1", fips=False)
    found = _HOST.fullmatch(host.lower())
    if found is None:
        raise ConfigInvalid(
            f"[{host}] login: ecr is for {PUBLIC} and hosts such as "
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com; correct the host, or give it a username and "
            "password",
            field="login",
            registry=host,
            phase=PHASE,
        )
    return Place(found["account"], found["region"], fips=bool(found["fips"]))


class EcrLogin:
    """A `Way` for Amazon's registries; see the module text.

    `ca_file` and `proxy` are for AWS's own servers; `attempts` counts the first try.
    """

    def __init__(
        self,
        hosts: tuple[str, ...],
        account: Account,
        *,
        ca_file: str = "",
        proxy: str = "",
        attempts: int = 3,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        for host in hosts:
            place_of(host)
        self.hosts = hosts
        self._account = account
        self._verify: bool | str = ca_file or True
        self._proxies = {"https": proxy, "http": proxy} if proxy else {}
        self._attempts = attempts
        self._now = now
        self._kept: Keeper[Place, Credential] = Keeper(clock)

    def open(self, host: str, name: str) -> Credential:
        """See `Way.open`."""
        place = place_of(host)
        return self._kept.get(place, lambda: self._mint(place, host, name))

    def refused(self, host: str, credential: Credential) -> None:
        """See `Way.refused`."""
        place = place_of(host)
        self._kept.drop(credential, lambda key: key == place)

    def api(self, host: str) -> Any:
        """AWS's client for the ECR of `host` as this account, for one walk: a role ends after an hour.

        Raises:
            ConfigInvalid: a file with the account's keys cannot be used. botocore's exceptions: as they are.
        """
        place = place_of(host)
        keys = self._account.keys.open(host, host) if self._account.keys else None
        return self._client(self._session(place, keys), "ecr", place)

    def _mint(self, place: Place, host: str, name: str) -> Minted[Credential]:
        keys = self._account.keys.open(host, name) if self._account.keys else None
        fault: DistworkerError
        try:
            data = self._ask(place, keys)
        except (aws.BotoCoreError, aws.ClientError, *_UNREADABLE) as error:
            fault = _fault(error, host, self._account)
        else:
            return self._read(data, host)
        # Raised out here: botocore's exceptions hold the request and must not hang below ours.
        raise fault

    def _ask(self, place: Place, keys: Credential | None) -> Any:
        session = self._session(place, keys)
        service = "ecr" if place.account else "ecr-public"
        data = self._client(session, service, place).get_authorization_token().get("authorizationData")
        return data[0] if isinstance(data, list) and data else data

    def _session(self, place: Place, keys: Credential | None) -> Any:
        mine = self._account
        session = boto3.session.Session(
            aws_access_key_id=keys.username if keys else None,
            aws_secret_access_key=keys.password if keys else None,
            profile_name=mine.profile or None,
        )
        if not mine.role:
            return session
        answer = self._client(session, "sts", place).assume_role(
            RoleArn=mine.role, RoleSessionName="distworker"
        )
        taken = answer["Credentials"]
        return boto3.session.Session(taken["AccessKeyId"], taken["SecretAccessKey"], taken["SessionToken"])

    def _client(self, session: Any, service: str, place: Place) -> Any:
        config = Config(
            connect_timeout=10,
            read_timeout=30,
            retries={"mode": "standard", "total_max_attempts": self._attempts},
            proxies=self._proxies,
            use_fips_endpoint=place.fips,
        )
        return session.client(service, region_name=place.region, config=config, verify=self._verify)

    def _read(self, data: Any, host: str) -> Minted[Credential]:
        token = data.get("authorizationToken") if isinstance(data, dict) else None
        text = ""
        with contextlib.suppress(ValueError, TypeError):
            text = base64.b64decode(token or "", validate=True).decode()
        user, _, password = text.partition(":")
        if not user or not password:
            raise ProtocolError(f"AWS answered without a usable login for {host}", phase=PHASE, registry=host)
        ends = data.get("expiresAt")
        life = ends.timestamp() - self._now() if isinstance(ends, datetime) else 0.0
        # A clock that is wrong, here or there, must not make a login that is never or always renewed.
        return Minted(Credential(user, password), life if 0 < life <= _LIFE_MAX else _LIFE)


def _fault(error: Exception, host: str, account: Account) -> DistworkerError:
    fields: dict[str, Any] = {"phase": PHASE, "registry": host}
    asked = "the AWS account of this machine"
    if account.keys or account.profile:
        asked = f"the profile {account.profile!r}" if account.profile else "the access key (username)"
    if isinstance(error, _NO_ACCOUNT):
        return ConfigInvalid(
            f"no AWS account to log in to {host} with: {asked} cannot be used ({type(error).__name__}); give "
            "the machine a role, or set profile, or username and password to an access key",
            field="login",
            **fields,
        )
    if isinstance(error, aws.ClientError):
        return _refusal(error, asked, account.role, host)
    kind = Unavailable if isinstance(error, aws.ConnectionError | aws.HTTPClientError) else ProtocolError
    return kind(f"AWS cannot be asked for a login to {host} ({type(error).__name__})", **fields)


def _refusal(error: Any, asked: str, role: str, host: str) -> TransferError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    fields: dict[str, Any] = {"phase": PHASE, "registry": host, "status": status or None}
    said = code if re.fullmatch(r"[A-Za-z.]{1,60}", code, re.ASCII) else str(status)
    if code in _THROTTLED or status == 429:
        return Throttled(f"AWS is asked too often for {host} ({said})", **fields, delay=THROTTLE_WAIT)
    if code in _DENIED:
        wanted = f"sts:AssumeRole on {role} and " if role else ""
        return Denied(
            f"AWS does not let {asked} log in to {host} ({said}); it needs {wanted}ecr:GetAuthorizationToken",
            **fields,
        )
    if status >= 500:
        return Unavailable(f"AWS cannot make a login to {host} just now ({said})", **fields)
    if status in {400, 401, 403}:
        return Unauthorized(f"AWS refuses {asked} for {host} ({said}); check it", **fields)
    return ProtocolError(f"AWS answered {said} instead of a login to {host}", **fields)
