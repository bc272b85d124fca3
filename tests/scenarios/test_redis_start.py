"""Processes that start before their Redis, or find one that the ledger must not run on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import redis

from deploy.demo.servers import CeleryWorker, ServerFailed, Valkey, free_port
from tests.scenarios.fleet import Fleet, wait_for

pytestmark = pytest.mark.servers


def fleet_on(folder: Path, valkey: Valkey) -> Fleet:
    """A fleet without workers, its settings written."""
    made = Fleet(folder / "fleet", valkey, f'[store]\nkind = "local"\nfolder = "{folder / "store"}"\n')
    made.write()
    return made


def test_a_worker_that_comes_before_its_redis_waits_for_it_and_can_be_stopped(tmp_path: Path) -> None:
    """Machines of a site come up in any order. Trouble is told once, not each second."""
    valkey = Valkey(tmp_path / "valkey", port=free_port())
    fleet = fleet_on(tmp_path, valkey)
    early, stopped = (CeleryWorker(fleet.folder, name, fleet.settings) for name in ("early", "stopped"))
    try:
        for worker in (early, stopped):
            with pytest.raises(ServerFailed, match="did not answer"):
                _start(worker)
        wait_for(lambda: "waiting for Redis" in stopped.text(), "it says what it waits for")
        stopped.signal(signal.SIGTERM)
        assert stopped.wait(20) == 0
        with valkey:
            wait_for(lambda: "early@localhost ready" in early.text(), "it starts when Redis is there")
            assert early.text().count("waiting for Redis before any work is taken (1)") == 1
            early.stop()
    finally:
        early.stop()
        stopped.stop()


def _start(worker: CeleryWorker) -> None:
    """Start it and do not wait until it is ready; a failed start would stop it."""
    worker.stop = lambda within=0: None  # type: ignore[method-assign]
    try:
        worker.start(within=0)
    finally:
        del worker.stop


def test_nothing_starts_on_a_redis_that_would_lose_work(tmp_path: Path) -> None:
    """Worker, copy and doctor name the remedy; the first two with exit code 3, and nothing is recorded."""
    with Valkey(tmp_path / "valkey") as valkey, redis.Redis(port=valkey.port) as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")
        fleet = fleet_on(tmp_path, valkey)
        with pytest.raises(ServerFailed, match="ended with status 3") as ended:
            CeleryWorker(fleet.folder, "w", fleet.settings).start()
        assert "distworker: state_refused: Redis at 127.0.0.1" in str(ended.value)
        assert "CONFIG SET maxmemory-policy noeviction" in str(ended.value)
        assert "Traceback" not in str(ended.value)
        ran = fleet.run("copy", "127.0.0.1:9/a", "127.0.0.1:9/b", "--detach")
        assert (ran.code, ran.out) == (3, "")
        assert ran.err.startswith("state_refused: ")
        assert "CONFIG SET maxmemory-policy noeviction" in ran.err
        assert admin.dbsize() == 0
        looked = fleet.run("doctor")
        assert looked.code == 3, looked.text
        assert "CONFIG SET maxmemory-policy noeviction" in looked.out
