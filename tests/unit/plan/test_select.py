"""Rules become a list that is written once and read the same for ever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from distworker.blobstore.keys import job_key
from distworker.blobstore.memory import MemoryStore
from distworker.digest import Digest
from distworker.errors import InvalidRequest, ManifestUnknown, Unavailable
from distworker.plan.ends import End, open_end
from distworker.plan.model import JobRequest, Pair, Place
from distworker.plan.select import (
    destination_of,
    freeze,
    frozen_total,
    read_frozen,
    require_version,
    select,
    thaw,
)
from distworker.state.base import Claim
from distworker.state.memory import MemoryLedger
from distworker.steps.base import Context, Done
from distworker.steps.expand import expand
from tests.fakes.content import image, layer, put
from tests.fakes.ports import FakeRegistries, FakeWatch, Site, registry_place, store_place

DIGEST = Digest.of(b"x")
TO = registry_place("dst.example", "b")


def request(*pairs: Pair) -> JobRequest:
    return JobRequest("j1", "copy", pairs, 0.0)


class Opener:
    """Opens ends of sites and of the store."""

    def __init__(self, *sites: Site) -> None:
        self.store = MemoryStore()
        self.registries = FakeRegistries(*sites)

    def __call__(self, place: Place) -> End:
        return open_end(self.registries, self.store, "default", place, "t")


@pytest.mark.parametrize(
    ("source", "destination", "tag", "digest"),
    [
        (registry_place("s.example", "a", "1"), TO, "1", None),
        (registry_place("s.example", "a", "1"), registry_place("dst.example", "b", "2"), "2", None),
        (registry_place("s.example", "a", "1", digest=DIGEST), TO, "1", None),
        (registry_place("s.example", "a", digest=DIGEST), TO, "", DIGEST),
        (registry_place("s.example", "a", digest=DIGEST), registry_place("dst.example", "b", "2"), "2", None),
    ],
)
def test_a_destination_without_a_tag_takes_the_sources(
    source: Place, destination: Place, tag: str, digest: Digest | None
) -> None:
    """And without that too it is named by digest."""
    found = destination_of(source, destination)
    assert (found.tag, found.digest, found.repository) == (tag, digest, "b")


def test_ids_number_the_transfers_of_all_rules() -> None:
    """In the order of the rules and of the listing."""
    site = Site("s.example")
    for tag in ("x", "y"):
        put(site, "a", tag, image(layer(tag, 10)))
    rules = (
        Pair(registry_place("s.example", "a"), TO, all_tags=True),
        Pair(registry_place("s.example", "a", "x"), TO),
    )
    found = list(select(request(*rules), Opener(site)))
    assert [(t.id, t.source.tag, t.destination.tag) for t in found] == [
        ("j1-0", "x", "x"),
        ("j1-1", "y", "y"),
        ("j1-2", "x", "x"),
    ]


def test_all_tags_of_the_store_are_its_refs() -> None:
    """What was pulled can be pushed by repository."""
    opener = Opener()
    end = opener(store_place("s.example", "a"))
    for tag in ("1", "2"):
        end.put(tag, image(layer(tag, 10)).manifest)
    rule = Pair(store_place("s.example", "a"), TO, all_tags=True)
    assert [t.source.tag for t in select(request(rule), opener)] == ["1", "2"]


def test_all_tags_of_what_was_never_pulled_is_one_image_that_says_so() -> None:
    """The remedy is a pull, not to start the job again."""
    opener = Opener()
    place = store_place("s.example", "a")
    [transfer] = select(request(Pair(place, TO, all_tags=True)), opener)
    assert (transfer.source.tag, transfer.source.digest) == ("", None)
    with pytest.raises(ManifestUnknown, match=r"the store holds no tag of s\.example/a; pull it first"):
        require_version(transfer.source, opener(place))


def test_a_frozen_list_stays_as_it_is() -> None:
    """Tags that come later are not part of the job, whoever freezes again."""
    site = Site("s.example")
    put(site, "a", "1", image(layer("1", 10)))
    opener = Opener(site)
    job = request(Pair(registry_place("s.example", "a"), TO, all_tags=True))
    assert freeze(opener.store, job, opener) == 1
    put(site, "a", "2", image(layer("2", 10)))
    assert freeze(opener.store, job, opener) == 1
    assert [t.source.tag for t in read_frozen(opener.store, "default", "j1", 0, 10)] == ["1"]


def test_a_list_longer_than_a_shard_is_read_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Across shard borders, each transfer once."""
    monkeypatch.setattr("distworker.plan.select.SHARD_LINES", 3)
    opener = Opener(Site("s.example"))
    pairs = [Pair(registry_place("s.example", "a", f"t{n}"), TO) for n in range(10)]
    assert freeze(opener.store, request(*pairs), opener) == 10
    assert opener.store.stat(job_key("default", "j1", "list-00003.jsonl")) is not None
    seen: list[str] = []
    while part := read_frozen(opener.store, "default", "j1", len(seen), 4):
        seen += [t.source.tag for t in part]
    assert seen == [f"t{n}" for n in range(10)]


def test_shards_of_an_earlier_list_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A longer list under the same id left them behind."""
    monkeypatch.setattr("distworker.plan.select.SHARD_LINES", 3)
    opener = Opener(Site("s.example"))
    pairs = [Pair(registry_place("s.example", "a", f"t{n}"), TO) for n in range(10)]
    freeze(opener.store, request(*pairs), opener)
    thaw(opener.store, "default", "j1")
    assert freeze(opener.store, request(*pairs[:3]), opener) == 3
    step = Claim("j:j1", "t", "j1", {"v": 1, "tenant": "default", "cursor": 0, "window": 50}, 1)
    context = Context(opener.registries, opener.store, MemoryLedger(), FakeWatch())
    answer = expand(context, step)
    assert isinstance(answer, Done)
    assert (answer.change.total, answer.change.cursor, len(answer.change.spawn)) == (3, 3, 6)


class Flaky:
    """A repository whose listing breaks."""

    def __init__(self, end: End, after: int) -> None:
        self._end = end
        self._after = after

    def tags(self) -> Iterator[str]:
        """Some tags, then an error."""
        for number, tag in enumerate(self._end.tags()):
            if number == self._after:
                break
            yield tag
        raise Unavailable("the listing broke")


def test_a_listing_that_breaks_freezes_nothing() -> None:
    """Half a list would silently leave images behind; the step is tried again instead."""
    site = Site("s.example")
    for tag in ("1", "2"):
        put(site, "a", tag, image(layer(tag, 10)))
    opener = Opener(site)
    job = request(Pair(registry_place("s.example", "a"), TO, all_tags=True))
    with pytest.raises(Unavailable):
        freeze(opener.store, job, lambda place: Flaky(opener(place), 1))  # type: ignore[arg-type,return-value]
    assert frozen_total(opener.store, "default", "j1") is None


def test_an_empty_repository_is_one_transfer_without_a_version() -> None:
    """It fails by itself later, with a sentence about it; the other rules go on."""
    site = Site("s.example")
    site.repository("a")
    rule = Pair(registry_place("s.example", "a"), TO, all_tags=True)
    found = list(select(request(rule), Opener(site)))
    assert [(t.source.tag, t.source.digest) for t in found] == [("", None)]


def test_a_damaged_list_is_refused() -> None:
    """Rather than taken for an empty one."""
    store = MemoryStore()
    store.put_bytes(job_key("default", "j1", "list.json"), b"{}")
    with pytest.raises(InvalidRequest):
        frozen_total(store, "default", "j1")
