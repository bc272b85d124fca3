"""Each command as a person or script calls it: what it asks of the fleet, what it prints, how it exits."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from distworker.cli import main, work
from distworker.errors import (
    Denied,
    DistworkerError,
    InternalError,
    Interrupted,
    InvalidRequest,
    NoWorker,
    StateRefused,
    StateUnavailable,
    StoreFull,
    StoreUnavailable,
    WorkerLost,
)
from distworker.service import wiring
from distworker.service.doctor import Check
from distworker.settings import Config
from tests.unit.cli.calls import Command, Fleet
from tests.unit.cli.fake_jobs import JOB, FakeJobs, closed, view

DENIED = {"code": "denied", "message": "not allowed to push"}


ONE_DONE = [view("done", counters={"total": 1, "done": 1})]


# --- copy, pull, push, migrate --------------------


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


# --- a fleet that is not there --------------------


def test_json_reports_a_wrong_command_line_as_an_event(run: Command, fleet: Fleet) -> None:
    """A program that reads stdout hears of its own mistakes there as well."""
    for words in (["a"], ["--priority", "11", "a", "b"], ["--nosuch"]):
        ran = run("copy", "--json", *words)

        assert ran.code == 2
        assert [(event["event"], event["code"], event["exit"]) for event in ran.events] == [
            ("error", "invalid_request", 2)
        ]


def test_a_redis_that_is_away_is_named_without_its_password(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 3 within five seconds, with the address that was tried and the way without Redis."""
    monkeypatch.setenv("DISTWORKER_REDIS_URL", "redis://:hunter2@127.0.0.1:9/0")

    ran = run("copy", "a", "b.example/a")

    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("state_unavailable: ")
    assert "127.0.0.1:9" in ran.err
    assert "--local" in ran.err
    assert "hunter2" not in ran.err


def test_a_redis_that_never_answers_is_given_up_in_time(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall that drops packets is told from a slow day by a deadline of our own."""

    class Silent:
        def check(self) -> None:
            threading.Event().wait(5)

    monkeypatch.setattr(work, "FIRST_ANSWER", 0.2)
    monkeypatch.setattr(wiring, "build_ledger", lambda settings: Silent())
    monkeypatch.setenv("DISTWORKER_REDIS_URL", "redis://:hunter2@redis.example:6379/1")

    ran = run("copy", "a", "b.example/a")

    assert ran.code == 3
    assert "no answer from Redis" in ran.err
    assert "redis://***@redis.example:6379/1" in ran.err


def test_a_redis_that_is_not_fit_is_refused_before_anything_is_recorded(
    run: Command, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 3 with the remedy, also with --detach, which needs no worker."""
    jobs = fleet(FakeJobs(ONE_DONE))

    def refuse(config: Config) -> None:
        raise StateRefused("Redis evicts keys: run CONFIG SET maxmemory-policy noeviction")

    monkeypatch.setattr(work, "require_redis", refuse)
    for options in ((), ("--detach",)):
        ran = run("copy", "a", "b.example/a", *options)
        assert (ran.code, jobs.created) == (3, [])
        assert ran.err.startswith("state_refused: Redis evicts keys: run CONFIG SET")


def test_a_folder_that_cannot_be_made_is_infrastructure(run: Command, tmp_path: Path) -> None:
    """Said before anything starts, with the folder's name."""
    (tmp_path / "file").write_text("in the way")

    ran = run("copy", "--local", "--store", str(tmp_path / "file" / "blobs"), "a", "b.example/a")

    assert ran.code == 3
    assert ran.err == f"store_unavailable: --store {tmp_path}/file/blobs: cannot be made: Not a directory\n"


def test_plain_http_is_said_for_single_registries(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of what is set for that registry stays, and so do the others."""
    given: list[Config] = []

    def build(config: Config, store: Path | None) -> None:
        given.append(config)
        raise StoreUnavailable("far enough")

    monkeypatch.setattr(wiring, "build_local", build)
    file = tmp_path / "registries.toml"
    file.write_text(
        '["r.example"]\nmax_concurrency = 7\nca_file = "ca.pem"\n["s.example"]\nupload_mode = "patch"\n'
    )
    monkeypatch.setenv("DISTWORKER_REGISTRIES", str(file))

    run("copy", "--local", "--plain-http", "r.example", "--plain-http", "localhost:5000", "a", "r.example/a")

    tables = given[0].registries
    assert {host: table.plain_http for host, table in tables.items()} == {
        "r.example": True,
        "s.example": False,
        "localhost:5000": True,
    }
    assert (tables["r.example"].max_concurrency, tables["s.example"].upload_mode) == (7, "patch")


# --- status, cancel, doctor --------------------


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


# --- errors to exit codes --------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequest("x"), 2),
        (NoWorker("x"), 3),
        (StateUnavailable("x"), 3),
        (StoreFull("x"), 3),
        (Denied("x"), 1),
        (WorkerLost("x"), 1),
        (InternalError("x"), 1),
        (Interrupted("x"), 130),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: DistworkerError, code: int) -> None:
    """2 the request, 3 our servers, 130 stopped, 1 everything else."""
    assert main.code_of(error) == code


def test_a_bug_is_one_line_and_its_traceback_only_in_the_log(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`internal`, what to do, and no traceback unless -v asked for the log."""

    def broken(state: Any) -> Any:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(work, "examine", broken)

    ran, verbose = run("doctor"), run("doctor", "-v")

    assert ran.code == verbose.code == 1
    assert ran.err == (
        "internal: unexpected RuntimeError in this program; run it again with -v for the details,"
        " and please report it\n"
    )
    assert "Traceback" in verbose.err
    assert "hunter2" not in verbose.err


# --- as a process --------------------


def process(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    code = "from distworker.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **more,
    )


def test_the_version_is_printed() -> None:
    """`--version` names program and version and exits 0."""
    ran = process("--version")

    assert (ran.returncode, ran.stdout.split()[0]) == (0, "distworker,")


@pytest.mark.parametrize("command", ["", *main.COMMANDS])
def test_help_of_every_command_has_an_example(command: str) -> None:
    """Help is read by people in a hurry."""
    ran = process(*([command] if command else []), "--help")

    assert ran.returncode == 0
    assert f"  distworker {command}" in ran.stdout


def test_help_loads_no_heavy_library() -> None:
    """Start-up time is felt at every call: servers' and drawing libraries come only when needed."""
    code = (
        "import sys; from distworker.cli.main import run; run(['copy', '--help']);"
        "sys.exit(sorted({'celery', 'boto3', 'redis', 'requests', 'rich', 'yaml', 'pydantic'}"
        " & set(sys.modules)) or 0)"
    )

    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    """`distworker … | head -1` ends quietly."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ran = subprocess.run(
            [sys.executable, "-c", "from distworker.cli.main import main; main()", "copy", "--help"],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)

    assert ran.returncode == 130
    assert ran.stderr == ""


def test_a_terminal_without_arrows_still_gets_its_lines(fleet: Fleet) -> None:
    """What cannot be shown in the terminal's encoding is replaced: it must not end the work."""
    code = (
        "import sys; from distworker.cli.main import _make_writable; _make_writable();"
        "print('a \u2192 b'); print('c \u2192 d', file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii:strict"},
    )

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "a ? b\n", "c ? d\n")


@pytest.mark.parametrize("words", [["--version"], ["doctor", "--json"]])
def test_a_full_disk_behind_stdout_is_one_line(words: list[str]) -> None:
    """`distworker … > /full/disk` shows no traceback."""
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-c", "from distworker.cli.main import main; main()", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    assert (ran.returncode, ran.stderr.splitlines()) == (
        3,
        ["output: no space left where stdout goes; jobs of a fleet go on"],
    )


def test_a_closed_stdout_is_no_fault() -> None:
    """`distworker … >&-` works and prints nothing."""
    command = "from distworker.cli.main import main; main()"
    ran = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" "$@" >&-', sys.executable, "-c", command, "--version"],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (0, "")
