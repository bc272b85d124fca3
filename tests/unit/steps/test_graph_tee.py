"""Whole jobs whose downloads feed the destination in the same pass."""

from __future__ import annotations

import threading

import pytest

from distworker.blobstore.keys import blob_key
from distworker.digest import Digest
from distworker.errors import Unavailable
from tests.fakes.content import complete, image, put
from tests.fakes.ports import Run
from tests.unit.steps.graph_kit import APP, BASE, copy, sites


def test_the_tee_feeds_the_destination_in_the_same_pass(run: Run) -> None:
    """One reading serves store and destination: no upload step runs, and the blob stays in the store."""
    source, target = sites(run)
    content = put(source, "team/app", "1", image(BASE, APP))
    run.job("j1", copy())
    assert complete(target, "team/app", content)
    assert not [step for step in run.ran if step.startswith("u:")]
    assert run.counters("j1")["uploaded"] == len(BASE + APP + b"{}")
    assert run.store.stat(blob_key("default", Digest.of(BASE))) is not None


def test_a_tee_that_fails_costs_nothing_but_the_upload_step(run: Run) -> None:
    """The destination refuses the first session; the blob still arrives, from the store, read once."""
    source, target = sites(run)
    content = put(source, "team/app", "1", image(BASE))
    target.errors["start_upload"] = Unavailable("no sessions just now")
    outcomes = run.job("j1", copy())
    assert outcomes[0]["state"] == "done"
    assert complete(target, "team/app", content)
    assert source.served[Digest.of(BASE)] == len(BASE)
    assert [step for step in run.ran if step.startswith("u:")]


def test_a_tee_that_stalls_is_cut(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The download ends although the destination takes nothing; its half upload is dropped."""
    monkeypatch.setattr("distworker.steps.tee.STALL", 0.05)
    monkeypatch.setattr("distworker.steps.tee.COMMIT", 0.05)
    source, target = sites(run)
    put(source, "team/app", "1", image(BASE))
    target.gate = threading.Event()
    run.open("j1", copy())
    while f"d:default/{Digest.of(BASE)}" not in run.ran:
        run.ledger.beat("me", 8, {}, [])
        for step in run.ledger.pump():
            run.step(step.id)
        run.now += 1
    assert run.store.stat(blob_key("default", Digest.of(BASE))) is not None
    target.gate.set()
    target.gate = None
    run.drain()
    assert run.outcomes("j1")[0]["state"] == "done"
