"""The ledger in Redis or Valkey: each operation is one Lua script, atomic and on the server's time.

It promises what `state/base.py` says, across any number of processes. The rules live in `scripts/*.lua`
(`_common.lua` for records, `_graph.lua` for the moves); this file only carries values there and back. Safe to
share between threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distworker.state import wire
from distworker.state.address import Access
from distworker.state.base import Admitted, Change, Claim, Refusal, StepSpec
from distworker.state.connection import Connection
from distworker.state.fitness import examine
from distworker.state.jobs import Jobs
from distworker.state.keys import DEFAULT_PREFIX
from distworker.state.origins import Origins
from distworker.state.packing import merged
from distworker.state.progress import Progress
from distworker.state.questions import Questions
from distworker.state.rules import Rules, never_there, worker_lost
from distworker.state.texts import step_text


class RedisLedger(Jobs, Progress, Origins, Questions):
    """See `state.base.Ledger`. `url` and `access` say where it is (`address.py`); `prefix` starts every key.

    `clock` is for tests; without it the ledger goes by the server's time.
    """

    def __init__(
        self,
        url: str,
        prefix: str = DEFAULT_PREFIX,
        rules: Rules | None = None,
        clock: Callable[[], float] | None = None,
        access: Access | None = None,
    ) -> None:
        self._redis = Connection(url, prefix, rules, clock, access)

    @property
    def redis(self) -> Connection:
        """The connection, for checks, tests and what else lies in the same database."""
        return self._redis

    def close(self) -> None:
        """Give up the sockets."""
        self._redis.close()

    def check(self) -> Mapping[str, Any]:
        return examine(self._redis)

    def settle(self) -> bool:
        return self._redis.settle()

    def pump(self, limit: int = 64) -> Sequence[Admitted]:
        admitted = wire.loads(self._redis.run("pump", limit))
        return [Admitted(step, step_text(step, merged(body, step))) for step, body in admitted]

    def claim(self, step: str, token: str, owner: str) -> Claim | Refusal:
        answer = wire.loads(self._redis.run("claim", step, token, owner))
        if "refused" in answer:
            return Refusal(answer["refused"])
        body = merged(answer["body"], step)
        if "cursor" in answer:
            body["cursor"] = int(answer["cursor"])
            if int(answer["total"]) >= 0:
                body["total"] = int(answer["total"])
        tee = answer.get("tee")
        return Claim(
            id=step,
            token=token,
            job=answer["job"],
            body=body,
            attempt=int(answer["attempt"]),
            delivered={need: wire.loads(text) for need, text in answer["got"]},
            tee=(tee[0], merged(tee[1], tee[0])) if tee else None,
        )

    def done(self, step: str, token: str, change: Change) -> bool:
        return self._ended("done", step, token, wire.change(change)) == "done"

    def block(self, step: str, token: str, needs: Sequence[StepSpec]) -> bool:
        error = never_there([spec.id for spec in needs], self._redis.rules.rounds)
        return self._ended("block", step, token, wire.text(wire.specs(needs)), wire.text(error)) == "done"

    def release(
        self,
        step: str,
        token: str,
        delay: float = 0.0,
        pause: str = "",
        error: Mapping[str, Any] | None = None,
    ) -> bool:
        reason = wire.text(wire.shortened(error)) if error else ""
        return self._ended("release", step, token, _millis(delay), pause, reason) == "done"

    def fail(
        self,
        step: str,
        token: str,
        error: Mapping[str, Any],
        retry: bool,
        delay: float,
        progressed: bool = False,
    ) -> str:
        return self._ended(
            "fail", step, token, wire.text(wire.shortened(error)), int(retry), _millis(delay), int(progressed)
        )

    def _ended(self, script: str, *args: str | int) -> str:
        """What a script said of a run's end; the many who wait for the step are told in further calls."""
        said, untold = self._redis.run(script, *args)
        while untold:
            untold = int(self._redis.run("drain"))
        return str(said)

    def reap(self, owner: str) -> int:
        return int(self._redis.run("reap", wire.text(worker_lost(self._redis.rules.attempts))))


def _millis(seconds: float) -> int:
    """Never 0 for a delay that was asked for."""
    return max(1, round(seconds * 1000)) if seconds > 0 else 0
