"""Whole jobs, with their worker killed at every call it makes; a second worker finishes them.

The calls are not listed here: each job is run once to count them, then once more for each side of each call.
So a call that is added to any step is covered on the day it is added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from distworker.plan.model import Pair
from tests.crash.fleet import Fleet
from tests.crash.wire import Moment, Wire
from tests.fakes.content import Image, image, index, layer, put
from tests.fakes.ports import Site, registry_place, store_place

BASE, APP, TOOL, SMALL = layer("base"), layer("app"), layer("tool", 70_000), layer("small", 200)
OLD = image(BASE, config=b'{"old":1}')
PLAIN = image(BASE, APP, SMALL)
INDEX = index(
    (image(BASE, APP, config=b'{"a":1}'), "linux/amd64"),
    (image(BASE, TOOL, config=b'{"a":2}'), "linux/arm64"),
    (image(SMALL, config=b'{"a":3}'), "unknown/unknown"),
)
LITTLE = image(SMALL, layer("tiny", 100), layer("mini", 50), config=b'{"l":1}')
AT_SOURCE, AT_TARGET = registry_place("src.example", "app", "1"), registry_place("dst.example", "app")
ALL_TAGS = registry_place("src.example", "app")
INTO_THE_STORE = (Pair(AT_SOURCE, store_place("src.example", "app")),)


@dataclass(frozen=True)
class Case:
    """A job: what is there before it, and what it is to do. `setup` returns the images a tag may lead to."""

    setup: Callable[[Fleet], Mapping[str, tuple[Image, ...]]]
    pairs: tuple[Pair, ...]
    lax: bool = False  #: the destination takes manifests whose parts it lacks
    refuse_mounts: bool = False


def over_an_old_one(content: Image, *, holding: tuple[bytes, ...] = (BASE,)) -> Callable[[Fleet], Any]:
    """The destination's tag leads to an older image."""

    def setup(fleet: Fleet) -> Mapping[str, tuple[Image, ...]]:
        put(fleet.sites["src.example"], "app", "1", content)
        put(fleet.sites["dst.example"], "app", "1", OLD, without=[d for d in (BASE,) if d not in holding])
        return {"dst.example/app:1": (OLD, content)}

    return setup


def two_repositories(fleet: Fleet) -> Mapping[str, tuple[Image, ...]]:
    """Two images share their layers."""
    other = image(BASE, APP, config=b'{"o":1}')
    put(fleet.sites["src.example"], "app", "1", PLAIN)
    put(fleet.sites["src.example"], "other", "1", other)
    return {"dst.example/app:1": (PLAIN,), "dst.example/other:1": (other,)}


def an_old_one_in_the_store(fleet: Fleet) -> Mapping[str, tuple[Image, ...]]:
    """The tag was pulled when it led to an older image."""
    put(fleet.sites["src.example"], "app", "1", OLD)
    fleet.world.job("before", *INTO_THE_STORE)
    put(fleet.sites["src.example"], "app", "1", INDEX)
    return {"src.example/app:1": (INDEX,)}


def pulled(fleet: Fleet) -> Mapping[str, tuple[Image, ...]]:
    """The store has the image already."""
    put(fleet.sites["src.example"], "app", "1", INDEX)
    fleet.world.job("before", *INTO_THE_STORE)
    put(fleet.sites["dst.example"], "app", "1", OLD)
    return {"dst.example/app:1": (OLD, INDEX)}


OTHER = Pair(registry_place("src.example", "other", "1"), registry_place("dst.example", "other"))
CASES = {
    "one image": Case(over_an_old_one(PLAIN), (Pair(AT_SOURCE, AT_TARGET),)),
    "three platforms where nothing is checked": Case(
        over_an_old_one(INDEX), (Pair(AT_SOURCE, AT_TARGET),), lax=True
    ),
    "small blobs only": Case(over_an_old_one(LITTLE), (Pair(AT_SOURCE, AT_TARGET),)),
    "shared layers": Case(two_repositories, (Pair(AT_SOURCE, AT_TARGET), OTHER)),
    "shared layers, no mounts": Case(
        two_repositories, (Pair(AT_SOURCE, AT_TARGET), OTHER), refuse_mounts=True
    ),
    "all tags": Case(over_an_old_one(LITTLE), (Pair(ALL_TAGS, AT_TARGET, all_tags=True),)),
    "into the store": Case(an_old_one_in_the_store, INTO_THE_STORE),
    "out of the store": Case(pulled, (Pair(store_place("src.example", "app", "1"), AT_TARGET),)),
}


def prepared(case: Case, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """A fleet with everything there and the job recorded."""
    target = Site("dst.example", refuse_mounts=case.refuse_mounts, lax=case.lax)
    fleet = Fleet(monkeypatch, Site("src.example", chunk=60_000), target)
    fleet.tags = case.setup(fleet)
    for site in fleet.sites.values():
        site.calls.clear()
        site.served.clear()
    fleet.open(*case.pairs)
    return fleet


def writes(fleet: Fleet) -> list[tuple[str, ...]]:
    """What was written to the destination, in order."""
    verbs = {"put_manifest", "upload_blob", "mount_blob", "start_upload"}
    return [call for call in fleet.sites["dst.example"].calls if call[0] in verbs]


def check_tags_last(fleet: Fleet) -> None:
    """Once a tag was put, nothing else is written to its repository."""
    tagged: set[str] = set()
    for verb, repository, *rest in writes(fleet):
        if verb == "put_manifest" and ":" not in rest[0]:
            tagged.add(repository)
        else:
            assert repository not in tagged, f"{verb} {rest} after the tag"


def check_moves(fleet: Fleet, clean: Fleet) -> None:
    """Nothing was read or sent twice but the one blob that was on its way."""
    read = [
        digest
        for digest, bytes_read in fleet.sites["src.example"].served.items()
        if bytes_read > clean.sites["src.example"].served[digest]
    ]
    sent = Counter(call[2] for call in writes(fleet) if call[0] == "upload_blob")
    sent.subtract(call[2] for call in writes(clean) if call[0] == "upload_blob")
    again = {digest: count for digest, count in sent.items() if count > 0}
    assert len({*read, *again}) <= 1, f"moved again: {read}, {again}"
    assert all(count == 1 for count in again.values())


def check_counters(fleet: Fleet, clean: Fleet) -> None:
    """Each byte of the images is read or saved, whoever died: the rule of `JobView`."""
    (now,) = [view.counters for view in fleet.ledger.jobs() if view.id == "j1"]
    (then,) = [view.counters for view in clean.ledger.jobs() if view.id == "j1"]
    moved = "downloaded" if then["downloaded"] else "uploaded"  # out of the store nothing is read
    for counters in (now, then):
        saved = sum(count for name, count in counters.items() if name.startswith("saved_"))
        assert counters[moved] + saved == sizes(clean), dict(counters)
    assert now["uploaded"] <= then["uploaded"]


def sizes(fleet: Fleet) -> int:
    """What the images are made of, each of them with its unique blobs."""
    return sum(sum({d: len(d) for d in blobs(images[-1])}.values()) for images in fleet.tags.values())


def blobs(content: Image) -> list[bytes]:
    """All blobs below it."""
    return [*content.blobs, *(data for child in content.children for data in blobs(child))]


@pytest.mark.parametrize("name", CASES)
def test_a_worker_killed_at_any_call_of_a_job_costs_nothing_but_time(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tags lead to whole images at every instant, and the end is that of a run that nobody disturbed."""
    case = CASES[name]
    clean = prepared(case, monkeypatch)
    wire = Wire(watch=clean.look)
    assert clean.work(wire)
    assert {o["state"] for o in clean.ledger.outcomes("j1")} == {"done"}, clean.failures
    check_tags_last(clean)
    for moment in wire.moments():
        check_one_death(prepared(case, monkeypatch), moment, clean, f"{name}, {wire.name(moment)}")


def check_one_death(fleet: Fleet, moment: Moment, clean: Fleet, where: str) -> None:
    """The first worker dies then, another one finishes."""
    try:
        assert not fleet.work(Wire(moment, watch=fleet.look)), "nobody died"
        fleet.look()
        left = list(fleet.world.store.unfinished())
        assert len(left) + len(fleet.sites["dst.example"].sessions) <= 2, "one write and one upload at most"
        assert all(one.token for one in left)
        assert fleet.work(Wire(watch=fleet.look))
        assert fleet.failures == []
        assert fleet.end() == clean.end()
        assert list(fleet.world.store.unfinished()) == left, "a write that no sweep can tell from a live one"
        check_tags_last(fleet)
        check_moves(fleet, clean)
        check_counters(fleet, clean)
    except AssertionError as error:
        raise AssertionError(f"killed in {where}: {error}") from error
