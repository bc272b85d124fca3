"""`distworker usage`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from distworker.cli import options, report, storetext, work

if TYPE_CHECKING:
    from distworker.care.usage import Sum, Usage


@click.command("usage", short_help="Say what the store holds.")
@options.stored
@options.common
def command(as_json: bool, local: bool, store: Path | None) -> int:
    """Show what the store holds: blobs and bytes, how much of it images need, and each repository's part.

    UNIQUE bytes become unused when all images of that repository are forgotten; SHARED ones other
    repositories need as well.

    \b
    Examples:
      distworker usage
      distworker usage --json
    """
    from distworker.care.usage import usage  # noqa: PLC0415 - keeps --help quick

    with work.care(work.settings(options.current()), local, store) as care:
        found = usage(care.store, care.tenant)
        where = care.store.describe()
    if as_json:
        _events(found)
    else:
        _table(found, where)
    return report.OK


def _events(found: Usage) -> None:
    for each in found.repositories:
        storetext.event("repository", asdict(each))
    record = {name: value for name, value in asdict(found).items() if name != "repositories"}
    storetext.event("usage", record)


def _table(found: Usage, where: str) -> None:
    from distworker.cli import render  # noqa: PLC0415 - rich is needed here only

    if found.repositories:
        rows = [
            (
                each.name,
                str(each.refs) + (f" ({each.damaged} damaged)" if each.damaged else ""),
                report.size(each.unique),
                report.size(each.shared),
            )
            for each in found.repositories
        ]
        render.table(("REPOSITORY", "IMAGES", "UNIQUE", "SHARED"), rows)
        click.echo()
    click.echo(where)
    click.echo(f"blobs         {_text(found.blobs)} for {storetext.many(found.refs, 'image')}")
    click.echo(f"  needed      {_text(found.referenced)}")
    click.echo(f"  unused      {_text(found.unreferenced)}")
    click.echo(f"unfinished    {_text(found.unfinished)}")
    click.echo(f"quarantine    {_text(found.quarantine)}")
    click.echo(f"jobs' records {_text(found.jobs)}")


def _text(part: Sum) -> str:
    return f"{part.count}, {report.size(part.bytes)}"
