"""Jobs of the in-memory ledger: opened, listed, cancelled, with counters, running steps and closed images.

The counterpart of `jobs.py` on dictionaries; see `memory.py` for lock and clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distworker.state.base import COUNTERS, JobView, StepSpec
from distworker.state.memory_graph import Graph
from distworker.state.memory_records import Job
from distworker.state.rules import Rules
from distworker.state.texts import step_text


class MemoryJobs:
    """The part of the ledger that concerns jobs, see `state.base.Ledger`."""

    rules: Rules
    _now: Callable[[], float]
    _lock: threading.RLock
    _graph: Graph

    def open_job(self, job: str, record: Mapping[str, Any], first: StepSpec, *, paused: bool = False) -> bool:
        with self._lock:
            self._forget_old_jobs()
            if job in self._graph.jobs:
                return False
            number = self._graph.next_number()
            self._graph.jobs[job] = Job(job, dict(record), first, self._now(), number, paused=paused)
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

    def unreported(self, limit: int = 100) -> Sequence[str]:
        with self._lock:
            return list(self._graph.unreported)[:limit]

    def reported(self, job: str) -> None:
        with self._lock:
            self._graph.unreported.pop(job, None)

    def cancel(self, job: str) -> bool:
        with self._lock:
            found = self._graph.jobs.get(job)
            if found is None or not found.open:
                return False
            self._graph.cancel_job(found)
            return True

    def pause_job(self, job: str) -> bool:
        return self._set_paused(job, True)

    def resume_job(self, job: str) -> bool:
        return self._set_paused(job, False)

    def _set_paused(self, job: str, paused: bool) -> bool:
        with self._lock:
            found = self._graph.jobs.get(job)
            if found is None or not found.open:
                return False
            found.paused = paused
            if not paused:
                self._graph.ready.unpark(f"j|{job}")
            self._graph.pass_on_shared(found)
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
        return JobView(
            job.id,
            job.state,
            job.created,
            job.closed,
            job.record,
            counters,
            running,
            job.error,
            job.paused,
        )

    def _forget_old_jobs(self) -> None:
        limit = self._now() - self.rules.keep
        jobs = self._graph.jobs
        for name in [name for name, job in jobs.items() if job.closed is not None and job.closed < limit]:
            del jobs[name]
