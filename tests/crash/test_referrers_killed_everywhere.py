"""A signature published by the real client, which is killed at every request.

The registry does not index subjects, so the client keeps the list of referrers under the fallback tag itself:
a second tag per image, read, merged and written. Whatever dies between, no entry is lost and no entry names
what is not there.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distworker.digest import Digest
from distworker.mediatypes import OCI_INDEX, OCI_MANIFEST
from distworker.plan.model import Pair
from distworker.registry.call import Call, Reply
from distworker.registry.http import HTTP
from distworker.registry.referrers import fallback_tag
from tests.crash.fleet import Fleet
from tests.crash.wire import Wire
from tests.fakes.content import Image, image
from tests.fakes.network import make_authority
from tests.fakes.ports import registry_place
from tests.fakes.registry import FakeRegistry
from tests.fakes.world import NAMES, World

SUBJECT = image(config=b'{"subject":1}')
ABOUT = {"mediaType": OCI_MANIFEST, "digest": SUBJECT.digest, "size": SUBJECT.manifest.size}
KNOWN = image(config=b'{"sbom":1}', subject=ABOUT)
NEW = image(config=b'{"signature":1}', subject=ABOUT, artifactType="x/signature")
TAG = fallback_tag(SUBJECT.digest)
NAME = "team/app"


def hold(registry: FakeRegistry, content: Image, *tags: str) -> None:
    """Have it there."""
    for data in content.blobs:
        registry.put_blob(NAME, data)
    registry.put_manifest(NAME, content.manifest.raw, OCI_MANIFEST, *tags)


def listed(registry: FakeRegistry) -> list[dict[str, Any]]:
    """What stands under the fallback tag."""
    raw = registry.manifests[NAME, registry.tag_lists[NAME][TAG]][1]
    return list(json.loads(raw)["manifests"])


class Signing:
    """The two registries as before, a job recorded, its publish step waiting for a worker."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.target = world.reg2
        for registry in (world.reg, world.reg2):
            registry.manifests.clear()
            registry.tag_lists.clear()
            registry.holds.clear()
        hold(world.reg, NEW, "1")
        hold(self.target, SUBJECT)
        hold(self.target, KNOWN)
        entry = {"mediaType": OCI_MANIFEST, "digest": KNOWN.digest, "size": KNOWN.manifest.size}
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
        self.target.put_manifest(NAME, json.dumps(document).encode(), OCI_INDEX, TAG)
        self.fleet = Fleet(monkeypatch)
        object.__setattr__(self.fleet.world.context, "registries", world.pool())

        def once(http: HTTP, call: Call, *rest: Any) -> Reply:
            return self.wire.send(f"{call.method} {call.url}", lambda: ONCE(http, call, *rest))

        monkeypatch.setattr(HTTP, "_once", once)

        self.wire = Wire()
        self.fleet.open(Pair(registry_place("reg.example", NAME, "1"), registry_place("reg2.example", NAME)))
        assert self.fleet.work(self.wire, until=lambda: self.fleet.inbox == ["m:j1-0"])

    def work(self, wire: Wire) -> bool:
        """A worker goes on; False when it was killed."""
        self.wire = wire
        return self.fleet.work(wire)

    def look(self) -> None:
        """What holds at every instant."""
        digests = [entry["digest"] for entry in listed(self.target)]
        assert digests[0] == KNOWN.digest
        assert {(NAME, digest) for digest in digests} <= self.target.manifests.keys()
        if "1" in self.target.tag_lists[NAME]:
            assert self.target.tag_lists[NAME]["1"] == NEW.digest
            assert {Digest.of(data) for data in NEW.blobs} <= self.target.holds[NAME]
            assert digests == [KNOWN.digest, NEW.digest], "the tag before the list of referrers"

    def end(self) -> object:
        """What is to be the same, whoever died."""
        outcomes = [{**outcome, "previous": ""} for outcome in self.fleet.ledger.outcomes("j1")]
        return outcomes, dict(self.target.manifests), {n: dict(t) for n, t in self.target.tag_lists.items()}


ONCE = HTTP._once


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two registries that the client reaches by https."""
    with contextlib.ExitStack() as stack:
        yield World(tmp_path, make_authority(tmp_path, *NAMES), stack)


def test_a_signature_is_published_and_listed_whenever_its_worker_dies(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every request of the publish step."""
    clean = Signing(world, monkeypatch)
    planned, wire = len(clean.target.seen), Wire(watch=clean.look)
    assert clean.work(wire)
    end = clean.end()
    puts = [one.path.rpartition("/")[2] for one in clean.target.seen[planned:] if one.method == "PUT"]
    assert puts == [NEW.digest, TAG, "1"]
    for moment in (moment for moment in wire.moments() if "https://" in wire.name(moment)):
        one = Signing(world, monkeypatch)
        try:
            assert not one.work(Wire(moment, watch=one.look)), "nobody died"
            one.look()
            assert one.work(Wire(watch=one.look))
            assert one.fleet.failures == []
            assert one.end() == end
        except AssertionError as error:
            raise AssertionError(f"killed {wire.name(moment)}: {error}") from error
