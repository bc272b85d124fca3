"""`distworker stuck`."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from distworker.cli import options, report, work
from distworker.errors import clean
from distworker.names import VERBS, VERSION, kind_of

if TYPE_CHECKING:
    from distworker.service.jobs import Jobs
    from distworker.state.base import JobView, Overdue

#: Rows asked of the ledger.
LIMIT: Final = 100
START: Final = "start a worker: celery -A tasks worker"
#: How the ledger's reasons begin (or, after the name of a job or registry, go on) → what to do about it.
REMEDIES: Final = {
    "its lease ran out": "nothing: another worker takes it; see the log of this one for why",
    "no worker has taken": "see whether workers read this broker and its queues: distworker doctor",
    "runs again at": "nothing: it is tried again by itself",
    "is paused by an operator": "distworker resume, with --origin for a registry",
    "asked for a pause": "nothing: the registry said when; a login or a mirror may be allowed more",
    "memory of Redis": "wait until images close, or raise Redis's maxmemory",
    "no worker is alive": START,
    "waits for": "look at the step it waits for",
    "it is over": "nothing: its end is being told",
    "it was written by a newer": "update the workers",
}
WAITS: Final = "waits for "
#: Reasons that are one line for the whole job or registry here.
OF_THE_WHOLE: Final = ("is paused by an operator", "no worker is alive")
#: Open jobs that are looked at for want of workers.
JOBS: Final = 1000


@click.command("stuck", short_help="What is late or held up, and why.")
@click.option("--limit", type=click.IntRange(1, 1000), default=LIMIT, show_default=True, help="Steps shown.")
@options.as_json
@options.common
def command(limit: int, as_json: bool) -> int:
    """List what is late or held up: since when, why, and what to do about it.

    Exit code 0 when nothing is, otherwise 1. Everything listed goes on by itself once its reason is gone,
    unless it says that somebody paused it.

    \b
    Examples:
      distworker stuck
      distworker stuck --json
    """
    with work.fleet(work.settings(options.current())) as jobs:
        overdue = jobs.overdue(limit)
        steps, whole = _apart(overdue)
        rows = [*_fleet_rows(jobs, whole), *map(_row, steps)]
    if as_json:
        for row in rows:
            click.echo(json.dumps({"event": "stuck", "v": VERSION, **row}, ensure_ascii=False))
    elif rows:
        now = time.time()
        for row in rows:
            click.echo("\n".join(_lines(row, now)))
        if len(overdue) == limit:
            click.echo(f"these are the first {limit}; --limit shows more")
    else:
        click.echo("nothing is stuck")
    return report.SOME_FAILED if rows else report.OK


def _apart(overdue: Sequence[Overdue]) -> tuple[Sequence[Overdue], Counter[str]]:
    """Steps with a reason of their own; and for each reason that holds up a whole job or registry the number
    of steps that it holds up, those that wait for such a step too."""
    steps, whole, cause = [], Counter[str](), dict[str, str]()
    for each in overdue:  # who waits for a step comes after it
        reason = cause.get(each.reason.removeprefix(WAITS), each.reason)
        if any(why in reason for why in OF_THE_WHOLE):
            cause[each.id] = reason
            whole[reason] += 1
        else:
            steps.append(each)
    return steps, whole


def _fleet_rows(jobs: Jobs, whole: Mapping[str, int]) -> Sequence[dict[str, Any]]:
    """Jobs for which nobody is there, and jobs and registries that somebody holds."""

    def held(what: str) -> str:
        steps = whole.get(f"{what} is paused by an operator", 0)
        return f"; {steps} step{'' if steps == 1 else 's'} wait{'s' if steps == 1 else ''}" if steps else ""

    rows = []
    workers = jobs.workers()
    waiting = [view for view in jobs.recent(JOBS) if not report.is_over(view)]
    if waiting and not any(worker.slots > 0 for worker in workers):
        why = "every worker is stopping" if workers else "no worker is alive"
        rows += [_job_row(view, why, START) for view in waiting]
    rows += [
        _job_row(view, f"an operator paused it{held(f'job {view.id}')}", f"distworker resume {view.id}")
        for view in waiting
        if view.paused
    ]
    for origin in jobs.paused_origins():
        why = f"an operator paused it{held(f'origin {origin}')}"
        remedy = f"distworker resume --origin {origin}"
        rows.append(_record(f"registry {origin}", "", "paused", None, None, "", why, remedy))
    return rows


def _job_row(view: JobView, why: str, remedy: str) -> dict[str, Any]:
    state = "paused" if view.paused else view.state
    return _record(f"job {view.id}", view.id, state, view.created, None, "", why, remedy)


def _row(late: Overdue) -> dict[str, Any]:
    what = late.text or f"{VERBS.get(kind_of(late.id), 'step')} {late.id[2:]}"
    return _record(
        what, late.job, late.state, late.since, late.deadline, late.worker, late.reason, remedy(late), late.id
    )


def _record(
    what: str,
    job: str,
    state: str,
    since: float | None,
    deadline: float | None,
    worker: str,
    reason: str,
    to_do: str,
    step: str = "",
) -> dict[str, Any]:
    return {
        "what": what,
        "job": job,
        "step": step,
        "state": state,
        "since": since,
        "deadline": deadline,
        "worker": worker,
        "reason": reason,
        "remedy": to_do,
    }


def remedy(late: Overdue) -> str:
    """What to do about a step."""
    return next((text for why, text in REMEDIES.items() if why in late.reason), "")


def _lines(row: dict[str, Any], now: float) -> Iterator[str]:
    """A row for a person: what, why, and what to do, whole in any terminal."""
    age = report.duration(now - row["since"]) if row["since"] else ""
    job = f"  (job {row['job']})" if row["job"] and row["step"] else ""
    yield f"{row['state']:<8} {age:<12} {clean(row['what'], 200)}{job}"
    yield f"{'':<21} why  {clean(row['reason'], 400)}"
    yield f"{'':<21} do   {clean(row['remedy'], 200)}"
