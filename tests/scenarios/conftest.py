"""Fleets for scenarios."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.servers import DockerRegistry, Valkey
from distworker.blobstore.s3 import S3Options
from tests.scenarios.fleet import Fleet


@pytest.fixture
def new_fleet(tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """Makes installations with a Valkey of their own; `store` is a `[store]` table, a folder unless given."""
    made: list[Fleet] = []

    def make(store: str = "", **options: Any) -> Fleet:
        folder = tmp_path / f"fleet{len(made)}"
        valkey = Valkey(folder / "valkey").start()
        table = store or f'[store]\nkind = "local"\nfolder = "{folder / "store"}"\n'
        made.append(Fleet(folder, valkey, table, **options))
        return made[-1]

    yield make
    for fleet in made:
        fleet.stop()
        fleet.valkey.stop()


@pytest.fixture
def fleet(new_fleet: Callable[..., Fleet]) -> Fleet:
    """An installation whose store is a folder."""
    return new_fleet()


@pytest.fixture
def s3_fleet(new_fleet: Callable[..., Fleet], s3_options: S3Options) -> Fleet:
    """An installation whose store is the real S3 server."""
    return new_fleet(s3_table(s3_options))


@pytest.fixture
def ends(new_registry: Callable[..., DockerRegistry]) -> tuple[DockerRegistry, DockerRegistry]:
    """A source and a destination."""
    return new_registry(), new_registry()


def s3_table(options: S3Options) -> str:
    """The `[store]` table that says what `options` say."""
    keys = ("endpoint", "bucket", "prefix", "access_key", "secret_key")
    return '[store]\nkind = "s3"\n' + "".join(f'{key} = "{getattr(options, key)}"\n' for key in keys)
