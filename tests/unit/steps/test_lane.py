"""The tag's lane: who planned later wins, whatever the order in which the writes arrive."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from distworker.blobstore.memory import MemoryStore
from distworker.errors import Lost, ProtocolError
from distworker.manifest import Manifest
from distworker.plan.ends import RegistryEnd
from distworker.state.memory import MemoryLedger
from distworker.steps.base import Context
from distworker.steps.lane import Lane
from tests.fakes.content import image, layer, put
from tests.fakes.ports import FakeRegistries, FakeRegistry, FakeWatch, Site

OLD, NEW, LAST = image(layer("old", 10)), image(layer("new", 10)), image(layer("last", 10))


class World:
    """One tag, two images that both have everything but the tag in place."""

    def __init__(self) -> None:
        self.site = Site("dst.example")
        for content in (OLD, NEW, LAST):
            put(self.site, "a", "", content)
        self.end = RegistryEnd(FakeRegistry(self.site, ""), "a")
        self.watch = FakeWatch()
        self.context = Context(FakeRegistries(self.site), MemoryStore(), MemoryLedger(), self.watch)

    def lane(self, name: str, sequence: int = 0) -> Lane:
        return Lane(self.context, "dst.example/a:1", name, sequence, self.end)

    @property
    def tag(self) -> str:
        return self.site.repositories["a"].tags.get("1", "")


@pytest.fixture
def world() -> World:
    return World()


def both(world: World, meanwhile: Callable[[], None]) -> Callable[[str, Manifest], None]:
    """A PUT during which something else happens first."""

    def write(reference: str, manifest: Manifest) -> None:
        meanwhile()
        world.end.put(reference, manifest)

    return write


def test_the_later_image_wins_when_it_comes_last(world: World) -> None:
    """The ordinary case."""
    first, second = world.lane("old"), world.lane("new")
    assert first.put("1", OLD.manifest, world.end.put)
    assert second.put("1", NEW.manifest, world.end.put)
    assert world.tag == NEW.digest


def test_the_later_image_wins_when_it_comes_first(world: World) -> None:
    """The earlier one sees it and writes nothing."""
    first, second = world.lane("old"), world.lane("new")
    assert second.put("1", NEW.manifest, world.end.put)
    puts = world.site.count("put_manifest")
    assert not first.put("1", OLD.manifest, world.end.put)
    assert world.site.count("put_manifest") == puts
    assert world.tag == NEW.digest


def test_a_late_loser_puts_the_winner_back(world: World) -> None:
    """Overtaken between its look and its PUT."""
    first, second = world.lane("old"), world.lane("new")
    overtake = both(world, lambda: None if world.tag else _put(second, world))
    assert not first.put("1", OLD.manifest, overtake)
    assert world.tag == NEW.digest


def test_a_winner_put_back_late_does_not_cover_a_later_one(world: World) -> None:
    """While the loser puts the second image back, the third one publishes: the lane never goes back."""
    first, second, third = world.lane("old"), world.lane("new"), world.lane("last")
    plain, seen = world.end.get, list[str]()

    def get(reference: str, media_type: str = "") -> Manifest:
        if reference == NEW.digest and not seen:
            seen.append(reference)
            assert third.put("1", LAST.manifest, world.end.put)
        return plain(reference, media_type)

    world.end.get = get  # type: ignore[method-assign]
    overtake = both(world, lambda: None if world.tag else _put(second, world))
    assert not first.put("1", OLD.manifest, overtake)
    assert seen == [NEW.digest]
    assert world.tag == LAST.digest


def test_a_run_that_was_stopped_moves_no_tag(world: World) -> None:
    """Cancelled or taken over since its last manifest: the old tag stands."""
    lane = world.lane("old")
    world.watch.stop = Lost("another worker has it")
    with pytest.raises(Lost):
        lane.put("1", OLD.manifest, world.end.put)
    assert not world.tag


def _put(lane: Lane, world: World) -> None:
    assert lane.put("1", NEW.manifest, world.end.put)


def test_a_winner_covered_before_it_was_recorded_writes_again(world: World) -> None:
    """The earlier PUT lands between the later PUT and its record: reading back notices."""
    first, second = world.lane("old"), world.lane("new")
    covered: list[bool] = []

    def write(reference: str, manifest: Manifest) -> None:
        world.end.put(reference, manifest)
        if not covered:
            covered.append(first.put("1", OLD.manifest, world.end.put))

    assert second.put("1", NEW.manifest, write)
    assert covered == [True]
    assert world.tag == NEW.digest


def test_a_rerun_after_death_between_put_and_record_heals_the_tag(world: World) -> None:
    """The loser wrote, died, and finds on its rerun that a later image had the tag."""
    first, second = world.lane("old"), world.lane("new")
    assert second.put("1", NEW.manifest, world.end.put)
    world.end.put("1", OLD.manifest)
    assert first.overtaken("1", OLD.manifest)
    assert world.tag == NEW.digest


def test_the_same_image_keeps_its_number(world: World) -> None:
    """A restarted publish does not jump the queue."""
    world.lane("old")
    second = world.lane("new")
    again = world.lane("old")
    assert second.put("1", NEW.manifest, world.end.put)
    assert not again.put("1", OLD.manifest, world.end.put)


def test_a_tag_that_does_not_stick_is_an_error(world: World) -> None:
    """The registry says yes and keeps something else; after three tries it is told."""
    world.end.put("1", OLD.manifest)
    tries: list[str] = []
    with pytest.raises(ProtocolError, match="something else moves it"):
        world.lane("new").put("1", NEW.manifest, lambda reference, manifest: tries.append(reference))
    assert len(tries) == 3


def test_a_registry_without_head_is_read_back_by_get(world: World) -> None:
    """A HEAD that says nothing decides nothing."""
    world.site.no_head = True
    assert world.lane("new").put("1", NEW.manifest, world.end.put)
    assert world.site.count("get_manifest") == 1


def test_a_run_that_lost_its_step_writes_no_tag(world: World) -> None:
    """A worker that was frozen asks the ledger right before the PUT."""
    world.watch.stop = Lost("another worker has it now")
    with pytest.raises(Lost):
        world.lane("old").put("1", OLD.manifest, world.end.put)
    assert world.tag == ""


def test_a_tag_that_came_late_is_put_right_although_the_run_is_over(world: World) -> None:
    """Its PUT went through and the list of referrers behind it was refused to it: the winner comes back."""
    first, second = world.lane("old"), world.lane("new")

    def late(reference: str, manifest: Manifest) -> None:
        _put(second, world)
        world.end.put(reference, manifest)
        raise Lost("another worker has it now")

    with pytest.raises(Lost):
        first.put("1", OLD.manifest, late)
    assert world.tag == NEW.digest
