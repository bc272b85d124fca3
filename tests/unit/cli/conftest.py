"""Commands called in this process, over a fleet that plays a script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from distworker.cli import main, work
from tests.unit.cli.calls import Command, Fleet, Ran
from tests.unit.cli.fake_jobs import FakeJobs


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run one command line."""

    def call(*arguments: str) -> Ran:
        code = main.run(arguments)
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return call


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """Gives commands these jobs, whether they ask for a fleet or for this process."""

    def use(jobs: FakeJobs) -> FakeJobs:
        @contextmanager
        def opened(*_: Any) -> Iterator[FakeJobs]:
            yield jobs

        monkeypatch.setattr(work, "fleet", opened)
        monkeypatch.setattr(work, "local", opened)
        monkeypatch.setattr(work, "workers", lambda config: jobs.live)
        monkeypatch.setattr(work, "require_redis", lambda config: None)
        return jobs

    return use
