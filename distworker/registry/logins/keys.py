"""Which registries and repositories a key of a login file stands for.

Three dialects of the same JSON: docker's keys stand for one host and port; containers' may end in a
namespace (`host/team`), matched by whole path parts, the longest first (containers-auth.json(5)); a
Kubernetes secret may also use `*` and `?` inside the labels of a host name, as the kubelet does. Docker's
old forms `https://host/v1/` and `host/v2/` stand for their host in all of them. A host name is compared
whole, port included: no suffix and no prefix of one ever matches, and a pattern must spell out the last two
labels, or anybody's host could fit.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Literal

from distworker.registry.profiles import canonical_host

Dialect = Literal["docker", "containers", "kubernetes"]

_WILD = frozenset("*?[")
#: Paths of the old index API that docker's own keys end in.
_API_PATHS = frozenset({(), ("v1",), ("v2",)})


@dataclass(frozen=True, slots=True)
class Key:
    """One key, read. `plain`: written as `host[:port][/path]`, which beats older spellings of the same."""

    host: str
    path: tuple[str, ...]
    plain: bool
    wild: bool

    def matches(self, host: str, repository: str) -> bool:
        """Does it stand for `repository` ("" for the registry as a whole) on `host`?"""
        parts = tuple(repository.split("/")) if repository else ()
        if self.path != parts[: len(self.path)]:
            return False
        return _fits(self.host, host) if self.wild else self.host == host

    @property
    def rank(self) -> tuple[int, bool, int, bool]:
        """Of several that match, the one with the greatest rank counts: it says most."""
        return len(self.path), not self.wild, len(self.host), self.plain


def read_key(text: str, dialect: Dialect) -> Key | None:
    """The key, None when it can stand for no registry.

    Raises:
        ValueError: a pattern that fits hosts of strangers; the text says what to write instead.
    """
    _, found, rest = text.rpartition("://")
    host, slash, path = (rest if found else text).partition("/")
    host = canonical_host(host.lower())
    parts = tuple(part for part in path.split("/") if part)
    old = bool(found) or (bool(slash) and dialect != "containers")
    if old and parts in _API_PATHS:
        parts = ()
    # An IPv6 address has a bracket too, but at its start.
    wild = dialect == "kubernetes" and host[:1] != "[" and bool(_WILD & set(host))
    if wild:
        _check_pattern(host)
    return Key(host, parts, plain=not (found or slash) or bool(parts), wild=wild) if host else None


def _check_pattern(host: str) -> None:
    name, _, port = host.partition(":")
    labels = name.split(".")
    if "[" in host or _WILD & set(port):
        raise ValueError("only * and ? may stand for parts of a host name; write it out")
    if any(_WILD & set(label) for label in labels[-2:]):
        raise ValueError("it fits hosts of strangers too; spell out at least the last two labels")


def _fits(pattern: str, host: str) -> bool:
    wanted, _, port = pattern.partition(":")
    name, _, own_port = host.partition(":")
    patterns, labels = wanted.split("."), name.split(".")
    return (
        port == own_port
        and len(patterns) == len(labels)
        and all(_label(one, label) for one, label in zip(patterns, labels, strict=True))
    )


def _label(pattern: str, label: str) -> bool:
    # Not a regular expression of our own: with several stars it takes exponential time on a long label.
    return fnmatch.fnmatchcase(label, pattern)
