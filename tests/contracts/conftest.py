"""The two ledgers behind one fixture."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from distworker.state.ledger import RedisLedger
from distworker.state.memory import MemoryLedger
from distworker.state.rules import Rules
from tests.contracts.ledger_world import World

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
