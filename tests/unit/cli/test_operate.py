"""pause, resume, retry, stuck and recover as a person or script calls them."""

from __future__ import annotations

from typing import Any

import pytest

from distworker.cli import stuck
from distworker.errors import DistworkerError, JobRunning, JobUnknown
from distworker.service.recover import BROKEN, CLOSED, OPENED, Looked
from distworker.service.retry import Retried
from distworker.state.base import Overdue
from distworker.state.reasons import SENTENCES
from tests.unit.cli.calls import Command, Fleet
from tests.unit.cli.fake_jobs import JOB, FakeJobs, closed, view

# --- pause, resume --------------------


def test_a_job_is_paused_and_resumed(run: Command, fleet: Fleet) -> None:
    """Each says how far the job is, and pause how it goes on."""
    jobs = fleet(FakeJobs([view(paused=True, counters={"total": 3, "done": 1})]))

    paused = run("pause", JOB)
    assert (paused.code, jobs.held) == (0, [JOB])
    assert paused.out == (
        f"job {JOB} is paused: 1 done, 0 unchanged, 0 failed; resume: distworker resume {JOB}\n"
    )
    machine = run("pause", "--json", JOB)
    assert (machine.events[0]["state"], machine.events[0]["paused"]) == ("running", True)
    jobs.held = [JOB]
    assert run("resume", JOB).out == f"job {JOB} goes on: 1 done, 0 unchanged, 0 failed\n"
    assert jobs.held == []


def test_what_is_over_can_be_neither_paused_nor_resumed(run: Command, fleet: Fleet) -> None:
    """Said, but no error, as with cancel."""
    jobs = fleet(FakeJobs([view("done")]))
    jobs.held = [JOB]

    for words in ("resume", "pause"):
        ran = run(words, JOB)
        assert (ran.code, ran.out) == (
            0,
            f"job {JOB} was over already: done, 1 done, 0 unchanged, 0 failed\n",
        )


def test_a_registry_is_paused_for_all_jobs(run: Command, fleet: Fleet) -> None:
    """And shown by status until it is resumed; resuming what goes on is no error."""
    jobs = fleet(FakeJobs([view()]))

    assert run("pause", "--origin", "r.example:5000").out == (
        "r.example:5000 is paused; resume: distworker resume --origin r.example:5000\n"
    )
    assert jobs.origins == ["r.example:5000"]
    assert "paused  everything at r.example:5000; resume: distworker resume --origin r.example:5000" in (
        run("status").out.splitlines()
    )
    assert run("status", "--json").events[-1] == {
        **{"event": "origin", "v": 1},
        **{"origin": "r.example:5000", "paused": True},
    }
    assert run("resume", "--origin", "r.example:5000").out == "r.example:5000 goes on\n"
    again = run("resume", "--origin", "r.example:5000")
    assert (again.code, again.out) == (0, "r.example:5000 was not paused by anybody\n")
    assert run("pause", "--json", "--origin", "r.example").events[0]["paused"] is True


@pytest.mark.parametrize("words", [(), (JOB, "--origin", "r.example")])
def test_pause_and_resume_want_one_thing(run: Command, fleet: Fleet, words: tuple[str, ...]) -> None:
    """Neither nothing nor both."""
    fleet(FakeJobs())

    for command in ("pause", "resume"):
        ran = run(command, *words)
        assert (ran.code, ran.err.splitlines()[0]) == (
            2,
            "usage: name either a JOB or --origin HOST; `distworker status` lists jobs",
        )


def test_a_paused_job_is_called_so(run: Command, fleet: Fleet) -> None:
    """In the list and alone."""
    fleet(FakeJobs([view(paused=True)]))

    assert run("status").out.splitlines()[1].split()[:2] == [JOB, "paused"]
    assert run("status", JOB).out.startswith(f"job     {JOB} paused for ")


# --- retry --------------------


def test_retry_follows_the_new_job(run: Command, fleet: Fleet) -> None:
    """Its exit code is that of the images it ran again; whose retry it is stands in status."""
    record = {"kind": "copy", "retry_of": JOB}
    jobs = fleet(
        FakeJobs([view("done", job=f"{JOB}-retry1", record=record)], [closed(1)]),
    )

    ran = run("retry", "--cancelled", "--priority", "7", JOB)

    assert (ran.code, jobs.asked) == (0, [(JOB, True, 7)])
    assert ran.err == f"job {JOB}-retry1, the retry of {JOB}, has 2 images\n"
    assert f"retry   of {JOB}" in ran.out.splitlines()
    assert run("retry", "--json", JOB).events[-1]["retry_of"] == JOB


def test_retry_can_leave_at_once(run: Command, fleet: Fleet) -> None:
    """As copy does."""
    fleet(FakeJobs([view(job=f"{JOB}-retry1")]))

    ran = run("retry", "--detach", JOB)

    assert (ran.code, ran.out) == (0, f"job {JOB}-retry1 running\n")
    assert f"follow: distworker status {JOB}-retry1 --follow" in ran.err


def test_a_second_retry_leads_to_the_one_that_runs(run: Command, fleet: Fleet) -> None:
    """Two people, one job."""
    jobs = fleet(FakeJobs([view("done", job=f"{JOB}-retry1")], [closed(1)]))
    jobs.retried = Retried(f"{JOB}-retry1", 0, 0, joined=True)

    ran = run("retry", JOB)

    assert (ran.code, ran.err) == (0, f"job {JOB}-retry1, the retry of {JOB}, is running already\n")


def test_nothing_to_retry_is_said(run: Command, fleet: Fleet) -> None:
    """Exit 0; cancelled images are not forgotten."""
    jobs = fleet(FakeJobs([view("cancelled")]))
    jobs.retried = Retried("", 0, 4, joined=False)

    ran = run("retry", JOB)

    said = f"nothing failed in job {JOB}; 4 cancelled are left out, --cancelled takes them too"
    assert (ran.code, ran.out) == (0, said + "\n")
    assert run("retry", "--json", JOB).events == [{"event": "nothing", "v": 1, "job": JOB, "message": said}]


@pytest.mark.parametrize("error", [JobUnknown("there is no job x"), JobRunning("job x is not over")])
def test_what_cannot_be_retried_is_a_usage_error(
    run: Command, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, error: DistworkerError
) -> None:
    """One line with a code, exit 2."""
    jobs = fleet(FakeJobs())

    def refuse(*_: Any, **__: Any) -> Retried:
        raise error

    monkeypatch.setattr(jobs, "retry", refuse)
    ran = run("retry", "x")
    assert (ran.code, ran.err) == (2, f"{error}\n")


# --- recover --------------------


def test_recover_prints_a_line_for_each_job_it_found(run: Command, fleet: Fleet) -> None:
    """Jobs that are over are counted, unless they were asked for; what cannot be opened is exit 1."""
    jobs = fleet(FakeJobs())
    jobs.looked = [
        Looked("a", CLOSED, "is over"),
        Looked("b", OPENED, "opened again, with its frozen list"),
        Looked("c", BROKEN, "request: not JSON"),
    ]

    everything, named, dry = run("recover"), run("recover", "a", "b"), run("recover", "--dry-run")

    assert everything.out.splitlines() == [
        "opened    b  opened again, with its frozen list",
        "broken    c  request: not JSON",
        "1 opened again, 1 closed, 1 broken",
    ]
    assert named.out.splitlines()[0] == "closed    a  is over"
    assert dry.out.splitlines()[-1] == "1 would be opened again, 1 closed, 1 broken"
    assert (everything.code, jobs.asked) == (1, [((), False), (("a", "b"), False), ((), True)])
    events = run("recover", "--json").events
    assert [(event["job"], event["action"]) for event in events] == [
        ("a", "closed"),
        ("b", "opened"),
        ("c", "broken"),
    ]


def test_nothing_to_recover_is_exit_0(run: Command, fleet: Fleet) -> None:
    """As a cron job wants it."""
    fleet(FakeJobs())

    ran = run("recover")

    assert (ran.code, ran.out) == (0, "0 opened again\n")


# --- stuck --------------------


def late(reason: str, **changes: Any) -> Overdue:
    fields = {"id": "p:J-1", "job": "J", "state": "delayed", "since": 1.0, "deadline": None, "worker": ""}
    return Overdue(**{**fields, "reason": reason, "text": "plan a to b", **changes})


def test_nothing_stuck_is_said(run: Command, fleet: Fleet) -> None:
    """Exit 0."""
    fleet(FakeJobs([view()]))

    ran = run("stuck")

    assert (ran.code, ran.out) == (0, "nothing is stuck\n")


def test_what_is_late_is_listed_with_its_reason_and_a_remedy(run: Command, fleet: Fleet) -> None:
    """Exit 1, one line each; pauses and missing workers once for a whole job or registry."""
    jobs = fleet(FakeJobs([view(paused=True)], workers=()))
    jobs.origins = ["r.example"]
    jobs.late = [
        late("runs again at 12:00"),
        late(f"job {JOB} is paused by an operator", id="p:J-2"),
        late("waits for p:J-2", id="m:J-2"),
    ]

    ran, machine = run("stuck"), run("stuck", "--json")

    assert ran.code == machine.code == 1
    lines = [line.strip() for line in ran.out.splitlines()]
    assert lines[1:3] == ["why  no worker is alive", "do   start a worker: celery -A tasks worker"]
    assert lines[4:6] == ["why  an operator paused it; 2 steps wait", f"do   distworker resume {JOB}"]
    assert lines[6].split() == ["paused", "registry", "r.example"]
    assert lines[7:9] == ["why  an operator paused it", "do   distworker resume --origin r.example"]
    assert lines[9].startswith("delayed") and lines[9].endswith("plan a to b  (job J)")
    assert lines[10:] == ["why  runs again at 12:00", "do   nothing: it is tried again by itself"]
    assert [event["what"] for event in machine.events] == [
        f"job {JOB}",
        f"job {JOB}",
        "registry r.example",
        "plan a to b",
    ]
    assert machine.events[-1]["step"] == "p:J-1"


def test_more_than_the_limit_is_said(run: Command, fleet: Fleet) -> None:
    """A table that was cut says so."""
    jobs = fleet(FakeJobs([view()]))
    jobs.late = [late("runs again at 12:00")] * 3

    assert run("stuck", "--limit", "2").out.splitlines()[-1] == "these are the first 2; --limit shows more"


@pytest.mark.parametrize("word", SENTENCES)
def test_every_reason_of_the_ledger_has_a_remedy(word: str) -> None:
    """A reason without one would leave its reader alone."""
    assert stuck.remedy(late(SENTENCES[word]))
