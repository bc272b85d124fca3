"""`distworker pull REF`."""

from __future__ import annotations

from typing import Any

import click

from distworker.cli import options
from distworker.cli.start import start


@click.command("pull", short_help="Bring an image into the store.")
@click.argument("reference", metavar="REF")
@options.selection
@options.job
@options.common
def command(reference: str, all_tags: bool, platforms: tuple[str, ...], **how: Any) -> int:
    """Bring an image, or all tags of a repository, from its registry into the store.

    The store keeps it under its own name, so that `distworker push REF` sends it back or elsewhere later,
    also when the registry it came from is gone.

    \b
    Examples:
      distworker pull alpine:3.20
      distworker pull --all-tags quay.io/team/app
      distworker pull --local --store ./images alpine:3.20
    """
    return start({"kind": "pull", "source": reference, **options.selected(all_tags, platforms)}, **how)
