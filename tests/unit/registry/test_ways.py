"""Which way blobs go to an origin: words, facts and refusals."""

from __future__ import annotations

import pytest

from distworker.errors import ProtocolError
from distworker.limits import MIB
from distworker.registry.learned import MemoryFacts
from distworker.registry.outcomes import WayRefused
from distworker.registry.quirks import Quirks
from distworker.registry.waits import CHUNK_FLOOR, SAME_PLACE
from distworker.registry.ways import Ways

GIB = 1024 * MIB
SIZE = WayRefused(ProtocolError("413"), size=True)
WAY = WayRefused(ProtocolError("405"))


def ways(facts: MemoryFacts | None = None, **quirks: object) -> Ways:
    return Ways("reg.example", lambda: Quirks(**quirks), facts or MemoryFacts())  # type: ignore[arg-type]


def test_one_put_is_the_rule_up_to_what_is_known_to_pass() -> None:
    """Larger blobs go in chunks where a limit is known, from the table or from experience."""
    assert ways().choose(100 * GIB) == "monolithic"
    assert [ways(monolithic_max=10).choose(size) for size in (10, 11)] == ["monolithic", "chunked"]
    facts = MemoryFacts()
    facts.put("reg.example", "monolithic_max", "20")
    assert [ways(facts).choose(size) for size in (20, 21)] == ["monolithic", "chunked"]


@pytest.mark.parametrize(("own", "fact", "chunk"), [(16, 1, 5), (4, 1, 4), (4, 5, 5), (16, 6, 6), (1, 0, 1)])
def test_a_fact_makes_no_chunk_too_small_to_be_one(own: int, fact: int, chunk: int) -> None:
    """Facts are shared by all workers; only a table or an operator may ask for less than the floor (MiB)."""
    facts = MemoryFacts()
    if fact:
        facts.put("reg.example", "chunk_bytes", str(fact * MIB))
    assert ways(facts, chunk_bytes=own * MIB).chunk(0) == chunk * MIB


@pytest.mark.parametrize("mode", ["monolithic", "patch", "chunked"])
def test_a_word_is_final(mode: str) -> None:
    """Neither size nor refusal nor fact changes it."""
    facts = MemoryFacts()
    facts.put("reg.example", "upload_mode", "patch")
    made = ways(facts, upload_mode=mode, monolithic_max=10)
    assert made.choose(GIB) == mode
    assert made.after_breaks([6 * MIB, 6 * MIB]) == "monolithic"
    with pytest.raises(ProtocolError):
        made.instead(made.choose(GIB), WAY, GIB, [])


@pytest.mark.parametrize(
    ("way", "refusal", "tried", "next_way"),
    [
        ("monolithic", WAY, ["monolithic"], "patch"),
        ("monolithic", SIZE, ["monolithic"], "chunked"),
        ("patch", WAY, ["patch"], "chunked"),
        ("patch", SIZE, ["monolithic", "patch"], "chunked"),
        ("chunked", WAY, ["monolithic", "chunked"], "patch"),
        ("chunked", WAY, ["patch", "chunked"], "monolithic"),
        ("chunked", WAY, ["monolithic", "patch", "chunked"], None),
        ("chunked", SIZE, ["monolithic", "patch", "chunked"], None),
    ],
)
def test_a_refusal_leads_to_the_next_way(
    way: str, refusal: WayRefused, tried: list[str], next_way: str | None
) -> None:
    """Never to one that was tried; when none is left the registry's own error comes out."""
    made = ways()
    if next_way is None:
        with pytest.raises(ProtocolError):
            made.instead(way, refusal, GIB, tried)  # type: ignore[arg-type]
    else:
        assert made.instead(way, refusal, GIB, tried) == next_way  # type: ignore[arg-type]


def test_what_was_found_out_is_remembered_for_the_origin() -> None:
    """A refused way for every blob, a refused length for long ones only."""
    facts = MemoryFacts()
    ways(facts).instead("monolithic", SIZE, 100 * MIB, ["monolithic"])
    assert [ways(facts).choose(size) for size in (32 * MIB, 32 * MIB + 1)] == ["monolithic", "chunked"]
    assert ways(facts).chunk(0) == 32 * MIB
    ways(facts).instead("monolithic", SIZE, 20 * MIB, ["monolithic"])
    assert ways(facts).chunk(0) == 16 * MIB
    ways(facts).instead("monolithic", WAY, 1, ["monolithic"])
    assert ways(facts).choose(1) == "patch"
    assert Ways("other.example", Quirks, facts).choose(1) == "monolithic"


def test_chunks_are_halved_down_to_the_floor_and_no_further() -> None:
    """5 MiB, or what the registry wants at least."""
    made = ways(chunk_bytes=32 * MIB)
    sizes = [32 * MIB]
    while smaller := made.smaller(sizes[-1], 0):
        sizes.append(smaller)
    assert sizes == [32 * MIB, 16 * MIB, 8 * MIB, 5 * MIB]
    assert made.chunk(0) == 5 * MIB
    assert made.smaller(16 * MIB, 10 * MIB) == 10 * MIB
    assert made.smaller(10 * MIB, 10 * MIB) == 0


@pytest.mark.parametrize(
    ("places", "way", "most"),
    [
        ([50 * MIB], "monolithic", ""),
        ([50 * MIB, 51 * MIB], "chunked", str(32 * MIB)),
        ([20 * MIB, 21 * MIB], "chunked", str(16 * MIB)),
        ([10 * MIB, 90 * MIB], "chunked", ""),
        ([1000, 2000], "monolithic", ""),
    ],
)
def test_puts_that_break_off_twice_go_on_in_chunks(places: list[int], way: str, most: str) -> None:
    """At the same place it is a limit, which is remembered; small blobs break for other reasons."""
    facts = MemoryFacts()
    assert ways(facts).after_breaks(places) == way
    assert facts.get("reg.example", "monolithic_max") == most


@pytest.mark.parametrize("fact", ["upload_mode", "monolithic_max", "chunk_bytes", "range_is_stale"])
def test_facts_that_make_no_sense_change_nothing(fact: str) -> None:
    """They may come from a store that others write to."""

    class Odd:
        def get(self, origin: str, name: str) -> str:
            return "-1" if name == fact else ""

        def put(self, origin: str, name: str, value: str) -> None:
            raise AssertionError("nothing is to be remembered")

    made = Ways("reg.example", Quirks, Odd())
    assert (made.choose(GIB), made.chunk(0), made.stale_range) == ("monolithic", 32 * MIB, False)


@pytest.mark.parametrize(("size", "most"), [(16 * MIB, 8), (16 * MIB + 1, 16), (1, CHUNK_FLOOR // MIB)])
def test_what_was_too_long_is_halved_until_it_is_shorter(size: int, most: int) -> None:
    """Exactly that long is too long; below the floor nothing is halved."""
    facts = MemoryFacts()
    ways(facts, chunk_bytes=16 * MIB).too_long(size)
    assert facts.get("reg.example", "monolithic_max") == str(most * MIB)
    assert facts.get("reg.example", "chunk_bytes") == str(most * MIB)


@pytest.mark.parametrize(
    ("apart", "remembered"), [(SAME_PLACE, True), (SAME_PLACE + 1, False)], ids=["about-same", "elsewhere"]
)
def test_two_breaks_from_the_floor_on_lead_to_chunks(apart: int, remembered: bool) -> None:
    """At about the same place it is a rule of the way there, and is remembered."""
    facts = MemoryFacts()
    made = ways(facts)
    assert made.after_breaks([CHUNK_FLOOR + apart, CHUNK_FLOOR]) == "chunked"
    assert bool(facts.get("reg.example", "monolithic_max")) is remembered
    assert made.after_breaks([CHUNK_FLOOR - 1, CHUNK_FLOOR]) == "monolithic"
