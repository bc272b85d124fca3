"""The table of sweeps: what each name of `[upkeep]` does, in bites (see `upkeep.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from distworker.blobstore.base import BlobStore
from distworker.registry.base import Registries
from distworker.service.jobs import Jobs
from distworker.service.upkeep import Sweep
from distworker.settings import Settings, UpkeepSettings

if TYPE_CHECKING:
    from distworker.state.ledger import RedisLedger


def intervals(settings: UpkeepSettings) -> Mapping[str, float]:
    """Seconds from one round to the next by the sweep's name; 0 for never."""
    return {name: float(seconds) for name, seconds in settings.model_dump().items()}


def build_sweeps(
    ledger: RedisLedger, store: BlobStore, registries: Registries, jobs: Jobs, settings: Settings
) -> Mapping[str, Sweep]:
    """Every sweep by its name."""
    return {}
