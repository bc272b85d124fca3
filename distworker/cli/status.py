"""`distworker status [JOB]`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from distworker.cli import options, report, upkeep, work
from distworker.cli.follow import follow, interruptible
from distworker.cli.pause import origin_record, resume_of
from distworker.cli.start import left
from distworker.state.base import FAILED, JobView, WorkerView

if TYPE_CHECKING:
    from distworker.state.turns import TurnView

#: Failures shown to a person; `--json` gives all of them.
FAILURES_SHOWN = 20


@click.command("status", short_help="List jobs, or show one.")
@click.argument("job", metavar="[JOB]", required=False)
@click.option("--follow", "follow_it", is_flag=True, help="With JOB: watch it until it is over.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Jobs in the list."
)
@options.as_json
@options.common
def command(job: str | None, follow_it: bool, limit: int, as_json: bool) -> int:
    """List the newest jobs and the last round of each sweep, or show JOB: state, images, bytes moved and
    saved, running steps and failures.

    With --follow the exit code is that of the job, otherwise 0 when the job is known.

    \b
    Examples:
      distworker status
      distworker status 20261123-7f3kq2xm
      distworker status --follow 20261123-7f3kq2xm
      distworker status --json 20261123-7f3kq2xm
    """
    if follow_it and not job:
        raise click.UsageError("--follow needs a JOB; `distworker status` lists them")
    with interruptible(), work.fleet(work.settings(options.current())) as jobs:
        if not job:
            return _list(jobs.recent(limit), jobs.upkeep(), jobs.paused_origins(), as_json)
        view, outcomes = jobs.find(job)
        if not follow_it:
            return _one(view, outcomes, as_json)
        from distworker.cli import render  # noqa: PLC0415 - rich is needed here only

        watched = Ended(view, outcomes) if report.is_over(view) else jobs
        try:
            return follow(watched, job, render.choose(as_json))
        except KeyboardInterrupt:
            click.echo(left(job), err=True)
            return report.INTERRUPTED


def _list(views: Sequence[JobView], turns: Sequence[TurnView], paused: Sequence[str], as_json: bool) -> int:
    from distworker.cli import render  # noqa: PLC0415 - rich is needed here only

    if as_json:
        for view in views:
            _event("job", report.job_record(view))
        for turn in turns:
            _event("upkeep", upkeep.record(turn))
        for origin in paused:
            click.echo(json.dumps(origin_record(origin, True), ensure_ascii=False))
        return report.OK
    if views:
        render.table(
            ("JOB", "STATE", "CLOSED", "FAILED", "MOVED", "SAVED", "CREATED", "WHAT"), [*map(_row, views)]
        )
    else:
        click.echo("no jobs yet; `distworker copy SRC DST` makes one")
    for origin in paused:
        click.echo(f"paused  everything at {origin}; resume: {resume_of(origin)}")
    if turns:
        click.echo()
        render.table(upkeep.HEADINGS, [upkeep.row(turn) for turn in turns])
    return report.OK


def _row(view: JobView) -> tuple[str, ...]:
    count, record = view.counters, view.record
    pairs = int(record.get("pairs", 1))
    what = f"{record.get('kind', '')} {record.get('source', '')} → {record.get('destination', '')}"
    return (
        view.id,
        report.state_text(view),
        f"{report.closed_images(view)} of {count.get('total', 0) or '?'}",
        str(count.get(FAILED, 0)),
        report.size(report.moved_total(view)),
        report.size(report.saved_total(view)),
        report.moment(view.created),
        what + (f" and {pairs - 1} more" if pairs > 1 else ""),
    )


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that is over, as something to watch: Redis may have forgotten it."""

    it: JobView
    closed: Iterator[Mapping[str, Any]]

    def view(self, job: str) -> JobView:
        return self.it

    def outcomes(self, job: str, start: int = 0) -> Iterator[Mapping[str, Any]]:
        return self.closed

    def workers(self) -> Sequence[WorkerView]:
        return ()


def _one(view: JobView, outcomes: Iterator[Mapping[str, Any]], as_json: bool) -> int:
    if as_json:
        _event("job", {**report.job_record(view), "running": report.running_records(view)})
        for outcome in outcomes:
            _event("image", report.image_record(view.id, outcome))
        return report.OK
    failures = [outcome for outcome in outcomes if outcome.get("state") == FAILED]
    for line in report.final_lines(view, failures[:FAILURES_SHOWN]):
        click.echo(line)
    if len(failures) > FAILURES_SHOWN:
        click.echo(f"and {len(failures) - FAILURES_SHOWN} more failed; --json lists all")
    for line in report.running_lines(view):
        click.echo(line)
    return report.OK


def _event(name: str, record: dict[str, Any]) -> None:
    click.echo(json.dumps({"event": name, **record}, ensure_ascii=False))
