"""Facts about registries in one process, and before a store that all share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distworker.errors import StateUnavailable
from distworker.registry import learned
from distworker.registry.client import Client
from distworker.registry.learned import ASK_AGAIN, FACTS, KEPT, MemoryFacts, SharedFacts, checked
from distworker.registry.pool import RegistryPool

GOOD = {
    "upload_mode": "patch",
    "chunk_bytes": "4194304",
    "monolithic_max": "95000000",
    "range_is_stale": "yes",
    "mounts": "none",
    "head_manifests": "no",
    "referrers": "no",
}


class Clock:
    """Stands still until moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_every_fact_has_a_shape_and_a_life() -> None:
    """What is not in the table is nothing."""
    assert set(GOOD) == set(FACTS)
    for name, value in GOOD.items():
        assert checked(name, value) == value
        assert checked(f"{name}:team/app", value) == value
        assert 0 < learned.life(name) <= 86_400


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("upload_mode", "PATCH"),
        ("upload_mode", "patch\n"),
        ("chunk_bytes", "0"),
        ("chunk_bytes", "-1"),
        ("chunk_bytes", "9" * 13),
        ("chunk_bytes", "\u0663"),
        ("colour", "red"),
        ("upload_mode:" + "x" * 300, "patch"),
        ("upload_mode", ""),
    ],
)
def test_other_texts_are_no_facts(name: str, value: str) -> None:
    """Wrong, too long, too large."""
    assert checked(name, value) == ""


@given(st.text(), st.text())
def test_whatever_comes_back_is_a_fact_or_nothing(name: str, value: str) -> None:
    """The store is not trusted more than a registry."""
    assert checked(name, value) in ("", value)
    for known in FACTS:
        assert checked(known, value) in ("", value)


def test_a_fact_is_forgotten_after_its_life() -> None:
    """By a clock that nobody sets back."""
    clock = Clock()
    facts = MemoryFacts(clock)
    facts.put("r", "referrers", "no")
    facts.put("r", "upload_mode", "patch")
    clock.now += 301
    assert (facts.get("r", "referrers"), facts.get("r", "upload_mode")) == ("", "patch")


def test_memory_is_bounded() -> None:
    """The oldest goes first; what was written again is young."""
    facts = MemoryFacts()
    facts.put("r0", "upload_mode", "patch")
    for number in range(1, KEPT):
        facts.put(f"r{number}", "upload_mode", "patch")
    facts.put("r0", "upload_mode", "chunked")
    facts.put("new", "upload_mode", "patch")
    assert facts.get("r0", "upload_mode") == "chunked"
    assert facts.get("r1", "upload_mode") == ""
    assert facts.get("r2", "upload_mode") == "patch"


def test_a_name_that_is_no_fact_is_a_mistake_of_ours() -> None:
    """It would be forgotten silently."""
    with pytest.raises(KeyError):
        MemoryFacts().put("r", "colour", "red")


class Store:
    """A shared store in memory that counts, lies and fails on demand."""

    def __init__(self) -> None:
        self.facts: dict[tuple[str, str], str] = {}
        self.asked: list[str] = []
        self.away = False

    def get(self, origin: str, name: str) -> str:
        """See `Facts.get`."""
        self.asked.append(name)
        if self.away:
            raise StateUnavailable("away", phase="state")
        return self.facts.get((origin, name), "")

    def put(self, origin: str, name: str, value: str) -> None:
        """See `Facts.put`."""
        self.asked.append(name)
        if self.away:
            raise StateUnavailable("away", phase="state")
        self.facts[origin, name] = value


def test_the_store_is_asked_once_a_minute() -> None:
    """A known fact, and that nothing is known, both hold so long."""
    clock, store = Clock(), Store()
    facts = SharedFacts(store, clock)
    store.facts["r", "upload_mode"] = "patch"
    for _ in range(3):
        assert facts.get("r", "upload_mode") == "patch"
        assert facts.get("r", "mounts") == ""
    assert store.asked == ["upload_mode", "mounts"]
    clock.now += ASK_AGAIN
    store.facts["r", "upload_mode"] = "chunked"
    assert facts.get("r", "upload_mode") == "chunked"


def test_what_the_store_says_is_checked() -> None:
    """A text that the fact cannot have is nothing, and is not written either."""
    store = Store()
    facts = SharedFacts(store)
    store.facts["r", "upload_mode"] = "; DROP"
    assert facts.get("r", "upload_mode") == ""
    facts.put("r", "upload_mode", "nonsense")
    assert store.facts == {("r", "upload_mode"): "; DROP"}
    assert facts.get("r", "upload_mode") == ""


def test_own_facts_hold_while_the_store_is_away() -> None:
    """And it is left alone for a while."""
    clock, store = Clock(), Store()
    facts = SharedFacts(store, clock)
    store.away = True
    assert facts.get("r", "mounts") == ""
    facts.put("r", "upload_mode", "patch")
    assert facts.get("r", "upload_mode") == "patch"
    assert store.asked == ["mounts"]
    store.away = False
    clock.now += learned.AWAY
    facts.put("r", "mounts", "none")
    assert store.facts == {("r", "mounts"): "none"}


def test_all_clients_of_a_pool_share_one_memory() -> None:
    """What is given, or one that the pool makes."""
    facts = MemoryFacts()
    for pool, expected in ((RegistryPool(learned=facts), facts), (RegistryPool(), None)):
        clients = [pool.client(host) for host in ("a.example", "b.example")]
        memories = {id(client._learned) for client in clients if isinstance(client, Client)}
        assert len(memories) == 1
        assert expected is None or memories == {id(expected)}
        pool.close()
