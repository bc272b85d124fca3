"""The world of the registry cases: two registries, a token server, a storage host, a hostile one; all https.

To the client they are `reg.example`, `reg2.example`, `auth.example`, `store.example` and `evil.example` at
public addresses on port 443, reached through the fake network; so the client runs with its default policies,
and every rule about addresses, origins and credentials is tested as it stands. `closed` is asserted for every
case: no credential at the storage or hostile host, nothing dialled inward, no tag on an incomplete image.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from distworker.blobstore.local import LocalStore
from distworker.errors import DistworkerError
from distworker.plan.model import JobRequest
from distworker.registry.addresses import AddressPolicy, Allowed, kind_of
from distworker.registry.client import Client
from distworker.registry.credentials import ConfiguredCredentials, Login, Way
from distworker.registry.pool import RegistryPool
from distworker.registry.profiles import HostProfile
from distworker.registry.quirks import Quirks
from distworker.registry.sharedtokens import Vault
from distworker.retrying import Backoff
from distworker.service.local import LocalService
from distworker.service.payload import parse_request
from distworker.service.runner import Equipment
from distworker.state.base import JobView
from distworker.state.memory import MemoryLedger
from distworker.steps.table import STEPS
from tests.fakes.network import Authority, FakeWires
from tests.fakes.registry import FakeRegistry, FakeStorage
from tests.fakes.registry_server import FakeServer
from tests.fakes.registry_token import FakeTokenServer
from tests.fakes.typed import fails

REG, REG2, AUTH, STORE, EVIL = (f"{name}.example" for name in ("reg", "reg2", "auth", "store", "evil"))
#: Addresses of the public internet, for the policy to see; connections to them end on loopback.
ADDRESSES: Mapping[str, str] = {
    REG: "44.0.0.1",
    REG2: "44.0.0.2",
    AUTH: "44.0.0.3",
    STORE: "44.0.0.4",
    EVIL: "44.0.0.5",
}

#: Names that the servers' certificate is good for; `World.add` takes any of them.
NAMES = (
    *(REG, REG2, AUTH, STORE, EVIL, "127.0.0.1"),
    *(f"{name}.example" for name in ("api", "cdn", "hub", "inner", "mirror", "mirror2", "other", "rebound")),
    *("registry-1.docker.io", "auth.docker.io", "hub.docker.com", "ghcr.io", "api.github.com", "quay.io"),
    *("registry.gitlab.com", "gitlab.com", "public.ecr.aws", "gcr.io", "europe-docker.pkg.dev"),
)
#: Words of `World.pool` that are quirks; `upload_mode` is the profile's, which hands it on.
QUIRKS = {one.name for one in fields(Quirks)} - {"upload_mode"}


class Clock:
    """Seconds as the client sees them: they pass when a test says so, or `step` at each look."""

    def __init__(self) -> None:
        self.now, self.step = 1000.0, 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class World:
    """See the module text. Everything is running when a test gets it.

    `reg` asks for a login only when told: `world.reg.tokens = world.auth`, or `user` and `password`.
    `world.reg.storage = world.store` sends its blob reads to the storage host.
    """

    def __init__(self, folder: Path, authority: Authority, stack: contextlib.ExitStack) -> None:
        self._folder, self._authority, self._stack = folder, authority, stack
        self.network = FakeWires()
        self.clock = Clock()
        self.sleeps: list[float] = []
        self.reg, self.reg2 = FakeRegistry(), FakeRegistry()
        self.auth = FakeTokenServer({"me": "SECRET-PASSWORD"})
        self.store = FakeStorage(self.reg)
        self.evil = FakeServer()
        self.private: set[tuple[str, int]] = set()  #: inward addresses that a case opens on purpose
        roles = {REG: self.reg, REG2: self.reg2, AUTH: self.auth, STORE: self.store, EVIL: self.evil}
        for host, server in roles.items():
            self.add(host, server, ADDRESSES[host])

    def add(self, host: str, server: FakeServer, address: str, port: int = 443, tls: bool = True) -> None:
        """Another server, with a name and address of its own; it starts when it is first called."""
        server.known_as(f"{host}:{port}" if port != 443 else host, self._authority.server if tls else None)
        self._stack.callback(server.stop)
        self.network.name(host, address)
        self.network.serve(address, port, server)

    def pool(
        self,
        *,
        logins: Mapping[str, tuple[str, str] | Way] | None = None,
        identity: str = "",
        trust: bool = True,
        allow: tuple[str, ...] = (),
        chunk: int = 4096,
        tries: int = 4,
        vault: Vault | None = None,
        **profile: Any,
    ) -> RegistryPool:
        """Clients that never wait. `logins`: host to user and password, or another way. `trust`:
        `auth.example` is named as token server. `allow`: the operator's `allow_hosts`. `vault`: what several
        pools share. Other words go to every host's profile or quirks.
        """
        kinks = {name: profile.pop(name) for name in list(profile) if name in QUIRKS}
        made = {
            host: HostProfile(
                **{
                    "ca_file": str(self._authority.ca_file),
                    "token_realms": (AUTH,) if trust else (),
                    "quirks": Quirks(**kinks, said=frozenset(kinks)),
                    **profile,
                }
            )
            for host in (*ADDRESSES, *(logins or {}))
        }
        entries: dict[str, Way] = {
            host: Login((host,), *way, identity_token=identity) if isinstance(way, tuple) else way
            for host, way in (logins or {}).items()
        }
        pool = RegistryPool(
            made,
            ConfiguredCredentials(entries),
            chunk=chunk,
            backoff=Backoff(tries=tries),
            sleep=self.sleeps.append,
            clock=self.clock,
            policy=AddressPolicy(tuple(Allowed.parse(text) for text in allow)),
            wires=self.network,
            vault=vault,
        )
        self._stack.callback(pool.close)
        return pool

    def client(
        self, host: str = REG, *, login: tuple[str, str] | None = None, identity: str = "", **more: Any
    ) -> Client:
        """One client; `login` is its user and password, other words as for `pool`."""
        given = {host: login or ("", "")} if login or identity else {}
        made = self.pool(logins=given, identity=identity, **more).client(host)
        assert isinstance(made, Client)
        return made

    def copy(
        self, source: str, destination: str, pool: RegistryPool | None = None, **fields: Any
    ) -> tuple[JobView, list[Mapping[str, Any]]]:
        """The whole pipeline in this process: the closed job and the outcome of each of its images."""
        return self.run({"source": source, "destination": destination, **fields}, pool)

    def run(
        self, request: Mapping[str, Any], pool: RegistryPool | None = None
    ) -> tuple[JobView, list[Mapping[str, Any]]]:
        """The same for any request, which may have several `pairs`."""
        kit = Equipment(
            registries=pool or self.pool(),
            store=LocalStore(self._folder / "store", durable=False),
            steps=STEPS,
            window=20,
            part_size=1 << 20,
        )
        job: JobRequest = parse_request({"v": 1, **request}, new_id=f"case-{len(self.sleeps)}", created=1.0)
        with LocalService(MemoryLedger(), kit, 4) as service:
            *_, view = service.run(job)
            return view, list(service.jobs.outcomes(job.id))

    def stored(self, digest: str) -> list[Path]:
        """The files that hold this blob in the pipeline's store."""
        return list((self._folder / "store").rglob(digest.partition(":")[2]))

    def fails(
        self, kind: type[DistworkerError], **fields: object
    ) -> contextlib.AbstractContextManager[list[DistworkerError]]:
        """The block raises exactly `kind` with these fields, and no secret in it; see `typed.fails`."""
        return fails(kind, **fields)

    # --- what holds for every case ------------------------------------------------------------------------
    def closed(self) -> None:
        """Assert what no case may ever do."""
        for server in (self.store, self.evil):
            for seen in server.seen:
                assert not seen.authorization, f"a credential came to {server.url}"
                assert not seen.headers.get("Cookie"), f"a cookie came to {server.url}"
        for address, port in self.network.dialled:
            inward = kind_of(ipaddress.ip_address(address))
            assert not inward or (address, port) in self.private, f"{address}:{port} was dialled: {inward}"
        for registry in (self.reg, self.reg2):
            for repository, tags in registry.tag_lists.items():
                for tag, digest in tags.items():
                    missing = list(lacking(registry, repository, digest))
                    assert not missing or not registry.written(repository, tag), f"{tag} lacks {missing}"


def lacking(registry: FakeRegistry, repository: str, digest: str) -> Iterator[str]:
    """What the image at `digest` needs and the repository does not have."""
    found = registry.manifests.get((repository, digest))
    if found is None:
        yield digest
        return
    try:
        document = json.loads(found[1])
    except (ValueError, RecursionError):
        return
    if not isinstance(document, dict):
        return
    for entry in document.get("manifests") or ():
        if entry["digest"] not in registry.holds[repository]:  # an entry may be a blob
            yield from lacking(registry, repository, entry["digest"])
    for entry in (document.get("config"), *(document.get("layers") or ())):
        if entry and not entry.get("urls") and entry["digest"] not in registry.holds[repository]:
            yield entry["digest"]
