"""The two ledgers behind one fixture, and the four stores behind another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from distworker.blobstore.base import BlobStore
from distworker.blobstore.local import LocalStore
from distworker.blobstore.memory import MemoryStore
from distworker.blobstore.s3 import S3Store
from distworker.state.ledger import RedisLedger
from distworker.state.memory import MemoryLedger
from distworker.state.rules import Rules
from tests.contracts.ledger_world import World
from tests.contracts.stores import imitated_s3, real_s3

RULES = Rules()


@pytest.fixture
def memory_world() -> World:
    """A world on the in-memory model."""
    clock = [1_700_000_000.0]

    def move(seconds: float) -> None:
        clock[0] += seconds

    return World(MemoryLedger(RULES, lambda: clock[0]), move, RULES)


@pytest.fixture
def redis_world(redis_url: str) -> Iterator[World]:
    """A world on a real server."""
    clock = [1_700_000_000.0]
    ledger = RedisLedger(redis_url, rules=RULES, clock=lambda: clock[0])

    def move(seconds: float) -> None:
        clock[0] += seconds

    yield World(ledger, move, RULES)
    ledger.close()


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.servers)])
def world(request: pytest.FixtureRequest) -> World:
    """A contract test runs once on each of them."""
    found = request.getfixturevalue(f"{request.param}_world")
    assert isinstance(found, World)
    return found


_S3 = ("moto", pytest.param("s3", marks=pytest.mark.servers))


@pytest.fixture(params=["memory", "folder", *_S3])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlobStore]:
    """Each adapter in turn, empty."""
    if request.param == "memory":
        yield MemoryStore()
    elif request.param == "folder":
        yield LocalStore(tmp_path / "store")
    else:
        yield from s3_of(request)


@pytest.fixture(params=_S3)
def s3(request: pytest.FixtureRequest) -> Iterator[S3Store]:
    """The S3 adapter, imitated and real, empty."""
    yield from s3_of(request)


def s3_of(request: pytest.FixtureRequest) -> Iterator[S3Store]:
    """The one that the test's parameter names."""
    if request.param == "moto":
        return imitated_s3()
    return real_s3(request.getfixturevalue("s3_options"))
