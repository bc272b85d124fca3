"""Workers that die and their successors, over a ledger, a store and registries that live on.

Each worker is the real runner with every port tapped (`wire.py`). What it leaves in the ledger comes back as
it does in life: a lease runs out, a message that nobody took is sent again. At every call the fleet looks at
what others can see: under each tag a whole image, under each blob key exactly those bytes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from distworker.blobstore.keys import blob_key
from distworker.blobstore.memory import MemoryStore
from distworker.digest import Digest
from distworker.manifest import parse_manifest
from distworker.plan.model import Pair
from distworker.service.runner import Equipment, Presence, Runner, StepFailed
from distworker.state.base import Admitted
from distworker.steps.table import STEPS
from tests.crash.wire import Killed, Tapped, Wire
from tests.fakes.content import Image, complete
from tests.fakes.ports import Repository, Run, Site, require_parts

#: Seconds within which a job closes after one death: a lease, a re-sent message, and then some.
ROUNDS = 120

_parsed = functools.cache(parse_manifest)


class Fleet:
    """See the module text. `tags` says what each tag of each site may lead to, `site/repository:tag`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *sites: Site) -> None:
        self.world = Run(*sites, store=MemoryStore())
        self.sites = self.world.sites
        self.ledger = self.world.ledger
        self.inbox: list[str] = []
        self.failures: list[str] = []
        self.tags: dict[str, Sequence[Image]] = {}
        self._seen: dict[str, bytes] = {}
        self._whole: dict[int, int] = {}
        self._beside: list[threading.Thread] = []
        monkeypatch.setattr("distworker.steps.tee.run_beside", self._run_beside)

    def _run_beside(self, work: Callable[[], None]) -> None:
        def until_killed() -> None:
            with contextlib.suppress(Killed):
                work()

        self._beside.append(threading.Thread(target=until_killed, daemon=True))
        self._beside[-1].start()

    # --- workers --------------------
    def worker(self, wire: Wire) -> Runner:
        """A process of its own over this wire."""
        context = self.world.context
        kit = Equipment(
            registries=Tapped(wire, "registries", context.registries),  # type: ignore[arg-type]
            store=Tapped(wire, "store", self.world.store),  # type: ignore[arg-type]
            steps=STEPS,
        )
        ledger: Any = Tapped(wire, "ledger", self.ledger)
        return Runner(ledger, kit, self._dispatch, Presence(f"w{id(wire)}", 8))

    def _dispatch(self, admitted: Sequence[Admitted]) -> None:
        self.inbox += [step.id for step in admitted]

    def run(self, worker: Runner, step: str) -> None:
        """One message; a step that failed is remembered."""
        try:
            worker.run(step)
        except StepFailed as error:
            self.failures.append(str(error))
        finally:
            while self._beside:
                self._beside.pop().join(20)

    def work(self, wire: Wire, until: Callable[[], bool] = lambda: False) -> bool:
        """Take messages until every job is closed, or `until` holds; False when the worker was killed."""
        worker = self.worker(wire)
        try:
            for _ in range(ROUNDS):
                while self.inbox and not until():
                    self.run(worker, self.inbox.pop(0))
                if until() or not any(view.closed is None for view in self.ledger.jobs()):
                    return True
                self.pass_a_second()
        except Killed:
            return False
        raise AssertionError("a job does not end")

    def pass_a_second(self) -> None:
        """The ledger's clock goes on; what is overdue comes back and what is ready is handed out."""
        self.world.now += 1
        self.ledger.beat("the fleet", 8, {}, [])
        self.ledger.reap("the fleet")
        self._dispatch(self.ledger.pump())

    def open(self, *pairs: Pair, job: str = "j1") -> None:
        """Record a job."""
        self.world.open(job, *pairs)

    # --- what anybody may see at any time --------------------
    def look(self) -> None:
        """Assert it."""
        for host, site in self.sites.items():
            for name, repository in list(site.repositories.items()):
                for raw, _ in list(repository.manifests.values())[self._known(repository) :]:
                    require_parts(repository, _parsed(raw))
                for tag, digest in list(repository.tags.items()):
                    self._look_at(site, name, tag, digest, self.tags.get(f"{host}/{name}:{tag}"))
        for key, data in list(self._objects.items()):
            if "/blobs/" in key and self._seen.get(key) is not data:
                self._seen[key] = data
                assert Digest.of(data).hex == key.rpartition("/")[2], f"{key} holds other bytes"
            elif "/refs/" in key:
                self._look_below(key, Digest.parse(json.loads(data)["digest"]))

    def _look_below(self, ref: str, digest: Digest) -> None:
        raw = self._objects.get(blob_key("default", digest))
        assert raw is not None, f"{ref} leads to {digest}, which is not there"
        manifest = _parsed(raw)
        for blob in manifest.blobs:
            assert blob_key("default", blob.digest) in self._objects, f"{ref} lacks {blob.digest}"
        for child in manifest.children:
            self._look_below(ref, child.digest)

    @property
    def _objects(self) -> dict[str, bytes]:
        assert isinstance(self.world.store, MemoryStore)
        return self.world.store._objects

    def _known(self, repository: Repository) -> int:
        """How many of its manifests were seen whole already."""
        known = self._whole.get(id(repository), 0)
        self._whole[id(repository)] = len(repository.manifests)
        return known

    @staticmethod
    def _look_at(site: Site, name: str, tag: str, digest: str, may: Sequence[Image] | None) -> None:
        if may is not None:
            found = [one for one in may if one.digest == digest]
            assert found, f"{name}:{tag} leads to {digest}"
            assert complete(site, name, found[0]), f"{name}:{tag} leads to a half image"

    def end(self) -> dict[str, Any]:
        """What stands when everything is over, to be compared with another fleet's.

        `previous` is left out: who died after the tag was moved finds it moved.
        """
        graph = self.ledger._graph
        assert (graph.steps, graph.use, graph.flying, graph.layers_flying) == ({}, {}, {}, 0)
        jobs = {view.id: (view.state, view.error) for view in self.ledger.jobs()}
        outcomes = {
            str(outcome["image"]): {**outcome, "previous": ""}
            for job in jobs
            for outcome in self.ledger.outcomes(job)
        }
        sites = {
            host: {name: replace(repository) for name, repository in site.repositories.items()}
            for host, site in self.sites.items()
        }
        # A list that was drawn carries its run's token, and the outcomes say which images it has; a dead
        # writer's intent stays until it runs out.
        own = ("/list", "/care/")
        store = {key: data for key, data in self._objects.items() if not any(part in key for part in own)}
        return {"jobs": jobs, "outcomes": outcomes, "store": store, "sites": sites}
