"""Certificates of single registries in folders, as docker and containers keep them.

`<root>/<host[:port]>/` holds `*.crt` (authorities trusted besides the system's) and `*.cert` with `*.key`
(what a client shows). A lone half is an error that names the missing one: docker users lose hours over a
certificate authority that is called `.cert`. Only names are looked at here; `tls.py` opens the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from distworker.errors import ConfigInvalid
from distworker.registry.profiles import HUB, HUB_ALIASES


@dataclass(frozen=True, slots=True)
class Certificates:
    """Paths: authorities, and pairs of certificate and key."""

    authorities: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()


def names_of(host: str) -> tuple[str, ...]:
    """What a folder for `host` may be called: Docker Hub has three names."""
    return (HUB, *sorted(HUB_ALIASES - {HUB})) if host in HUB_ALIASES else (host,)


def folder_for(roots: Sequence[str], host: str) -> str:
    """The first folder for this very host and port, "" when no root has one."""
    if not host or "/" in host or host.startswith("."):
        return ""
    found = (Path(root) / name for root in roots for name in names_of(host))
    return next((str(folder) for folder in found if _is_folder(folder)), "")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # a root that only its owner may enter: nothing in it is meant for this user


def certificates(folder: str) -> Certificates:
    """What lies in `folder`.

    Raises:
        ConfigInvalid: it cannot be listed; a `.cert` without its `.key`, or the other way round.
    """
    try:
        names = sorted(path.name for path in Path(folder).iterdir())
    except OSError as error:
        reason = error.strerror
    else:
        return Certificates(
            tuple(f"{folder}/{name}" for name in names if name.endswith(".crt")), tuple(_pairs(folder, names))
        )
    raise ConfigInvalid(f"{folder}: cannot be listed: {reason}")


def _pairs(folder: str, names: Sequence[str]) -> Iterable[tuple[str, str]]:
    there = set(names)
    for name in names:
        if name.endswith(".cert"):
            other = f"{name.removesuffix('.cert')}.key"
            if other not in there:
                raise ConfigInvalid(
                    f"{folder}/{name}: {other} is missing beside it; a certificate authority ends in .crt"
                )
            yield f"{folder}/{name}", f"{folder}/{other}"
        elif name.endswith(".key"):
            other = f"{name.removesuffix('.key')}.cert"
            if other not in there:
                raise ConfigInvalid(
                    f"{folder}/{name}: {other} is missing beside it; a client certificate ends in .cert"
                )
