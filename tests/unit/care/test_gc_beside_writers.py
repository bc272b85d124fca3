"""Whatever writers and collectors do at the same time: no ref is ever less than whole, and no unused blob
outlives two runs and the grace."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from distworker.blobstore.memory import MemoryStore
from distworker.care.gc import Collector
from distworker.care.landing import Lander, Landing
from distworker.care.refs import forget, refs
from distworker.plan.model import Pair
from distworker.plan.refguard import LIFE
from distworker.reference import Reference
from tests.fakes.ports import Run, Site, registry_place, store_place
from tests.unit.care.baton import Actor
from tests.unit.care.pictures import HOUR, TENANT, Picture, broken_refs, digests_in, group, hang, picture

#: Images that share layers in all ways, an index among them.
IMAGES = [
    picture("a", ["base", "a"]),
    picture("b", ["base", "b"]),
    picture("c", ["b", "c"]),
    group(picture("a", ["base", "a"]), picture("d", ["d"])),
]
TAGS = ["r.example/one:1", "r.example/one:2", "r.example/two:1"]
GRACE = 24 * HOUR


class Warehouse(RuleBasedStateMachine):
    """One store; writers, forgetters and collectors at it, each call of theirs in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_700_000_000.0
        self.store = MemoryStore(lambda: self.now)
        self.actors: list[Actor] = []
        self.collectors: list[Actor] = []

    @initialize(first=st.sampled_from(IMAGES), second=st.sampled_from(IMAGES))
    def old_garbage(self, first: Picture, second: Picture) -> None:
        """Blobs that were marked long ago: the next run would delete them."""
        for tag, image in zip(TAGS, (first, second), strict=False):
            hang(self.store, tag, image)
            forget(self.store, TENANT, Reference.parse(tag))
        self._collect()
        self.now += GRACE + 60

    @rule(tag=st.sampled_from(TAGS), image=st.sampled_from(IMAGES))
    def write(self, tag: str, image: Picture) -> None:
        """Somebody begins to bring an image."""

        def work(store: Any) -> None:
            lander = Lander(store, TENANT, image.bring, pause=lambda seconds: self._pause(actor[0], seconds))
            lander.land([Landing([Reference.parse(tag)], image.tree)])

        actor: list[Actor] = []
        actor.append(Actor(work, self.store))
        self.actors.append(actor[0])

    @rule()
    def collect(self) -> None:
        """A collection begins."""
        self.collectors.append(Actor(lambda store: self._collector(store).bite(), self.store))
        self.actors.append(self.collectors[-1])

    @rule(number=st.integers(0, 9), steps=st.integers(1, 40))
    def advance(self, number: int, steps: int) -> None:
        """One of them goes on for some calls."""
        if self.actors:
            for _ in range(steps):
                self.actors[number % len(self.actors)].step()

    @rule(tag=st.sampled_from(TAGS))
    def forget(self, tag: str) -> None:
        """A ref is taken away."""
        if any(ref.name == tag for ref in refs(self.store, TENANT)):
            forget(self.store, TENANT, Reference.parse(tag))

    @rule(hours=st.sampled_from([0.001, 1.0, 25.0]))
    def sleep(self, hours: float) -> None:
        """Time passes, for longer than the grace perhaps, while everybody stands where they are."""
        if hours < 24 or all(actor.over for actor in self.actors):
            self.now += hours * HOUR

    @invariant()
    def every_ref_is_whole(self) -> None:
        """At every moment."""
        assert broken_refs(self.store) == []

    def teardown(self) -> None:
        """All come to an end; then two runs and the grace leave what the refs need and nothing else."""
        for actor in self.actors:
            actor.finish()
            assert actor.error is None, repr(actor.error)
            assert broken_refs(self.store) == []
        for _ in range(2):
            self._collect()
            self.now += GRACE + 60
        self._collect()
        assert broken_refs(self.store) == []
        needed: set[str] = set()
        for ref in refs(self.store, TENANT):
            raw = self.store.get_bytes(ref.key, 4096) or b""
            needed |= next(image.digests for image in IMAGES if str(image.tree.root.digest).encode() in raw)
        assert digests_in(self.store) == needed

    def _pause(self, actor: Actor, seconds: float) -> None:
        """Time passes for collectors too: one frozen before its deletion is the residue (refguard)."""
        self.now += seconds
        for collector in self.collectors:
            collector.step()
        actor.wait()

    def _collect(self) -> None:
        while not self._collector(self.store).bite().finished:
            self.now += 1

    def _collector(self, store: Any) -> Collector:
        return Collector(store, TENANT, grace=GRACE, clock=lambda: self.now)


TestWarehouse = Warehouse.TestCase
TestWarehouse.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


def test_every_way_in_which_one_writer_and_one_collection_cross() -> None:
    """Either begins, the other cuts in at any call, and the first one again at any call of that."""
    crossings = 0
    for writer_first in (True, False):
        start = 0
        while True:
            inside, more = 0, False
            while True:
                world = _Crossing()
                actors = (world.writer, world.collector)
                outer, inner = actors if writer_first else reversed(actors)
                for _ in range(start):
                    outer.step()
                more = not outer.over
                for _ in range(inside):
                    inner.step()
                # A collector frozen for longer, right between clock and deletion, is the residue (refguard).
                over = inner.over or world.waited >= LIFE / 2
                world.end(outer, inner)
                crossings += 1
                inside += 1
                if over:
                    break
            start += 1
            if not more:
                break
    assert crossings > 200


class _Crossing:
    """An image nobody needs any more, due to be deleted; somebody who brings it again; a collection."""

    image = picture("a", ["base"])
    waits = False
    waited = 0.0

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.store = MemoryStore(lambda: self.now)
        hang(self.store, TAGS[0], self.image)
        forget(self.store, TENANT, Reference.parse(TAGS[0]))
        self._collector(self.store).bite()
        self.now += GRACE + 60
        self.collector = Actor(lambda store: self._collector(store).bite(), self.store)
        self.writer = Actor(self._write, self.store)

    def end(self, *actors: Actor) -> None:
        """Let them come to their ends, in this order, a writer that waits letting others go first."""
        while not all(actor.over for actor in actors):
            for actor in actors:
                for _ in range(1000):
                    actor.step()
                    assert broken_refs(self.store) == []
                    if actor.over or self.waits:
                        self.waits = False
                        break
        assert [actor.error for actor in actors] == [None, None]
        assert digests_in(self.store) == self.image.digests

    def _write(self, store: Any) -> None:
        lander = Lander(store, TENANT, self.image.bring, pause=self._pause)
        lander.land([Landing([Reference.parse(TAGS[1])], self.image.tree)])

    def _pause(self, seconds: float) -> None:
        self.waits = True
        self.now += seconds
        self.waited += seconds
        self.writer.wait()

    def _collector(self, store: Any) -> Collector:
        return Collector(store, TENANT, grace=GRACE, clock=lambda: self.now)


@pytest.mark.parametrize("kind", ["pull", "copy", "push"])
def test_a_job_ends_well_at_whichever_call_a_collection_cuts_in(kind: str) -> None:
    """A whole collection between any two calls of the store that the job's steps make, by one who does not
    even know of the job: what it had counted on comes again, what the store keeps by name stays."""
    call = 0
    while True:
        call += 1
        store = _CutIn(call)
        run = Run(Site("r.example"), Site("dst.example"), store=store)
        image = picture("a", ["base", "a"])
        _serve(run.sites["r.example"], "one", "1", image)
        hang(store, "r.example/old:1", image)
        forget(store, TENANT, Reference.parse("r.example/old:1"))
        store.collect()
        store.now += GRACE + 60
        store.counting = True
        if kind == "push":
            hang(store, "r.example/one:1", image)
        kept, there = store_place("r.example", "one", "1"), registry_place("r.example", "one", "1")
        source = kept if kind == "push" else there
        target = kept if kind == "pull" else registry_place("dst.example", "one", "1")
        [outcome] = run.job("job", Pair(source, target))
        assert (outcome["state"], broken_refs(store)) == ("done", [])
        if kind != "pull":
            assert set(run.sites["dst.example"].repository("one").blobs) == set(image.blobs)
        if not store.cut:
            break
    assert call > 10


def _serve(site: Site, repository: str, tag: str, image: Picture) -> None:
    found = site.repository(repository)
    found.blobs.update(image.blobs)
    for manifest in image.tree.manifests:
        found.manifests[str(manifest.digest)] = (manifest.raw, manifest.media_type)
    found.tags[tag] = str(image.tree.root.digest)


class _CutIn(MemoryStore):
    """A store that runs a collection before its n-th call."""

    def __init__(self, call: int) -> None:
        self.now = 1_700_000_000.0
        super().__init__(lambda: self.now)
        self.counting, self.cut, self._left = False, False, call

    def collect(self) -> None:
        self.counting = False
        Collector(self, TENANT, grace=GRACE, clock=lambda: self.now).bite()

    def _call(self) -> None:
        if self.counting:
            self._left -= 1
            if self._left == 0:
                self.cut = True
                self.collect()

    def stat(self, key: str) -> Any:
        self._call()
        return super().stat(key)

    def get_bytes(self, key: str, limit: int) -> Any:
        self._call()
        return super().get_bytes(key, limit)

    def put_bytes(self, key: str, data: bytes) -> None:
        self._call()
        super().put_bytes(key, data)

    def writer(self, key: str, *arguments: Any, **options: Any) -> Any:
        self._call()
        return super().writer(key, *arguments, **options)

    def delete(self, key: str) -> None:
        self._call()
        super().delete(key)

    def list(self, prefix: str, after: str = "") -> Any:
        self._call()
        return super().list(prefix, after)
