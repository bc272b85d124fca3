"""Clients by host and credential id: where the parts of a registry client are put together from plain values.

A pool keeps one client for each registry and credential, with a dialer of its own, so that no connection, TLS
profile, login or allow-list is ever shared between two of them. Making one connects to nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from distworker import __version__, stopping
from distworker.errors import InvalidReference
from distworker.reference import needs_configuring
from distworker.registry import blobs
from distworker.registry.addresses import AddressPolicy, Allowed
from distworker.registry.base import Registry
from distworker.registry.client import Client, MirroredClient
from distworker.registry.credentials import CredentialSource, NoCredentials
from distworker.registry.dialer import Dialer
from distworker.registry.door import Wires
from distworker.registry.endpoint import Endpoint
from distworker.registry.hostfiles.router import HostFiles, Router
from distworker.registry.http import BACKOFF, HTTP
from distworker.registry.learned import Facts, MemoryFacts
from distworker.registry.listing.ecr import Connect
from distworker.registry.mirrors import Mirrors, Resting
from distworker.registry.places import Site
from distworker.registry.profiles import HostProfile, canonical_host, endpoint, trusted_realms
from distworker.registry.providers import quirks_of
from distworker.registry.sharedlocks import VaultLocks
from distworker.registry.sharedtokens import SharedTokenCache, Vault
from distworker.registry.subjects import LocalLocks, SubjectLocks
from distworker.registry.tokencache import MemoryTokenCache, TokenCache
from distworker.registry.urls import Origin, origin_of
from distworker.retrying import Backoff

#: Connections one thread keeps open; it uses two at once at most (storage beside registry).
_POOL_MAX: Final = 8
USER_AGENT: Final = f"distworker/{__version__}"


class RegistryPool:
    """Clients by host and credential id, made from plain values.

    `profiles` by `host[:port]`; a host without one gets the defaults. `chunk`: bytes per read, 1-4 MiB.
    `policy`: what any registry's connections may reach besides public addresses. `trust_named`: every
    registry asked for by `client` may be private, because whoever names it is the operator (a local run).
    `learned`: where facts about registries are remembered, one memory for all clients if not given.
    `locks`: who may change the list of referrers of one subject, if not given the vault or this process.
    `files`: which files of other tools say more; a server that they or a profile name as a mirror may be
    private too.
    `vault`: where tokens and refused logins are shared with other processes; without one they stay here.
    `aws`: how to ask Amazon's own API of a host for lists, as the machine's account if not given.
    """

    def __init__(
        self,
        profiles: Mapping[str, HostProfile] | None = None,
        credentials: CredentialSource | None = None,
        *,
        user_agent: str = USER_AGENT,
        chunk: int = blobs.CHUNK,
        backoff: Backoff = BACKOFF,
        sleep: Callable[[float], None] = stopping.sleep,
        clock: Callable[[], float] = time.monotonic,
        policy: AddressPolicy | None = None,
        trust_named: bool = False,
        wires: Wires | None = None,
        files: HostFiles | None = None,
        learned: Facts | None = None,
        locks: SubjectLocks | None = None,
        vault: Vault | None = None,
        aws: Mapping[str, Connect] | None = None,
    ) -> None:
        self._aws = dict(aws or {})
        self._learned: Facts = MemoryFacts() if learned is None else learned
        self._locks: SubjectLocks = locks or (VaultLocks(vault, clock=clock) if vault else LocalLocks())
        self._policy = policy or AddressPolicy()
        self._trust_named = trust_named
        self._wires = wires
        self._clock = clock
        self._vault = vault
        self._profiles = {canonical_host(host): profile for host, profile in (profiles or {}).items()}
        self._credentials = credentials or NoCredentials()
        self._user_agent = user_agent
        self._chunk = chunk
        self._backoff = backoff
        self._sleep = sleep
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str], Client] = {}
        self._dialers: list[Dialer] = []
        self._router = Router(files or HostFiles(), self.profile)
        self._sites: dict[tuple[Site, bool], Client] = {}
        self._mirrors = Mirrors(self._router, Resting(clock), self._open_site)

    def client(self, host: str, credential: str = "") -> Client:
        """The client for `host` with the credential of that id; ConfigInvalid when the id is not for this
        host, InvalidReference for a single label (`myhost:5000`) that no operator named.
        """
        self._expect_named(host)
        key = (canonical_host(host), credential)
        with self._lock:
            found = self._clients.get(key)
            if found is None:
                found = self._clients[key] = self._make(Site(key[0]), credential)
            return found

    def source(self, host: str, credential: str = "") -> Registry:
        """See `base.Registries.source`."""
        home = self.client(host, credential)
        if credential or not self._router.routed(home.origin):
            return home
        return MirroredClient(home, self._mirrors)

    def profile(self, host: str) -> HostProfile:
        """What is configured for `host`."""
        name = canonical_host(host)
        return self._profiles.get(name) or HostProfile(quirks=quirks_of(name))

    def close(self) -> None:
        """Close all idle connections; clients stay usable."""
        with self._lock:
            dialers = list(self._dialers)
        for dialer in dialers:
            dialer.close()

    def _open_site(self, site: Site, last: bool) -> Client:
        """The client of a mirror, or of where a registry moved, with the login of its own host."""
        with self._lock:
            found = self._sites.get((site, last))
            if found is None:
                found = self._sites[site, last] = self._make(site, "", named=True, patient=last)
            return found

    def _make(self, site: Site, credential: str, *, named: bool = False, patient: bool = True) -> Client:
        """`named`: an operator's file led here. `patient`: tried again in place where that may help."""
        host, profile = site.host, self._profile_at(site, named)
        origin = endpoint(host, profile)
        realms = (origin_of(f"https://{realm}") for realm in profile.token_realms)
        if credential:
            self._credentials.check(host, credential)  # an unknown id is told now, not at the first 401
        dialer = Dialer(
            self._reach(origin, profile),
            home=(origin.host, origin.port),
            realms=frozenset((realm.host, realm.port) for realm in realms),
            files=self._router.files(host) + site.files,
            connect_timeout=site.connect_timeout,
            proxy=profile.proxy,
            pool_size=min(max(profile.max_concurrency, 2), _POOL_MAX),
            wires=self._wires,
            clock=self._clock,
        )
        self._dialers.append(dialer)

        def http(to: Origin, realms: frozenset[Origin]) -> HTTP:
            return HTTP(
                to,
                realms,
                find=lambda repository: self._credentials.find(host, credential, repository),
                renew=lambda repository, login: self._credentials.refused(
                    host, credential, repository, login
                ),
                tokens=self._token_cache(),
                dialer=dialer,
                user_agent=self._user_agent,
                backoff=self._backoff if patient else replace(self._backoff, tries=1),
                sleep=self._sleep,
                clock=self._clock,
            )

        def api(named: str) -> HTTP:
            # Table or operator named this host: it is the one that this HTTP may show the login to.
            to = origin_of(f"{origin.scheme}://{named}") if named else origin
            return http(to, frozenset({to}))

        at = Endpoint(
            host,
            http(origin, trusted_realms(origin, profile)),
            profile.quirks,
            root=site.root,
            namespace=site.namespace,
            gate=None if named else self._router.check,
        )
        return Client(
            at,
            profile,
            self._chunk,
            self._sleep,
            learned=self._learned,
            api=api,
            aws=self._aws.get(host),
            clock=self._clock,
            locks=self._locks,
        )

    def _profile_at(self, site: Site, named: bool) -> HostProfile:
        """The profile of its host, as far as the place that named the site does not know better."""
        profile = self.profile(site.host)
        if site.plain_http is None:
            plain = profile.plain_http or self._router.plain_http(site.host)
        else:
            plain = site.plain_http
        return replace(profile, plain_http=plain, private=profile.private or named)

    def _token_cache(self) -> TokenCache:
        memory = MemoryTokenCache(self._clock)
        return SharedTokenCache(memory, self._vault, clock=self._clock) if self._vault else memory

    def _reach(self, origin: Origin, profile: HostProfile) -> AddressPolicy:
        """What this registry's connections may reach: a private one, itself and the token servers and API
        that were named for it, but never another private registry.
        """
        if not (profile.private or self._trust_named):
            return self._policy
        hosts = [*profile.token_realms, *filter(None, [profile.quirks.api_host])]
        named = [origin, *(origin_of(f"{origin.scheme}://{host}") for host in hosts)]
        own = tuple(Allowed(one.host, one.port) for one in named)
        return replace(self._policy, allowed=(*self._policy.allowed, *own))

    def _expect_named(self, host: str) -> None:
        """What a name without a dot means, the resolver's search list decides; so an operator must have meant
        it.
        """
        if self._trust_named or not needs_configuring(host) or canonical_host(host) in self._profiles:
            return
        origin = endpoint(host, HostProfile())
        if not self._policy.names(origin.host, origin.port):
            raise InvalidReference(
                "a registry host without a dot is reached only where the operator named it; "
                "use its full name, or add it to registries.toml",
                field="host",
                registry=host,
            )
