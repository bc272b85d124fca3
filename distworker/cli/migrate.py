"""`distworker migrate FILE`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from distworker.cli import options, report
from distworker.cli.start import start
from distworker.names import VERSION


@click.command("migrate", short_help="Copy what a job file lists.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@options.job
@options.common
def command(file: Path, **how: Any) -> int:
    """Copy everything that the job file FILE lists, as one job.

    \b
    A job file:
      version: 1
      pairs:
        - source: alpine:3.20
          destination: registry.example.com/mirror/alpine:3.20
        - source: quay.io/team/app
          destination: registry.example.com/team/app
          all_tags: true
          platforms: [linux/amd64, linux/arm64]

    Every fault of the file is named with its line before anything starts. Images that are already at their
    destination are not moved again, so the same file can be run as often as you like.

    \b
    Examples:
      distworker migrate images.yaml
      distworker migrate --detach --priority 2 images.yaml
    """
    from distworker.cli import jobfile  # noqa: PLC0415 - YAML is needed here only

    found = jobfile.read(file)
    for fault in found.faults:
        click.echo(str(fault), err=True)
        if how["as_json"]:
            event = {"event": "error", "v": VERSION, **fault.to_dict(), "exit": report.USAGE}
            click.echo(json.dumps(event, ensure_ascii=False))
    return report.USAGE if found.faults else start(found.fields, **how)
