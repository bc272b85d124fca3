"""A fleet whose Redis is named by Sentinels: the primary dies in the middle of a job, and nobody restarts
anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from deploy.demo.servers import DockerRegistry, ThrottlingProxy, Valkey, ValkeySentinel, free_port
from tests.images import digest_at, push_image
from tests.scenarios.fleet import Fleet, wait_for

pytestmark = pytest.mark.servers

MASTER = "prime"
PASSWORD = "d4ta/p@ss"
WATCHING = "w4tching-password"
LAYERS = tuple(f"sentinel-{number}" for number in range(6))
SIZE = 1_000_000
RATE = 700_000


@dataclass
class Watched:
    """A primary, its replica, and the Sentinel that watches them; stands in a fleet where Valkey does."""

    primary: Valkey
    replica: Valkey
    sentinel: ValkeySentinel

    def url(self, database: int = 0) -> str:
        """Nobody listens where the first Sentinel should be."""
        hosts = f"127.0.0.1:{free_port()},127.0.0.1:{self.sentinel.port}"
        return f"sentinel://:d4ta%2Fp%40ss@{hosts}/{database}?master={MASTER}"

    def wait_until_replicated(self) -> None:
        """The replica has everything and the Sentinel knows of it: before that there is no failover."""
        watching = redis.Redis(port=self.sentinel.port, password=WATCHING)
        wait_for(lambda: _healthy(watching, MASTER), "the Sentinel knows a healthy replica")
        watching.close()

    def stop(self) -> None:
        """All of them."""
        for server in (self.sentinel, self.replica, self.primary):
            server.stop()


def _healthy(watching: redis.Redis, master: str) -> bool:
    replicas = watching.sentinel_slaves(master)
    return [one["master-link-status"] for one in replicas] == ["ok"]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """The three servers."""
    primary = Valkey(tmp_path / "primary", password=PASSWORD).start()
    follows = (f"replicaof 127.0.0.1 {primary.port}", "repl-diskless-sync-delay 0")
    replica = Valkey(tmp_path / "replica", password=PASSWORD, more=follows).start()
    sentinel = ValkeySentinel(
        tmp_path / "sentinel", primary, master=MASTER, password=PASSWORD, own=WATCHING
    ).start()
    made = Watched(primary, replica, sentinel)
    yield made
    made.stop()


def test_a_failover_in_the_middle_of_a_job_is_followed_without_a_restart(
    watched: Watched, ends: tuple[DockerRegistry, DockerRegistry], tmp_path: Path
) -> None:
    """Ledger and broker alike; both logins hold, and neither shows in a log."""
    source, destination = ends
    image = push_image(tmp_path / "image", f"{source.host}/app:1", LAYERS, SIZE)
    watched.wait_until_replicated()
    table = f'[store]\nkind = "local"\nfolder = "{tmp_path / "store"}"\n'
    fleet = Fleet(tmp_path / "fleet", watched, table)  # type: ignore[arg-type]
    fleet.more = f'redis_sentinel_password = "{WATCHING}"'
    with ThrottlingProxy(("127.0.0.1", source.port), rate=RATE) as proxy:
        for host in (proxy.host, destination.host):
            fleet.know(host)
        try:
            # Given a job that is under way
            fleet.start_workers(2)
            pids = [worker.pid for worker in fleet.workers]
            target = f"{destination.host}/mirror:1"
            job = fleet.run("copy", f"{proxy.host}/app:1", target, "--detach", "--json").events[0]["job"]
            assert proxy.wait_for(SIZE), fleet.logs()

            # When the primary dies
            watched.primary.kill9()
            promoted = redis.Redis(port=watched.replica.port, password=PASSWORD)
            wait_for(lambda: promoted.role()[0] == b"master", "the replica was made the primary")
            promoted.close()

            wait_for(lambda: fleet.run("status", job).code == 0, "the Sentinel names it", every=0.5)

            # Then the same workers bring the job to its end, and a new one after it
            view = fleet.until_over(job)
            alive = [worker.pid for worker in fleet.workers if worker.running]
            again = fleet.run("copy", f"{proxy.host}/app:1", f"{destination.host}/second:1", "--json")
        finally:
            fleet.stop()
    assert view["state"] == "done", fleet.logs()
    assert again.code == 0, again.text
    assert digest_at(target) == digest_at(f"{destination.host}/second:1") == image.digest
    assert alive == pids
    logs = fleet.logs() + again.text
    for secret in (PASSWORD, "d4ta%2Fp%40ss", WATCHING):
        assert secret not in logs
