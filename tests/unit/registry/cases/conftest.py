"""The world that every case runs in, and what must hold at the end of each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.network import Authority, make_authority
from tests.fakes.world import NAMES, World


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One certificate authority for all cases."""
    return make_authority(tmp_path_factory.mktemp("authority"), *NAMES)


@pytest.fixture
def world(tmp_path: Path, authority: Authority) -> Iterator[World]:
    """Servers, network and clients of one case; see `World`."""
    with contextlib.ExitStack() as stack:
        made = World(tmp_path, authority, stack)
        yield made
        made.closed()
