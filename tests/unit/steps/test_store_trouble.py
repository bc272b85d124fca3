"""What leaves the store, or is damaged there, between any two steps: it is brought again."""

from __future__ import annotations

import pytest

from distworker.blobstore.keys import blob_key, quarantine_prefix
from distworker.blobstore.memory import MemoryStore
from distworker.digest import Digest
from distworker.errors import Unavailable
from distworker.plan.model import Pair
from distworker.state.base import Claim
from tests.fakes.content import Image, complete, image, index, layer, put
from tests.fakes.ports import Run, Site, registry_place, store_place

APP = layer("app")
AT = registry_place("src.example", "team/app", "1")
TO = registry_place("dst.example", "team/app")


def content() -> Image:
    """An index over one image: two manifests, a config and a layer."""
    return index((image(APP), "linux/amd64"))


@pytest.fixture
def run() -> Run:
    """A source that has the image, and an empty destination."""
    run = Run(Site("src.example"), Site("dst.example"))
    put(run.sites["src.example"], "team/app", "1", content())
    return run


def keys(run: Run) -> list[str]:
    """Everything of the image that the store has now."""
    return [one.key for one in run.store.list("default/blobs/")]


def vanish(run: Run, key: str) -> None:
    """It is gone."""
    run.store.delete(key)


def damage(run: Run, key: str) -> None:
    """One bit of it fell over; its size is the same."""
    store = run.store
    assert isinstance(store, MemoryStore)
    data = store.get_bytes(key, 1 << 30)
    assert data is not None
    store.put_bytes(key, bytes([data[0] ^ 1]) + data[1:])


@pytest.mark.parametrize("harm", [vanish, damage])
@pytest.mark.parametrize("kind", ["p", "d", "u", "m"])
def test_whatever_is_harmed_before_any_step_the_image_arrives(run: Run, kind: str, harm: object) -> None:
    """Each object that is there before the first step of each kind, all of them at once."""
    harmed: list[str] = []

    def before(claim: Claim) -> None:
        if claim.id.startswith(f"{kind}:") and not harmed:
            harmed.extend(["nothing yet", *keys(run)])
            for key in harmed[1:]:
                harm(run, key)  # type: ignore[operator]

    run.before = before
    run.sites["dst.example"].errors["start_upload"] = Unavailable("no tee today")
    assert [one["state"] for one in run.job("j1", Pair(AT, TO))] == ["done"]
    assert harmed
    assert complete(run.sites["dst.example"], "team/app", content())


@pytest.mark.parametrize("harm", [vanish, damage])
def test_a_second_destination_gets_what_the_store_kept_badly(run: Run, harm: object) -> None:
    """Everything kept of an earlier job is gone or wrong: a copy to another registry brings it again."""
    assert run.job("j1", Pair(AT, TO))[0]["state"] == "done"
    third = run.add(Site("third.example"))
    kept = keys(run)
    for key in kept:
        harm(run, key)  # type: ignore[operator]
    outcomes = run.job("j2", Pair(AT, registry_place("third.example", "team/app")))
    assert outcomes[0]["state"] == "done", outcomes
    assert complete(third, "team/app", content())
    for key in keys(run):
        data = run.store.get_bytes(key, 1 << 30)
        assert data is not None
        assert key == blob_key("default", Digest.of(data))


def test_a_damaged_manifest_is_put_aside_and_a_push_says_to_pull(run: Run) -> None:
    """The store is the only source: one typed error; a pull mends it."""
    pulled = Pair(AT, store_place("src.example", "team/app", "1"))
    assert run.job("j1", pulled)[0]["state"] == "done"
    root = run.sites["src.example"].repositories["team/app"].tags["1"]
    damage(run, blob_key("default", Digest.parse(root)))

    pushed = Pair(store_place("src.example", "team/app", "1"), TO)
    [outcome] = run.job("j2", pushed)

    assert outcome["state"] == "failed"
    assert outcome["error"]["code"] == "manifest_unknown"
    assert "pull it first" in outcome["error"]["message"]
    assert [one.key.rpartition("/")[2] for one in run.store.list(quarantine_prefix("default"))] == [
        root.partition(":")[2]
    ]
    assert run.job("j3", pulled)[0]["state"] == "done"
    assert run.job("j4", pushed)[0]["state"] == "done"
    assert complete(run.sites["dst.example"], "team/app", content())
