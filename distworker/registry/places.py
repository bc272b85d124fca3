"""Where the content of a repository may be read: the registry itself, and servers that an operator named.

Plain data between the files that say so (`hostfiles/`) and the client that reads (`mirrors.py`). A `Site` is
one server with its own login, certificates and address rules; a `Spot` is a repository on it, as named there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from distworker.registry.tls import TLSFiles


@dataclass(frozen=True, slots=True)
class Site:
    """A server that has what a registry has.

    `host`: `host[:port]`, whose login and profile count. `plain_http`: None where the profile says it.
    `root`: path of its API, usually `/v2`. `namespace`: the registry it stands for, told in the query `ns`
    (distribution-spec, "Registry Proxying"); empty for servers that do not want to know. `files`:
    certificates besides those of the profile. `connect_timeout`: seconds, 0 for the usual.
    """

    host: str
    plain_http: bool | None = None
    root: str = "/v2"
    namespace: str = ""
    files: TLSFiles = field(default_factory=TLSFiles)
    connect_timeout: float = 0.0


@dataclass(frozen=True, slots=True)
class Spot:
    """A repository on a site. `tags`: it may say what a tag means. `digests`: it may give what one names."""

    site: Site
    repository: str
    tags: bool = True
    digests: bool = True


@dataclass(frozen=True, slots=True)
class Route:
    """Where to read, in order; `last` is None for the registry itself."""

    spots: tuple[Spot, ...] = ()
    last: Spot | None = None
