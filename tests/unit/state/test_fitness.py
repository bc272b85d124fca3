"""Which servers are fit for the ledger, and what is said of the others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import redis

from deploy.demo.servers import Valkey
from distworker.errors import StateRefused, StateUnavailable
from distworker.state.base import StepSpec
from distworker.state.connection import Connection
from distworker.state.fitness import examine
from distworker.state.ledger import RedisLedger

URL = "redis://user:s3cret@127.0.0.1:1/0"
GOOD = {
    "redis_version": "7.2.4",
    "maxmemory_policy": "noeviction",
    "role": "master",
    "used_memory": 1,
    "maxmemory": 2,
}


class Answers(redis.Redis):
    """A client that answers INFO and CONFIG as it is told, and everything else well."""

    def __init__(self, info: dict[str, Any], config: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._info, self._config = info, config

    def info(self, section: str | None = None, *args: str, **kwargs: Any) -> Any:
        return self._info

    def execute_command(self, *words: Any, **options: Any) -> Any:
        if words[:1] == ("CONFIG GET",):
            if self._config is None:
                raise redis.ResponseError("unknown command 'CONFIG'")
            return dict(self._config)
        return True


def checked(info: dict[str, Any], config: Mapping[str, str] | None = None, url: str = URL) -> Any:
    connection = Connection(url)
    connection.client = Answers(info, config)
    return examine(connection)


def test_a_good_server_is_described() -> None:
    """`doctor` prints these."""
    answer = checked({**GOOD, "aof_enabled": 1, "valkey_version": "8.1.0"})
    assert answer == {
        "server": "valkey",
        "version": "8.1.0",
        "persistence": "aof",
        "policy": "noeviction",
        "role": "master",
        "used_memory": 1,
        "maxmemory": 2,
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"redis_version": "6.0.16"}, "6.2 or newer"),
        ({"cluster_enabled": 1}, "cluster mode"),
        ({"redis_mode": "cluster"}, "cluster mode"),
        ({"role": "slave"}, "point the URL at the primary"),
        ({"maxmemory_policy": "allkeys-lru"}, "CONFIG SET maxmemory-policy noeviction"),
    ],
)
def test_a_server_that_would_lose_work_is_refused_with_the_remedy(
    change: dict[str, Any], sentence: str
) -> None:
    """Before any work, not after the first lost step."""
    with pytest.raises(StateRefused, match=sentence):
        checked({**GOOD, **change})


def test_the_policy_is_asked_of_config_when_info_leaves_it_out() -> None:
    """And where CONFIG is refused too, the server is taken as it is."""
    info = {name: value for name, value in GOOD.items() if name != "maxmemory_policy"}
    with pytest.raises(StateRefused, match="volatile-lru"):
        checked(info, {"maxmemory-policy": "volatile-lru"})
    assert checked(info, {"maxmemory-policy": "noeviction"})["policy"] == "noeviction"
    assert checked(info)["policy"] == "unknown"


@pytest.mark.parametrize(
    ("aof", "config", "kept"),
    [
        (1, None, "aof"),
        (0, {"save": "3600 1 60 10000"}, "rdb"),
        (0, {"save": ""}, "none"),
        (0, None, "unknown"),
    ],
)
def test_what_outlives_a_restart_is_told(aof: int, config: Mapping[str, str] | None, kept: str) -> None:
    """Every server has a time of its last save, also one that never saves."""
    assert checked({**GOOD, "aof_enabled": aof, "rdb_last_save_time": 1}, config)["persistence"] == kept


def test_a_replica_that_sentinels_name_is_one_to_wait_for() -> None:
    """They name it shortly before it is the primary."""
    with pytest.raises(StateUnavailable) as seen:
        checked({**GOOD, "role": "slave"}, url="sentinel://s/0?master=m")
    assert not isinstance(seen.value, StateRefused)


@pytest.mark.servers
def test_real_servers_that_are_not_fit_are_refused_and_full_ones_waited_for(tmp_path: Path) -> None:
    """One after the other on one server: policy, a user without scripts, no room, a replica."""
    with Valkey(tmp_path) as server:
        admin = redis.Redis(port=server.port)

        def refusal(url: str = server.url()) -> StateUnavailable:
            ledger = RedisLedger(url)
            with pytest.raises(StateUnavailable) as seen:
                ledger.check()
            ledger.close()
            return seen.value

        admin.config_set("maxmemory-policy", "allkeys-lru")
        assert "noeviction" in str(refusal())
        admin.config_set("maxmemory-policy", "noeviction")
        admin.execute_command("ACL", "SETUSER", "weak", "on", ">pw", "~*", "+@all", "-@scripting")
        weak = refusal(f"redis://weak:pw@127.0.0.1:{server.port}/0")
        assert isinstance(weak, StateRefused)
        assert "EVALSHA" in str(weak)
        admin.config_set("maxmemory", 1)
        full = refusal()
        assert not isinstance(full, StateRefused)
        assert "out of memory" in str(full)
        admin.config_set("maxmemory", 0)
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        assert isinstance(refusal(), StateRefused)
        admin.close()


@pytest.mark.servers
def test_what_is_recorded_is_said_to_be_on_disk_only_when_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`appendfsync no` leaves the moment to the system; a server without AOF cannot tell and is believed."""
    monkeypatch.setattr("distworker.state.connection.SETTLE_SECONDS", 0.3)
    with Valkey(tmp_path) as server:
        ledger = RedisLedger(server.url())
        ledger.open_job("J-kept", {}, StepSpec("j:J-kept", "J-kept", {}))
        ledger.redis.client.config_set("appendfsync", "no")
        assert not ledger.settle()
        ledger.redis.client.config_set("appendfsync", "always")
        assert ledger.settle()
        ledger.redis.client.config_set("appendonly", "no")
        assert ledger.settle()
        assert ledger.settle()
        ledger.close()
