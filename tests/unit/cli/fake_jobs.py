"""A fleet that plays a script: each look at the job gives the next view, the last one stays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distworker.cli.report import is_over
from distworker.errors import JobUnknown, StateUnavailable
from distworker.plan.model import JobRequest
from distworker.service.recover import Looked
from distworker.service.retry import Retried
from distworker.state.base import JobView, Overdue, WorkerView
from distworker.state.turns import TurnView

WORKER = WorkerView(owner="worker-1", slots=4, seen=0.0, info={})
JOB = "20261123-7f3kq2xm"


def view(state: str = "running", job: str = JOB, **changes: Any) -> JobView:
    """A job in that state; counters, running steps and error as wished."""
    over = state in {"done", "failed", "cancelled"}
    return JobView(
        id=job,
        state=state,
        created=1_000.0,
        closed=changes.pop("closed", 1_012.3 if over else None),
        record=changes.pop("record", {"kind": "copy", "pairs": 1, "source": "a/b:1", "destination": "c/d:1"}),
        counters=changes.pop("counters", {"total": 1, "done": int(over)}),
        running=changes.pop("running", {}),
        **changes,
    )


def closed(number: int, state: str = "done", **more: Any) -> dict[str, Any]:
    """The outcome record of an image."""
    return {
        "image": f"{JOB}-{number}",
        "state": state,
        "source": f"src.example/app:{number}",
        "destination": f"dst.example/app:{number}",
        **more,
    }


class FakeJobs:
    """Answers like `service.jobs.Jobs`. `outages`: how many questions fail before Redis is back."""

    def __init__(
        self,
        views: Sequence[JobView] = (),
        outcomes: Sequence[Mapping[str, Any]] = (),
        workers: Sequence[WorkerView] = (WORKER,),
        outages: int = 0,
    ) -> None:
        self.views = list(views)
        self.closed = list(outcomes)
        self.live = workers
        self.outages = outages
        self.created: list[JobRequest] = []
        self.cancelled: list[str] = []
        self.turns: list[TurnView] = []
        self.held: list[str] = []
        self.origins: list[str] = []
        self.late: list[Overdue] = []
        self.looked: list[Looked] = []
        self.asked: list[Any] = []
        self.retried = Retried(f"{JOB}-retry1", 2, 0, joined=False)

    def create(self, request: JobRequest) -> bool:
        self.created.append(request)
        return True

    def view(self, job: str) -> JobView:
        self._answer()
        if not self.views:
            raise JobUnknown(f"there is no job {job}")
        return self.views.pop(0) if len(self.views) > 1 else self.views[0]

    def recent(self, limit: int = 50) -> Sequence[JobView]:
        self._answer()
        return self.views[:limit]

    def outcomes(self, job: str, start: int = 0) -> Iterator[Mapping[str, Any]]:
        self._answer()
        yield from self.closed[start:]

    def find(self, job: str) -> tuple[JobView, Iterator[Mapping[str, Any]]]:
        return self.view(job), self.outcomes(job)

    def pause(self, job: str) -> bool:
        self._answer()
        self.held.append(job)
        return not is_over(self.views[0])

    def resume(self, job: str) -> bool:
        self._answer()
        self.held.remove(job)
        return not is_over(self.views[0])

    def pause_origin(self, origin: str) -> None:
        self.origins.append(origin)

    def resume_origin(self, origin: str) -> bool:
        was = origin in self.origins
        self.origins = [each for each in self.origins if each != origin]
        return was

    def paused_origins(self) -> Sequence[str]:
        return self.origins

    def overdue(self, limit: int = 100) -> Sequence[Overdue]:
        return self.late[:limit]

    def recover(self, jobs: Sequence[str] = (), *, dry: bool = False) -> Iterator[Looked]:
        self.asked.append((tuple(jobs), dry))
        yield from self.looked

    def retry(self, job: str, *, cancelled: bool = False, priority: int | None = None) -> Retried:
        self.asked.append((job, cancelled, priority))
        return self.retried

    def cancel(self, job: str) -> bool:
        self._answer()
        self.cancelled.append(job)
        return True

    def upkeep(self) -> Sequence[TurnView]:
        return self.turns

    def workers(self) -> Sequence[WorkerView]:
        self._answer()
        return self.live

    def _answer(self) -> None:
        if self.outages:
            self.outages -= 1
            raise StateUnavailable("Redis does not answer")
