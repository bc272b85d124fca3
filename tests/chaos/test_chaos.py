"""A migration of a hundred images while everything around it breaks: all arrive, nothing is left behind.

A run of minutes is `make chaos`; this one is short and has the same kinds of faults, each of them once.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.demo.servers import Swift
from tests.chaos.content import MIB
from tests.chaos.plan import FAULTS, LEAST_KILLS
from tests.chaos.run import Chaos, Size
from tests.chaos.site import Site

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]

#: Names another short run; what a failing run prints.
SEED = os.environ.get("SEED") or "short"


def test_a_migration_survives_every_fault(
    swift: Swift, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing lost, nothing wrong, no tag early or moved back, and nothing left after the sweep."""
    with Site(tmp_path, venv=swift.venv) as site:
        site.start_fleet()
        chaos = Chaos(site, SEED, LEAST_KILLS + 2, rounds=1, size=Size(doomed=12, large=MIB), pace=0.35)
        report = chaos.run()
        logs = site.logs() if report.findings else ""
    with capsys.disabled():
        print(f"\n{report.text()}")
    again = f"repeat it by: SEED={SEED} python -m pytest tests/chaos/test_chaos.py"
    assert not report.findings, f"{again}\n{report.text()}\n{logs}"
    assert {kind for kind in FAULTS if not report.faults.get(kind)} == set(), again
    assert report.images >= 100
    assert any(kill["steps"] for kill in report.recovered), f"no kill hit a running step; {again}"
