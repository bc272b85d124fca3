"""The ledger's keys read by a plain Redis client, for the checker and for measuring recovery.

Nothing of the product is used: prefixes are spelled here once more, so that a key the product forgets is
found even when its own table of keys forgot it too. Step records are unpacked by the server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

PREFIX: Final = "distworker:"
#: Every step that is in the air, or that was asked for: id, state, owner, token; state "" is gone.
_STEPS: Final = """
local out = {}
local function add(id)
  local raw = redis.call('GET', ARGV[1] .. 's:' .. id)
  local r = raw and cmsgpack.unpack(raw) or {}
  out[#out + 1] = {id, r.st or '', r.ow or '', r.tk or ''}
end
if #ARGV > 1 then for n = 2, #ARGV do add(ARGV[n]) end
else for _, id in ipairs(redis.call('ZRANGE', ARGV[1] .. 'due', 0, -1)) do add(id) end end
return cjson.encode(out)
"""


@dataclass(frozen=True)
class StepNow:
    """A step as it stands; `state` is "" when there is no record of it any more."""

    id: str
    state: str
    owner: str
    token: str


@dataclass(frozen=True)
class JobNow:
    """A job's hash and its closed images: `(image, state)` in the order in which they closed."""

    id: str
    state: str
    total: int
    counters: Mapping[str, int]
    outcomes: Sequence[tuple[str, str]]
    errors: Sequence[str]


class LedgerKeys:
    """One connection to the ledger's server, past every proxy."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            # Packed records are no text: what cannot be decoded is not looked at.
            url,
            decode_responses=True,
            encoding_errors="replace",
            socket_timeout=5,
            socket_connect_timeout=2,
        )

    def __enter__(self) -> LedgerKeys:
        return self

    def __exit__(self, *_: object) -> None:
        self._redis.close()

    def steps(self, *ids: str) -> list[StepNow]:
        """These steps, or all that are queued, running or delayed; raises redis.RedisError."""
        answer = self._redis.eval(_STEPS, 0, PREFIX, *ids)
        return [StepNow(*row) for row in json.loads(str(answer)) or ()]

    def open_jobs(self) -> set[str]:
        """Jobs that are not over."""
        return {str(job) for job in self._members("open")}

    def job(self, job: str) -> JobNow | None:
        """One job, or None."""
        fields: dict[str, str] = self._redis.hgetall(f"{PREFIX}job:{job}")  # type: ignore[assignment]
        if not fields:
            return None
        closed: list[Any] = [json.loads(row) for row in self._range(f"out:{job}")]
        counters = {name[2:]: int(value) for name, value in fields.items() if name.startswith("c:")}
        failed = [f"{row[0]}: {row[2]}" for row in closed if row[1] == "failed"]
        if "err" in fields:
            failed.append(f"job {job}: {fields['err']}")
        outcomes = [(row[0], row[1]) for row in closed]
        return JobNow(job, fields["st"], int(fields.get("total", 0)), counters, outcomes, failed)

    def keys(self) -> dict[str, int]:
        """Every key below the prefix, without it, and its seconds to live (-1: for ever)."""
        names = [str(name) for name in self._redis.scan_iter(f"{PREFIX}*", count=1000)]
        return {name.removeprefix(PREFIX): int(str(self._redis.ttl(name))) for name in names}

    def due(self) -> list[str]:
        """Steps that have a deadline."""
        return [str(one) for one in self._redis.zrange(f"{PREFIX}due", 0, -1)]  # type: ignore[union-attr]

    def owners(self) -> set[str]:
        """Workers that the ledger counts."""
        return {str(one) for one in self._redis.zrange(f"{PREFIX}w:seen", 0, -1)}  # type: ignore[union-attr]

    def _members(self, name: str) -> Any:
        return self._redis.smembers(f"{PREFIX}{name}")

    def _range(self, name: str) -> Any:
        return self._redis.lrange(f"{PREFIX}{name}", 0, -1)
