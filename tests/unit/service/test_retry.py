"""Retry: the images that did not make it, as they stood in the list, in a job of their own."""

from __future__ import annotations

from typing import Any

import pytest

from distworker.blobstore.keys import job_key
from distworker.errors import InvalidRequest, JobRunning, JobUnknown
from distworker.names import expand_id
from distworker.plan.folder import read_request
from distworker.plan.model import JobRequest, Pair
from distworker.platforms import Platform
from distworker.service.jobs import Jobs
from distworker.service.reports import keep_report
from distworker.service.retry import ids
from tests.fakes.content import image, layer, put
from tests.fakes.ports import Run, Site, registry_place


def pair(source: str, to: str, **more: Any) -> Pair:
    """From a repository of one site to one of the other."""
    return Pair(registry_place("s.example", *source.split(":")), registry_place("dst.example", to), **more)


class Fleet:
    """A job of which `good:1` arrives and `bad:1` is not there."""

    def __init__(self, *more: Pair, priority: int = 3) -> None:
        self.source, self.destination = Site("s.example"), Site("dst.example")
        put(self.source, "good", "1", image(layer("good", 10)))
        self.run = Run(self.source, self.destination)
        bad = pair("bad:1", "bad", platforms=(Platform.parse("linux/amd64"),))
        self.request = JobRequest(
            "j1", "migrate", (pair("good:1", "good"), bad, *more), 1.0, priority, labels=(("by", "me"),)
        )
        self.jobs.create(self.request)

    @property
    def jobs(self) -> Jobs:
        return Jobs(self.run.ledger, lambda: self.run.store, lambda steps: None, now=lambda: 77.0)

    def made(self, job: str) -> JobRequest:
        return read_request(self.run.store, "default", job)


def test_only_what_failed_is_run_again_and_just_as_it_was() -> None:
    """Source, destination, platforms, labels and priority; the record says whose retry it is."""
    fleet = Fleet()
    fleet.run.drain()
    made = fleet.jobs.retry("j1")
    assert (made.job, made.images, made.left_out, made.joined) == ("j1-retry1", 1, 0, False)
    request = fleet.made(made.job)
    [again] = request.pairs
    assert (again.source, again.destination.repository, again.destination.tag, again.platforms) == (
        fleet.request.pairs[1].source,
        "bad",
        "1",
        fleet.request.pairs[1].platforms,
    )
    assert (request.labels, request.priority, request.kind) == ((("by", "me"),), 3, "migrate")
    assert (request.created, request.retry_of) == (77.0, "j1")
    assert fleet.jobs.view(made.job).record["retry_of"] == "j1"
    put(fleet.source, "bad", "1", image(layer("late", 10)))
    fleet.run.drain()
    assert [o["state"] for o in fleet.jobs.outcomes(made.job)] == ["done"]


def test_a_second_retry_joins_the_one_that_runs_and_later_makes_another() -> None:
    """The id follows from the job's; a retry of a retry counts on."""
    fleet = Fleet()
    fleet.run.drain()
    assert fleet.jobs.retry("j1").job == "j1-retry1"
    again = fleet.jobs.retry("j1")
    assert (again.job, again.joined) == ("j1-retry1", True)
    fleet.run.drain()
    assert fleet.jobs.retry("j1-retry1").job == "j1-retry2"
    assert fleet.made("j1-retry2").retry_of == "j1-retry1"
    assert fleet.jobs.retry("j1", priority=9).joined, "that one runs"


def test_nothing_is_made_of_a_job_that_went_well() -> None:
    """Of a retry that went well neither."""
    fleet = Fleet()
    put(fleet.source, "bad", "1", image(layer("late", 10)))
    fleet.run.drain()
    made = fleet.jobs.retry("j1")
    assert (made.job, made.left_out) == ("", 0)
    assert [view.id for view in fleet.jobs.recent()] == ["j1"]


def test_what_was_cancelled_is_left_out_unless_asked_for() -> None:
    """Images that were never reached count as cancelled."""
    many = [pair(f"good:{n}", f"more{n}") for n in range(5)]
    fleet = Fleet(*many)
    jobs = Jobs(fleet.run.ledger, lambda: fleet.run.store, lambda steps: None, window=3)
    jobs.create(JobRequest("j2", "migrate", fleet.request.pairs, 1.0))
    assert fleet.run.step("j:j2"), "the first window"
    assert fleet.jobs.cancel("j2")
    assert fleet.jobs.retry("j2").left_out == 7
    made = fleet.jobs.retry("j2", cancelled=True)
    assert (made.images, made.left_out) == (7, 0)
    assert [p.source for p in fleet.made(made.job).pairs] == [p.source for p in fleet.request.pairs]


def test_a_job_cancelled_before_it_had_a_list_is_retried_whole() -> None:
    """Its request is all there is."""
    fleet = Fleet()
    assert fleet.jobs.cancel("j1")
    made = fleet.jobs.retry("j1")
    assert (made.job, made.left_out) == ("", 2)
    assert fleet.jobs.retry("j1", cancelled=True).images == 2


def test_a_job_whose_list_could_not_be_made_is_retried_whole() -> None:
    """Its error is the job's, not an image's."""
    fleet = Fleet()
    fleet.run.ledger.beat("me", 1, {}, [])
    fleet.run.ledger.pump()
    fleet.run.ledger.claim(expand_id("j1"), "t", "me")
    fleet.run.ledger.fail(expand_id("j1"), "t", {"code": "denied", "message": "no"}, False, 0)
    assert fleet.jobs.view("j1").state == "failed"
    assert fleet.jobs.retry("j1").images == 2


def test_an_empty_repository_is_listed_again() -> None:
    """Its one image had no version to name."""
    fleet = Fleet(
        Pair(registry_place("s.example", "none"), registry_place("dst.example", "n"), all_tags=True)
    )
    fleet.source.repository("none")
    fleet.run.drain()
    made = fleet.jobs.retry("j1")
    assert [p.all_tags for p in fleet.made(made.job).pairs] == [False, True]


def test_a_job_known_from_its_report_is_retried_too() -> None:
    """Redis forgot it, or was lost."""
    fleet = Fleet()
    fleet.run.drain()
    assert keep_report(fleet.run.ledger, fleet.run.store, "default", "j1")
    fleet.run = Run(fleet.source, fleet.destination, store=fleet.run.store)
    made = fleet.jobs.retry("j1")
    assert (made.job, made.images) == ("j1-retry1", 1)


def test_what_cannot_be_retried_is_refused() -> None:
    """Unknown, running, or without its list."""
    fleet = Fleet()
    with pytest.raises(JobUnknown):
        fleet.jobs.retry("nope")
    with pytest.raises(JobRunning, match="distworker cancel j1"):
        fleet.jobs.retry("j1")
    fleet.run.drain()
    fleet.run.store.delete(job_key("default", "j1", "list.json"))
    with pytest.raises(InvalidRequest, match="no longer in the store"):
        fleet.jobs.retry("j1")


def test_a_retry_too_large_for_one_request_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do instead; nothing is started."""
    monkeypatch.setattr("distworker.service.retry.PAIRS_MAX", 1)
    fleet = Fleet(pair("bad:2", "bad2"))
    fleet.run.drain()
    with pytest.raises(InvalidRequest, match="start the whole job again"):
        fleet.jobs.retry("j1")
    assert [view.id for view in fleet.jobs.recent()] == ["j1"]


def test_ids_of_retries_stay_short() -> None:
    """An image's id is the job's and a number, and has room for 64 characters."""
    long = "a" * 48
    first = next(ids(long))
    assert len(first) <= 48 and first.endswith("-retry1")
    assert next(ids("a" * 47 + "b")) != first
    assert next(ids(first)) == first
