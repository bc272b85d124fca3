"""What a command did: its exit code and what it printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.unit.cli.fake_jobs import FakeJobs


@dataclass
class Ran:
    """A command line that was run; `events` are the lines of `--json`."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """One for each line of stdout."""
        return [json.loads(line) for line in self.out.splitlines()]


#: Runs the words of a command line.
Command: TypeAlias = Callable[..., Ran]
#: Makes these jobs the ones that commands work with.
Fleet: TypeAlias = Callable[[FakeJobs], FakeJobs]
