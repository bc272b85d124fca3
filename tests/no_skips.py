"""A pytest plugin: where CI=true, a skipped or expected-to-fail test is a failed one.

A check that quietly did not run is worse than one that fails. `make test` loads it with `-p tests.no_skips`;
on a developer's machine it does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TypeVar

import pytest

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def refuse(report: Report) -> Report:
    """The report, failed if it was a skip and this is a CI run."""
    if report.skipped and os.environ.get("CI", "").lower() == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI=true does not allow: {report.longrepr}"
        # With this mark left on it pytest would list the failure among the expected ones.
        vars(report).pop("wasxfail", None)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Looks at each phase of each test."""
    return refuse((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Looks at modules that skip themselves as a whole."""
    return refuse((yield))
