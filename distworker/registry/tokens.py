"""Bearer tokens: how a token server is asked, and what its answer says.

`TokenRequest` and `read_token` are plain values over the wire format of distribution's token spec and of
OAuth 2; sending is someone else's work, so all of it is tested without sockets. Tokens are
never parsed: they are opaque, and nothing is decided from what is inside.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from distworker.errors import ProtocolError
from distworker.limits import HEADER_VALUE_MAX
from distworker.registry.credentials import Credential
from distworker.registry.scopes import Scope
from distworker.registry.urls import origin_of, with_query
from distworker.registry.waits import TOKEN_LIFE_MIN, TOKEN_MARGIN, TOKEN_RENEW_AT

#: OAuth 2 wants a name for the client.
CLIENT_ID: Final = "distworker"
#: Refusals of the POST form after which the GET form is tried: GCR 404, Artifactory 401, ACR 400
#: (containerd).
POST_REFUSED: Final = frozenset({400, 401, 404, 405})


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One request to a token server."""

    method: str
    url: str = field(repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, good until `renew_at` on the monotonic clock."""

    value: str = field(repr=False)
    scopes: tuple[Scope, ...] = ()
    renew_at: float = 0.0

    @property
    def header(self) -> str:
        """The `Authorization` value."""
        return f"Bearer {self.value}"

    def covers(self, scopes: tuple[Scope, ...]) -> bool:
        """Was it asked for at least these scopes?"""
        return all(any(mine.covers(one) for mine in self.scopes) for one in scopes)


def get_request(
    realm: str, service: str, scopes: tuple[Scope, ...], credential: Credential | None
) -> TokenRequest:
    """The GET form: one `scope` parameter for each resource, Basic if there is a login."""
    parameters = [("service", service)] if service else []
    parameters += [("scope", str(scope)) for scope in scopes]
    headers = {}
    if credential is not None:
        headers["Authorization"] = credential.basic(origin_of(realm))
        if credential.username:
            parameters.append(("account", credential.username))
    url = with_query(realm, urlencode(parameters)) if parameters else realm
    return TokenRequest("GET", url, headers)


def post_request(realm: str, service: str, scopes: tuple[Scope, ...], credential: Credential) -> TokenRequest:
    """The OAuth 2 form for an identity token: scopes joined by spaces."""
    form = {
        "grant_type": "refresh_token",
        "service": service,
        "client_id": CLIENT_ID,
        "refresh_token": credential.refresh_token(origin_of(realm)),
    }
    if scopes:
        form["scope"] = " ".join(str(scope) for scope in scopes)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return TokenRequest("POST", realm, headers, urlencode(form).encode())


def read_token(body: bytes, scopes: tuple[Scope, ...], now: float, clock: float) -> Token:
    """The token in a token server's answer.

    `now` is Unix time, `clock` the monotonic clock. A life under 60 s counts as 60 s; `issued_at` in the
    future, or so old that the token would be dead already, is a wrong clock and counts as now (regclient).

    Raises:
        ProtocolError: not JSON, no token, or one no header can carry.
    """
    document = _json(body)
    if not isinstance(document, dict):
        raise ProtocolError("the token server's answer is not a JSON object")
    value = document.get("token") or document.get("access_token")
    if not isinstance(value, str) or not _fits_a_header(value):
        raise ProtocolError("the token server's answer holds no usable token")
    life = max(_seconds(document.get("expires_in")), TOKEN_LIFE_MIN)
    age = max(now - _issued_at(document.get("issued_at"), now), 0.0)
    left = life - age if age < life else life
    return Token(value, scopes, clock + max(min(left * TOKEN_RENEW_AT, left - TOKEN_MARGIN), 1.0))


def _json(body: bytes) -> Any:
    """The document, None when it is none: a parser's own error holds the text, which may be a token."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(body)
    return None


def _fits_a_header(value: str) -> bool:
    return 0 < len(value) <= HEADER_VALUE_MAX and value.isascii() and value.isprintable() and " " not in value


def _seconds(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 < value < 10**9 else 0.0


def _issued_at(value: Any, now: float) -> float:
    if not isinstance(value, str):
        return now
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return now
    return moment.timestamp() if moment.tzinfo else now
