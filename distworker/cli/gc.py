"""`distworker gc`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from distworker.cli import options, report, storetext, work

if TYPE_CHECKING:
    from distworker.service.care import Care

#: Seconds between two looks at Ctrl-C and the bar.
_BITE = 5.0
_HOUR = 3600.0


@click.command("gc", short_help="Delete from the store what nothing needs.")
@click.option("--dry-run", is_flag=True, help="List what would be deleted, and how much; change nothing.")
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    metavar="HOURS",
    help="Hours since a former run found a blob unused; otherwise the setting care.gc_grace.",
)
@options.stored
@options.common
def command(dry_run: bool, grace: float | None, as_json: bool, local: bool, store: Path | None) -> int:
    """Delete blobs that no image in the store and no running job needs.

    A first run only marks them; one that comes at least the grace later (24 hours unless set) deletes those
    that are still unused. Images that are only copied pass through the store and become unused; images that
    were pulled or imported stay until they are forgotten. May run beside anything and be stopped anywhere.
    Exit code 1 when an image of the store cannot be read: then nothing is deleted.

    \b
    Examples:
      distworker gc --dry-run
      distworker gc
    """
    seconds = None if grace is None else grace * _HOUR
    with work.care(work.settings(options.current()), local, store) as care:
        return _preview(care, seconds, as_json) if dry_run else _collect(care, seconds, as_json)


def _collect(care: Care, grace: float | None, as_json: bool) -> int:
    collector = care.collector(grace)
    with storetext.Progress("gc") as progress:
        while not (told := collector.bite(_BITE)).finished:
            progress.at(f"{storetext.many(told.blobs, 'blob')} looked at, {told.deleted} deleted")
    if as_json:
        storetext.event("gc", {**told.counts(), "broken": told.broken, "unreadable": told.unreadable})
    else:
        click.echo(f"deleted {storetext.many(told.deleted, 'blob')}, {report.size(told.freed)}")
        click.echo(
            f"marked {storetext.many(told.marked, 'blob')}, {report.size(told.marked_bytes)}: they go with a"
            " later run, after their grace, if nothing needs them by then"
        )
    return _refs(told.broken, told.unreadable, as_json)


def _preview(care: Care, grace: float | None, as_json: bool) -> int:
    from distworker.care.gc import DUE  # noqa: PLC0415 - keeps --help quick

    told, candidates = care.collector(grace).preview()
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for each in candidates:
        counts[each.verdict] += 1
        sizes[each.verdict] += each.size
        if as_json:
            record = {"digest": each.digest, "size": each.size, "state": each.verdict}
            storetext.event("candidate", {**record, "since": each.since or None})
        elif each.verdict == DUE:
            click.echo(f"{each.digest}  {report.size(each.size)}")
    waiting, waiting_size = sum(counts.values()) - counts[DUE], sum(sizes.values()) - sizes[DUE]
    if as_json:
        record = {"due": counts[DUE], "due_bytes": sizes[DUE], "waiting": waiting}
        record |= {"waiting_bytes": waiting_size, "broken": told.broken, "unreadable": told.unreadable}
        storetext.event("gc", {**record, "dry_run": True})
    else:
        click.echo(f"would delete {storetext.many(counts[DUE], 'blob')}, {report.size(sizes[DUE])}")
        click.echo(
            f"{storetext.many(waiting, 'blob')} more, {report.size(waiting_size)}, are unused but not yet for"
            " long enough"
        )
    return _refs(told.broken, told.unreadable, as_json)


def _refs(broken: list[str], unreadable: list[str], as_json: bool) -> int:
    if not as_json:
        for name in broken:
            click.echo(f"not whole: {name}; `distworker scrub` brings it again", err=True)
        for text in unreadable:
            click.echo(f"cannot be read: {text}", err=True)
        if unreadable:
            click.echo("nothing is deleted as long as an image cannot be read: pull or forget it", err=True)
    return report.SOME_FAILED if unreadable else report.OK
