"""The ledger in this process's memory: the reference model of the contract, and what local mode runs on.

It keeps every promise of `state/base.py` with one lock and an injectable clock, written from design
section 3 and not from the Lua. It is as quick as the dictionaries it is made of; nothing outlives
the process.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from distworker import names
from distworker.state.base import (
    CANCELLED,
    COUNTERS,
    DONE,
    RUNNING,
    Admitted,
    Beat,
    Change,
    Claim,
    JobView,
    Refusal,
    StepSpec,
    WorkerView,
)
from distworker.state.memory_graph import DELAY, LAYERS, QUEUED, RUN, WAIT, Graph, Job, Step, slot_of
from distworker.state.rules import NO_TOTAL, Rules, admission_window, layer_window, never_there, worker_lost
from distworker.state.texts import step_text

_Answer = bool | str


class MemoryLedger:
    """See `state.base.Ledger`. `clock` gives Unix seconds."""

    def __init__(self, rules: Rules | None = None, clock: Callable[[], float] = time.time) -> None:
        self.rules = rules or Rules()
        self._now = clock
        self._lock = threading.RLock()
        self._graph = Graph(self.rules, clock)
        self._caps: dict[str, int] = {}
        self._pauses: dict[str, float] = {}
        self._answers: dict[str, tuple[float, _Answer]] = {}  #: token → what its last operation was told
        self._workers: dict[str, WorkerView] = {}
        self._hints: dict[tuple[str, str, str], dict[str, float]] = {}
        self._lanes: dict[
            str, tuple[int, int, Mapping[str, Any]]
        ] = {}  #: last number, newest published, its note
        self._lane_images: dict[tuple[str, str], int] = {}
        self._reaped: float | None = None

    # --- jobs --------------------
    def open_job(self, job: str, record: Mapping[str, Any], first: StepSpec) -> bool:
        with self._lock:
            self._forget_old_jobs()
            if job in self._graph.jobs:
                return False
            number = self._graph.next_number()
            self._graph.jobs[job] = Job(job, dict(record), first, self._now(), number)
            self._graph.create(first)
            return True

    def job(self, job: str) -> JobView | None:
        with self._lock:
            self._forget_old_jobs()
            found = self._graph.jobs.get(job)
            return self._view(found) if found else None

    def jobs(self, limit: int = 50) -> Sequence[JobView]:
        with self._lock:
            self._forget_old_jobs()
            newest = sorted(self._graph.jobs.values(), key=lambda j: (j.created, j.number), reverse=True)
            return [self._view(job) for job in newest[:limit]]

    def outcomes(self, job: str, start: int = 0, count: int = 1000) -> Sequence[Mapping[str, Any]]:
        with self._lock:
            found = self._graph.jobs.get(job)
            return found.outcomes[start : start + count] if found else []

    def cancel(self, job: str) -> bool:
        with self._lock:
            found = self._graph.jobs.get(job)
            if found is None or not found.open:
                return False
            self._graph.cancel_job(found)
            return True

    def _view(self, job: Job) -> JobView:
        running = {}
        for name in job.running:
            step = self._graph.steps[name]
            running[name] = {
                "moved": step.moved,
                "size": step.size,
                "worker": step.owner,
                "text": step_text(name, step.body),
            }
        counters = {**dict.fromkeys(COUNTERS, 0), **job.counters}
        counters |= {"total": job.total or 0, "open": len(job.images)}
        return JobView(job.id, job.state, job.created, job.closed, job.record, counters, running, job.error)

    def _forget_old_jobs(self) -> None:
        limit = self._now() - self.rules.keep
        jobs = self._graph.jobs
        for name in [name for name, job in jobs.items() if job.closed is not None and job.closed < limit]:
            del jobs[name]

    # --- admission --------------------
    def pump(self, limit: int = 64) -> Sequence[Admitted]:
        with self._lock:
            window = admission_window(sum(worker.slots for worker in self.workers()))
            admitted: list[Admitted] = []
            for kind in names.KINDS:
                self._pump_kind(kind, window, limit, admitted)
            return admitted

    def _pump_kind(self, kind: str, window: int, limit: int, admitted: list[Admitted]) -> None:
        ring = self._graph.ready.rings[kind]
        skipped = scanned = 0
        while ring and len(admitted) < limit and skipped < len(ring) and scanned < self.rules.scan:
            if len(self._graph.flying) >= window:
                return
            if kind in LAYERS and self._graph.layers_flying >= layer_window(window):
                return
            pair = ring[0]
            ring.rotate(-1)
            scanned += 1
            if self._closed(kind, pair[1]):
                skipped += 1
                continue
            skipped = 0
            step = self._graph.steps[self._graph.ready.pop(kind, *pair)]
            self._graph.fly(step)
            self._graph.set_due(step, self._now() + self.rules.resend_after(step.sends))
            step.sends += 1
            admitted.append(Admitted(step.id, step_text(step.id, step.body)))

    def _closed(self, kind: str, slot: str) -> bool:
        """Paused, or its slots are all taken."""
        origin = slot.split("|", 1)[0]
        now = self._now()
        if self._pauses.get(f"{slot}|{kind}", 0) > now or self._pauses.get(origin, 0) > now:
            return True
        if kind not in LAYERS or not origin or origin not in self._caps:
            return False
        return len(self._graph.use.get(slot, ())) >= self._caps[origin]

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
                self._pauses[name] = max(self._pauses.get(name, 0.0), self._now() + delay)
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
                self._grant_a_lease(now)
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

    def _grant_a_lease(self, now: float) -> None:
        for step in self._graph.steps.values():
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

    # --- shared knowledge --------------------
    def _remember(self, origin: str, credential: str, digest: str, repository: str) -> None:
        places = self._hints.setdefault((origin, credential, digest), {})
        places.pop(repository, None)
        places[repository] = self._now() + self.rules.hint
        while len(places) > self.rules.hint_max:
            del places[next(iter(places))]

    def hints(self, origin: str, credential: str, digests: Sequence[str]) -> Mapping[str, Sequence[str]]:
        with self._lock:
            found = {}
            for digest in digests:
                places = self._hints.get((origin, credential, digest), {})
                if places and max(places.values()) > self._now():
                    found[digest] = list(reversed(places))
            return found

    def lane_begin(self, lane: str, image: str) -> int:
        with self._lock:
            number, newest, note = self._lanes.get(lane, (0, 0, {}))
            if (lane, image) not in self._lane_images:
                self._lane_images[lane, image] = number + 1
                self._lanes[lane] = (number + 1, newest, note)
            return self._lane_images[lane, image]

    def lane_newest(self, lane: str) -> tuple[int, Mapping[str, Any]]:
        with self._lock:
            return self._lanes.get(lane, (0, 0, {}))[1:]

    def lane_published(
        self, lane: str, sequence: int, note: Mapping[str, Any]
    ) -> tuple[int, Mapping[str, Any]]:
        with self._lock:
            number, newest, known = self._lanes.get(lane, (sequence, 0, {}))
            if sequence >= newest:
                newest, known = sequence, dict(note)
            self._lanes[lane] = (max(number, sequence), newest, known)
            return newest, known

    def set_caps(self, caps: Mapping[str, int]) -> None:
        with self._lock:
            self._caps = dict(caps)

    # --- health --------------------
    def workers(self) -> Sequence[WorkerView]:
        with self._lock:
            oldest = self._now() - self.rules.live
            for owner in [name for name, worker in self._workers.items() if worker.seen <= oldest]:
                del self._workers[owner]
            return [replace(worker) for _, worker in sorted(self._workers.items())]

    def check(self) -> Mapping[str, Any]:
        return {"server": "memory", "version": "", "persistence": "none", "policy": "noeviction"}
