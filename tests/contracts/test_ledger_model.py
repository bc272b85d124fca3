"""The Lua against the reference model, and both against their invariants, in seeded storms of calls."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distworker.state.keys import STANDING
from distworker.state.ledger import RedisLedger
from distworker.state.memory import MemoryLedger
from distworker.state.rules import Rules
from tests.contracts.ledger_storm import IMAGES, Clock, Storm

#: Answers outlive the storm: on the server they go by real time, in the model by the test's clock.
RULES = Rules(attempts=3, runs=6, rounds=2, batch=100, answer=1e6)


def check_accounts(storm: Storm) -> None:
    """Every job is closed, each of its images exactly once, and the counters say the same."""
    for job in storm.jobs:
        view = storm.ledgers[0].job(job)
        assert view is not None
        assert view.closed is not None, f"seed {storm.seed}: {job} hangs"
        outcomes = storm.ledgers[0].outcomes(job)
        assert len({o["image"] for o in outcomes}) == len(outcomes)
        for state in ("done", "failed", "unchanged", "cancelled"):
            assert view.counters.get(state, 0) == sum(o["state"] == state for o in outcomes)
        if view.state == "done":
            assert len(outcomes) == IMAGES
        assert (view.counters["open"], view.running) == (0, {})


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_no_storm_leaves_anything_behind_in_the_model(seed: int) -> None:
    """No step without a way to be run, no slot leaked, no barrier that never empties."""
    clock = Clock()
    ledger = MemoryLedger(RULES, clock)
    storm = Storm([ledger], clock, seed)
    storm.run(250)
    storm.calm()
    check_accounts(storm)
    graph = ledger._graph
    assert (graph.steps, graph.use, graph.flying, graph.layers_flying) == ({}, {}, {}, 0)
    assert not any(graph.ready.rings.values())


@pytest.mark.servers
@pytest.mark.parametrize("seed", range(12))
def test_the_lua_and_the_model_agree_under_a_storm(redis_url: str, seed: int) -> None:
    """Every answer of every call is equal, and afterwards no record without a TTL is left on the server."""
    clock = Clock()
    redis = RedisLedger(redis_url, rules=RULES, clock=clock)
    storm = Storm([MemoryLedger(RULES, clock), redis], clock, seed)
    storm.run(300)
    storm.calm()
    check_accounts(storm)
    client = redis.redis.client
    standing = {redis.redis.key(name) for name in STANDING}
    assert sorted(str(k) for k in client.scan_iter() if client.ttl(k) < 0 and k not in standing) == []
    redis.close()
