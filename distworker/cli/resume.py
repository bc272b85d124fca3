"""`distworker resume JOB` and `distworker resume --origin HOST`."""

from __future__ import annotations

import json

import click

from distworker.cli import options, report, work
from distworker.cli.pause import say_origin


@click.command("resume", short_help="Let a paused job or registry go on.")
@options.held
@options.as_json
@options.common
def command(job: str | None, origin: str | None, as_json: bool) -> int:
    """Let JOB go on, or everything at a registry, after `distworker pause`.

    \b
    Examples:
      distworker resume 20261123-7f3kq2xm
      distworker resume --origin registry.example.com
    """
    wanted = options.one_of(job, origin)
    with work.fleet(work.settings(options.current())) as jobs:
        if origin is not None:
            text = "goes on" if jobs.resume_origin(wanted) else "was not paused by anybody"
            return say_origin(wanted, False, as_json, f"{wanted} {text}")
        resumed = jobs.resume(wanted)
        view, _ = jobs.find(wanted)
    if as_json:
        click.echo(json.dumps({"event": "job", **report.job_record(view)}, ensure_ascii=False))
    elif resumed:
        click.echo(f"job {wanted} goes on: {report.images_text(view)}")
    else:
        click.echo(f"job {wanted} was over already: {view.state}, {report.images_text(view)}")
    return report.OK
