"""`distworker scrub`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from distworker.cli import options, report, storetext, work

if TYPE_CHECKING:
    from distworker.care.scrub import Damaged
    from distworker.service.care import Care

#: Seconds between two looks at the bar.
_BITE = 1.0
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?(?:/s)?")
_UNITS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@click.command("scrub", short_help="Read the store again and put aside what is damaged.")
@click.option(
    "--rate", metavar="BYTES", help="Bytes a second, such as 50M; 0: no limit. Otherwise care.scrub_rate."
)
@click.option("--all", "anew", is_flag=True, help="Begin anew, not where the last one stopped.")
@options.stored
@options.common
def command(rate: str | None, anew: bool, as_json: bool, local: bool, store: Path | None) -> int:
    """Read every blob of the store and compare it with its digest, then see whether each image is whole.

    What is damaged goes to the quarantine, and a job brings the images that need it again. Stopped, it goes
    on where it was. Beside running jobs it harms nothing. Exit code 1 when an image is not whole.

    \b
    Examples:
      distworker scrub
      distworker scrub --rate 200M --all
    """
    limit = None if rate is None else _bytes(rate)
    with work.care(work.settings(options.current()), local, store) as care:
        return _scrub(care, limit, anew, as_json)


def _bytes(text: str) -> int:
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise click.UsageError(f"--rate {text}: expected bytes a second, such as 50M")
    return int(float(match[1]) * _UNITS[match[2]])


def _scrub(care: Care, rate: int | None, anew: bool, as_json: bool) -> int:
    from distworker.blobstore.keys import blobs_prefix  # noqa: PLC0415 - keeps --help quick

    scrubber = care.scrubber(rate)
    total = sum(found.size for found in care.store.list(blobs_prefix(care.tenant)))
    told: dict[str, Damaged] = {}
    jobs: list[str] = []
    with storetext.Progress("scrub") as progress:
        done = scrubber.bite(_BITE, anew=anew)
        while True:
            new = [each for each in done.damaged if each.ref.name not in told]
            told |= {each.ref.name: each for each in new}
            jobs += care.mend(new) if new else []
            if done.finished:
                break
            text = f"{report.size(done.bytes)} of {report.size(total)}, {done.bad} damaged"
            progress.at(text, done.bytes / total if total else None)
            done = scrubber.bite(_BITE)
    for each in told.values():
        if as_json:
            digest = None if each.digest is None else str(each.digest)
            storetext.event("damaged", {"ref": each.ref.name, "digest": digest, "message": each.reason})
        else:
            click.echo(f"not whole: {each.ref.name}: {each.reason}")
    if as_json:
        storetext.event("scrub", {**done.counts(), "jobs": jobs})
    else:
        _say(done.blobs, done.bytes, done.bad, done.refs, len(told), jobs)
    return report.SOME_FAILED if told else report.OK


def _say(blobs: int, size: int, bad: int, refs: int, damaged: int, jobs: list[str]) -> None:
    put = f"{storetext.many(bad, 'damaged one')} put into the quarantine"
    click.echo(f"read {storetext.many(blobs, 'blob')}, {report.size(size)}: {put if bad else 'all are good'}")
    click.echo(f"{storetext.many(refs, 'image')}, {f'{damaged} not whole' if damaged else 'all whole'}")
    for job in jobs:
        click.echo(f"job {job} brings what is missing: distworker status {job} --follow")
    if damaged and not jobs:
        click.echo("pull or import what is not whole again")
