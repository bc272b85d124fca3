"""The table of sweeps: what each name of `[upkeep]` does, in bites (see `upkeep.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from distworker import names
from distworker.service.recover import sweep_lost
from distworker.service.reports import sweep_reports
from distworker.service.runner import Equipment
from distworker.service.upkeep import Bite, Sweep
from distworker.settings_sections import UpkeepSettings
from distworker.state.base import Ledger
from distworker.steps.sweep import sweep_leftovers


def intervals(settings: UpkeepSettings) -> Mapping[str, float]:
    """Seconds from one round to the next by the sweep's name; 0 for never."""
    return {name: float(seconds) for name, seconds in settings.model_dump().items()}


def build_sweeps(ledger: Ledger, kit: Equipment, tenant: str, fleet: str) -> Mapping[str, Sweep]:
    """Every sweep by its name; `kit` is what the steps of this process work with, `fleet` is whose jobs the
    store's are."""
    store, window = kit.store, kit.window
    return {
        "leftovers": partial(_leftovers, ledger, kit, tenant),
        "reports": partial(sweep_reports, ledger, store, tenant),
        "lost_jobs": partial(sweep_lost, ledger, store, tenant, window, fleet),
    }


def _leftovers(ledger: Ledger, kit: Equipment, tenant: str, bite: Bite) -> tuple[Mapping[str, int], bool]:
    def open_steps() -> Iterator[str]:
        return (step for step, _ in ledger.open_steps(names.UPLOAD + names.DOWNLOAD))

    swept = sweep_leftovers(
        kit.store, kit.sessions, kit.registries, open_steps, tenants=[tenant], alive=bite.alive
    )
    return swept, False
