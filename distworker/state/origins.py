"""Shared knowledge about origins: slots per origin, where blobs have been seen, the lanes of tags."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from distworker.state import wire
from distworker.state.connection import Connection


class Origins:
    """The part of the Redis ledger that concerns origins, see `state.base.Ledger`."""

    _redis: Connection

    def set_caps(self, caps: Mapping[str, int]) -> None:
        caps_key = self._redis.key("caps")
        with self._redis.errors(), self._redis.client.pipeline(transaction=True) as pipe:
            pipe.delete(caps_key)
            if caps:
                pipe.hset(caps_key, mapping={origin: int(cap) for origin, cap in caps.items()})
            pipe.execute()

    def pause_origin(self, origin: str) -> None:
        self._redis.run("pause", "origin", origin)

    def resume_origin(self, origin: str) -> bool:
        return bool(self._redis.run("pause", "-origin", origin))

    def paused_origins(self) -> Sequence[str]:
        with self._redis.errors():
            return sorted(str(origin) for origin in self._redis.client.smembers(self._redis.key("stopped")))

    def hints(self, origin: str, credential: str, digests: Sequence[str]) -> Mapping[str, Sequence[str]]:
        with self._redis.errors(), self._redis.client.pipeline(transaction=False) as pipe:
            for digest in digests:
                pipe.zrevrange(self._redis.key("hint", f"{origin}|{credential}|{digest}"), 0, -1)
            found = pipe.execute() if digests else []
        return {digest: places for digest, places in zip(digests, found, strict=True) if places}

    def lane_begin(self, lane: str, image: str) -> int:
        return int(self._redis.run("lane", "begin", lane, image))

    def lane_busy(self, lane: str) -> bool:
        return bool(self._redis.run("lane", "busy", lane))

    def lane_newest(self, lane: str) -> tuple[int, Mapping[str, Any]]:
        with self._redis.errors():
            newest, note = self._redis.client.hmget(self._redis.key("lane", lane), ["newest", "note"])
        return int(newest or 0), json.loads(note or "{}")

    def lane_published(
        self, lane: str, sequence: int, note: Mapping[str, Any]
    ) -> tuple[int, Mapping[str, Any]]:
        newest, known = self._redis.run("lane", "published", lane, sequence, wire.text(dict(note)))
        return int(newest), json.loads(known)
