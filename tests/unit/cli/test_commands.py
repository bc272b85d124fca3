"""copy, pull, push and migrate as a person or script calls them: what they ask for, how they exit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.calls import Command, Fleet
from tests.unit.cli.fake_jobs import FakeJobs, closed, view

DENIED = {"code": "denied", "message": "not allowed to push"}


ONE_DONE = [view("done", counters={"total": 1, "done": 1})]


def test_copy_creates_a_job_of_what_was_written(run: Command, fleet: Fleet) -> None:
    """References, platforms, all tags and priority arrive in the request; a good end is exit 0."""
    jobs = fleet(FakeJobs(ONE_DONE, [closed(1)]))

    ran = run("copy", "--priority", "7", "--platform", "linux/amd64", "quay.io/a/b:1", "dst.example/a/b")

    assert ran.code == 0
    (request,) = jobs.created
    (pair,) = request.pairs
    assert (request.kind, request.priority) == ("copy", 7)
    assert (pair.source.host, pair.source.repository, pair.source.tag) == ("quay.io", "a/b", "1")
    assert (pair.destination.host, pair.destination.repository, pair.destination.tag) == (
        "dst.example",
        "a/b",
        "1",
    )
    assert [str(platform) for platform in pair.platforms] == ["linux/amd64"]
    assert "images  1: 1 done, 0 unchanged, 0 failed" in ran.out


def test_a_reference_that_may_not_be_meant_is_told(run: Command, fleet: Fleet) -> None:
    """`localhost:5000` without a repository is an image of Docker Hub; docker never tells."""
    fleet(FakeJobs(ONE_DONE, [closed(1)]))

    ran = run("copy", "localhost:5000", "dst.example/a")
    machine = run("copy", "--json", "localhost:5000", "dst.example/a")

    assert ran.err.count("caution: localhost:5000 was read as the Docker Hub image localhost") == 1
    assert [event["event"] for event in machine.events][:2] == ["caution", "job"]
    assert "localhost:5000/repository" in machine.events[0]["message"]


def test_many_cautions_are_cut_short(run: Command, fleet: Fleet, tmp_path: Path) -> None:
    """A long list with one slip in every line stays readable."""
    fleet(FakeJobs(ONE_DONE, [closed(1)]))
    pairs = "".join(f"  - {{source: 'r{n}.example:5000', destination: dst.example/a{n}}}\n" for n in range(7))
    (tmp_path / "images.yaml").write_text(f"version: 1\npairs:\n{pairs}")

    ran = run("migrate", str(tmp_path / "images.yaml"))

    assert ran.err.count("was read as the Docker Hub image") == 5
    assert "caution: and 2 more of this kind" in ran.err


@pytest.mark.parametrize(
    ("arguments", "kind", "source", "destination"),
    [
        (("pull", "alpine:3"), "pull", "registry", "store"),
        (("pull", "--all-tags", "quay.io/a/b"), "pull", "registry", "store"),
        (("push", "alpine:3"), "push", "store", "registry"),
        (("push", "alpine:3", "dst.example/alpine"), "push", "store", "registry"),
        (("copy", "--local", "alpine:3", "dst.example/alpine"), "copy", "registry", "registry"),
    ],
)
def test_each_command_names_its_two_ends(
    run: Command, fleet: Fleet, arguments: tuple[str, ...], kind: str, source: str, destination: str
) -> None:
    """pull ends in the store, push begins there."""
    jobs = fleet(FakeJobs(ONE_DONE))

    assert run(*arguments).code == 0
    (pair,) = jobs.created[0].pairs
    assert (jobs.created[0].kind, pair.source.kind, pair.destination.kind) == (kind, source, destination)


def test_migrate_makes_one_job_of_a_file(run: Command, fleet: Fleet, tmp_path: Path) -> None:
    """All pairs of the file are in one request, its priority unless the command line says another."""
    jobs = fleet(FakeJobs(ONE_DONE))
    file = tmp_path / "images.yaml"
    pairs = "".join(f"  - {{source: 'a.example/r:{n}', destination: 'b.example/r:{n}'}}\n" for n in range(3))
    file.write_text(f"version: 1\npriority: 2\npairs:\n{pairs}")

    assert run("migrate", str(file)).code == 0
    assert run("migrate", "--priority", "8", str(file)).code == 0
    assert [(len(each.pairs), each.priority, each.kind) for each in jobs.created] == [
        (3, 2, "migrate"),
        (3, 8, "migrate"),
    ]


def test_a_wrong_file_starts_nothing(run: Command, fleet: Fleet, tmp_path: Path) -> None:
    """Every fault is a line of its own on stderr, exit 2."""
    jobs = fleet(FakeJobs(ONE_DONE))
    file = tmp_path / "images.yaml"
    file.write_text("version: 1\npairs:\n  - sorce: a\n    destination: 'r.example/a b'\n")

    ran = run("migrate", str(file))

    assert (ran.code, ran.out, jobs.created) == (2, "", [])
    assert ran.err.splitlines()[0] == (
        f"invalid_request: {file}, line 3, pairs[0].sorce: unknown key; did you mean source?"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("copy", "a/UPPER", "r.example/a"),
            "invalid_reference: source: the repository name must be lowercase",
        ),
        (
            ("copy", "docker://alpine", "r.example/a"),
            "invalid_reference: source: an image reference has no scheme",
        ),
        (("copy", "alpine", "r.example/a", "--platform", "arm"), "invalid_request: platforms[0]: "),
        (("copy", "alpine:1", "r.example/a", "--all-tags"), "invalid_reference: source: all_tags takes"),
        (("copy", "alpine"), "usage: Missing argument 'DST'."),
        (("copy", "a", "b", "--priority", "10"), "usage: Invalid value for '--priority'"),
        (("copy", "a", "b", "--local", "--detach"), "usage: --detach needs a fleet"),
        (("copy", "a", "b", "--store", "x"), "usage: --store goes with --local"),
        (("copy", "a", "b", "--plain-http", "x:1"), "usage: --plain-http goes with --local"),
        (
            ("copy", "a", "b", "--local", "--plain-http", "http://x"),
            "invalid_reference: --plain-http http://x: ",
        ),
        (
            ("copy", "a", "b", "--config", "/none/distworker.toml"),
            "config_invalid: /none/distworker.toml: no such",
        ),
        (("status", "--follow"), "usage: --follow needs a JOB"),
        (("nothing",), "usage: no command 'nothing'; there are copy, pull"),
        (("--nothing",), "usage: No such option '--nothing'"),
        ((), "Usage: distworker"),
    ],
)
def test_a_wrong_command_line_is_exit_2_and_says_what(
    run: Command, arguments: tuple[str, ...], said: str
) -> None:
    """Found before any server is asked: none is there in this test."""
    ran = run(*arguments)

    assert ran.code == 2
    assert said in ran.err
    assert ran.out == ""


def test_a_failed_image_is_exit_1_with_its_typed_line(run: Command, fleet: Fleet) -> None:
    """Somebody reading only the last line knows what failed and why."""
    fleet(FakeJobs([view("failed", counters={"total": 1, "failed": 1})], [closed(1, "failed", error=DENIED)]))

    ran = run("copy", "a", "b.example/a")

    assert ran.code == 1
    assert ran.out.splitlines()[-1] == (
        "failed  src.example/app:1 → dst.example/app:1: denied: not allowed to push"
    )


def test_without_a_live_worker_nothing_is_recorded(run: Command, fleet: Fleet) -> None:
    """Exit 3, the way out is named, and no job waits to surprise anyone tomorrow."""
    jobs = fleet(FakeJobs(ONE_DONE, workers=()))

    ran = run("copy", "a", "b.example/a")

    assert (ran.code, jobs.created, ran.out) == (3, [], "")
    assert ran.err.startswith("no_worker: ")
    assert "--local" in ran.err


def test_detach_records_the_job_and_says_that_it_waits(run: Command, fleet: Fleet) -> None:
    """With --detach a job may be queued before its workers start."""
    jobs = fleet(FakeJobs([view()], workers=()))

    ran = run("copy", "--detach", "a", "b.example/a")

    assert ran.code == 0
    assert len(jobs.created) == 1
    assert "no worker is alive; the job waits for one" in ran.err
    assert f"distworker cancel {jobs.created[0].id}" in ran.err


def test_json_prints_events_and_nothing_else_on_stdout(run: Command, fleet: Fleet) -> None:
    """Each line of stdout is an object with an event name and the version."""
    fleet(FakeJobs([view(), *ONE_DONE], [closed(1)]))

    ran = run("copy", "--json", "a", "b.example/a")

    assert [(event["event"], event["v"]) for event in ran.events] == [("job", 1), ("image", 1), ("done", 1)]
    assert ran.events[-1]["exit"] == ran.code == 0


def test_json_reports_an_error_as_an_event_too(run: Command, fleet: Fleet) -> None:
    """A script finds code, message and exit code without reading stderr."""
    fleet(FakeJobs(workers=()))

    ran = run("copy", "--json", "a", "b.example/a")

    (event,) = ran.events
    assert (event["event"], event["code"], event["exit"]) == ("error", "no_worker", 3)
