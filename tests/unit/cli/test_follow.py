"""Watching a job: what each display shows, an outage in the middle, and the end."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest

from distworker.cli import follow, render
from distworker.errors import JobUnknown, StateUnavailable
from tests.unit.cli.fake_jobs import JOB, FakeJobs, closed, view

DENIED = {"code": "denied", "message": "not allowed to push"}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow.time, "sleep", lambda seconds: None)


def watch(jobs: FakeJobs, display: render.Display) -> int:
    return follow.follow(jobs, JOB, display)


def test_a_pipe_gets_one_line_for_each_image_and_the_report() -> None:
    """No control characters, no line twice."""
    out = io.StringIO()
    jobs = FakeJobs(
        [view(), view(), view("failed", counters={"total": 2, "done": 1, "failed": 1})],
        [closed(1, digest="sha256:ab"), closed(2, "failed", error=DENIED)],
    )

    code = watch(jobs, render.Lines(out))

    assert code == 1
    assert out.getvalue().splitlines() == [
        f"job {JOB} running",
        "done       src.example/app:1 → dst.example/app:1  sha256:ab",
        "failed     src.example/app:2 → dst.example/app:2: denied: not allowed to push",
        f"job     {JOB} failed in 12.3 s",
        "images  2: 1 done, 0 unchanged, 1 failed",
        "moved   downloaded 0 B, uploaded 0 B",
        "saved   0 B",
        "failed  src.example/app:2 → dst.example/app:2: denied: not allowed to push",
    ]


def test_a_pipe_hears_a_heartbeat_only_after_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds without a line make one, and then it takes ten more."""
    now = [0.0]
    monkeypatch.setattr(render.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    display = render.Lines(out)

    for moment in (0, 5, 9.9, 10, 15, 19.9, 20):
        now[0] = moment
        display.tick(view())

    assert len(out.getvalue().splitlines()) == 2


def test_json_is_lines_of_job_image_and_done_events() -> None:
    """Machines read the same story, the exit code in its last line."""
    out = io.StringIO()

    code = watch(FakeJobs([view(), view("done")], [closed(1)]), render.JsonLines(out))

    events: list[dict[str, Any]] = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["job", "image", "done"]
    assert events[1] == {"event": "image", "v": 1, "job": JOB, **closed(1)}
    assert (events[2]["state"], events[2]["exit"], code) == ("done", 0, 0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_bars_and_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job's bar, a running layer with bytes and worker, and at the end the report without bars."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    out = Terminal()
    digest = "sha256:" + "cd" * 32
    step = {f"d:default/{digest}": {"moved": 5_000_000, "size": 20_000_000, "worker": "worker-1 [bold]"}}
    display = render.choose(False, out)
    assert isinstance(display, render.Bars)

    views = [view(running=step), view("done", counters={"total": 1, "done": 1})]
    watch(FakeJobs(views, [closed(1, digest="sha256:" + "ab" * 32)]), display)

    shown = out.getvalue()
    assert "dst.example/app:1  abababababab\x1b" in shown
    assert "0 of 1 images" in shown
    assert "download cdcdcdcdcdcd" in shown
    assert "5.0 MB of 20.0 MB  worker-1 [bold]" in shown
    assert shown.rstrip().endswith("saved   0 B")


def test_where_stdout_goes_chooses_the_display() -> None:
    """Bars need a terminal; --json wins over it."""
    assert isinstance(render.choose(True, Terminal()), render.JsonLines)
    assert isinstance(render.choose(False, io.StringIO()), render.Lines)


def test_a_redis_that_comes_back_is_waited_for() -> None:
    """A restart of Redis in the middle of a job is no reason to stop watching it."""
    out = io.StringIO()
    jobs = FakeJobs([view(), view("done")], [closed(1)], outages=5)

    assert watch(jobs, render.Lines(out)) == 0
    assert "done       src.example/app:1" in out.getvalue()


def test_a_redis_that_stays_away_ends_the_watching_not_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader is told that the job is not lost and how to look at it later."""
    monkeypatch.setattr(follow, "PATIENCE", 0.0)

    with pytest.raises(StateUnavailable, match=f"the job is not lost, `distworker status {JOB}`"):
        watch(FakeJobs([view()], outages=1000), render.Lines(io.StringIO()))


def test_the_last_worker_leaving_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job that waits for a worker looks like a hang unless somebody says so."""
    monkeypatch.setattr(follow, "WORKERS_EVERY", 0.0)
    jobs = FakeJobs([view(), view(), view(), view("done")], workers=())

    watch(jobs, render.Lines(io.StringIO()))

    assert capsys.readouterr().err.count("no_worker: no worker is alive; the job waits") == 1


def test_a_paused_job_says_so_each_time_it_is_paused(capsys: pytest.CaptureFixture[str]) -> None:
    """A watcher who sees nothing move knows why."""
    held = view(paused=True)
    views = [view(), held, held, view(), held, view("done")]

    assert watch(FakeJobs(views), render.Lines(io.StringIO())) == 0

    said = f"paused: an operator holds the job; distworker resume {JOB}\n"
    assert capsys.readouterr().err == said * 2


def test_a_job_that_redis_lost_is_not_the_users_fault() -> None:
    """A ledger emptied under a running job is infrastructure (exit 3), and says what to do."""
    jobs = FakeJobs([view()])
    first = jobs.view

    def forgets(job: str) -> Any:
        seen = first(job)
        jobs.views = []
        return seen

    jobs.view = forgets  # type: ignore[method-assign]
    with pytest.raises(StateUnavailable, match="distworker recover"):
        watch(jobs, render.Lines(io.StringIO()))


def test_a_job_that_comes_back_from_the_store_is_watched_to_its_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It was opened again, so its outcomes begin anew; those before the loss do not count."""
    jobs = FakeJobs([view()], [closed(1), closed(2, "failed", error=DENIED)])
    first, looks = jobs.view, [0]

    def lost(job: str) -> Any:
        looks[0] += 1
        if looks[0] == 2:
            raise JobUnknown("there is no such job")
        if looks[0] == 3:
            jobs.views, jobs.closed = [replace(view("done"), created=2_000.0)], [closed(1, "unchanged")]
        return first(job)

    jobs.view = lost  # type: ignore[method-assign]
    out = io.StringIO()

    assert watch(jobs, render.Lines(out)) == 0

    shown = [line.split()[0] for line in out.getvalue().splitlines()]
    assert shown[:5] == ["job", "done", "failed", "unchanged", "job"]
    assert "waiting for its recovery" in capsys.readouterr().err


def test_an_unknown_job_is_an_error() -> None:
    """Nothing is drawn for a job that does not exist."""
    out = io.StringIO()

    with pytest.raises(JobUnknown):
        watch(FakeJobs(), render.Lines(out))

    assert out.getvalue() == ""
