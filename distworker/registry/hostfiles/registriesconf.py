"""`registries.conf` (version 2) of containers: where an image's name really leads.

An entry stands for the names below its `prefix` (whole segments; `*.example.com` for every host under it),
the longest one wins. Its `location` and `mirror`s say where to read instead, `blocked` that nothing may be
asked. `insecure` means plain http for that very host and port; the other half of what it means elsewhere, TLS
without looking at the certificate, does not exist here. What is said of short names is left alone: ours are
complete.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from distworker.errors import ConfigInvalid, InvalidReference
from distworker.reference import parse_host, parse_repository
from distworker.registry.hostfiles.toml import Table, read_toml
from distworker.registry.places import Route, Site, Spot
from distworker.registry.profiles import canonical_host

#: What has a meaning only for short names, helpers and stores of the tools that own this file.
_OF_OTHERS: Final = (
    *("unqualified-search-registries", "short-name-mode", "aliases", "credential-helpers"),
    "additional-layer-store-auth-helper",
)
_ENTRY: Final = ("prefix", "location", "insecure", "blocked", "mirror", "mirror-by-digest-only")
_MIRROR: Final = ("location", "insecure", "pull-from-mirror")
_WILDCARD: Final = re.compile(r"\*(\.[A-Za-z0-9-]+)+(:[0-9]{1,5})?(/.*)?", re.ASCII)
#: `pull-from-mirror`: may it be asked for (tags, digests)?
_PULLS: Final = {"all": (True, True), "digest-only": (False, True), "tag-only": (True, False)}


@dataclass(frozen=True, slots=True)
class Mirror:
    """A mirror: `location` takes the place of the prefix in a name."""

    location: str
    insecure: bool
    tags: bool
    digests: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """One `[[registry]]`; `location` is empty where names stay as they are."""

    path: str
    prefix: str
    location: str
    insecure: bool
    blocked: bool
    mirrors: tuple[Mirror, ...]

    def matched(self, name: str) -> int:
        """Characters of `name` that the prefix stands for, 0 when it is not for this name."""
        if not self.prefix.startswith("*."):
            return len(self.prefix) if f"{name}/".startswith(f"{self.prefix}/") else 0
        domain, _, path = self.prefix.removeprefix("*").partition("/")
        host, _, rest = name.partition("/")
        if not host.endswith(domain) or host == domain or (path and not f"{rest}/".startswith(f"{path}/")):
            return 0
        return len(host) + (1 + len(path) if path else 0)

    def route(self, name: str) -> Route:
        """Where `name` (host and repository) is read."""
        spots = []
        for mirror in self.mirrors:
            host, repository = self._rewritten(name, mirror.location)
            site = Site(host, plain_http=mirror.insecure or None)
            spots.append(Spot(site, repository, mirror.tags, mirror.digests))
        if not self.location or self.location == self.prefix:
            return Route(tuple(spots))
        host, repository = self._rewritten(name, self.location)
        return Route(
            tuple(spots),
            last=Spot(Site(host, plain_http=self.insecure or None), repository),
        )

    def _rewritten(self, name: str, location: str) -> tuple[str, str]:
        host, _, repository = f"{location}{name[self.matched(name) :]}".partition("/")
        try:
            return canonical_host(host), parse_repository(repository)
        except InvalidReference:
            raise ConfigInvalid(
                f"{self.path}: location {location}: put in the place of {self.prefix}, it leaves no"
                f" repository name of {name}",
                field="location",
            ) from None


class RegistriesConf:
    """The entries of a file and of its drop-ins."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries = {entry.prefix: entry for entry in entries}

    @classmethod
    def read(cls, path: str) -> RegistriesConf:
        """`path` and `path.d/*.conf` in the order of their names; a later entry replaces an earlier one with
        the same prefix.

        Raises:
            ConfigInvalid: neither is there, one is broken, or an entry cannot mean what it says.
        """
        if not path:
            return cls()
        files = [Path(path)] if Path(path).is_file() else []
        files += sorted(Path(f"{path}.d").glob("*.conf"))
        if not files:
            raise ConfigInvalid(f"registries_conf: no such file: {path}", field="registries_conf")
        return cls(entry for file in files for entry in _entries(file))

    def __bool__(self) -> bool:
        return bool(self._entries)

    def find(self, host: str, repository: str = "") -> Entry | None:
        """The entry with the longest prefix for this name."""
        name = f"{host}/{repository}" if repository else host
        found = [entry for entry in self._entries.values() if entry.matched(name)]
        # A host that is written out beats any wildcard, a longer domain a shorter one.
        return max(
            found,
            key=lambda one: (one.matched(name), not one.prefix.startswith("*"), len(one.prefix)),
            default=None,
        )

    def plain_http(self, host: str) -> bool:
        """Is this very host and port named as one that speaks http?"""
        places = [(entry.location or entry.prefix, entry.insecure) for entry in self._entries.values()]
        places += [(mirror.location, mirror.insecure) for e in self._entries.values() for mirror in e.mirrors]
        return any(insecure and canonical_host(place.partition("/")[0]) == host for place, insecure in places)


def _entries(path: Path) -> Iterable[Entry]:
    values = read_toml(path)
    top = Table(path, values)
    if "registries" in values:
        raise top.wrong("registries", "this is version 1 of the file; write [[registry]] tables instead")
    top.ignore_others(("registry", *_OF_OTHERS))
    return [_entry(table) for table in top.tables("registry")]


def _entry(table: Table) -> Entry:
    table.ignore_others(_ENTRY, guards=("blocked",))
    location = _place(table, "location")
    prefix = _place(table, "prefix", wildcard=True) or location
    if not prefix:
        raise table.wrong("location", "neither location nor prefix is given; name the registry")
    by_digest = table.flag("mirror-by-digest-only")
    if table.flag("insecure") and not location and prefix.startswith("*"):
        raise table.wrong("insecure", "plain http is for one host:port; name it as location")
    return Entry(
        path=str(table.path),
        prefix=prefix,
        location=location,
        insecure=table.flag("insecure"),
        blocked=table.flag("blocked"),
        mirrors=tuple(_mirror(one, by_digest) for one in table.tables("mirror")),
    )


def _mirror(table: Table, by_digest: bool) -> Mirror:
    table.ignore_others(_MIRROR)
    location = _place(table, "location")
    if not location:
        raise table.wrong("location", "a mirror needs one")
    mode = table.text("pull-from-mirror")
    if mode and by_digest:
        raise table.wrong("pull-from-mirror", "its registry says mirror-by-digest-only; keep one of the two")
    if mode not in {"", *_PULLS}:
        raise table.wrong("pull-from-mirror", f"expected one of {', '.join(_PULLS)}")
    tags, digests = _PULLS[mode or ("digest-only" if by_digest else "all")]
    return Mirror(location, table.flag("insecure"), tags, digests)


def _place(table: Table, key: str, wildcard: bool = False) -> str:
    """`host[:port][/path]` in its one spelling."""
    text = table.text(key).rstrip("/")
    if not text or (wildcard and _WILDCARD.fullmatch(text)):
        return text
    host, _, path = text.partition("/")
    try:
        parse_host(host)
        if path:
            parse_repository(path)
    except InvalidReference as error:
        raise table.wrong(key, f"{error.message}; expected host[:port][/path], without a scheme") from None
    return f"{canonical_host(host)}/{path}" if path else canonical_host(host)
