"""`distworker forget REF`."""

from __future__ import annotations

from pathlib import Path

import click

from distworker.cli import options, report, storetext, work


@click.command("forget", short_help="Give up an image that the store keeps.")
@click.argument("references", metavar="REF...", nargs=-1, required=True)
@click.option("--all-tags", is_flag=True, help="REF is a repository: all its tags.")
@options.stored
@options.common
def command(
    references: tuple[str, ...], all_tags: bool, as_json: bool, local: bool, store: Path | None
) -> int:
    """Take the image out of the store: what only it needed becomes unused, and `gc` deletes that later.

    Nothing happens at any registry.

    \b
    Examples:
      distworker forget alpine:3.19
      distworker forget --all-tags quay.io/team/app
    """
    from distworker.care.refs import forget  # noqa: PLC0415 - keeps --help quick
    from distworker.reference import Reference  # noqa: PLC0415

    found = [Reference.parse(text) for text in references]
    if not all_tags:
        found = [reference.with_default_tag() for reference in found]
    elif any(reference.version for reference in found):
        raise click.UsageError("--all-tags takes a repository without tag or digest")
    with work.care(work.settings(options.current()), local, store) as care:
        for reference in found:
            for name in forget(care.store, care.tenant, reference):
                if as_json:
                    storetext.event("forgotten", {"ref": name})
                else:
                    click.echo(f"forgotten: {name}")
    return report.OK
