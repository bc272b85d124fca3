"""The reference model of the work graph in plain Python: steps, subscriptions, barriers, images, jobs.

What it is: the moves of design section 3 on dictionaries, without locks, tokens or time-outs (`memory.py`
adds those). It promises to be readable before all else: the Lua ledger is held against it, move by move.

A **root** step (expand, plan, publish) belongs to its job or image and keeps its own spec. Any other step
lives as long as somebody subscribes to it and runs its **home** subscriber's spec.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from distworker import names
from distworker.state.base import CANCELLED, CANCELLING, DONE, FAILED, SUPERSEDED, UNCHANGED, StepSpec
from distworker.state.memory_records import (
    DRAIN,
    LAYERS,
    NOBODY,
    QUEUED,
    READY,
    RUN,
    WAIT,
    Delivered,
    Job,
    ReadySteps,
    Step,
    Subscription,
    rank_of,
    slot_of,
)
from distworker.state.rules import Rules
from distworker.state.texts import ends_of


class Graph:
    """The moves. Every public method leaves barriers, subscriptions, slots and rings in agreement."""

    def __init__(self, rules: Rules, clock: Callable[[], float]) -> None:
        self.rules = rules
        self.now = clock
        self.steps: dict[str, Step] = {}
        self.jobs: dict[str, Job] = {}
        self.unreported: dict[str, None] = {}  #: closed jobs whose report is not kept yet
        self.ready = ReadySteps()
        self.deadlines: list[tuple[float, str]] = []
        self.flying: dict[str, bool] = {}  #: queued and running steps; True for layers
        self.layers_flying = 0
        self.stopped: set[str] = set()  #: origins an operator paused
        self.use: dict[str, set[str]] = {}
        self._count = 0

    def next_number(self) -> int:
        self._count += 1
        return self._count

    # --- a step's place --------------------
    def set_due(self, step: Step, due: float | None) -> None:
        step.due = due
        if due is not None:
            heapq.heappush(self.deadlines, (due, step.id))

    def hold(self, step: Step, slot: str) -> None:
        step.held.append(slot)
        self.use.setdefault(slot, set()).add(step.id)

    def fly(self, step: Step) -> None:
        """Ready to queued: takes its slot."""
        step.state, step.since = QUEUED, int(self.now())
        if step.kind in LAYERS and step.spec.origin:
            self.hold(step, slot_of(step.spec))
        self.flying[step.id] = step.kind in LAYERS
        self.layers_flying += step.kind in LAYERS

    def land(self, step: Step) -> None:
        """Out of the air, the timers and the ready ring; frees exactly what it held. It becomes `wait`."""
        if step.state == READY:
            self.ready.remove(step)
        for slot in dict.fromkeys(step.held):  # a tee within one origin holds the same slot twice
            self.use[slot].discard(step.id)
            if not self.use[slot]:
                del self.use[slot]
        step.held = []
        self.layers_flying -= self.flying.pop(step.id, False)
        job = self.jobs.get(step.spec.job)
        if job:
            job.running.pop(step.id, None)
        step.since = int(self.now())
        step.due, step.token, step.owner, step.tee, step.moved, step.size = None, "", "", "", 0, 0
        step.state = WAIT

    def advance(self, step: Step) -> None:
        """A landed step goes where it belongs: behind its barrier, or to the ready ones."""
        if not step.settled:
            self.settle(step)
        if not step.barrier:
            step.state, step.since = READY, int(self.now())
            step.order = step.order or self.next_number()
            self.ready.add(step)

    # --- subscriptions --------------------
    def create(self, spec: StepSpec, subscriber: str = NOBODY) -> Step:
        """A new step with its needs, ready when it has none."""
        step = self.steps[spec.id] = Step(spec.id, spec, since=int(self.now()))
        job = self.jobs.get(spec.job)
        if step.kind == names.PUBLISH and job:
            job.images[step.image] = None
        if not step.root:
            step.home = subscriber
        if not step.root or subscriber != NOBODY:
            step.subscribers[subscriber] = Subscription(spec, self.next_number())
        self.advance(step)
        return step

    def subscribe(self, waiter: Step, spec: StepSpec) -> None:
        """`waiter` waits for that step, made now or by somebody before."""
        waiter.barrier[spec.id] = None
        step = self.steps.get(spec.id)
        if step is None:
            self.create(spec, waiter.id)
            return
        known = None if step.state == DRAIN else step.subscribers.get(waiter.id)
        step.subscribers[waiter.id] = Subscription(spec, known.order if known else self.next_number())
        if step.state == DRAIN:
            return  # too late for this round: it takes part in what comes after it
        if not step.root and step.home in ("", waiter.id):
            step.unwanted = False
            self.rehome(step, waiter.id)
        else:
            self.pass_on(step)

    def settle(self, step: Step) -> None:
        """Make the barrier what the current spec needs and has not got."""
        wanted = {need.id: need for need in step.spec.needs if need.id not in step.got}
        step.settled = True
        for need in [n for n in step.barrier if n not in wanted]:
            del step.barrier[need]
            self.leave(need, step.id)
        for spec in wanted.values():
            self.subscribe(step, spec)

    def rehome(self, step: Step, home: str) -> None:
        """Run it that subscriber's way from now on; what is queued or running goes on as it is."""
        old = step.spec.job
        if step.state == READY:
            self.land(step)
        if home != step.home:
            step.afresh()
        step.home, step.spec, step.settled = home, step.subscribers[home].spec, False
        if step.state == RUN:
            if old in self.jobs:
                self.jobs[old].running.pop(step.id, None)
            if step.spec.job in self.jobs:
                self.jobs[step.spec.job].running[step.id] = None
        elif step.state == WAIT:
            self.advance(step)

    def best(self, step: Step) -> str:
        """The subscriber whose way comes next: of a job not paused, highest priority, then oldest."""

        def rank(name: str) -> tuple[bool, int, int]:
            subscription = step.subscribers[name]
            return (self.paused(subscription.spec.job), *rank_of(subscription))

        return min(step.subscribers, key=rank)

    def paused(self, job: str) -> bool:
        """Did an operator pause it?"""
        return job in self.jobs and self.jobs[job].paused

    def pass_on(self, step: Step) -> None:
        """A step whose home is of a paused job goes to the best subscriber of another; the home still
        subscribes, with what it still waits for."""
        if step.root or step.state == DRAIN or not step.home or not self.paused(step.spec.job):
            return
        best = self.best(step)
        if self.paused(step.subscribers[best].spec.job):
            return
        if step.settled:
            needs = [self.steps[need].subscribers[step.id].spec for need in sorted(step.barrier)]
            old = step.subscribers[step.home]
            step.subscribers[step.home] = Subscription(replace(step.spec, needs=tuple(needs)), old.order)
        self.rehome(step, best)

    def pass_on_shared(self, job: Job) -> None:
        """After a pause or a resumption: no layer stays with a paused job that another one wants."""
        for image in sorted(job.images):
            publish = self.steps.get(names.publish_id(image))
            for name in sorted(publish.barrier) if publish else ():
                self._pass_on_below(name)

    def _pass_on_below(self, name: str) -> None:
        step = self.steps.get(name)
        if step and not step.root:
            self.pass_on(step)
            for need in sorted(step.barrier):
                self._pass_on_below(need)

    def leave(self, step_id: str, subscriber: str) -> None:
        """That subscriber no longer wants the step."""
        step = self.steps.get(step_id)
        if (
            step is None
            or step.subscribers.pop(subscriber, None) is None
            or step.root
            or step.home != subscriber
            or step.state == DRAIN
        ):
            return
        if step.subscribers:
            self.rehome(step, self.best(step))
        elif step.state in (QUEUED, RUN):
            step.home, step.unwanted = "", True
        else:
            self.drop(step)

    def drop(self, step: Step) -> None:
        """The step is gone, with every need that nobody else wants."""
        self.land(step)
        del self.steps[step.id]
        for need in sorted(step.barrier):
            self.leave(need, step.id)

    def deliver(self, step_id: str, subscribers: Iterable[str], delivered: Delivered) -> None:
        """Empty the barriers in which a finished step stood."""
        for name in subscribers:
            waiter = self.steps.get(name)
            if waiter is None or step_id not in waiter.barrier:
                continue
            del waiter.barrier[step_id]
            waiter.got[step_id] = delivered
            if not waiter.barrier and waiter.state == WAIT:
                self.advance(waiter)

    def finish(self, step: Step, delivered: Delivered) -> None:
        """The step is done: its home paid for it, the others shared it."""
        subscribers = step.ranked()
        for name in subscribers:
            spec = step.subscribers[name].spec
            if not step.root and name != step.home and not spec.body.get("counted") and spec.job in self.jobs:
                self.jobs[spec.job].count("saved_shared", int(spec.body.get("size", 0)))
        self.drop(step)
        self.deliver(step.id, subscribers, delivered)

    def fail(self, step: Step, via: str, error: Mapping[str, Any]) -> None:
        """The step is over for everybody who wanted it that way; the others start a new round their way."""
        if step.state == DRAIN:
            return  # it is failing already
        if step.kind == names.EXPAND:
            self.fail_job(step, error)
            return
        if step.root:
            self.close_image(step.image, FAILED, {"error": error})
            return
        failing = [name for name, s in step.subscribers.items() if s.spec.via == via]
        failing.sort(key=lambda name: rank_of(step.subscribers[name]))
        self.land(step)
        for name in failing:
            del step.subscribers[name]
        step.home, step.state = step.home if step.home in step.subscribers else "", DRAIN
        self.fail_waiters(step.id, failing, error)
        step.state = WAIT
        if step.subscribers:
            step.afresh()
            self.rehome(step, step.home or self.best(step))
        else:
            self.drop(step)

    def fail_waiters(self, step_id: str, waiters: Sequence[str], error: Mapping[str, Any]) -> None:
        """The last one first: a home that leaves last leaves nobody to choose another one from."""
        for name in reversed(waiters):
            waiter = self.steps.get(name)
            if waiter and step_id in waiter.barrier:
                del waiter.barrier[step_id]
                self.fail(waiter, waiter.spec.via, error)

    def fail_job(self, step: Step, error: Mapping[str, Any]) -> None:
        job = self.jobs.get(step.spec.job)
        self.drop(step)
        if job and job.open:
            job.error, job.stop = error, True
            self.room(job)

    # --- images and jobs --------------------
    def close_image(self, image: str, state: str, outcome: Mapping[str, Any]) -> None:
        """The image is over: its steps and wishes go, its outcome is recorded, its job goes on or closes."""
        own = [self.steps[i] for i in (names.publish_id(image), names.plan_id(image)) if i in self.steps]
        job = self.jobs.get(own[0].spec.job) if own else None
        if job is None or image not in job.images:
            return
        del job.images[image]
        ends = ends_of(own[0].body) if state in (FAILED, CANCELLED) else {}
        job.outcomes.append({**ends, **outcome, "image": image, "state": state})
        job.count(state)
        waiters = list(own[0].subscribers)
        for step in own:
            if step.id in self.steps:
                self.drop(step)
        if own[0].kind == names.PUBLISH and state in (DONE, UNCHANGED, SUPERSEDED):
            self.deliver(own[0].id, waiters, {})
        elif own[0].kind == names.PUBLISH:
            self.fail_waiters(
                own[0].id, waiters, outcome.get("error") or {"code": CANCELLED, "message": state}
            )
        self.room(job)

    def room(self, job: Job) -> None:
        """Expand the next images when there is room for them; close the job when nothing is left."""
        expand = names.expand_id(job.id)
        if not job.open or expand in self.steps:
            return
        if job.stop or (job.total is not None and job.cursor >= job.total):
            if not job.images:
                self.close_job(job)
        elif job.total is not None:
            window, images = job.window or self.rules.window, len(job.images)
            if images <= self.rules.spread * window and (images - self.held_up(job)) * 2 <= window:
                self.create(job.first)

    def held_up(self, job: Job) -> int:
        """Open images that stand still because an operator paused their destination."""
        publishes = (self.steps[names.publish_id(image)] for image in job.images) if self.stopped else ()
        return sum(step.spec.origin in self.stopped for step in publishes)

    def close_job(self, job: Job) -> None:
        if job.state == CANCELLING:
            job.state = CANCELLED
        else:
            job.state = FAILED if job.error or job.counters.get(FAILED) else DONE
        job.closed, job.paused = self.now(), False
        self.unreported[job.id] = None

    def cancel_job(self, job: Job) -> None:
        job.state, job.stop = CANCELLING, True
        if names.expand_id(job.id) in self.steps:
            self.drop(self.steps[names.expand_id(job.id)])
        for image in sorted(job.images):
            self.close_image(image, CANCELLED, {})
        self.room(job)

    def patch(self, job: Job | None, step_id: str, fields: Mapping[str, Any]) -> None:
        """Merge into the body of a root step; into the job's own record when it is its expand step."""
        step = self.steps.get(step_id)
        if job and step_id == job.first.id:
            job.first = replace(job.first, body={**job.first.body, **fields})
        elif step and step.root:
            step.patches.update(fields)
