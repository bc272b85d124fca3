"""Who moves it: skopeo, our local mode, and our worker with a folder and with an S3 store.

Each run gets a destination registry, a store and a ledger of its own, so that nothing is there already.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import redis

from bench.cases import SLOTS
from bench.measure import Cost, child, cpu_of, peak_of
from deploy.demo.run import BUCKET, COMMAND, make_bucket, store_section
from deploy.demo.servers import CeleryWorker, DockerRegistry, Swift, Valkey, write_private


@dataclass(frozen=True)
class Result:
    """What one run cost. `scripts` are calls of the ledger's scripts, `commands` all Redis commands: those
    inside the scripts, the broker's and the watching command line's included. 0 without a ledger."""

    cost: Cost
    commands: int = 0
    scripts: int = 0


Contender = Callable[[Path, str, str], Result]


def skopeo(folder: Path, source: str, target: str) -> Result:
    """The yardstick."""
    options = ["--src-tls-verify=false", "--dest-tls-verify=false", "--quiet"]
    command = ["skopeo", "--insecure-policy", "copy", *options, f"docker://{source}", f"docker://{target}"]
    return Result(child(command))


def local(folder: Path, source: str, target: str) -> Result:
    """`distworker copy --local`: one process, folder store."""
    settings = _config(folder, source, target, "")
    return Result(child([*COMMAND, "copy", "--local", "--store", folder / "store", source, target], settings))


def with_folder(folder: Path, source: str, target: str) -> Result:
    """One worker, ledger in Valkey, blobs in a folder."""
    return _fleet(folder, source, target, f'[store]\nkind = "local"\nfolder = "{folder / "store"}"\n')


def with_swift(folder: Path, source: str, target: str, lean: bool = True) -> Result:
    """One worker, ledger in Valkey, blobs in Swift."""
    with Swift(folder / "swift") as swift:
        make_bucket(swift, BUCKET)
        return _fleet(folder, source, target, store_section(swift, BUCKET), lean)


def by_celery(folder: Path, source: str, target: str) -> Result:
    """The same, started by Celery's own command, which keeps its other commands in memory."""
    return with_swift(folder, source, target, lean=False)


CONTENDERS: Mapping[str, Contender] = {
    "skopeo copy": skopeo,
    "copy --local": local,
    "worker, folder store": with_folder,
    "worker, Swift store": with_swift,
}
#: Only where memory is the question.
BUSY: Mapping[str, Contender] = {**CONTENDERS, "same, celery -A tasks": by_celery}


def once(contender: Contender, folder: Path, source: str, repository: str) -> Result:
    """One run into an empty registry; `folder` is emptied before and after."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with DockerRegistry(folder / "destination") as destination:
            return contender(folder, source, f"{destination.host}/{repository}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fleet(folder: Path, source: str, target: str, store: str, lean: bool = True) -> Result:
    with Valkey(folder / "valkey") as valkey:
        head = f'redis_url = "{valkey.url(1)}"\nbroker_url = "{valkey.url(0)}"\nslots = {SLOTS}\n\n'
        settings = _config(folder, source, target, head + store)
        with CeleryWorker(folder, "bench", settings, concurrency=SLOTS, lean=lean) as worker:
            _wait_live(settings)
            client = redis.Redis.from_url(valkey.url(0))
            cpu, before = cpu_of(worker.pid), _calls(client)
            ours = child([*COMMAND, "copy", source, target], settings)
            cost = ours.plus(Cost(0.0, cpu_of(worker.pid) - cpu))
            after = _calls(client)
            client.close()
            return Result(Cost(cost.wall, cost.cpu, peak_of(worker.pid)), *map(int.__sub__, after, before))


def _wait_live(settings: Mapping[str, str]) -> None:
    """The worker's first beat comes with its start; `status` proves that ledger and settings agree."""
    child([*COMMAND, "status"], settings)


def _calls(client: redis.Redis) -> tuple[int, int]:
    stats = {name: int(each["calls"]) for name, each in client.info("commandstats").items()}
    return sum(stats.values()), stats.get("cmdstat_evalsha", 0)


def _config(folder: Path, source: str, target: str, text: str) -> dict[str, str]:
    config = folder / "config"
    hosts = [reference.partition("/")[0] for reference in (source, target)]
    write_private(config / "distworker.toml", text)
    write_private(
        config / "registries.toml",
        "".join(f'["{host}"]\nplain_http = true\nprivate = true\n' for host in hosts),
    )
    return {"DISTWORKER_CONFIG": str(config)}
