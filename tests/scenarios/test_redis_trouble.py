"""Redis is restarted, gone, cut off, full, read-only, unable to save, busy, or loses its last second, each in
the middle of a job: the same workers bring it to its end.

One fleet takes all of it, one fault after the other, over source bytes that are slow enough to be in the
middle. The broker is the same Redis, so Celery's side of each fault is in here too.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from deploy.demo.servers import ThrottlingProxy, Valkey
from tests.images import Pushed, digest_at, push_image
from tests.scenarios.fleet import Fleet, wait_for
from tests.scenarios.site import Site, site
from tests.scenarios.traffic import blob_bytes, uploads

pytestmark = pytest.mark.servers

LAYERS = 4
SIZE = 600_000
#: Bytes a second while there is trouble; none of the jobs is over before its last fault begins.
RATE = 100_000
#: Seconds that a fault lasts after a worker noticed it.
SPELL = 1.5


@dataclass
class Scene:
    """The fleet with its slow source, and a connection of ours to its Redis."""

    site: Site
    proxy: ThrottlingProxy
    redis: redis.Redis
    pids: list[int]

    @property
    def fleet(self) -> Fleet:
        """The installation."""
        return self.site.fleet

    @property
    def valkey(self) -> Valkey:
        """Its Redis."""
        return self.site.fleet.valkey


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Two workers and a source that is read through a slow line."""
    with (
        site(tmp_path_factory.mktemp("trouble")) as here,
        ThrottlingProxy(("127.0.0.1", here.source.port), rate=RATE) as proxy,
        redis.Redis(port=here.fleet.valkey.port) as client,
    ):
        here.fleet.know(proxy.host)
        here.fleet.start_workers(2)
        yield Scene(here, proxy, client, [worker.pid for worker in here.fleet.workers])


# --- faults -------------------------------------------------------------------------------------------------


@contextmanager
def restarted(scene: Scene) -> Iterator[None]:
    """An orderly restart, for example of an upgrade."""
    scene.valkey.stop()
    scene.valkey.start()
    yield


@contextmanager
def gone(scene: Scene) -> Iterator[None]:
    """An outage of half a minute: two and a half leases."""
    scene.valkey.stop()
    time.sleep(30)
    scene.valkey.start()
    yield


@contextmanager
def silent(scene: Scene) -> Iterator[None]:
    """It hangs with open connections."""
    scene.valkey.freeze()
    time.sleep(4 * SPELL)
    scene.valkey.thaw()
    yield


@contextmanager
def cut_off(scene: Scene) -> Iterator[None]:
    """Every connection is reset, several times."""
    for _ in range(6):
        scene.redis.execute_command("CLIENT", "KILL", "SKIPME", "yes")
        time.sleep(SPELL / 6)
    yield


@contextmanager
def full(scene: Scene) -> Iterator[None]:
    """OOM answers."""
    scene.redis.config_set("maxmemory", 1)
    yield
    scene.redis.config_set("maxmemory", 0)


@contextmanager
def read_only(scene: Scene) -> Iterator[None]:
    """READONLY answers, as from a primary that was demoted. A primary that is not there changes nothing."""
    scene.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    yield
    scene.redis.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def unsaved(scene: Scene) -> Iterator[None]:
    """MISCONF answers: a folder stands where the snapshot should go."""
    folder = scene.site.folder / "valkey" / "dump.rdb"
    folder.mkdir()
    (folder / "in the way").touch()
    scene.redis.config_set("save", "3600 1")
    saved(scene, "err")
    yield
    shutil.rmtree(folder)
    saved(scene, "ok")
    scene.redis.config_set("save", "")


def saved(scene: Scene, how: str) -> None:
    """Make snapshots until one ended like this."""

    def ended() -> bool:
        with contextlib.suppress(redis.ResponseError):
            scene.redis.bgsave()
        return bool(scene.redis.info("persistence")["rdb_last_bgsave_status"] == how)

    wait_for(ended, f"a snapshot ends {how}", every=0.2)


@contextmanager
def busy(scene: Scene) -> Iterator[None]:
    """BUSY answers: somebody's script does not end."""
    scene.redis.config_set("busy-reply-threshold", 50)

    def run() -> None:
        with redis.Redis(port=scene.valkey.port, socket_timeout=60) as other, contextlib.suppress(Exception):
            other.eval("while true do end", 0)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    wait_for(lambda: _ended(scene.redis), "the script ends")
    thread.join(10)


def _ended(client: redis.Redis) -> bool:
    try:
        client.script_kill()
    except redis.ResponseError as error:
        return "NOTBUSY" in str(error)
    return True


Fault = Callable[[Scene], AbstractContextManager[None]]
#: Fault → what a worker says of it; nothing where it is over before anyone looks.
SAID: dict[Fault, str] = {
    full: "is out of memory",
    read_only: "read-only replica",
    unsaved: "cannot save to its disk",
    busy: "script that does not end",
    gone: "cannot be reached",
}


@pytest.mark.parametrize(
    ("name", "faults"),
    [
        ("refusals", (full, read_only, unsaved, busy)),
        ("connections", (cut_off, silent, restarted)),
        ("outage", (gone,)),
    ],
)
def test_a_job_survives_its_redis(scene: Scene, name: str, faults: tuple[Fault, ...]) -> None:
    """No worker ends, the image arrives, and no layer moved twice."""
    image = source_image(scene, name)
    sent, read = uploads(scene.site.destination), scene.proxy.down
    job = begun(scene, name)

    for fault in faults:
        assert scene.proxy.down - read < LAYERS * SIZE, (
            f"the job is in its middle when it is {fault.__name__}"
        )
        strike(scene, fault)

    arrived(scene, job, name, image)
    served = blob_bytes(scene.site.source)
    assert {blob: served[blob] for blob in image.blobs} == image.blobs, "read once from the source"
    assert uploads(scene.site.destination) - sent == len(image.blobs), "written once to the destination"


def strike(scene: Scene, fault: Fault) -> None:
    """One fault, from its beginning until it is over; a worker must have noticed those that refuse."""
    said = SAID.get(fault, "")
    told = scene.fleet.logs().count(said)
    with fault(scene):
        if said:
            wait_for(lambda: scene.fleet.logs().count(said) > told, f"a worker notices: {said}")
            time.sleep(SPELL)


def test_a_redis_that_lost_its_last_second_costs_nothing_but_work(scene: Scene) -> None:
    """The machine dies, and of the last second none, half, or nearly all is on its disk: cut off between two
    commands, or within one. Steps that were done come again and find their work done."""
    image = source_image(scene, "lost")
    job = begun(scene, "lost")
    (log,) = (scene.site.folder / "valkey" / "appendonlydir").glob("*.incr.aof")

    for kept in (0.0, 0.5, 0.97):
        time.sleep(0.5)
        before = log.stat().st_size
        time.sleep(1.0)
        scene.valkey.kill9()
        after = log.stat().st_size
        assert after > before, "something was written in that second"
        with log.open("r+b") as file:
            file.truncate(before + int((after - before) * kept))
        scene.valkey.start()

    view = arrived(scene, job, "lost", image)
    assert view["images"] == {**dict.fromkeys(view["images"], 0), "total": 1, "done": 1}
    read = blob_bytes(scene.site.source)
    assert all(read[blob] <= 2 * size for blob, size in image.blobs.items())


def source_image(scene: Scene, name: str) -> Pushed:
    """An image of layers that no other test has."""
    seeds = [f"{name}-{number}" for number in range(LAYERS)]
    return push_image(scene.site.folder / "images", f"{scene.site.source.host}/{name}:1", seeds, SIZE)


def begun(scene: Scene, name: str) -> str:
    """A job whose first layers are on their way."""
    before, scene.proxy.rate = scene.proxy.down, RATE
    target = f"{scene.site.destination.host}/{name}:1"
    ran = scene.fleet.run("copy", f"{scene.proxy.host}/{name}:1", target, "--detach", "--json")
    assert ran.code == 0, ran.text
    assert "outlives a crash" not in ran.text, "it was acknowledged without reserve"
    assert scene.proxy.wait_for(before + RATE), scene.fleet.logs()
    return str(ran.events[0]["job"])


def arrived(scene: Scene, job: str, name: str, image: Pushed) -> dict[str, Any]:
    """The finished job, now at full speed; the same workers did it."""
    scene.proxy.rate = 0
    view = scene.fleet.until_over(job)
    assert view["state"] == "done", scene.fleet.logs()
    assert [worker.pid for worker in scene.fleet.workers if worker.running] == scene.pids
    assert digest_at(f"{scene.site.destination.host}/{name}:1") == image.digest
    return dict(view)
