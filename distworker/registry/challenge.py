"""Reading `WWW-Authenticate`: the list grammar of RFC 9110 section 11.6.1, as registries really write it.

Several challenges may share a header or stand in several headers; commas hide in quoted strings; schemes and
parameter names come in any letter case (Nexus sends BASIC). A challenge that cannot be read is skipped, so
that a good one beside it still counts (RFC 9110, 11.6.1). No sockets here, and nothing raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from distworker.limits import HEADER_VALUE_MAX

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SPACE = re.compile(r"[ \t]*")
_COMMAS = re.compile(r"[ \t,]*")
_SCHEME = re.compile(_WORD)
_PARAM = re.compile(rf"({_WORD})[ \t]*=[ \t]*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
# Unquoted values hold URLs in the wild, so anything up to a comma or space counts, not only RFC tokens.
_BARE = re.compile(r'[^\s,"]+')
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge: `scheme` and parameter names in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def realm(self) -> str:
        """The realm, "" when there is none."""
        return self.parameters.get("realm", "")

    @property
    def service(self) -> str:
        """The service, "" when there is none."""
        return self.parameters.get("service", "")

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes asked for; several are separated by spaces."""
        return tuple(self.parameters.get("scope", "").split())

    @property
    def error(self) -> str:
        """Bearer's reason: `invalid_token`, `insufficient_scope` or ""."""
        return self.parameters.get("error", "")


def parse(values: Iterable[str]) -> list[Challenge]:
    """All readable challenges in the given header values, in order."""
    found: list[Challenge] = []
    for value in values:
        if len(value) <= HEADER_VALUE_MAX:
            found.extend(_parse_one(value))
    return found


def choose(challenges: Iterable[Challenge]) -> Challenge | None:
    """Bearer with a realm if offered, else Basic; None when there is neither."""
    offered = list(challenges)
    for wanted in offered:
        if wanted.scheme == "bearer" and wanted.realm:
            return wanted
    return next((one for one in offered if one.scheme == "basic"), None)


def _parse_one(text: str) -> Iterable[Challenge]:
    at = _skip(text, 0)
    while at < len(text):
        match = _SCHEME.match(text, at)
        if match is None:
            return
        scheme = match.group().lower()
        at = _gap(text, match.end())
        token68 = _TOKEN68.match(text, at)
        if token68 and (token68.group().endswith("=") or not _PARAM.match(text, at)):
            at = token68.end()
        parameters, at, whole = _parameters(text, at)
        if not whole:
            return
        yield Challenge(scheme, parameters)
        at = _skip(text, at)


def _parameters(text: str, at: int) -> tuple[dict[str, str], int, bool]:
    """Parameters from `at` on; also where they end, and whether that end is a sound one."""
    found: dict[str, str] = {}
    while True:
        start = _skip(text, at)
        match = _PARAM.match(text, start)
        if match is None:
            return found, start, True  # the end, or the next challenge's scheme
        name = match.group(1).lower()
        quoted = _QUOTED.match(text, match.end())
        bare = None if quoted else _BARE.match(text, match.end())
        if quoted:
            found.setdefault(name, re.sub(r"\\(.)", r"\1", quoted.group(1), flags=re.DOTALL))
            at = quoted.end()
        elif bare:
            found.setdefault(name, bare.group())
            at = bare.end()
        else:
            return found, match.end(), False


def _skip(text: str, at: int) -> int:
    match = _COMMAS.match(text, at)
    return match.end() if match else at


def _gap(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
