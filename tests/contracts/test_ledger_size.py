"""What the ledger costs Redis: a pending layer, with the bodies the planner really writes, and a failure."""

from __future__ import annotations

import hashlib

import pytest

from distworker.digest import Digest
from distworker.plan.build import expand_change, upload_spec
from distworker.plan.model import REGISTRY, BlobMove, ImageTransfer, Place
from distworker.state.base import Change
from distworker.state.ledger import RedisLedger
from tests.contracts.ledger_world import World, expand, upload

IMAGES, LAYERS = 50, 10
#: Bytes for both steps of a layer with their bodies, its place in the barrier and in the ready ring.
LIMIT = 1000


def layer(transfer: ImageTransfer, number: int) -> BlobMove:
    digest = Digest("sha256:" + hashlib.sha256(f"{transfer.id}/{number}".encode()).hexdigest())
    media_type = "application/vnd.oci.image.layer.v1.tar+gzip"
    source = Place(REGISTRY, transfer.source.host, transfer.source.repository, credential="hub")
    return BlobMove("J", "default", source, digest, 31_415_926, media_type)


def transfers() -> list[ImageTransfer]:
    return [
        ImageTransfer(
            f"J-{n}",
            "J",
            Place(REGISTRY, "registry.example.com", f"team/service-{n}", "v1.2.3", credential="hub"),
            Place(REGISTRY, "mirror.example.org", f"mirror/team/service-{n}", "v1.2.3", credential="mirror"),
        )
        for n in range(IMAGES)
    ]


@pytest.mark.servers
def test_a_pending_layer_stays_small(redis_world: World) -> None:
    """Measured by the server itself; the window of a job bounds how many there are."""
    world = redis_world
    assert isinstance(world.ledger, RedisLedger)
    client = world.ledger.redis.client
    assert world.ledger.open_job("J", {}, expand())
    images = transfers()
    world.done(world.take("j:J"), **fields(expand_change(images, IMAGES, IMAGES)))
    world.pump(1000)
    claims = {image.id: world.claim(f"p:{image.id}") for image in images}
    before = used(client)
    for image in images:
        specs = tuple(upload_spec(layer(image, n), image.destination, download=True) for n in range(LAYERS))
        world.done(claims[image.id], wait=((f"m:{image.id}", specs),))
    cost = (used(client) - before) / (IMAGES * LAYERS)
    assert 0 < cost < LIMIT


@pytest.mark.servers
def test_a_failure_looks_through_subscribers_once_not_once_for_each_of_them(redis_world: World) -> None:
    """A base layer that fails takes hundreds of images along; the server does nothing else meanwhile."""
    world, images = redis_world, 60
    shared = [upload(str(n)) for n in range(5)]
    world.planned({f"J-{n}": shared for n in range(images)})
    claim = world.take("d:t/0")
    before = looks(world)
    world.fail(claim)
    assert world.state() == "failed"
    assert looks(world) - before < images


def looks(world: World) -> int:
    """How often all subscribers of a step were read."""
    assert isinstance(world.ledger, RedisLedger)
    return int(world.ledger.redis.client.info("commandstats").get("cmdstat_hgetall", {"calls": 0})["calls"])


def fields(change: Change) -> dict[str, object]:
    return {"spawn": change.spawn, "total": change.total, "cursor": change.cursor}


def used(client: object) -> int:
    """The sum over all keys, as the server counts them."""
    return sum(int(client.memory_usage(key, samples=0) or 0) for key in client.scan_iter())  # type: ignore[attr-defined]
