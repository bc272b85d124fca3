"""`distworker retry JOB`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from distworker.cli import options, report, work
from distworker.cli.follow import follow, interruptible
from distworker.cli.start import detached, left
from distworker.names import VERSION

if TYPE_CHECKING:
    from distworker.service.retry import Retried


@click.command("retry", short_help="Run again what failed.")
@click.argument("job", metavar="JOB")
@click.option("--cancelled", is_flag=True, help="Also what was cancelled, or never reached.")
@click.option("--priority", type=click.IntRange(0, 9), help="0 (last) to 9 (first); as JOB unless given.")
@click.option("--detach", is_flag=True, help="Print the new job's id and leave, live worker or not.")
@options.as_json
@options.common
def command(job: str, cancelled: bool, priority: int | None, detach: bool, as_json: bool) -> int:
    """Make a new job of those images of JOB that failed, and watch it as `copy` does.

    JOB must be over. Images that arrived are left alone. A second retry while the first one runs leads to
    that one. Works as long as the store keeps JOB's folder, also when Redis has forgotten JOB.

    \b
    Examples:
      distworker retry 20261123-7f3kq2xm
      distworker retry --cancelled --detach 20261123-7f3kq2xm
    """
    from distworker.cli import render  # noqa: PLC0415 - rich is needed here only

    config = work.settings(options.current())
    if not detach:
        work.require_worker(config)
    with interruptible(), work.fleet(config) as jobs:
        made = jobs.retry(job, cancelled=cancelled, priority=priority)
        if not made.job:
            return _nothing(job, made, as_json)
        try:
            display = render.choose(as_json)
            images = f"has {made.images} image{'' if made.images == 1 else 's'}"
            what = "is running already" if made.joined else images
            display.notice(f"job {made.job}, the retry of {job}, {what}{_left_out(made)}")
            if detach:
                return detached(made.job, not work.workers(config), display, jobs.view(made.job))
            return follow(jobs, made.job, display)
        except KeyboardInterrupt:
            click.echo(left(made.job), err=True)
            return report.INTERRUPTED


def _nothing(job: str, made: Retried, as_json: bool) -> int:
    said = f"nothing failed in job {job}{_left_out(made)}"
    if as_json:
        record = {"event": "nothing", "v": VERSION, "job": job, "message": said}
        click.echo(json.dumps(record, ensure_ascii=False))
    else:
        click.echo(said)
    return report.OK


def _left_out(made: Retried) -> str:
    return f"; {made.left_out} cancelled are left out, --cancelled takes them too" if made.left_out else ""
