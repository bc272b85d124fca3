"""`distworker stuck`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
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
        steps = [each for each in overdue if not any(why in each.reason for why in OF_THE_WHOLE)]
        rows = [*_fleet_rows(jobs), *map(_row, steps)]
    if as_json:
        for row in rows:
            click.echo(json.dumps({"event": "stuck", "v": VERSION, **row}, ensure_ascii=False))
    elif rows:
        _show(rows)
        if len(overdue) == limit:
            click.echo(f"these are the first {limit}; --limit shows more")
    else:
        click.echo("nothing is stuck")
    return report.SOME_FAILED if rows else report.OK


def _fleet_rows(jobs: Jobs) -> Sequence[dict[str, Any]]:
    """Jobs for which nobody is there, and registries that somebody holds."""
    rows = []
    workers = jobs.workers()
    waiting = [view for view in jobs.recent(JOBS) if not report.is_over(view)]
    if waiting and not any(worker.slots > 0 for worker in workers):
        why = "every worker is stopping" if workers else "no worker is alive"
        rows += [_job_row(view, why, START) for view in waiting]
    rows += [
        _job_row(view, "an operator paused the job", f"distworker resume {view.id}")
        for view in waiting
        if view.paused
    ]
    for origin in jobs.paused_origins():
        why, remedy = "an operator paused the registry", f"distworker resume --origin {origin}"
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


def _show(rows: Sequence[dict[str, Any]]) -> None:
    from distworker.cli import render  # noqa: PLC0415 - rich is needed here only

    now = time.time()
    render.table(
        ("STATE", "FOR", "JOB", "WHAT", "WHY", "WHAT TO DO"),
        [
            (
                row["state"],
                report.duration(now - row["since"]) if row["since"] else "",
                row["job"],
                clean(row["what"], 80),
                clean(row["reason"], 200),
                clean(row["remedy"], 200),
            )
            for row in rows
        ],
    )
