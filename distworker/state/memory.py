"""The ledger in this process's memory: the reference model of the contract, and what local mode runs on.

It keeps every promise of `state/base.py` with one lock and an injectable clock, written from design
section 3 and not from the Lua. It is as quick as the dictionaries it is made of; nothing outlives
the process. Its parts: `memory_records.py` and `memory_graph.py` (the moves, without locks, tokens or time),
`memory_admission.py`, `memory_ends.py` (done, block, release, fail), `memory_jobs.py`, `memory_origins.py`,
`memory_questions.py`; here are a step's claim and life.
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
    RUNNING,
    Beat,
    Claim,
    Refusal,
    WorkerView,
)
from distworker.state.memory_admission import MemoryAdmission
from distworker.state.memory_ends import MemoryEnds
from distworker.state.memory_graph import Graph
from distworker.state.memory_jobs import MemoryJobs
from distworker.state.memory_origins import MemoryOrigins
from distworker.state.memory_questions import MemoryQuestions
from distworker.state.memory_records import QUEUED, RUN, WAIT, Step, slot_of
from distworker.state.rules import Rules, worker_lost


class MemoryLedger(MemoryAdmission, MemoryEnds, MemoryJobs, MemoryOrigins, MemoryQuestions):
    """See `state.base.Ledger`. `clock` gives Unix seconds."""

    def __init__(self, rules: Rules | None = None, clock: Callable[[], float] = time.time) -> None:
        self.rules = rules or Rules()
        self._now = clock
        self._lock = threading.RLock()
        self._graph = Graph(self.rules, clock)
        self._stopped = self._graph.stopped
        self._caps = {}
        self.memory_full = False
        self._pauses = {}
        self._answers = {}
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
                # its message is used up, by nobody's fault: the next one goes out soon, and is not counted
                self._graph.set_due(found, self._now() + self.rules.newer)
                found.sends = max(0, found.sends - 1)
                return Refusal("newer")
            if self._dropped(found):
                return Refusal("cancelled")
            found.state, found.token, found.owner = RUN, token, owner
            found.since = int(self._now())
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

    def known(self, step: str) -> bool:
        with self._lock:
            return step in self._graph.steps

    def farewell(self, owner: str) -> None:
        with self._lock:
            self._workers.pop(owner, None)

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
        return {"server": "memory", "version": "", "persistence": "memory", "policy": "noeviction"}

    def settle(self) -> bool:
        return True
