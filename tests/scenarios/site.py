"""One installation that the tests of a module share, and the registries around it.

Starting workers costs seconds, faults do not wear them out: a module of fault tests starts one `Site`, each
test takes repositories of its own. `old` puts an older image under a tag that a failing job must leave alone.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from deploy.demo.servers import DockerRegistry, Valkey, write_private
from distworker.blobstore.local import LocalStore
from tests.images import MANIFEST, Pushed, digest_at, push_image
from tests.scenarios.fleet import Fleet, Ran
from tests.scenarios.traffic import kept_blobs


class Site:
    """A fleet, a source and a destination, both open; `keep` gives further servers the same life."""

    def __init__(self, folder: Path, fleet: Fleet, stack: ExitStack) -> None:
        self.folder, self.fleet, self._stack = folder, fleet, stack
        self._registries = 0
        self.source = self.registry()
        self.destination = self.registry()

    @property
    def kept(self) -> dict[str, int]:
        """The blobs of the store, each proved to hash to its name."""
        return dict(kept_blobs(LocalStore(self.fleet.folder / "store")))

    def registry(self, **options: Any) -> DockerRegistry:
        """One more registry, known to the fleet."""
        self._registries += 1
        server = DockerRegistry(self.folder / f"registry{self._registries}", **options)
        self._stack.enter_context(server)
        self.fleet.know(server.host)
        return server

    def image(self, repository: str, seed: str, at: DockerRegistry | None = None, login: str = "") -> Pushed:
        """An image with a layer that no other seed has, pushed to `repository:1` of the source."""
        host = (at or self.source).host
        return push_image(self.folder / "images", f"{host}/{repository}:1", (f"layer-{seed}",), 90_000, login)

    def old(self, repository: str, at: DockerRegistry | None = None) -> Pushed:
        """What stands under `repository:1` of the destination before the job."""
        return self.image(repository, f"old-{repository}", at or self.destination)

    def pair(self, source: str, repository: str, at: DockerRegistry | None = None) -> dict[str, str]:
        """A pair of a job file, to `repository:1` of the destination."""
        return {"source": source, "destination": f"{(at or self.destination).host}/{repository}:1"}

    def whole(self, registry: DockerRegistry, repository: str, image: Pushed) -> bool:
        """Nothing half visible: is the image's manifest either absent there, or there with all its blobs?"""
        if status(registry.host, f"/v2/{repository}/manifests/{image.digest}") == 404:
            return True
        return all(status(registry.host, f"/v2/{repository}/blobs/{blob}") == 200 for blob in image.blobs)


@contextmanager
def site(folder: Path, store: str = "", password: str = "", **options: Any) -> Iterator[Site]:
    """A `Site` without workers yet; its store is a folder unless `store` is a `[store]` table."""
    with ExitStack() as stack:
        valkey = stack.enter_context(Valkey(folder / "valkey", password=password))
        table = store or f'[store]\nkind = "local"\nfolder = "{folder / "fleet" / "store"}"\n'
        fleet = Fleet(folder / "fleet", valkey, table, **options)
        stack.callback(fleet.stop)
        yield Site(folder, fleet, stack)


def status(host: str, path: str) -> int:
    """What a registry answers to a HEAD."""
    connection = http.client.HTTPConnection(host, timeout=10)
    try:
        connection.request("HEAD", path, headers={"Accept": MANIFEST})
        return connection.getresponse().status
    finally:
        connection.close()


def images(ran: Ran) -> dict[str, dict[str, Any]]:
    """Closed images of a `--json` run by the repository they were going to."""
    events = [event for event in ran.events if event["event"] == "image"]
    return {event["destination"].partition("/")[2].rpartition(":")[0]: event for event in events}


def write_job(folder: Path, pairs: list[dict[str, str]], name: str = "job") -> Path:
    """A job file with those pairs."""
    return write_private(folder / f"{name}.yaml", json.dumps({"version": 1, "pairs": pairs}))


__all__ = ["Site", "digest_at", "images", "site", "status", "write_job"]
