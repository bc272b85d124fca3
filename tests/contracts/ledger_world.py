"""A small world around a ledger: shorthand for specs, a clock that tests move, a worker that obeys.

The same world stands on the in-memory model and on a real server, so each contract test is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distworker.state.base import Change, Claim, Closing, Ledger, Refusal, StepSpec
from distworker.state.rules import Rules

SIZE = 100
OWNER = "worker-1"


def expand(job: str = "J", window: int = 200, priority: int = 5) -> StepSpec:
    return StepSpec(f"j:{job}", job, {"v": 1, "window": window}, priority)


def download(
    digest: str, job: str = "J", source: str = "src", priority: int = 5, credential: str = ""
) -> StepSpec:
    body = {"v": 1, "digest": digest, "size": SIZE, "source": {"host": source, "repository": job}}
    return StepSpec(f"d:t/{digest}", job, body, priority, source, credential, f"registry:{source}")


def upload(
    digest: str,
    job: str = "J",
    source: str = "src",
    destination: str = "dst",
    priority: int = 5,
    stored: bool = False,
) -> StepSpec:
    body = {"v": 1, "digest": digest, "size": SIZE, "destination": {"host": destination, "repository": job}}
    needs = () if stored else (download(digest, job, source, priority),)
    via = f"registry:{source}->{destination}"
    return StepSpec(f"u:{digest}@{destination}", job, body, priority, destination, "", via, needs)


def plan(image: str, job: str = "J", priority: int = 5) -> StepSpec:
    return StepSpec(f"p:{image}", job, {"v": 1}, priority, "src")


def publish(image: str, job: str = "J", priority: int = 5) -> StepSpec:
    body = {"v": 1, "source": f"src/{image}:1", "destination": f"dst/{image}:1"}
    return StepSpec(f"m:{image}", job, body, priority, "dst", needs=(plan(image, job, priority),))


class World:
    """`ledger`, and a worker with plenty of slots that beats whenever time moves."""

    def __init__(
        self, ledger: Ledger, move: Callable[[float], None], rules: Rules, slots: int = 1000
    ) -> None:
        self.ledger = ledger
        self.rules = rules
        self.slots = slots
        self._move = move
        self.inbox: list[str] = []  #: messages sent and not yet looked at
        self._tokens = 0
        self.beat()

    def beat(self) -> None:
        self.ledger.beat(OWNER, self.slots, {"host": "here"}, [])

    def advance(self, seconds: float) -> None:
        """Let time pass; no step is beaten meanwhile, the worker stays alive."""
        self._move(seconds)
        self.beat()

    def reap_after(self, seconds: float) -> int:
        """Let time pass with a reaper that runs all the while, so that it sees no gap."""
        returned = self.ledger.reap(OWNER)
        step = self.rules.gap / 2
        while seconds > 0:
            self.advance(min(step, seconds))
            seconds -= step
            returned += self.ledger.reap(OWNER)
        return returned

    def pump(self, limit: int = 64) -> list[str]:
        """The ids admitted now."""
        admitted = [step.id for step in self.ledger.pump(limit)]
        self.inbox += admitted
        return admitted

    def token(self) -> str:
        self._tokens += 1
        return f"token-{self._tokens}"

    def claim(self, step: str, owner: str = OWNER) -> Claim:
        """Claim a step whose message was sent."""
        claim = self.ledger.claim(step, self.token(), owner)
        assert isinstance(claim, Claim), f"{step}: {claim}"
        self.inbox.remove(step)
        return claim

    def take(self, step: str) -> Claim:
        """Pump, then claim that step."""
        self.pump(1000)
        return self.claim(step)

    def refused(self, step: str) -> str:
        """Why that step cannot be claimed."""
        answer = self.ledger.claim(step, self.token(), OWNER)
        assert isinstance(answer, Refusal), answer
        return answer.reason

    def done(self, claim: Claim, **change: Any) -> None:
        assert self.ledger.done(claim.id, claim.token, Change(**change))

    def finish(self, step: str, **change: Any) -> Claim:
        """Take and finish a step in one go."""
        claim = self.take(step)
        self.done(claim, **change)
        return claim

    def fail(self, claim: Claim, retry: bool = False, delay: float = 0.0, progressed: bool = False) -> str:
        error = {"code": "unavailable", "message": "no answer"}
        return self.ledger.fail(claim.id, claim.token, error, retry, delay, progressed)

    # --- whole jobs --------------------
    def open(self, images: Sequence[str], job: str = "J", priority: int = 5) -> None:
        """A job with all its images expanded."""
        assert self.ledger.open_job(job, {"kind": "copy"}, expand(job, priority=priority))
        spawn = tuple(
            s for image in images for s in (plan(image, job, priority), publish(image, job, priority))
        )
        self.finish(f"j:{job}", spawn=spawn, total=len(images), cursor=len(images))

    def planned(self, images: Mapping[str, Sequence[StepSpec]], job: str = "J", priority: int = 5) -> None:
        """A job whose images all wait for these steps."""
        self.open(list(images), job, priority)
        self.pump(1000)
        claims = {image: self.claim(f"p:{image}") for image in images}
        for image, needs in images.items():
            self.done(claims[image], wait=((f"m:{image}", tuple(needs)),))

    def give_back(self) -> None:
        """Nothing is queued any more: all of it is ready again, uncharged."""
        for step in list(self.inbox):
            claim = self.claim(step)
            self.ledger.release(claim.id, claim.token)

    def close(self, image: str, state: str = "done") -> None:
        """Publish the image."""
        self.finish(f"m:{image}", closing=Closing(image, state, {"bytes": 1}))

    def run_all(self) -> list[str]:
        """Do all that can be done now; returns the steps in the order in which they were done."""
        order: list[str] = []
        while self.pump() or self.inbox:
            for step in list(self.inbox):
                claim = self.ledger.claim(step, self.token(), OWNER)
                self.inbox.remove(step)
                if isinstance(claim, Claim):
                    self.done(claim)
                    order.append(step)
        return order

    def run_all_but(self, kinds: str) -> None:
        """Do what can be done now, except these kinds of steps: their messages stay in the inbox."""
        while todo := [step for step in (*self.pump(), *self.inbox) if step[0] not in kinds]:
            for step in dict.fromkeys(todo):
                self.done(self.claim(step))

    def state(self, job: str = "J") -> str:
        view = self.ledger.job(job)
        assert view is not None
        return view.state

    def counters(self, job: str = "J") -> Mapping[str, int]:
        view = self.ledger.job(job)
        assert view is not None
        return view.counters

    def outcomes(self, job: str = "J") -> dict[str, Mapping[str, Any]]:
        return {outcome["image"]: outcome for outcome in self.ledger.outcomes(job)}
