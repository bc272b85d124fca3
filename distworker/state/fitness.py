"""Whether a Redis is fit for the ledger: looked at before any work is done on it.

It refuses, with the remedy, servers on which work would be lost: Cluster (scripts touch many slots), versions
before 6.2 (LMOVE, ZADD GT), any eviction policy but `noeviction`, a read-only replica, and a user that may
not run scripts. What passes by itself (full, loading, failing over) is `StateUnavailable` and worth waiting
for. Whether anything is kept on disk is told and never refused: that is the operator's choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import redis

from distworker.state.connection import REMEDIES, Connection

OLDEST: Final = (6, 2)


def examine(connection: Connection) -> Mapping[str, Any]:
    """What the server is.

    Raises:
        StateRefused: the ledger must not run on it; the sentence says what to change.
        StateUnavailable: it is not there, or takes no writes just now.
    """
    with connection.errors():
        info: Mapping[str, Any] = connection.client.info("default")
    _refuse_unfit(connection, info)
    policy = str(info.get("maxmemory_policy") or _configured(connection, "maxmemory-policy") or "unknown")
    if policy not in ("noeviction", "unknown"):
        raise connection.refused(
            f"evicts keys when full (maxmemory-policy {policy}): "
            "run CONFIG SET maxmemory-policy noeviction and put it into its configuration"
        )
    _try_out(connection)
    return {
        "server": "valkey" if info.get("valkey_version") else "redis",
        "version": str(info.get("valkey_version") or info.get("redis_version", "0")),
        "persistence": _persistence(connection, info),
        "policy": policy,
        "role": str(info.get("role", "unknown")),
        "used_memory": int(info.get("used_memory", 0)),
        "maxmemory": int(info.get("maxmemory", 0)),
    }


def _refuse_unfit(connection: Connection, info: Mapping[str, Any]) -> None:
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise connection.refused(f"is version {version}; 6.2 or newer, or Valkey, is needed")
    if int(info.get("cluster_enabled", 0)) or info.get("redis_mode") == "cluster":
        raise connection.refused(
            "runs in cluster mode, which is not supported: use one primary (with replicas)"
        )
    if info.get("role") == "slave":
        # Sentinels name a server shortly before it is one.
        raise (connection.unavailable if connection.address.by_sentinel else connection.refused)(
            REMEDIES["READONLY"]
        )


def _try_out(connection: Connection) -> None:
    """A script and a write, both without effect, under our own keys: permissions and a full disk show."""
    connection.run("free", "nobody", "nothing")
    with connection.errors():
        connection.client.set(connection.key("settle"), "1", px=1000)


def _persistence(connection: Connection, info: Mapping[str, Any]) -> str:
    if int(info.get("aof_enabled", 0)):
        return "aof"
    save = _configured(connection, "save")
    return "unknown" if save is None else "rdb" if save else "none"


def _configured(connection: Connection, name: str) -> str | None:
    """One of the server's settings; None where it does not tell (managed servers refuse CONFIG)."""
    try:
        answer: Mapping[Any, Any] = connection.client.config_get(name)
    except redis.RedisError:
        return None
    found = answer.get(name)
    return None if found is None else str(found)
