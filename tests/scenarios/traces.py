"""What a job leaves behind in Redis, seen by its keys."""

from __future__ import annotations

import redis

from deploy.demo.servers import Valkey
from distworker.state.keys import TABLE

#: Of the work itself: when no job is open there must be none of these.
WORK = (
    "step",
    "subs",
    "barrier",
    "got",
    "due",
    "fly_control",
    "fly_layers",
    "ready",
    "use",
    "images",
    "running",
)


def left_over(valkey: Valkey, prefix: str = "distworker:") -> list[str]:
    """Keys of steps, barriers, leases and slots that are there now."""
    with redis.Redis.from_url(valkey.url(0), decode_responses=True) as client:
        wanted = tuple(prefix + TABLE[name] for name in WORK)
        return sorted(name for name in client.scan_iter(f"{prefix}*", count=1000) if name.startswith(wanted))
