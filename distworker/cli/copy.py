"""`distworker copy SRC DST`."""

from __future__ import annotations

from typing import Any

import click

from distworker.cli import options
from distworker.cli.start import start


@click.command("copy", short_help="Copy from registry to registry.")
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
@options.selection
@options.job
@options.common
def command(source: str, destination: str, all_tags: bool, platforms: tuple[str, ...], **how: Any) -> int:
    """Copy an image, or all tags of a repository, from registry SRC to registry DST.

    References are written as everywhere: host/repository:tag or host/repository@sha256:…; without a host it
    is docker.io. Without a tag SRC means `latest`, and DST takes the tag of SRC.

    \b
    Examples:
      distworker copy alpine:3.20 registry.example.com/mirror/alpine
      distworker copy --all-tags quay.io/team/app registry.example.com/team/app
      distworker copy --platform linux/amd64 --platform linux/arm64 debian:12 registry.example.com/debian
      distworker copy --local --plain-http localhost:5000 alpine:3.20 localhost:5000/alpine
    """
    fields = {"kind": "copy", "source": source, "destination": destination}
    return start({**fields, **options.selected(all_tags, platforms)}, **how)
