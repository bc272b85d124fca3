"""Whoever submits, pauses, cancels, retries, recovers or keeps a report is killed at every call; done again,
or by the next one, it comes out as if nobody had died.

As in the tests of jobs the calls are not listed: each is made once to count them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from distworker.blobstore.memory import MemoryStore
from distworker.plan.model import JobRequest, Pair
from distworker.service.jobs import Jobs
from distworker.service.reports import sweep_reports
from distworker.service.upkeep import Bite
from distworker.state.memory import MemoryLedger
from tests.crash.wire import Killed, Tapped, Wire
from tests.fakes.content import image, layer, put
from tests.fakes.ports import Run, Site, registry_place

TENANT = "default"


class Office:
    """Jobs over a ledger and a store that live on."""

    def __init__(self) -> None:
        source = Site("s.example")
        put(source, "good", "1", image(layer("good", 10)))
        self.sites = (source, Site("dst.example"))
        self.store = MemoryStore()
        self.run = Run(*self.sites, store=self.store)

    def jobs(self, wire: Wire | None = None) -> Jobs:
        """The use cases of a process over that wire, or of one that nothing befalls."""
        ledger: Any = Tapped(wire, "ledger", self.run.ledger) if wire else self.run.ledger
        store: Any = Tapped(wire, "store", self.store) if wire else self.store
        return Jobs(ledger, lambda: store, lambda steps: None, now=lambda: 5.0)

    def submit(self, job: str, wire: Wire | None = None) -> None:
        pairs = [
            Pair(registry_place("s.example", name, "1"), registry_place("dst.example", name))
            for name in ("good", "bad")
        ]
        self.jobs(wire).create(JobRequest(job, "migrate", tuple(pairs), 1.0))

    def lose_redis(self) -> None:
        self.run = Run(*self.sites, store=self.store)

    def end(self) -> dict[str, Any]:
        """Everything that outlives a process."""
        ledger = self.run.ledger
        assert isinstance(ledger, MemoryLedger)
        return {
            "jobs": {
                view.id: (view.state, view.paused, view.record, len(ledger.outcomes(view.id)))
                for view in ledger.jobs()
            },
            # Who hands them out does not matter: the workers' pumps do when nobody else did.
            "steps": {step.id: step.body for step in ledger._graph.steps.values()},
            "unreported": list(ledger.unreported()),
            "store": {key: data for key, data in self.store._objects.items() if "/jobs/" in key},
        }


@dataclass(frozen=True)
class Deed:
    """What somebody does, after `before`; `wire` is None when it is done again by a process that lives."""

    before: Callable[[Office], object]
    do: Callable[[Office, Wire | None], object]


def ended(office: Office) -> None:
    """A job of which one image failed is over."""
    office.submit("j1")
    office.run.drain()


def resubmitted_much_later(office: Office) -> None:
    """Redis forgot a job of that id; all of it lies in the store."""
    ended(office)
    sweep_reports(office.run.ledger, office.store, TENANT, Bite(lambda: None))
    office.lose_redis()


def lost(office: Office) -> None:
    """One job that ran, one that was paused, one that was cancelled, one that was over."""
    for job in ("j1", "j2", "j3"):
        office.submit(job)
    office.jobs().pause("j2")
    office.jobs().cancel("j3")
    office.lose_redis()


def keep(office: Office, wire: Wire | None) -> None:
    """As a worker does on its turn."""
    ledger: Any = Tapped(wire, "ledger", office.run.ledger) if wire else office.run.ledger
    store: Any = Tapped(wire, "store", office.store) if wire else office.store
    sweep_reports(ledger, store, TENANT, Bite(lambda: None))


DEEDS = {
    "submit": Deed(lambda office: None, lambda office, wire: office.submit("j1", wire)),
    "submit an id of long ago": Deed(resubmitted_much_later, lambda office, wire: office.submit("j1", wire)),
    "pause": Deed(lambda office: office.submit("j1"), lambda office, wire: office.jobs(wire).pause("j1")),
    "resume": Deed(
        lambda office: (office.submit("j1"), office.jobs().pause("j1")),
        lambda office, wire: office.jobs(wire).resume("j1"),
    ),
    "retry": Deed(ended, lambda office, wire: office.jobs(wire).retry("j1")),
    "recover": Deed(lost, lambda office, wire: list(office.jobs(wire).recover())),
    "keep a report": Deed(ended, keep),
}


def prepared(deed: Deed) -> Office:
    office = Office()
    deed.before(office)
    return office


@pytest.mark.parametrize("name", DEEDS)
def test_whoever_does_it_may_die_at_any_call(name: str) -> None:
    """Done again it is done once."""
    deed = DEEDS[name]
    clean, wire = prepared(deed), Wire()
    deed.do(clean, wire)
    assert wire.calls, "it asks somebody"
    for moment in wire.moments():
        office = prepared(deed)
        with pytest.raises(Killed):
            deed.do(office, Wire(moment))
        deed.do(office, None)
        assert office.end() == clean.end(), f"{name}, killed {wire.name(moment)}"


def test_a_job_is_never_half_submitted() -> None:
    """Wherever its sender died: either nobody knows of it, or it runs, at the latest when it is recovered."""
    wire = Wire()
    Office().submit("j1", wire)
    for moment in wire.moments():
        office = Office()
        with pytest.raises(Killed):
            office.submit("j1", Wire(moment))
        list(office.jobs().recover())
        office.run.drain()
        asked = office.store.get_bytes("default/jobs/j1/request.json", 10**6) is not None
        assert [view.state for view in office.run.ledger.jobs()] == (["failed"] if asked else [])


def test_an_old_job_does_not_come_back_while_its_id_is_used_again() -> None:
    """Its sender died in between: nobody runs what was asked for long ago."""
    wire = Wire()
    clean = prepared(DEEDS["submit an id of long ago"])
    old = clean.store.get_bytes("default/jobs/j1/request.json", 10**6)
    clean.submit("j1", wire)
    for moment in wire.moments():
        office = prepared(DEEDS["submit an id of long ago"])
        office.store.put_bytes("default/jobs/j1/request.json", (old or b"").replace(b"good", b"gone"))
        with pytest.raises(Killed):
            office.submit("j1", Wire(moment))
        list(office.jobs().recover())
        assert all(view.record["source"] == "s.example/good:1" for view in office.run.ledger.jobs()), moment


def test_a_cancel_is_one_for_good() -> None:
    """Whoever cancels dies: once the ledger has it, the job is not run again by whoever keeps its report."""
    wire = Wire()
    clean = prepared(DEEDS["pause"])
    clean.jobs(wire).cancel("j1")
    for moment in wire.moments():
        office = prepared(DEEDS["pause"])
        with pytest.raises(Killed):
            office.jobs(Wire(moment)).cancel("j1")
        view = office.jobs().view("j1")
        keep(office, None)
        office.lose_redis()
        actions = [looked.action for looked in office.jobs().recover()]
        assert actions == (["opened"] if view.closed is None else ["closed"]), wire.name(moment)
