"""`distworker cancel JOB`."""

from __future__ import annotations

import json

import click

from distworker.cli import options, report, work


@click.command("cancel", short_help="Stop a job.")
@click.argument("job", metavar="JOB")
@options.as_json
@options.common
def command(job: str, as_json: bool) -> int:
    """Stop JOB: images that are not closed yet are cancelled, running steps end at their next chunk.

    What is done stays done. Layers that another job wants as well go on for that one.

    \b
    Example:
      distworker cancel 20261123-7f3kq2xm
    """
    with work.fleet(work.settings(options.current())) as jobs:
        stopped = jobs.cancel(job)
        view, _ = jobs.find(job)
    if as_json:
        click.echo(json.dumps({"event": "job", **report.job_record(view)}, ensure_ascii=False))
    elif stopped:
        click.echo(f"job {job} {view.state}: {report.images_text(view)}")
    else:
        click.echo(f"job {job} was over already: {view.state}, {report.images_text(view)}")
    return report.OK
