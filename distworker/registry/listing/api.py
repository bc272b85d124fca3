"""One product's own JSON API: an origin, a way to log in there, and pages of JSON.

The API may be another host than the registry. The login goes there only where the table of registries or the
operator declares that host (`api_host`), and by construction: an `Api` has an HTTP of its own whose one
trusted origin is the API's. Unlike registries these APIs send no challenge, so the login goes first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from distworker.digest import Digest
from distworker.errors import (
    InvalidReference,
    InvalidRequest,
    RateLimited,
    TransferError,
    UnsupportedDigest,
)
from distworker.reference import parse_repository
from distworker.registry import faults
from distworker.registry.call import Call, Reply
from distworker.registry.credentials import Credential
from distworker.registry.faults import Where
from distworker.registry.http import HTTP
from distworker.registry.listing import pages
from distworker.registry.listing.base import below
from distworker.registry.listing.pages import Page
from distworker.registry.listing.tags import is_tag, warn
from distworker.registry.waits import LIMIT_WAIT
from distworker.retrying import parse_retry_after

T = TypeVar("T")


class Login(Protocol):
    """How an API wants to be logged in to."""

    def header(self, http: HTTP, credential: Credential, where: Where) -> str:
        """The `Authorization` value for `http`'s origin."""
        ...

    def forget(self) -> bool:
        """It was refused; is there any sense in making another?"""
        ...


class Basic:
    """User and password with each request (Harbor)."""

    def header(self, http: HTTP, credential: Credential, where: Where) -> str:
        """See `Login.header`."""
        return credential.basic(http.origin)

    def forget(self) -> bool:
        """The same pair would be sent."""
        return False


class Bearer:
    """The password is an access token of the product (GitHub, GitLab). `user`: only if the login's name is
    this one, for products whose other passwords are good for the registry alone (Quay: `$oauthtoken`)."""

    def __init__(self, user: str = "") -> None:
        self._user = user

    def header(self, http: HTTP, credential: Credential, where: Where) -> str:
        """See `Login.header`."""
        if self._user and credential.username != self._user:
            return ""
        return f"Bearer {credential.secret(http.origin)}"

    def forget(self) -> bool:
        """The same token would be sent."""
        return False


@dataclass(frozen=True, slots=True)
class Api:
    """`registry` is the host as in references, `http` the way to the API."""

    registry: str
    http: HTTP
    login: Login
    headers: Mapping[str, str] = field(default_factory=dict)

    def where(self, phase: str, repository: str = "") -> Where:
        """What an error will say."""
        return Where(phase, self.registry, repository)

    def url(self, path: str) -> str:
        """The address of `path`, whose parts are quoted already."""
        return f"{self.http.origin}{path}"

    def walk(
        self,
        path: str,
        where: Where,
        what: str,
        read: Callable[[Reply, Any], Page[T]],
        key: Callable[[T], Hashable] = lambda item: item,
    ) -> Iterator[T]:
        """Each item of the pages from `path` on, once; `read` turns one page's JSON into a `Page`."""

        def fetch(url: str) -> Page[T]:
            with self.get(url, where) as reply:
                return read(reply, pages.document(reply, what))

        return pages.walk(self.url(path), fetch, where, what, key)

    def get(self, url: str, where: Where) -> Reply:
        """The reply to GET, status 200; typed errors for every other."""
        reply, logged_in = self._send(url, where)
        if reply.status == 401 and logged_in and self.login.forget():
            reply.close()
            reply, logged_in = self._send(url, where)
        if reply.status == 200:
            return reply
        with reply:
            raise self._refused(reply, where, logged_in)

    def _refused(self, reply: Reply, where: Where, logged_in: bool) -> TransferError:
        if reply.status == 401 and not logged_in:
            return faults.auth_required(where)
        error = reply.error()
        if reply.status == 403 and reply.header("X-RateLimit-Remaining").strip() == "0":
            # GitHub answers 403 when its hourly budget is spent (GitHub REST API, "Rate limits").
            delay = parse_retry_after(reply.header("X-RateLimit-Reset"), reply.header("Date"), time.time())
            return RateLimited(error.message, **{**error.fields, "delay": delay or LIMIT_WAIT})
        return error

    def linked(self, reply: Reply, items: list[T], what: str) -> Page[T]:
        """A page whose next one stands in `Link`."""
        return Page(items, pages.next_page(reply, self.http.origin, what))

    def _send(self, url: str, where: Where) -> tuple[Reply, bool]:
        credential = self.http.auth.credential(where.repository)
        # Tokens for the registry are worth nothing here.
        known = credential is not None and bool(credential.secret(self.http.origin))
        header = self.login.header(self.http, credential, where) if credential and known else ""
        headers = {"Accept": "application/json", **self.headers}
        return self.http.send(Call("GET", url, where, headers=headers, authorization=header)), bool(header)


class Kept:
    """A value that is made once and shared by all threads until it is `life` seconds old or dropped."""

    def __init__(self, life: float) -> None:
        self._life = life
        self._lock = threading.Lock()
        self._value: tuple[str, str, float] | None = None

    def get(self, key: str, now: float, make: Callable[[], str]) -> str:
        """The value for `key`, made anew when there is none or it is old at `now`."""
        with self._lock:
            if self._value is None or self._value[0] != key or self._value[2] <= now:
                self._value = (key, make(), now + self._life)
            return self._value[1]

    def drop(self) -> None:
        """Make a new one next time."""
        with self._lock:
            self._value = None


# --- what all adapters need -------------------------------------------------------------------------------


def part(text: str) -> str:
    """`text` as one part of a path: slashes are quoted too."""
    return quote(text, safe="")


def namespace(prefix: str, registry: str, what: str) -> str:
    """The first part of `prefix`.

    Raises:
        InvalidRequest: there is none, and this API lists by it only.
    """
    if not prefix:
        raise InvalidRequest(
            f"{registry} lists repositories only below {what}: begin the pattern with one", field="prefix"
        )
    return parse_repository(prefix).partition("/")[0]


def names(found: Iterator[str], prefix: str) -> Iterator[str]:
    """Those that are repositories at or below `prefix`; the others could not be written in a reference."""
    for name in found:
        try:
            checked = parse_repository(name)
        except InvalidReference:
            continue
        if below(checked, prefix):
            yield checked


def tag_map(found: Iterator[tuple[str, str]], where: Where) -> dict[str, Digest]:
    """Tag → digest; pairs that are not both are left out."""
    result: dict[str, Digest] = {}
    for tag, text in found:
        if not is_tag(tag):
            warn(where)
            continue
        try:
            result[tag] = Digest.parse(text)
        except (InvalidReference, UnsupportedDigest):
            continue
    return result


def text(entry: Any, *path: str) -> str:
    """The string at `path` of nested objects, "" when there is none."""
    for name in path:
        entry = entry.get(name) if isinstance(entry, dict) else None
    return entry if isinstance(entry, str) else ""
