"""Upkeep of a real fleet: each sweep once when due, whoever rings and whoever dies; `status` shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.demo.servers import BeatScheduler
from tests.scenarios.fleet import Fleet, wait_for
from tests.scenarios.site import Site, site

pytestmark = pytest.mark.servers


def sweeps(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """What `status` says of each sweep."""
    events = fleet.run("status", "--json").events
    return {event["sweep"]: event for event in events if event["event"] == "upkeep"}


def rounds(fleet: Fleet, sweep: str, said: str) -> int:
    """How often the workers' logs have that sentence about a sweep."""
    return fleet.logs().count(f"{sweep}: {said}")


def scheduler(here: Site, name: str) -> BeatScheduler:
    return BeatScheduler(here.folder, name, here.fleet.settings).start()


def test_each_sweep_runs_once_when_due_with_two_schedulers_two_workers_and_with_none(tmp_path: Path) -> None:
    """The report of one job is kept once; killing the schedulers stops nothing."""
    every = "[upkeep]\nreports = 2\nlost_jobs = 2\nleftovers = 2\n"
    with site(tmp_path, f'[store]\nkind = "local"\nfolder = "{tmp_path / "store"}"\n{every}') as here:
        fleet = here.fleet
        fleet.start_workers(2)
        beats = [scheduler(here, "a"), scheduler(here, "b")]
        try:
            image = here.image("app", "one")
            ran = fleet.run("copy", image.reference, f"{here.destination.host}/app:1", "--json")
            assert ran.code == 0, ran.text
            job = ran.done["job"]
            wait_for(lambda: rounds(fleet, "reports", "1 reports") > 0, "the report is kept")
            for beat in beats:
                beat.kill9()
            before = sweeps(fleet)["lost_jobs"]["ended"]
            wait_for(lambda: sweeps(fleet)["lost_jobs"]["ended"] > before, "a worker rings itself", every=1.0)
        finally:
            for beat in beats:
                beat.stop()

        assert rounds(fleet, "reports", "1 reports") == 1
        shown = sweeps(fleet)
        assert shown["reports"]["error"] is None
        assert shown["reports"]["due"] > shown["reports"]["ended"]
        assert (tmp_path / "store/default/jobs" / job / "closed.json").is_file()
        table = fleet.run("status").out
        assert "SWEEP" in table
        assert "lost jobs" in table
