"""Addresses on the wire: origins, safe joining of what servers send, and the rule against losing TLS.

An `Origin` (scheme, lower-case host, port with the default filled in) is what credentials are bound to;
registries drop or add `:443` (oras-go #177), so text is never compared. Queries are never parsed or rebuilt:
they carry signed state. No function here puts a URL into an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit, urlunsplit

from distworker.errors import ProtocolError, RedirectRefused
from distworker.limits import HEADER_VALUE_MAX

_PORTS = {"http": 80, "https": 443}
_VISIBLE = re.compile(r"[!-~]+", re.ASCII)
# "host/v2/…" without a scheme: what very old registries answered in Location.
_SCHEMELESS = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]+)?/v2/", re.ASCII)


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: the thing a credential belongs to."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        """`host[:port]`, the port left out when it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"


def origin_of(url: str) -> Origin:
    """The origin of an absolute http(s) URL; ProtocolError for anything else, userinfo included."""
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname
    except ValueError:
        raise ProtocolError("an address that cannot be parsed") from None
    if parts.scheme not in _PORTS or not host:
        raise ProtocolError("an address that is neither http nor https")
    if parts.username is not None or parts.password is not None:
        raise ProtocolError("an address with a user name in it")
    return Origin(parts.scheme, host.lower(), _PORTS[parts.scheme] if port is None else port)


def resolve(base: str, target: str) -> str:
    """`target`, as a server sent it in Location or Link, made absolute against `base`; its query stays
    untouched.

    Raises:
        ProtocolError: too long, unprintable, or not an http(s) address.
        RedirectRefused: it would leave https for http.
    """
    if len(target) > HEADER_VALUE_MAX or not _VISIBLE.fullmatch(target):
        raise ProtocolError("an address that is empty, too long or has characters no address may have")
    if _SCHEMELESS.match(target):
        target = f"//{target}"
    try:
        url = _without_fragment(urljoin(base, target))
    except ValueError:
        raise ProtocolError("an address that cannot be parsed") from None  # "//[" has half an IPv6 host
    before, after = origin_of(base), origin_of(url)
    if before.scheme == "https" and after.scheme == "http":
        if before.host == after.host and after.port == _PORTS["http"]:
            # A registry behind a TLS proxy that does not know its own scheme: same host, so stay on https.
            return _moved(url, before)
        raise RedirectRefused(f"{before.netloc} leads from https to plain http at {after.netloc}; refused")
    return url


def with_query(url: str, query: str) -> str:
    """`url` with `query` appended to whatever query it has."""
    return f"{url}{'&' if '?' in url else '?'}{query}"


def _without_fragment(url: str) -> str:
    return url.partition("#")[0]


def _moved(url: str, origin: Origin) -> str:
    parts = urlsplit(url)
    return urlunsplit((origin.scheme, origin.netloc, parts.path, parts.query, ""))
