"""`make live`: the client on registries of whoever runs it, with their accounts; not a part of `make test`.

`DISTWORKER_LIVE_IMAGES` names images to read, separated by blanks: each registry is pinged, the manifest
asked for, the first tags listed and the smallest blob read. `DISTWORKER_LIVE_PUSH` names a repository to
push a tiny artifact to; without it nothing is written anywhere. Logins come from the settings and from the
user's own files, as in a local run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

IMAGES, PUSH = "DISTWORKER_LIVE_IMAGES", "DISTWORKER_LIVE_PUSH"
_HELP = (
    f"make live: set {IMAGES} to images to read, such as"
    f' "docker.io/library/alpine:3.20 ghcr.io/you/app:1"; {PUSH} may name a repository to push to'
)


def main() -> int:
    """The exit code: pytest's, or 2 when there is nothing to try."""
    here = Path(__file__).parent
    files = [here / "live_reads.py"] if os.environ.get(IMAGES, "").split() else []
    files += [here / "live_push.py"] if os.environ.get(PUSH) else []
    if not files:
        print(_HELP, file=sys.stderr)
        return 2
    return int(pytest.main(["-v", "-p", "no:cacheprovider", *map(str, files)]))


if __name__ == "__main__":
    sys.exit(main())
