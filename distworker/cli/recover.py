"""`distworker recover [JOB…]`."""

from __future__ import annotations

import json
from collections import Counter

import click

from distworker.cli import options, report, work
from distworker.errors import clean
from distworker.names import VERSION


@click.command("recover", short_help="Go on with jobs that a loss of Redis left behind.")
@click.argument("jobs", metavar="[JOB]...", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Say what would be opened again, and change nothing.")
@options.as_json
@options.common
def command(jobs: tuple[str, ...], dry_run: bool, as_json: bool) -> int:
    """Open again every unfinished job that the store knows and Redis does not, or only each JOB.

    Nothing that is in the store or at its destination moves again. Jobs that Redis knows, that are over, or
    that were cancelled are left alone, so this may run beside anything, and twice. A job for which nothing
    was written for a week is opened only when it is named.

    \b
    Examples:
      distworker recover --dry-run
      distworker recover
      distworker recover 20261123-7f3kq2xm
    """
    from distworker.service import recover  # noqa: PLC0415 - keeps --help quick

    seen: Counter[str] = Counter()
    with work.fleet(work.settings(options.current())) as fleet:
        for looked in fleet.recover(jobs, dry=dry_run):
            seen[looked.action] += 1
            if as_json:
                record = {"event": "recover", "v": VERSION, "job": looked.job, "action": looked.action}
                record |= {"message": looked.text, "paused": looked.paused, "dry_run": dry_run}
                click.echo(json.dumps(record, ensure_ascii=False))
            elif jobs or looked.action != recover.CLOSED:
                click.echo(f"{looked.action:<9} {looked.job}  {clean(looked.text)}")
    if not as_json:
        opened = f"{seen[recover.OPENED]} {'would be opened' if dry_run else 'opened'} again"
        more = [f"{count} {action}" for action, count in seen.items() if action != recover.OPENED]
        click.echo(", ".join([opened, *more]))
    wrong = seen[recover.BROKEN] + seen[recover.MISSING]
    return report.SOME_FAILED if wrong else report.OK
