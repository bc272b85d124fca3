"""How a run ends in the in-memory ledger: done, blocked, given back, failed; each fenced by its token.

The counterpart of the scripts of these names on dictionaries; see `memory.py` for lock and clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distworker import names
from distworker.state.base import DONE, RUNNING, Change, StepSpec
from distworker.state.memory_graph import Graph
from distworker.state.memory_records import DELAY, DRAIN, QUEUED, RUN, WAIT, Job, Patience, Step, slot_of
from distworker.state.rules import NO_TOTAL, Rules, never_there
from distworker.state.wire import shortened

_Answer = bool | str


class MemoryEnds:
    """The part of the ledger that ends a run, see `state.base.Ledger`."""

    rules: Rules
    _now: Callable[[], float]
    _lock: threading.RLock
    _graph: Graph
    _pauses: dict[str, tuple[float, float]]
    _pause_ends: Callable[[str, float], float]
    _remember: Callable[[str, str, str, str], None]
    _answers: dict[str, tuple[float, _Answer]]  #: token → what its last operation was told

    def _held(self, step: str, token: str) -> Step | None:
        """The running step, if this token still holds it."""
        found = self._graph.steps.get(step)
        return found if found and found.state == RUN and token and found.token == token else None

    def _answered(self, token: str) -> _Answer | None:
        answer = self._answers.get(token)
        return answer[1] if answer and answer[0] > self._now() else None

    def _answer(self, token: str, answer: _Answer) -> None:
        now = self._now()
        while self._answers and next(iter(self._answers.values()))[0] <= now:
            del self._answers[next(iter(self._answers))]
        self._answers[token] = (now + self.rules.answer, answer)

    def done(self, step: str, token: str, change: Change) -> bool:
        with self._lock:
            found = self._held(step, token)
            if found is None:
                return self._answered(token) is True
            job = self._graph.jobs.get(found.spec.job)
            self._graph.land(found)
            for name, amount in change.counts.items():
                if job:
                    job.count(name, amount)
            for origin, credential, digest, repository in change.hints:
                self._remember(origin, credential, digest, repository)
            self._close(found, change)
            self._extend(job, change)
            self._tee_done(found, change)
            if step in self._graph.steps:
                self._graph.finish(found, change.delivered)
            if job and found.kind == names.EXPAND:
                job.total = job.total if change.total is None else change.total
                job.cursor = job.cursor if change.cursor is None else change.cursor
                if job.total is None:
                    job.error, job.stop = NO_TOTAL, True
                self._graph.room(job)
            self._answer(token, True)
            return True

    def _close(self, step: Step, change: Change) -> None:
        if change.closing:
            self._graph.close_image(change.closing.image, change.closing.state, change.closing.outcome)
        elif step.kind == names.PUBLISH:
            self._graph.close_image(step.image, DONE, {})

    def _extend(self, job: Job | None, change: Change) -> None:
        """New steps, more needs, patched bodies; a job that is being cancelled gets none of them."""
        if job is None or job.state != RUNNING:
            return
        for spec in change.spawn:
            if spec.id not in self._graph.steps:
                self._graph.create(spec)
        for name, specs in change.wait:
            waiter = self._graph.steps.get(name)
            for spec in specs:
                if (
                    waiter
                    and waiter.state == WAIT
                    and spec.id not in waiter.barrier
                    and spec.id not in waiter.got
                ):
                    self._graph.subscribe(waiter, spec)
        for name, fields in change.patch:
            self._graph.patch(job, name, fields)

    def _tee_done(self, step: Step, change: Change) -> None:
        """The pass also delivered the upload: that step is done as well."""
        teed = change.delivered.get("teed")
        if not teed:
            return
        upload = self._graph.steps.get(teed[0])
        if upload is None or upload.kind != names.UPLOAD or upload.state in (QUEUED, RUN, DRAIN):
            return
        job = self._graph.jobs.get(upload.spec.job)
        if job:
            job.count("uploaded", int(upload.spec.body.get("size", 0)))
            job.count("layers")
        upload.barrier.pop(step.id, None)
        self._graph.finish(upload, {"repository": teed[1], "credential": upload.spec.credential})

    def block(self, step: str, token: str, needs: Sequence[StepSpec]) -> bool:
        with self._lock:
            found = self._held(step, token)
            if found is None:
                return self._answered(token) is True
            self._answer(token, True)
            if self._unwanted_gone(found):
                return True
            found.rounds += 1
            found.patience = None
            if found.rounds > self.rules.rounds:
                missing = [spec.id for spec in needs]
                self._graph.fail(found, found.via, never_there(missing, self.rules.rounds))
                return True
            self._graph.land(found)
            if not found.settled:
                self._graph.settle(found)
            for spec in needs:
                found.got.pop(spec.id, None)
                self._graph.subscribe(found, spec)
            self._graph.advance(found)
            return True

    def release(
        self,
        step: str,
        token: str,
        delay: float = 0.0,
        pause: str = "",
        error: Mapping[str, Any] | None = None,
    ) -> bool:
        with self._lock:
            found = self._held(step, token)
            if found is None:
                return self._answered(token) is True
            self._answer(token, True)
            spec = found.spec
            if pause and delay > 0 and spec.origin:
                name = spec.origin if pause == "origin" else f"{slot_of(spec)}|{found.kind}"
                now = self._now()
                self._pauses[name] = (max(self._pause_ends(name, now), now + delay), now)
            if self._unwanted_gone(found):
                return True
            if error and self._tired(found, delay):
                self._graph.fail(found, found.via, shortened(error))
                return True
            found.error = shortened(error) if error else found.error
            self._later(found, delay)
            return True

    def _tired(self, step: Step, delay: float) -> bool:
        """Given back with an error once more: has it done nothing else for too long?"""
        now = self._now()
        last = step.patience or Patience(0.0, now, now)
        used = last.used + max(0.0, min(now, last.counts_until) - last.given_back)
        step.patience = Patience(used, now, now + delay + self.rules.idle)
        return used >= self.rules.patience

    def fail(
        self,
        step: str,
        token: str,
        error: Mapping[str, Any],
        retry: bool,
        delay: float,
        progressed: bool = False,
    ) -> str:
        with self._lock:
            found = self._held(step, token)
            if found is None:
                answer = self._answered(token)
                return answer if isinstance(answer, str) else "lost"
            if self._unwanted_gone(found):
                return "lost"
            answer = self._charge(found, shortened(error), retry, delay, progressed)
            self._answer(token, answer)
            return answer

    def _charge(
        self, step: Step, error: Mapping[str, Any], retry: bool, delay: float, progressed: bool
    ) -> str:
        step.runs += 1
        step.attempts += not progressed
        step.error, step.patience = error, None
        if retry and step.attempts < self.rules.attempts and step.runs < self.rules.runs:
            self._later(step, delay)
            return "retry"
        self._graph.fail(step, step.via, error)
        return "failed"

    def _later(self, step: Step, delay: float) -> None:
        """Off its worker; ready after `delay`."""
        self._graph.land(step)
        if delay > 0:
            step.state, step.since = DELAY, int(self._now())
            self._graph.set_due(step, self._now() + delay)
        else:
            self._graph.advance(step)

    def _unwanted_gone(self, step: Step) -> bool:
        if step.unwanted:
            self._graph.drop(step)
        return step.unwanted
