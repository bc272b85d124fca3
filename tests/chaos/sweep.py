"""The product's own sweep of leftovers, as it will be in two hours: it spares what is younger than one.

The workers sweep on schedule as well, and find nothing old enough within a run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from distworker import names
from distworker.service.adapters import build_ledger, build_registries, build_sessions, build_store
from distworker.settings import load
from distworker.steps.sweep import GRACE, sweep_leftovers


def sweep_ahead(config: Path) -> Mapping[str, int]:
    """Sweep with a clock that is two hours ahead; how many of each kind were taken back."""
    found = load(config)
    ledger, store = build_ledger(found.settings), build_store(found.settings)
    registries = build_registries(found)

    def open_steps() -> Iterator[str]:
        return (step for step, _ in ledger.open_steps(names.UPLOAD + names.DOWNLOAD))

    try:
        return sweep_leftovers(
            store,
            build_sessions(found.settings, ledger),
            registries,
            open_steps,
            tenants=[names.TENANT],
            now=lambda: time.time() + 2 * GRACE,
        )
    finally:
        registries.close()
        store.close()
        ledger.close()
