"""`distworker push REF [DST]`."""

from __future__ import annotations

from typing import Any

import click

from distworker.cli import options
from distworker.cli.start import start


@click.command("push", short_help="Send an image from the store.")
@click.argument("reference", metavar="REF")
@click.argument("destination", metavar="[DST]", required=False)
@options.selection
@options.job
@options.common
def command(
    reference: str, destination: str | None, all_tags: bool, platforms: tuple[str, ...], **how: Any
) -> int:
    """Send an image that was pulled as REF from the store to the registry DST, or back to where REF names it.

    \b
    Examples:
      distworker push alpine:3.20 registry.example.com/mirror/alpine:3.20
      distworker push registry.example.com/team/app:1.4
      distworker push --local --store ./images alpine:3.20 localhost:5000/alpine
    """
    fields = {"kind": "push", "source": reference, **options.selected(all_tags, platforms)}
    return start(fields | ({"destination": destination} if destination else {}), **how)
