"""Jobs as people see them: opened, listed, cancelled, with counters, running steps and closed images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from distworker.names import publish_id
from distworker.state import wire
from distworker.state.base import CANCELLED, COUNTERS, FAILED, JobView, StepSpec
from distworker.state.connection import Connection
from distworker.state.packing import merged
from distworker.state.texts import ends_of, step_text

COUNTER = "c:"  #: what the names of counters start with in a job's hash, see _graph.lua


class Jobs:
    """The part of the Redis ledger that concerns jobs, see `state.base.Ledger`."""

    _redis: Connection

    def open_job(self, job: str, record: Mapping[str, Any], first: StepSpec, *, paused: bool = False) -> bool:
        window = int(first.body.get("window") or self._redis.rules.window)
        spec = wire.text(wire.spec(first))
        return bool(self._redis.run("open", job, wire.text(dict(record)), spec, window, int(paused)))

    def job(self, job: str) -> JobView | None:
        answer = self._redis.run("job", job)
        return _view(job, json.loads(answer)) if answer else None

    def jobs(self, limit: int = 50) -> Sequence[JobView]:
        with self._redis.errors():
            newest = self._redis.client.zrevrange(self._redis.key("jobs"), 0, limit - 1)
        return [view for job in newest if (view := self.job(str(job)))]

    def outcomes(self, job: str, start: int = 0, count: int = 1000) -> Sequence[Mapping[str, Any]]:
        with self._redis.errors():
            entries = self._redis.client.lrange(self._redis.key("outcomes", job), start, start + count - 1)
        return [_outcome(json.loads(entry)) for entry in entries]

    def unreported(self, limit: int = 100) -> Sequence[str]:
        with self._redis.errors():
            found = self._redis.client.zrange(self._redis.key("unreported"), 0, limit - 1)
        return [str(job) for job in found]

    def reported(self, job: str) -> None:
        with self._redis.errors():
            self._redis.client.zrem(self._redis.key("unreported"), job)

    def cancel(self, job: str) -> bool:
        left = int(self._redis.run("cancel", job))
        known = left >= 0
        while left > 0:
            left = int(self._redis.run("cancel", job))
        return known

    def pause_job(self, job: str) -> bool:
        return self._pause("job", job)

    def resume_job(self, job: str) -> bool:
        return self._pause("-job", job)

    def _pause(self, verb: str, job: str) -> bool:
        """What the job shares with others changes hands after it, a few images a call."""
        known = bool(self._redis.run("pause", verb, job))
        while known and int(self._redis.run("walk", job)):
            pass
        return known


def _outcome(entry: Sequence[str]) -> Mapping[str, Any]:
    """What close_image recorded: image, state, outcome, and the body of an image that did not make it."""
    image, state, outcome, *body = entry
    ends = ends_of(merged(body, publish_id(image))) if state in (FAILED, CANCELLED) else {}
    return {**ends, **json.loads(outcome), "image": image, "state": state}


def _view(job: str, answer: Sequence[Any]) -> JobView:
    fields, running, images = answer
    counters = dict.fromkeys(COUNTERS, 0)
    counters |= {name[len(COUNTER) :]: int(n) for name, n in fields.items() if name.startswith(COUNTER)}
    steps = {
        step: {
            "moved": int(moved),
            "size": int(size),
            "worker": owner,
            "text": step_text(step, merged(body, step)),
        }
        for step, owner, moved, size, body in running
    }
    return JobView(
        id=job,
        state=fields["st"],
        created=int(fields["made"]) / 1000,
        closed=int(fields["closed"]) / 1000 if "closed" in fields else None,
        record=json.loads(fields["rec"]),
        counters={**counters, "total": int(fields.get("total", 0)), "open": int(images)},
        running=steps,
        error=json.loads(fields["err"]) if "err" in fields else None,
        paused="pz" in fields,
    )
