"""An image that is at its destination already, while an older one may be about to publish there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from distworker.plan.model import Pair
from tests.fakes.content import image, layer, put
from tests.fakes.ports import Run, Site, registry_place

LANE = "dst.example/team/app:1"
CONTENT, OLDER = image(layer("new", 10)), image(layer("old", 10))


def copy() -> Pair:
    return Pair(registry_place("src.example", "team/app", "1"), registry_place("dst.example", "team/app"))


@pytest.fixture
def run() -> Run:
    """The destination has what the source has."""
    run = Run(Site("src.example"), Site("dst.example"))
    put(run.sites["src.example"], "team/app", "1", CONTENT)
    put(run.sites["dst.example"], "team/app", "1", CONTENT)
    put(run.sites["dst.example"], "team/app", "", OLDER)
    return run


def tag(run: Run) -> str:
    return run.sites["dst.example"].repositories["team/app"].tags["1"]


def heads(run: Run) -> int:
    return run.sites["dst.example"].count("head_manifest")


def test_nobody_else_in_the_lane_costs_nothing(run: Run) -> None:
    """One HEAD of the destination, and no record of the lane."""
    assert [o["state"] for o in run.job("j", copy())] == ["unchanged"]
    assert heads(run) == 1
    assert run.ledger.lane_newest(LANE) == (0, {})


def test_an_older_image_in_flight_loses_to_one_that_is_unchanged(run: Run) -> None:
    """It drew its number before; what is at the destination counts as the newer publish."""
    older = run.ledger.lane_begin(LANE, "older")
    assert [o["state"] for o in run.job("j", copy())] == ["unchanged"]
    assert heads(run) == 2, "the tag is read again after that is recorded"
    newest, note = run.ledger.lane_newest(LANE)
    assert newest > older
    assert note["digest"] == CONTENT.digest
    assert not run.ledger.lane_busy(LANE)


def test_a_tag_that_was_taken_meanwhile_is_put_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older image published between the two looks: then this one is not unchanged any more."""
    run.ledger.lane_begin(LANE, "older")
    published = run.ledger.lane_published

    def late(lane: str, sequence: int, note: Mapping[str, Any]) -> Any:
        if not run.ledger.lane_newest(LANE)[0]:
            run.sites["dst.example"].repositories["team/app"].tags["1"] = OLDER.digest
        return published(lane, sequence, note)

    monkeypatch.setattr(run.ledger, "lane_published", late)
    assert [o["state"] for o in run.job("j", copy())] == ["done"]
    assert tag(run) == CONTENT.digest
