"""What an operator's files say of a registry: whether it may be asked, where its content is read, with what.

Three tools keep such files, and an operator names the ones that count: certificates in folders (docker,
containers), `hosts.toml` (containerd) and `registries.conf` (containers); the plain way is `mirrors` in
`registries.toml`. They are asked in the order `registries.toml`, `registries.conf`, `hosts.toml`.
`registries.conf` is read at once, what belongs to one host when that host is first needed, so that a fault in
the files of one registry does not stop the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from distworker.errors import ConfigInvalid, Denied
from distworker.registry.faults import Where
from distworker.registry.hostfiles.certsd import folder_for
from distworker.registry.hostfiles.hoststoml import Host, Hosts, hosts_for
from distworker.registry.hostfiles.registriesconf import RegistriesConf
from distworker.registry.places import Route, Site, Spot
from distworker.registry.profiles import HostProfile, canonical_host
from distworker.registry.tls import TLSFiles


@dataclass(frozen=True, slots=True)
class HostFiles:
    """Where the files lie: folders of certificates by host, folders with a `hosts.toml` by host, and a
    `registries.conf`. Empty: none is read."""

    certs_dirs: tuple[str, ...] = ()
    hosts_dirs: tuple[str, ...] = ()
    registries_conf: str = ""


class Router:
    """Answers from the files and profiles; `profile` gives what `registries.toml` says of a host.

    Raises (whatever is asked):
        ConfigInvalid: a file that the answer depends on is broken.
    """

    def __init__(self, files: HostFiles, profile: Callable[[str], HostProfile]) -> None:
        self._files = files
        self._profile = profile
        self._conf = RegistriesConf.read(files.registries_conf)
        self._lock = threading.Lock()
        self._hosts: dict[str, Hosts] = {}

    def plain_http(self, host: str) -> bool:
        """Does a file say http for this very host and port? ConfigInvalid where registries.toml has
        certificates for it: somebody means it to be https."""
        own = self._own(host)
        plain = self._conf.plain_http(host) or (bool(own) and all(one.plain_http for one in own))
        profile = self._profile(host)
        if plain and (profile.ca_file or profile.client_cert):
            file = self._said(host).path if own else self._files.registries_conf
            raise ConfigInvalid(
                f"{file}: plain http for {host}, and certificates for it in registries.toml; drop one of"
                " the two"
            )
        return plain

    def files(self, host: str) -> TLSFiles:
        """All certificates for `host`."""
        profile = self._profile(host)
        folders = [folder_for(self._files.certs_dirs, host), self._said(host).folder]
        pairs = ((profile.client_cert, profile.client_key),) if profile.client_cert else ()
        found = TLSFiles((profile.ca_file,) if profile.ca_file else (), pairs, tuple(filter(None, folders)))
        for one in self._own(host):
            found += one.files
        return found

    def check(self, where: Where) -> None:
        """Raise Denied when an operator blocked what `where` names."""
        entry = self._conf.find(canonical_host(where.registry), where.repository)
        if entry is not None and entry.blocked:
            raise Denied(
                f"{where}: {entry.path} blocks {entry.prefix}; if it is to be used, take `blocked` out there",
                **where.fields,
            )

    def routed(self, host: str) -> bool:
        """May anything of `host` be read elsewhere?"""
        said = self._said(host)
        return bool(self._profile(host).mirrors or said.hosts or said.server or self._conf)

    def route(self, host: str, repository: str) -> Route:
        """Where `repository` of `host` is read."""
        profile, said = self._profile(host), self._said(host)
        spots = [_mirror(host, text, repository, tags=profile.mirror_tags) for text in profile.mirrors]
        entry = self._conf.find(host, repository)
        conf = entry.route(f"{host}/{repository}") if entry else Route()
        spots += conf.spots
        own = self._own(host)
        hosts = [one for one in said.hosts if one.pulls or one.resolves]
        while hosts and hosts[-1] in own:
            hosts.pop()  # the registry itself comes last anyway
        spots += [_spot(host, one, repository) for one in hosts]
        last = conf.last
        if last is None and said.server is not None and said.server not in own:
            last = _spot(host, said.server, repository)
        return Route(tuple(spots), last)

    def _said(self, host: str) -> Hosts:
        with self._lock:
            found = self._hosts.get(host)
            if found is None:
                found = self._hosts[host] = hosts_for(self._files.hosts_dirs, host)
            return found

    def _own(self, host: str) -> list[Host]:
        """What hosts.toml says of the registry itself: so it comes to certificates or plain http."""
        said = self._said(host)
        named = [*said.hosts, *([said.server] if said.server else [])]
        return [one for one in named if (one.host, one.root, one.prefix) == (host, "/v2", "")]


def _mirror(host: str, text: str, repository: str, *, tags: bool) -> Spot:
    there, _, prefix = text.partition("/")
    name = f"{prefix}/{repository}" if prefix else repository
    return Spot(Site(canonical_host(there), namespace=host), name, tags=tags)


def _spot(host: str, there: Host, repository: str) -> Spot:
    site = Site(
        host=there.host,
        plain_http=there.plain_http,
        root=there.root,
        namespace="" if there.host == host else host,
        files=there.files,
        connect_timeout=there.connect_timeout,
    )
    name = f"{there.prefix}/{repository}" if there.prefix else repository
    return Spot(site, name, tags=there.resolves, digests=there.pulls)
