"""Messages of any content end as one clear state, and only right ones reach the runner."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from distworker import names
from distworker.errors import StateUnavailable
from distworker.service.runner import StepFailed
from tasks import base
from tests.tasks.conftest import ScriptedJobs, ScriptedRunner

STEP = "d:default/sha256:" + "ab" * 32
REQUEST = {"v": 1, "source": "a.example/x:1", "destination": "b.example/x:1"}


def test_a_step_message_runs_its_step_and_its_sentence_is_the_result(runner: ScriptedRunner, receive) -> None:
    """The thin task adds nothing of its own."""
    result = receive(names.DOWNLOAD_LAYER, v=1, step=STEP)

    assert (result.state, result.result) == ("SUCCESS", f"ran {STEP}")
    assert runner.asked == [STEP]


@pytest.mark.parametrize(
    ("task", "step"),
    [
        (names.EXPAND_JOB, names.expand_id("job")),
        (names.PLAN_IMAGE, names.plan_id("job-1")),
        (names.DOWNLOAD_LAYER, STEP),
        (names.UPLOAD_LAYER, names.upload_id("sha256:00", "b.example")),
        (names.PUBLISH_IMAGE, names.publish_id("job-1")),
    ],
)
def test_each_kind_of_step_has_a_task_that_runs_it(
    runner: ScriptedRunner, receive, task: str, step: str
) -> None:
    """All five are registered under the names that messages use."""
    receive(task, v=1, step=step)

    assert runner.asked == [step]


def test_a_stale_message_succeeds_as_superseded(runner: ScriptedRunner, receive) -> None:
    """A doubled message is no failure; the operator sees why nothing was done."""
    runner.answer = lambda step: "superseded: another worker has it"

    result = receive(names.DOWNLOAD_LAYER, v=1, step=STEP)

    assert result.state == "SUCCESS"
    assert result.result.startswith("superseded")


def test_a_failed_step_is_a_failure_that_reads_code_and_message(runner: ScriptedRunner, receive) -> None:
    """Flower shows the repr of the exception, so that is the text itself."""

    def fail(step: str) -> str:
        raise StepFailed("manifest_unknown: no such tag")

    runner.answer = fail

    result = receive(names.DOWNLOAD_LAYER, v=1, step=STEP)

    assert result.state == "FAILURE"
    assert repr(result.result) == "manifest_unknown: no such tag"


def test_a_failure_does_not_carry_the_error_below_it(runner: ScriptedRunner, receive) -> None:
    """Flower shows tracebacks whole, and a library's error may hold a signed URL."""

    def fail(step: str) -> str:
        try:
            raise ValueError("https://store.example/blob?X-Amz-Signature=hunter2")
        except ValueError as error:
            raise StepFailed("unavailable: no answer") from error

    runner.answer = fail

    result = receive(names.DOWNLOAD_LAYER, v=1, step=STEP)

    assert "unavailable: no answer" in result.traceback
    assert "hunter2" not in result.traceback


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"step": STEP}, "no version"),
        ({"v": 2}, "step"),
        ({"v": 0, "step": STEP}, "no message version 0"),
        ({"v": "1", "step": STEP}, "no version"),
        ({"v": True, "step": STEP}, "no version"),
        ({"v": 1}, "step"),
        ({"v": 1, "step": 7}, "step"),
        ({"v": 1, "step": ""}, "step"),
        ({"v": 1, "step": names.publish_id("x")}, "one of its own steps"),
        ({"v": 1, "step": STEP, "extra": 1}, "nothing else"),
    ],
)
def test_a_wrong_step_message_is_refused_with_a_reason(
    runner: ScriptedRunner, receive, message, named
) -> None:
    """Nothing of it reaches the runner."""
    result = receive(names.DOWNLOAD_LAYER, **message)

    assert result.state == "FAILURE"
    assert repr(result.result).startswith("invalid_request: ")
    assert named in repr(result.result)
    assert runner.asked == []


def test_positional_arguments_are_refused(runner: ScriptedRunner, receive) -> None:
    """A step id alone, as one might send by hand, lacks its version."""
    result = receive(names.DOWNLOAD_LAYER, STEP)

    assert "positional" in repr(result.result)


def test_submitting_a_job_answers_its_id(jobs: ScriptedJobs, receive) -> None:
    """The documented way in for other Celery applications."""
    result = receive(names.SUBMIT_JOB, **REQUEST)

    assert (result.state, result.result) == ("SUCCESS", "20260101-00000000")
    assert jobs.taken == [REQUEST]


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        ({"v": 1, "destination": "b.example/x:1"}, "source: missing"),
        ({**REQUEST, "v": 9}, "upgrade the worker"),
        ({"source": "a.example/x:1"}, "no version"),
    ],
)
def test_a_bad_job_request_is_a_failure_that_names_the_field(
    jobs: ScriptedJobs, receive, payload, named
) -> None:
    """The producer sees in Flower what is wrong with what it sent."""
    result = receive(names.SUBMIT_JOB, **payload)

    assert result.state == "FAILURE"
    assert named in repr(result.result)
    assert jobs.taken == []


def test_a_step_message_of_a_newer_release_is_as_good_as_ours(runner: ScriptedRunner, receive) -> None:
    """In a rolling upgrade a new worker hands out old steps too; what is too new, the ledger keeps back."""
    result = receive(names.DOWNLOAD_LAYER, v=2, step=STEP, hint="of the future")

    assert (result.state, runner.asked) == ("SUCCESS", [STEP])


@pytest.mark.parametrize("outages", [0, 2])
def test_a_job_request_of_a_newer_release_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, jobs: ScriptedJobs, receive, outages: int
) -> None:
    """To the queue that workers of that version serve; nobody else has the request, so it is insisted."""
    passed: list[tuple[object, int]] = []

    def pass_on(request: object, version: int) -> None:
        passed.append((request, version))
        if len(passed) <= outages:
            raise StateUnavailable("the broker is away")

    monkeypatch.setattr(base, "dispatch", SimpleNamespace(pass_on=pass_on))
    monkeypatch.setattr(base.time, "sleep", lambda seconds: None)

    result = receive(names.SUBMIT_JOB, **{**REQUEST, "v": 2, "surprise": 1})

    assert (result.state, jobs.taken) == ("SUCCESS", [])
    assert "waits in distworker.v2" in result.result
    assert passed[-1] == ({**REQUEST, "v": 2, "surprise": 1}, 2)
    assert len(passed) == outages + 1
