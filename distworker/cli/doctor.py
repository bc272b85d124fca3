"""`distworker doctor`."""

from __future__ import annotations

import json

import click

from distworker.cli import options, report, work


@click.command("doctor", short_help="Check everything a fleet needs.")
@click.option("--brief", is_flag=True, help="Without the settings that have their default value.")
@options.as_json
@options.common
def command(brief: bool, as_json: bool) -> int:
    """Check settings, broker, Redis, store, workers and each registry of registries.toml.

    Shows each setting with where it came from (secrets masked), and for everything that is wrong what to do.
    The store is checked by writing, reading and deleting a probe. Exit code 3 when something is wrong.

    \b
    Examples:
      distworker doctor
      distworker doctor --config /etc/distworker --json
    """
    wrong = 0
    for check in work.examine(work.settings(options.current())):
        wrong += not check.ok
        if as_json:
            click.echo(json.dumps({"event": "check", "v": 1, **check.to_dict()}, ensure_ascii=False))
            continue
        if check.ok and check.detail.endswith("[default]") and brief:
            continue
        click.echo(f"{'ok ' if check.ok else 'NOT'}  {check.name}: {check.detail}")
        if check.remedy:
            click.echo(f"     → {check.remedy}")
    if not as_json:
        click.echo(f"{wrong} thing{'' if wrong == 1 else 's'} to put right" if wrong else "all well")
    return report.INFRASTRUCTURE if wrong else report.OK
