"""The model of the ledger keeps its promises in every history of a small world, whatever goes wrong where."""

from __future__ import annotations

import dataclasses

import pytest

from tests.explore.explorer import Explorer, planned
from tests.explore.layouts import LAYOUTS


@pytest.mark.parametrize(
    ("name", "budget"), [("one image", 1), ("one layer of two jobs", 0), ("image by image", 0)], ids=str
)
def test_no_history_of_a_whole_job_breaks_a_promise(name: str, budget: int) -> None:
    """From the opening to the end, every interleaving with so many faults."""
    explorer = Explorer(LAYOUTS[name], budget)
    explorer.run()
    assert explorer.complete
    assert explorer.endings


@pytest.mark.parametrize("name", ["one layer of two jobs", "a later job comes first"])
def test_no_history_of_shared_layers_breaks_a_promise(name: str) -> None:
    """From the moment at which everything is planned, every interleaving with one fault."""
    explorer = Explorer(LAYOUTS[name], 1, begin=planned(LAYOUTS[name]))
    explorer.run()
    assert explorer.complete


@pytest.mark.parametrize("name", ["one layer of two jobs", "three images of three layers"])
def test_many_histories_of_many_faults_break_no_promise(name: str) -> None:
    """Three faults in one history: too many to see all, so half of them are followed to the bottom first."""
    explorer = Explorer(LAYOUTS[name], 3, deep=True, limit=2000, sample=40)
    explorer.run()
    assert explorer.depth > 30


@pytest.mark.parametrize(
    "faults", [("expire", "cancel"), ("cancel", "release", "fail", "block", "pause")], ids=str
)
def test_two_faults_of_one_image_break_no_promise(faults: tuple[str, ...]) -> None:
    """Late writers and their successors; whatever ends while it is cancelled or paused."""
    layout = dataclasses.replace(LAYOUTS["one image"], faults=frozenset(faults))
    explorer = Explorer(layout, 2, begin=planned(layout))
    explorer.run()
    assert explorer.complete
