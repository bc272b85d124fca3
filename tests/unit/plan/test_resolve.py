"""Tag → digest → tree: what is asked of the source, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from distworker import mediatypes
from distworker.blobstore.keys import blob_key
from distworker.blobstore.memory import MemoryStore
from distworker.digest import Digest
from distworker.errors import InvalidRequest, LimitExceeded, ManifestInvalid, ManifestUnknown, SizeMismatch
from distworker.manifest import Descriptor, Manifest, parse_manifest
from distworker.plan.ends import RegistryEnd
from distworker.plan.resolve import Source, blobs_of, choose, walk
from distworker.platforms import Platform
from tests.fakes.content import Image, image, index, layer, put
from tests.fakes.ports import FakeRegistry, Site, registry_place

ONE, TWO = image(layer("one", 10)), image(layer("two", 10))
PLACE = registry_place("s.example", "a", "1")


@pytest.fixture
def site() -> Site:
    return Site("s.example")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def reader(site: Site, store: MemoryStore, credential: str = "") -> Source:
    return Source(RegistryEnd(FakeRegistry(site, credential), "a"), store, "default", "t")


def resolve(site: Site, store: MemoryStore, credential: str = "") -> list[str]:
    source = reader(site, store, credential)
    tree = walk(source.root(PLACE, source.pin(PLACE)), source.fetch)
    return [str(manifest.digest) for manifest in tree.manifests]


def test_children_come_before_parents_and_all_are_kept(site: Site, store: MemoryStore) -> None:
    """A nested index; each manifest's bytes are in the store under its digest."""
    inner = index((ONE, "linux/amd64"))
    outer = put(site, "a", "1", index((inner, ""), (TWO, "linux/arm64"), (ONE, "linux/386")))
    assert resolve(site, store) == [str(x.digest) for x in (ONE, inner, TWO, outer)]
    for content in (ONE, TWO, inner, outer):
        assert store.get_bytes(blob_key("default", content.digest), 10_000) == content.manifest.raw


def test_the_tag_is_asked_once_and_kept_manifests_are_not_fetched_again(
    site: Site, store: MemoryStore
) -> None:
    """The second time HEADs are enough."""
    put(site, "a", "1", index((ONE, "linux/amd64"), (TWO, "linux/arm64")))
    first = resolve(site, store)
    assert [call[2] for call in site.calls if call[0] == "head_manifest"].count("1") == 1
    site.calls.clear()
    assert resolve(site, store) == first
    assert site.count("get_manifest") == 0
    assert site.count("head_manifest") == 3


def test_a_kept_child_is_no_right_to_it(site: Site, store: MemoryStore) -> None:
    """An index that names another's private manifest gets what its own source says: nothing."""
    put(site, "a", "1", index((ONE, "linux/amd64")))
    resolve(site, store)
    mine = Site("s.example")
    put(mine, "a", "1", index((ONE, "linux/amd64")))
    del mine.repositories["a"].manifests[ONE.digest]
    with pytest.raises(ManifestUnknown):
        resolve(mine, store)


def test_a_registry_without_head_is_asked_by_get(site: Site, store: MemoryStore) -> None:
    """The digest is then computed from the bytes."""
    put(site, "a", "1", ONE)
    site.no_head = True
    assert resolve(site, store) == [str(ONE.digest)]


def test_a_registry_that_only_knows_tags_is_read_by_tag(site: Site, store: MemoryStore) -> None:
    """Moby does the same."""
    put(site, "a", "1", ONE)
    site.no_digest_get = True
    assert resolve(site, store) == [str(ONE.digest)]


def test_a_missing_tag_says_so(site: Site, store: MemoryStore) -> None:
    """With the source's own error."""
    with pytest.raises(ManifestUnknown):
        resolve(site, store)


def test_an_entry_that_is_a_blob_is_loose(site: Site, store: MemoryStore) -> None:
    """Unknown types are manifests if the registry says so, else blobs; never dropped."""
    thing = b'{"any": "thing"}'
    root = index_of(("application/x-thing", thing))
    put(site, "a", "1", root)
    site.repository("a").blobs[Digest.of(thing)] = thing
    source = reader(site, store)
    tree = walk(root.manifest, source.fetch)
    assert [blob.digest for blob in tree.loose] == [Digest.of(thing)]
    assert [blob.digest for blob in blobs_of(tree)] == [Digest.of(thing)]


def index_of(*entries: tuple[str, bytes], size: int | None = None) -> Image:
    listed = [
        {"mediaType": kind, "digest": Digest.of(data), "size": len(data) if size is None else size}
        for kind, data in entries
    ]
    raw = json.dumps({"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": listed}).encode()
    return Image(parse_manifest(raw))


def fetch_from(*manifests: Manifest) -> Callable[[Descriptor], Manifest]:
    known = {manifest.digest: manifest for manifest in manifests}
    return lambda descriptor: known[descriptor.digest]


def test_a_descriptor_with_a_wrong_size_is_refused() -> None:
    """The digest alone would still be right, but other readers trust the size."""
    root = index_of((mediatypes.OCI_MANIFEST, ONE.manifest.raw), size=7)
    with pytest.raises(SizeMismatch):
        walk(root.manifest, fetch_from(ONE.manifest))


def test_a_descriptor_with_a_wrong_type_is_refused() -> None:
    """An image announced as an index."""
    root = index_of((mediatypes.OCI_INDEX, ONE.manifest.raw))
    with pytest.raises(ManifestInvalid):
        walk(root.manifest, fetch_from(ONE.manifest))


def test_the_same_blob_with_two_sizes_is_refused() -> None:
    """One of them lies."""
    raw = ONE.manifest.raw.replace(b'"size": 10', b'"size": 11')
    other = parse_manifest(raw)
    root = index_of((mediatypes.OCI_MANIFEST, ONE.manifest.raw), (mediatypes.OCI_MANIFEST, raw))
    tree = walk(root.manifest, fetch_from(ONE.manifest, other))
    with pytest.raises(ManifestInvalid):
        blobs_of(tree)


def test_nesting_has_a_limit() -> None:
    """Four levels of index are fine, a fifth is not."""
    content, known = index((ONE, "linux/amd64")), [ONE.manifest]
    for _ in range(2):
        known.append(content.manifest)
        content = index((content, ""))
    assert len(walk(content.manifest, fetch_from(*known)).manifests) == 4
    for _ in range(2):
        known.append(content.manifest)
        content = index((content, ""))
    with pytest.raises(LimitExceeded):
        walk(content.manifest, fetch_from(*known))


def test_the_number_of_manifests_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all levels together."""
    monkeypatch.setattr("distworker.plan.resolve.TREE_MANIFESTS_MAX", 2)
    root = index((ONE, "linux/amd64"), (TWO, "linux/arm64"))
    with pytest.raises(LimitExceeded):
        walk(root.manifest, fetch_from(ONE.manifest, TWO.manifest))


def test_entries_that_are_blobs_count_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs a question to the registry, so there cannot be any number of them either."""
    monkeypatch.setattr("distworker.plan.resolve.TREE_MANIFESTS_MAX", 2)
    root = index_of(("application/x-thing", b"one"), ("application/x-thing", b"two"))
    asked: list[Descriptor] = []
    with pytest.raises(LimitExceeded):
        walk(root.manifest, asked.append)
    assert len(asked) == 2


def test_a_tag_that_moved_is_told_by_its_new_digest(site: Site, store: MemoryStore) -> None:
    """Only a tag can move, and only to something else that is there."""
    put(site, "a", "1", ONE)
    put(site, "a", "", TWO)
    source = reader(site, store)
    assert source.moved(PLACE, TWO.digest) == ONE.digest
    assert source.moved(PLACE, ONE.digest) is None
    assert source.moved(registry_place("s.example", "a", "gone"), ONE.digest) is None
    assert source.moved(registry_place("s.example", "a", "1", digest=TWO.digest), TWO.digest) is None


def test_the_bytes_and_blobs_of_a_tree_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each manifest may be small enough and all together still too much for a worker, or for one plan."""
    root = index((ONE, "linux/amd64"), (TWO, "linux/arm64"))
    tree = walk(root.manifest, fetch_from(ONE.manifest, TWO.manifest))
    monkeypatch.setattr("distworker.plan.resolve.TREE_BLOBS_MAX", len(blobs_of(tree)) - 1)
    with pytest.raises(LimitExceeded, match="blobs"):
        blobs_of(tree)
    monkeypatch.setattr("distworker.plan.resolve.TREE_BYTES_MAX", sum(m.size for m in tree.manifests) - 1)
    with pytest.raises(LimitExceeded, match="bytes"):
        walk(root.manifest, fetch_from(ONE.manifest, TWO.manifest))


MIXED = index(
    (ONE, "linux/amd64"), (TWO, "linux/arm64/v8"), (image(), "linux/arm/v7"), (image(b"a"), "unknown/unknown")
)


@pytest.mark.parametrize(
    ("wanted", "position"),
    [(["linux/amd64"], 0), (["linux/aarch64"], 1), (["linux/arm"], 2), (["linux/x86_64", "linux/amd64"], 0)],
)
def test_the_child_of_the_wanted_platform_is_chosen(wanted: list[str], position: int) -> None:
    """Other spellings of a platform mean the same."""
    child = choose(MIXED.manifest, tuple(Platform.parse(text) for text in wanted), "x")
    assert child == MIXED.manifest.children[position]


def test_no_wish_all_platforms_and_single_images_are_copied_whole() -> None:
    """None means: copy the root as it is."""
    every = tuple(Platform.parse(text) for text in ("linux/amd64", "linux/arm64", "linux/arm/v7"))
    assert choose(MIXED.manifest, (), "x") is None
    assert choose(MIXED.manifest, every, "x") is None
    assert choose(ONE.manifest, (Platform.parse("linux/s390x"),), "x") is None


def test_a_part_of_an_index_is_refused() -> None:
    """It would need a new digest; the sentence says what to do."""
    wanted = (Platform.parse("linux/amd64"), Platform.parse("linux/arm64"))
    with pytest.raises(InvalidRequest, match="Name one platform, or none for all of"):
        choose(MIXED.manifest, wanted, "x")
