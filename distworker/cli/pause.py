"""`distworker pause JOB` and `distworker pause --origin HOST`."""

from __future__ import annotations

import json

import click

from distworker.cli import options, report, work
from distworker.names import VERSION


@click.command("pause", short_help="Hold a job or a registry.")
@options.held
@options.as_json
@options.common
def command(job: str | None, origin: str | None, as_json: bool) -> int:
    """Hold JOB, or everything at a registry: nothing of it is begun until it is resumed.

    What runs just now goes on to its end. A job stays paused also when Redis is lost and the job recovered.
    With --origin the registry is left alone by all jobs, as source and as destination.

    \b
    Examples:
      distworker pause 20261123-7f3kq2xm
      distworker pause --origin registry.example.com
    """
    wanted = options.one_of(job, origin)
    with work.fleet(work.settings(options.current())) as jobs:
        if origin is not None:
            jobs.pause_origin(wanted)
            return say_origin(wanted, True, as_json, f"{wanted} is paused; resume: {resume_of(wanted)}")
        held = jobs.pause(wanted)
        view, _ = jobs.find(wanted)
    if as_json:
        click.echo(json.dumps({"event": "job", **report.job_record(view)}, ensure_ascii=False))
    elif held:
        click.echo(f"job {wanted} is paused: {report.images_text(view)}; resume: distworker resume {wanted}")
    else:
        click.echo(f"job {wanted} was over already: {view.state}, {report.images_text(view)}")
    return report.OK


def resume_of(origin: str) -> str:
    """The command that lets a registry go on."""
    return f"distworker resume --origin {origin}"


def say_origin(origin: str, paused: bool, as_json: bool, text: str) -> int:
    """Tell how a registry stands now."""
    if as_json:
        click.echo(json.dumps(origin_record(origin, paused), ensure_ascii=False))
    else:
        click.echo(text)
    return report.OK


def origin_record(origin: str, paused: bool) -> dict[str, object]:
    """A registry for machines."""
    return {"event": "origin", "v": VERSION, "origin": origin, "paused": paused}
