"""status, cancel and doctor as a person or script calls them."""

from __future__ import annotations

import pytest

from distworker.cli import work
from distworker.service.doctor import Check
from tests.unit.cli.calls import Command, Fleet
from tests.unit.cli.fake_jobs import JOB, FakeJobs, closed, view

DENIED = {"code": "denied", "message": "not allowed to push"}


ONE_DONE = [view("done", counters={"total": 1, "done": 1})]


def test_status_lists_jobs_in_columns(run: Command, fleet: Fleet) -> None:
    """One line a job, never shortened in a pipe."""
    record = {"kind": "migrate", "pairs": 3, "source": "a.example/" + "x" * 200, "destination": "b.example/x"}
    fleet(FakeJobs([view("running", record=record, counters={"total": 3, "done": 1, "uploaded": 2_000_000})]))

    lines = run("status").out.splitlines()

    assert lines[0].split() == ["JOB", "STATE", "CLOSED", "FAILED", "MOVED", "SAVED", "CREATED", "WHAT"]
    assert lines[1].split()[:5] == [JOB, "running", "1", "of", "3"]
    assert lines[1].rstrip().endswith(f"migrate a.example/{'x' * 200} → b.example/x and 2 more")
    assert len(lines) == 2


def test_status_without_jobs_says_how_to_make_one(run: Command, fleet: Fleet) -> None:
    """An empty list is not an empty screen."""
    fleet(FakeJobs())

    assert run("status").out == "no jobs yet; `distworker copy SRC DST` makes one\n"


def test_status_shows_the_labels_of_a_job(run: Command, fleet: Fleet) -> None:
    """They are how people find their job again; a job without labels has no such line."""
    record = {"kind": "copy", "labels": {"ticket": "42", "by": "x\x1b[31m\ny"}}
    fleet(FakeJobs([view("done", record=record), view("done", record=record), view("done")]))

    assert run("status", JOB).out.splitlines()[1] == "labels  by=x [31m y, ticket=42"
    assert run("status", "--json", JOB).events[0]["labels"] == record["labels"]
    assert "labels" not in run("status", JOB).out


def test_status_of_a_job_shows_images_bytes_steps_and_failures(run: Command, fleet: Fleet) -> None:
    """Everything about one job, failures limited for people and complete for machines."""
    step = {"moved": 1_000_000, "size": 2_000_000, "worker": "w1", "text": "upload sha256:efef to r.example"}
    running = {"u:sha256:" + "ef" * 32 + "@r.example": step}
    jobs = [view(running=running, counters={"total": 99, "done": 1, "failed": 30})]
    outcomes = [closed(1), *(closed(n, "failed", error=DENIED) for n in range(2, 32))]
    fleet(FakeJobs(jobs, outcomes))

    lines = run("status", JOB).out.splitlines()
    events = run("status", "--json", JOB).events

    assert lines[1] == "images  99: 1 done, 0 unchanged, 30 failed"
    assert sum(line.startswith("failed ") for line in lines) == 20
    assert lines[-2] == "and 10 more failed; --json lists all"
    assert lines[-1] == "running upload sha256:efef to r.example  1.0 MB of 2.0 MB  by w1"
    assert len(events) == 32
    assert events[0]["running"][0]["verb"] == "upload"


def test_an_unknown_job_is_a_usage_error(run: Command, fleet: Fleet) -> None:
    """The id was mistyped: exit 2."""
    fleet(FakeJobs())

    assert (run("status", "x").code, run("cancel", "x").code) == (2, 2)


def test_following_a_job_exits_as_the_job_ends(run: Command, fleet: Fleet) -> None:
    """`status --follow` takes up what Ctrl-C left."""
    fleet(
        FakeJobs(
            [view(), view("failed", counters={"total": 1, "failed": 1})], [closed(1, "failed", error=DENIED)]
        )
    )

    assert run("status", "--follow", JOB).code == 1


def test_cancel_stops_the_job_and_says_how_far_it_came(run: Command, fleet: Fleet) -> None:
    """Exit 0: what was asked for was done."""
    jobs = fleet(FakeJobs([view("cancelled", counters={"total": 3, "done": 1, "cancelled": 2})]))

    ran = run("cancel", JOB)

    assert (ran.code, jobs.cancelled) == (0, [JOB])
    assert ran.out == f"job {JOB} cancelled: 1 done, 0 unchanged, 0 failed, 2 cancelled\n"


def test_cancelling_a_job_that_is_over_changes_nothing(
    run: Command, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said, but no error: the wish is fulfilled."""
    jobs = fleet(FakeJobs(ONE_DONE))
    monkeypatch.setattr(jobs, "cancel", lambda job: False)

    ran = run("cancel", JOB)

    assert (ran.code, ran.out) == (0, f"job {JOB} was over already: done, 1 done, 0 unchanged, 0 failed\n")


def test_doctor_names_what_is_wrong_and_what_to_do(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 3 with a remedy; settings that have their default are shown only when asked for."""
    checks = [
        Check("settings slots", True, "4  [default]"),
        Check("settings redis_url", True, "redis://***@r:6379/1  [environment DISTWORKER_REDIS_URL]"),
        Check("broker", False, "redis://r:6379/0: no answer", "start the broker"),
    ]
    monkeypatch.setattr(work, "examine", lambda run: iter(checks))

    ran, everything, machine = run("doctor", "--brief"), run("doctor"), run("doctor", "--json")

    assert ran.out.splitlines() == [
        "ok   settings redis_url: redis://***@r:6379/1  [environment DISTWORKER_REDIS_URL]",
        "NOT  broker: redis://r:6379/0: no answer",
        "     → start the broker",
        "1 thing to put right",
    ]
    assert "settings slots: 4" in everything.out
    assert [event["ok"] for event in machine.events] == [True, True, False]
    assert (ran.code, machine.code) == (3, 3)


def test_a_healthy_fleet_is_exit_0(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Advice is printed but is no failure."""
    monkeypatch.setattr(
        work, "examine", lambda run: iter([Check("redis persistence", True, "off", "turn it on")])
    )

    ran = run("doctor")

    assert (ran.code, ran.out.splitlines()[-1]) == (0, "all well")
