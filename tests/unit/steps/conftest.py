"""Two registries and everything between them, in memory."""

from __future__ import annotations

import pytest

from tests.fakes.ports import Run, Site


@pytest.fixture
def run() -> Run:
    """A source, a destination, a store and a ledger."""
    return Run(Site("src.example"), Site("dst.example"))
