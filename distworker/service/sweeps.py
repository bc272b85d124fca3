"""The table of sweeps: what each name of `[upkeep]` does, in bites (see `upkeep.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from distworker.blobstore.base import BlobStore
from distworker.service.recover import sweep_lost
from distworker.service.reports import sweep_reports
from distworker.service.upkeep import Sweep
from distworker.settings import UpkeepSettings
from distworker.state.base import Ledger


def intervals(settings: UpkeepSettings) -> Mapping[str, float]:
    """Seconds from one round to the next by the sweep's name; 0 for never."""
    return {name: float(seconds) for name, seconds in settings.model_dump().items()}


def build_sweeps(ledger: Ledger, store: BlobStore, tenant: str, window: int) -> Mapping[str, Sweep]:
    """Every sweep by its name. `window`: images of a recovered job that are worked on at a time."""
    return {
        "reports": partial(sweep_reports, ledger, store, tenant),
        "lost_jobs": partial(sweep_lost, ledger, store, tenant, window),
    }
