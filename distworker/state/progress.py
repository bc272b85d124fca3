"""Signs of life: what workers run, how far they are, who is there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from distworker.state import wire
from distworker.state.base import Beat, WorkerView
from distworker.state.connection import Connection


class Progress:
    """The part of the Redis ledger that concerns workers, see `state.base.Ledger`."""

    _redis: Connection

    def beat(self, owner: str, slots: int, info: Mapping[str, Any], running: Sequence[Beat]) -> Sequence[str]:
        signs = [(sign.id, sign.token, sign.moved, sign.size) for sign in running]
        return list(self._redis.run("beat", owner, slots, wire.text(dict(info)), wire.text(signs)))

    def known(self, step: str) -> bool:
        with self._redis.errors():
            return bool(self._redis.client.exists(self._redis.key("step", step)))

    def farewell(self, owner: str) -> None:
        with self._redis.errors(), self._redis.client.pipeline(transaction=True) as pipe:
            pipe.zrem(self._redis.key("seen"), owner)
            pipe.hdel(self._redis.key("slots"), owner)
            pipe.hdel(self._redis.key("info"), owner)
            pipe.execute()

    def workers(self) -> Sequence[WorkerView]:
        with self._redis.errors(), self._redis.client.pipeline(transaction=True) as pipe:
            pipe.zrange(self._redis.key("seen"), 0, -1, withscores=True)
            pipe.hgetall(self._redis.key("slots"))
            pipe.hgetall(self._redis.key("info"))
            seen, slots, info = pipe.execute()
        oldest = self._redis.now() - self._redis.rules.live
        return [
            WorkerView(owner, int(slots.get(owner, 0)), beat / 1000, json.loads(info.get(owner, "{}")))
            for owner, beat in sorted(seen)
            if beat / 1000 > oldest
        ]
