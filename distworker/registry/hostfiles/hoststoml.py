"""containerd's `hosts.toml`: which servers to read a registry's content from, and with which certificates.

`<root>/<host>` is looked up as containerd does: `host_port_`, then `host:port`, then `_default`. What would
weaken a connection is refused with its reason rather than skipped: `skip_verify`, because certificates are
always checked, and `header`, because a header may be a login and would not be bound to one origin. Servers
named here are read from only, whatever `capabilities` say of push: writes go to the registry itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from distworker.errors import InvalidReference, ProtocolError
from distworker.reference import parse_repository
from distworker.registry.hostfiles.certsd import folder_for, names_of
from distworker.registry.hostfiles.toml import Table, read_toml
from distworker.registry.profiles import canonical_host
from distworker.registry.tls import TLSFiles
from distworker.registry.urls import origin_of

FILE: Final = "hosts.toml"
_KEYS: Final = frozenset(
    {"capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout"}
)
_CAPABILITIES: Final = frozenset({"pull", "resolve", "push"})
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*", re.ASCII)
_USER: Final = re.compile(r"//[^/]*@")
#: Go's spelling of a duration, its largest and smallest units left out.
_DURATION: Final = re.compile(r"(?:(\d{1,4})m)?(?:(\d{1,5}(?:\.\d+)?)s)?(?:(\d{1,6})ms)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Host:
    """One server: `prefix` goes before repository names, `root` is where its API begins."""

    host: str
    plain_http: bool
    root: str
    prefix: str
    pulls: bool
    resolves: bool
    files: TLSFiles
    connect_timeout: float


@dataclass(frozen=True, slots=True)
class Hosts:
    """What is said of one registry. `server`: what to read from when no other host has it, None for the
    registry itself. `folder`: certificates in docker's manner, where there is no hosts.toml."""

    path: str = ""
    hosts: tuple[Host, ...] = ()
    server: Host | None = None
    folder: str = ""


def hosts_for(roots: Sequence[str], host: str) -> Hosts:
    """What the first folder for `host` (or else `_default`) says; nothing when there is none.

    Raises:
        ConfigInvalid: the file is broken, or asks for what is refused.
    """
    for name in (*_folder_names(host), "_default"):
        folder = folder_for(roots, name)
        if not folder:
            continue
        path = Path(folder) / FILE
        return _read(path) if path.is_file() else Hosts(folder=folder)
    return Hosts()


def _folder_names(host: str) -> list[str]:
    found = []
    for name in names_of(host):
        bare, colon, port = name.rpartition(":")
        if colon and port.isdigit():
            found.append(f"{bare}_{port}_")
        found.append(name)
    return found


def _read(path: Path) -> Hosts:
    values = read_toml(path)
    top = Table(path, values)
    entries = values.get("host", {})
    if not isinstance(entries, dict) or not all(isinstance(one, dict) for one in entries.values()):
        raise top.wrong("host", 'expected tables such as [host."https://mirror.example.com"]')
    hosts = []
    for url, entry in entries.items():
        table = Table(path, entry, f'[host."{_USER.sub("//***@", url)}"]')
        hosts.append(_host(table, url))
    url = top.text("server")
    _checked(top)
    return Hosts(str(path), tuple(hosts), _host(top, url) if url else None)


def _host(table: Table, url: str) -> Host:
    given = _checked(table)
    url = url if "://" in url else f"https://{url}"
    try:
        origin = origin_of(url)
    except ProtocolError as error:
        raise table.wrong(_url_key(table), f"{error.message}; write https://host") from None
    root, prefix = _root(table, url)
    return Host(
        host=canonical_host(origin.netloc),
        plain_http=origin.scheme == "http",
        root=root,
        prefix=prefix,
        pulls="pull" in given,
        resolves="resolve" in given,
        files=TLSFiles(_absolute(table, table.texts("ca")), _pairs(table)),
        connect_timeout=_seconds(table),
    )


def _url_key(table: Table) -> str:
    return "host" if table.place else "server"


def _checked(table: Table) -> tuple[str, ...]:
    """The capabilities; raises for what is refused, tells of what is unknown."""
    if table.flag("skip_verify"):
        raise table.wrong(
            "skip_verify", "certificates are always checked; name the server's authority as ca instead"
        )
    if table.values.get("header"):
        raise table.wrong(
            "header",
            "a header may be a login and is not sent; a login for this host belongs into registries.toml",
        )
    given = table.texts("capabilities", sorted(_CAPABILITIES))
    table.ignore_others(_KEYS if table.place else {"server", "host", *_KEYS})
    Table(table.path, dict.fromkeys(given), table.place).ignore_others(_CAPABILITIES)
    return given


def _root(table: Table, url: str) -> tuple[str, str]:
    """Where the API begins, and what stands before repository names: behind `/v2/` both look alike, but only
    a name is part of what a token is for."""
    path = f"/{url.partition('://')[2].partition('/')[2]}".rstrip("/")
    if not _PATH.fullmatch(path):
        raise table.wrong(_url_key(table), "its path has characters that are not taken")
    if not table.flag("override_path") and not path.endswith("/v2"):
        path += "/v2"
    if path.startswith("/v2/"):
        try:
            return "/v2", parse_repository(path.removeprefix("/v2/"))
        except InvalidReference:
            return path, ""
    return path, ""


def _absolute(table: Table, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(table.path.parent / name) for name in names)


def _pairs(table: Table) -> tuple[tuple[str, str], ...]:
    """`client`: one file with both, or a list of such files and of [certificate, key]."""
    value: Any = table.values.get("client", [])
    found = []
    for one in [value] if isinstance(value, str) else value if isinstance(value, list) else [None]:
        pair = [one] if isinstance(one, str) else one
        if not isinstance(pair, list) or len(pair) not in {1, 2} or not all(isinstance(x, str) for x in pair):
            raise table.wrong("client", "expected a file, or a list of [certificate, key]")
        files = _absolute(table, [name for name in pair if name])
        found.append((files[0], files[1] if len(files) > 1 else "") if files else ("", ""))
    if len(found) > 1:
        raise table.wrong(
            "client", "several certificates; keep one, there is no telling which would be shown"
        )
    return tuple(pair for pair in found if pair[0])


def _seconds(table: Table) -> float:
    text = table.text("dial_timeout")
    match = _DURATION.fullmatch(text)
    if match is None:
        raise table.wrong("dial_timeout", 'expected a duration such as "5s"')
    minutes, seconds, thousandths = (float(part or 0) for part in match.groups())
    return minutes * 60 + seconds + thousandths / 1000
