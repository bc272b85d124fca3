"""Two images for one tag: one worker is killed at every call while the other publishes at each point before.

Whoever planned later wins, whatever the order; a tag is never moved back, but for the one gap that the
protocol leaves (dying between the PUT and the second look), which the rerun heals.
"""

from __future__ import annotations

import pytest

from distworker.plan.model import Pair
from tests.crash.fleet import Fleet
from tests.crash.wire import MAIN, Killed, Moment, Wire
from tests.fakes.content import Image, image, put
from tests.fakes.ports import Site, registry_place

OLD, EARLIER, LATER = (image(config=f'{{"n":{n}}}'.encode()) for n in range(3))
STEPS = {EARLIER: "m:j1-0", LATER: "m:j1-1"}


class Race:
    """A fleet in which both images have been planned and wait for a worker."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fleet = Fleet(monkeypatch, Site("src.example"), Site("dst.example", lax=True))
        self.target = self.fleet.sites["dst.example"]
        for number, content in enumerate((EARLIER, LATER), 1):
            put(self.fleet.sites["src.example"], "app", str(number), content)
            self.target.repository("app").blobs.update(
                self.fleet.sites["src.example"].repositories["app"].blobs
            )
        put(self.target, "app", "x", OLD)
        self.fleet.tags = {"dst.example/app:x": (OLD, EARLIER, LATER)}
        where = registry_place("dst.example", "app", "x")
        self.fleet.open(*(Pair(registry_place("src.example", "app", tag), where) for tag in "12"))
        ready = set(STEPS.values())
        assert self.fleet.work(Wire(), until=lambda: ready <= set(self.fleet.inbox))

    @property
    def tag(self) -> str:
        return self.target.repositories["app"].tags["x"]

    def publish(self, content: Image, wire: Wire) -> bool:
        """Run that image's publish; False when its worker was killed."""
        self.fleet.inbox.remove(STEPS[content])
        try:
            self.fleet.run(self.fleet.worker(wire), STEPS[content])
        except Killed:
            return False
        return True


def race(monkeypatch: pytest.MonkeyPatch, killed: Image, point: int, number: int) -> int:
    """`killed` dies before its call `number` (0: never), the other one publishes before its call `point` (0:
    later). Returns the calls that were made."""
    one = Race(monkeypatch)
    other = LATER if killed is EARLIER else EARLIER
    wire = Wire(
        Moment(MAIN, number, after=False),
        {point: lambda: _must(one.publish(other, Wire(watch=one.fleet.look)))},
        one.fleet.look,
    )
    alive = one.publish(killed, wire)
    one.fleet.look()
    if point and killed is EARLIER and not (number and _in_the_gap(wire, point)):
        assert one.tag == LATER.digest, "moved back"
    assert alive is (number == 0)
    assert one.fleet.work(Wire(watch=one.fleet.look))
    assert one.tag == LATER.digest
    assert one.fleet.failures == []
    states = {str(o["image"]): o["state"] for o in one.fleet.ledger.outcomes("j1")}
    assert states["j1-1"] == "done"
    assert states["j1-0"] in ("done", "superseded")
    return len(wire.calls)


def _must(published: bool) -> None:
    assert published


def _in_the_gap(wire: Wire, point: int) -> bool:
    """Did the other one publish between this worker's last look at the lane and its PUT, with no time left to
    put that right?"""
    names = [name for _, _, name in wire.calls[:-1]]
    puts = [number for number, name in enumerate(names, 1) if name == "registry.put_manifest app x"]
    if len(puts) != 1:  # none yet, or the other's image was put back
        return False
    look = max(n for n, name in enumerate(names[: puts[-1]], 1) if name.startswith("ledger.lane_"))
    assert not [name for name in names[look : puts[-1] - 1] if not name.startswith("ledger.")], "a late look"
    return look < point <= puts[-1]


@pytest.mark.parametrize("killed", [EARLIER, LATER], ids=["the earlier dies", "the later dies"])
def test_the_later_image_has_the_tag_whoever_dies_wherever(
    killed: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every pair of a point for the one and a death for the other."""
    alone = race(monkeypatch, killed, 0, 0)
    assert alone > 10
    for point in range(alone + 1):
        for number in range(max(point, 1), race(monkeypatch, killed, point, 0) + 1):
            try:
                race(monkeypatch, killed, point, number)
            except AssertionError as error:
                raise AssertionError(f"other at {point}, killed at {number}: {error}") from error
