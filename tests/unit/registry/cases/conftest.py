"""The world that every case runs in, and what must hold at the end of each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.network import Authority
from tests.fakes.world import World


@pytest.fixture
def world(tmp_path: Path, authority: Authority) -> Iterator[World]:
    """Servers, network and clients of one case; see `World`."""
    with contextlib.ExitStack() as stack:
        made = World(tmp_path, authority, stack)
        yield made
        made.closed()
