"""A world with mirrors: `reg.example`, two servers that have its content, and pools that know of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from distworker.digest import Digest
from distworker.registry.addresses import AddressPolicy
from distworker.registry.base import Registry
from distworker.registry.credentials import ConfiguredCredentials, Login
from distworker.registry.hostfiles.router import HostFiles
from distworker.registry.pool import RegistryPool
from distworker.registry.profiles import HostProfile
from distworker.retrying import Backoff
from tests.fakes.network import Authority
from tests.fakes.registry import FakeRegistry
from tests.fakes.world import REG, World

MIRROR, SECOND = "mirror.example", "mirror2.example"
OCI = "application/vnd.oci.image.manifest.v1+json"
DATA = bytes(range(256)) * 64


class Site:
    """A world with two mirrors of `reg.example`, which all have the same image unless told otherwise."""

    def __init__(self, world: World, authority: Authority) -> None:
        self.world = world
        self._authority = authority
        self._stack: list[RegistryPool] = []
        self.mirror, self.second = FakeRegistry(), FakeRegistry()
        world.add(MIRROR, self.mirror, "44.0.0.6")
        world.add(SECOND, self.second, "44.0.0.7")

    def pool(
        self,
        files: HostFiles | None = None,
        logins: Mapping[str, tuple[str, str]] | None = None,
        **profiles: Mapping[str, Any],
    ) -> RegistryPool:
        """`reg`, `reg2`, `mirror`, `mirror2`: what `registries.toml` says of these hosts. `logins`: host or
        id to user and password."""
        said = {
            f"{name}.example": HostProfile(
                **{"ca_file": str(self._authority.ca_file), **profiles.get(name, {})}
            )
            for name in ("reg", "reg2", "mirror", "mirror2")
        }
        entries = {
            name: Login((REG if name == "own" else name,), *login) for name, login in (logins or {}).items()
        }
        made = RegistryPool(
            said,
            ConfiguredCredentials(entries),
            chunk=4096,
            backoff=Backoff(tries=4),
            sleep=self.world.sleeps.append,
            clock=self.world.clock,
            policy=AddressPolicy(),
            wires=self.world.network,
            files=files,
        )
        self._stack.append(made)
        return made

    def source(self, **reg: Any) -> Registry:
        """`reg.example` read through both mirrors."""
        return self.pool(reg={"mirrors": (MIRROR, SECOND), **reg}).source(REG)

    def blob(self, data: bytes = DATA, *, at: tuple[FakeRegistry, ...] | None = None) -> Digest:
        """Have a blob of `team/app` everywhere, or there only."""
        for server in at or (self.mirror, self.second, self.world.reg):
            server.put_blob("team/app", data)
        return Digest.of(data)

    def image(self, *, at: tuple[FakeRegistry, ...] | None = None) -> Digest:
        """Have an image of one layer (`DATA`) as `team/app:v1`, everywhere or there only."""
        places = at or (self.mirror, self.second, self.world.reg)
        layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": len(DATA)}
        layer["digest"] = self.blob(at=places)
        config = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2}
        config["digest"] = self.blob(b"{}", at=places)
        raw = json.dumps({"schemaVersion": 2, "mediaType": OCI, "config": config, "layers": [layer]}).encode()
        for server in places:
            server.put_manifest("team/app", raw, OCI, "v1")
        return Digest.of(raw)

    def asked(self) -> dict[str, list[str]]:
        """What came to whom, pings left out."""
        servers = {"mirror": self.mirror, "second": self.second, "reg": self.world.reg}
        found = {name: [line for line in one.lines() if line != "GET /v2/"] for name, one in servers.items()}
        return {name: lines for name, lines in found.items() if lines}

    def close(self) -> None:
        """Close all connections."""
        for pool in self._stack:
            pool.close()


def read(registry: Registry, digest: Digest, size: int, repository: str = "team/app") -> bytes:
    """The whole blob."""
    with registry.read_blob(repository, digest, size) as blob:
        got = b"".join(bytes(piece) for piece in blob)
        assert blob.verified.digest == digest
    return got
