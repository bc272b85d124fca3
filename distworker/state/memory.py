"""The ledger in this process's memory: the reference model of the contract, and what local mode runs on.

It keeps every promise of `state/base.py` with one lock and an injectable clock, written from design
section 3 and not from the Lua. It is as quick as the dictionaries it is made of; nothing outlives
the process. Its parts: `memory_records.py` and `memory_graph.py` (the moves, without locks, tokens or time),
`memory_admission.py`, `memory_jobs.py`, `memory_origins.py`; here are a step's claim, life and end.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distworker import names
from distworker.state.base import (
    CANCELLED,
    DONE,
    RUNNING,
    Beat,
    Change,
    Claim,
    Refusal,
    StepSpec,
    WorkerView,
)
from distworker.state.memory_admission import MemoryAdmission
from distworker.state.memory_graph import Graph
from distworker.state.memory_jobs import MemoryJobs
from distworker.state.memory_origins import MemoryOrigins
from distworker.state.memory_records import DELAY, QUEUED, RUN, WAIT, Job, Step, slot_of
from distworker.state.rules import NO_TOTAL, Rules, never_there, worker_lost

_Answer = bool | str


class MemoryLedger(MemoryAdmission, MemoryJobs, MemoryOrigins):
    """See `state.base.Ledger`. `clock` gives Unix seconds."""

    def __init__(self, rules: Rules | None = None, clock: Callable[[], float] = time.time) -> None:
        self.rules = rules or Rules()
        self._now = clock
        self._lock = threading.RLock()
        self._graph = Graph(self.rules, clock)
        self._caps = {}
        self._pauses = {}
        self._answers: dict[str, tuple[float, _Answer]] = {}  #: token → what its last operation was told
        self._workers = {}
        self._hints = {}
        self._lanes = {}
        self._lane_images = {}
        self._reaped: float | None = None

    # --- a step's life --------------------
    def claim(self, step: str, token: str, owner: str) -> Claim | Refusal:
        with self._lock:
            found = self._graph.steps.get(step)
            if found is None:
                return Refusal("unknown")
            if found.state == RUN and found.token == token and not found.unwanted:
                return self._claim_of(found)
            if found.state != QUEUED:
                return Refusal("superseded")
            if int(found.spec.body.get("v", names.VERSION)) > names.VERSION:
                return Refusal("newer")
            if self._dropped(found):
                return Refusal("cancelled")
            found.state, found.token, found.owner = RUN, token, owner
            found.sends, found.via = 0, found.spec.via
            self._graph.set_due(found, self._now() + self.rules.lease)
            job = self._graph.jobs.get(found.spec.job)
            if job:
                job.running[step] = None
            self._take_tee(found)
            return self._claim_of(found)

    def _dropped(self, step: Step) -> bool:
        """A queued step that nobody wants any more goes now."""
        job = self._graph.jobs.get(step.spec.job)
        if step.unwanted or (step.root and (job is None or not job.open)):
            self._graph.drop(step)
            return True
        if step.root and job and job.state != RUNNING:
            if step.kind == names.EXPAND:
                self._graph.drop(step)
            else:
                self._graph.close_image(step.image, CANCELLED, {})
            return True
        return False

    def _take_tee(self, step: Step) -> None:
        """A download whose one waiting upload has a free slot feeds it in the same pass."""
        if step.kind != names.DOWNLOAD or len(step.subscribers) != 1:
            return
        upload = self._graph.steps.get(next(iter(step.subscribers)))
        if upload is None or upload.kind != names.UPLOAD or upload.state != WAIT or len(upload.barrier) != 1:
            return
        slot = slot_of(upload.spec)
        if self._closed(names.UPLOAD, slot):
            return
        step.tee = upload.id
        if upload.spec.origin:
            self._graph.hold(step, slot)

    def _claim_of(self, step: Step) -> Claim:
        body = step.body
        job = self._graph.jobs.get(step.spec.job)
        if step.kind == names.EXPAND and job:
            body["cursor"] = job.cursor
            if job.total is not None:
                body["total"] = job.total
        upload = self._graph.steps.get(step.tee)
        tee = (upload.id, dict(upload.spec.body)) if upload else None
        return Claim(step.id, step.token, step.spec.job, body, step.attempts + 1, dict(step.got), tee)

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

    def beat(self, owner: str, slots: int, info: Mapping[str, Any], running: Sequence[Beat]) -> Sequence[str]:
        with self._lock:
            now = self._now()
            self._workers[owner] = WorkerView(owner, slots, now, dict(info))
            gone = []
            for sign in running:
                step = self._held(sign.id, sign.token)
                if step is None or step.unwanted:
                    gone.append(sign.id)
                    if step:
                        self._graph.drop(step)
                    continue
                step.moved, step.size = sign.moved, sign.size
                self._graph.set_due(step, now + self.rules.lease)
            return gone

    def farewell(self, owner: str) -> None:
        with self._lock:
            self._workers.pop(owner, None)

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
        if upload is None or upload.kind != names.UPLOAD or upload.state in (QUEUED, RUN):
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

    def release(self, step: str, token: str, delay: float = 0.0, pause: str = "") -> bool:
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
            if not self._unwanted_gone(found):
                self._later(found, delay)
            return True

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
            answer = self._charge(found, error, retry, delay, progressed)
            self._answer(token, answer)
            return answer

    def _charge(
        self, step: Step, error: Mapping[str, Any], retry: bool, delay: float, progressed: bool
    ) -> str:
        step.runs += 1
        step.attempts += not progressed
        if retry and step.attempts < self.rules.attempts and step.runs < self.rules.runs:
            self._later(step, delay)
            return "retry"
        self._graph.fail(step, step.via, error)
        return "failed"

    def _later(self, step: Step, delay: float) -> None:
        """Off its worker; ready after `delay`."""
        self._graph.land(step)
        if delay > 0:
            step.state = DELAY
            self._graph.set_due(step, self._now() + delay)
        else:
            self._graph.advance(step)

    def _unwanted_gone(self, step: Step) -> bool:
        if step.unwanted:
            self._graph.drop(step)
        return step.unwanted

    # --- reaping --------------------
    def reap(self, owner: str) -> int:
        with self._lock:
            now, last = self._now(), self._reaped
            if last is not None and 0 <= now - last < self.rules.reap_every:
                return 0
            self._reaped = now
            if last is not None and not 0 <= now - last <= self.rules.gap:
                self._grant_a_lease(now, min(0.0, now - last))
            returned = 0
            while (
                self._graph.deadlines and self._graph.deadlines[0][0] <= now and returned < self.rules.batch
            ):
                due, name = heapq.heappop(self._graph.deadlines)
                step = self._graph.steps.get(name)
                if step and step.due == due:
                    self._return(step)
                    returned += 1
            return returned

    def _grant_a_lease(self, now: float, back: float) -> None:
        """To everything running. If the clock went `back`, what is due keeps its distance."""
        for step in self._graph.steps.values():
            if step.due is not None and back:
                self._graph.set_due(step, step.due + back)
            if step.state == RUN:
                self._graph.set_due(step, max(step.due or 0.0, now + self.rules.lease))

    def _return(self, step: Step) -> None:
        if self._unwanted_gone(step):
            return
        if step.state == RUN:
            self._charge(step, worker_lost(self.rules.attempts), retry=True, delay=0.0, progressed=False)
        else:
            self._graph.land(step)
            self._graph.advance(step)

    # --- health --------------------
    def check(self) -> Mapping[str, Any]:
        return {"server": "memory", "version": "", "persistence": "none", "policy": "noeviction"}
