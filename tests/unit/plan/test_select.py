"""Rules become transfers, numbered in their order."""

from __future__ import annotations

import pytest

from distworker.blobstore.memory import MemoryStore
from distworker.digest import Digest
from distworker.errors import ManifestUnknown
from distworker.plan.ends import End, open_end
from distworker.plan.model import JobRequest, Pair, Place
from distworker.plan.select import destination_of, is_listed, require_version, select
from tests.fakes.content import image, layer, put
from tests.fakes.ports import FakeRegistries, Site, registry_place, store_place

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


def test_an_empty_repository_is_one_transfer_without_a_version() -> None:
    """It fails by itself later, with a sentence about it; the other rules go on."""
    site = Site("s.example")
    site.repository("a")
    rule = Pair(registry_place("s.example", "a"), TO, all_tags=True)
    found = list(select(request(rule), Opener(site)))
    assert [(t.source.tag, t.source.digest) for t in found] == [("", None)]


def test_a_request_that_names_its_tags_is_the_same_list_every_time() -> None:
    """No registry is asked for it; one rule with all tags makes it a listed one."""
    named = Pair(registry_place("s.example", "a", "1"), TO)
    listed = Pair(registry_place("s.example", "a"), TO, all_tags=True)
    assert not is_listed(request(named, named))
    assert is_listed(request(named, listed))
