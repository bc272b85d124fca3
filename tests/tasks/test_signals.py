"""What happens around the tasks of a worker process."""

from __future__ import annotations

import logging
import signal
from types import SimpleNamespace

import pytest
from celery import signals as celery_signals
from celery.concurrency.prefork import TaskPool as Forking
from celery.concurrency.solo import TaskPool as Solo
from celery.concurrency.thread import TaskPool as Threads

from distworker.errors import ConfigInvalid, StateRefused
from distworker.state.memory import MemoryLedger
from tasks import signals
from tests.tasks.conftest import ScriptedRunner


class Consumer:
    """What Celery names as the sender when a worker is ready."""

    def __init__(self, hub: object) -> None:
        self.hub = hub


class Hub:
    """An event loop that counts its wake-ups."""

    def __init__(self) -> None:
        self.woken = 0

    def call_soon(self, callback: object) -> None:
        self.woken += 1


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins in a process whose worker is not ready yet."""
    monkeypatch.setattr(signals._Worker, "hub", None)
    monkeypatch.setattr(signals._Worker, "runner", None)


def test_a_ready_worker_starts_its_threads_and_a_stopping_one_takes_leave(runner: ScriptedRunner) -> None:
    """In this order, through Celery's own signals."""
    celery_signals.worker_ready.send(sender=Consumer(None))
    celery_signals.worker_shutdown.send(sender=None)

    assert runner.life == ["start", "stop"]


def test_a_worker_that_never_was_ready_leaves_quietly(runner: ScriptedRunner) -> None:
    """Nobody knows of it, and its one line about the reason must stay the last."""
    answers = celery_signals.worker_shutdown.send(sender=None)
    signals.Drain(SimpleNamespace()).close(SimpleNamespace())

    assert [answer for _, answer in answers] == [None]
    assert runner.life == []


def test_a_finished_task_wakes_the_loop(runner: ScriptedRunner) -> None:
    """Else the next message waits for the loop's own tick of a second."""
    hub = Hub()
    celery_signals.worker_ready.send(sender=Consumer(hub))

    celery_signals.task_postrun.send(sender=None)

    assert hub.woken == 1


def test_a_task_that_ends_before_the_worker_is_ready_wakes_nobody() -> None:
    """Brokers without an event loop have no hub at all."""
    assert all(
        not isinstance(answer, Exception) for _, answer in celery_signals.task_postrun.send(sender=None)
    )


def test_a_stop_without_a_signal_drains_too(runner: ScriptedRunner) -> None:
    """Flower's shutdown button sends no TERM."""
    celery_signals.worker_ready.send(sender=Consumer(None))

    signals.Drain(SimpleNamespace()).close(SimpleNamespace())

    assert runner.life == ["start", "drain"]


@pytest.mark.parametrize("pool", [Forking, Solo])
def test_any_other_pool_than_threads_is_refused(pool: type, capsys: pytest.CaptureFixture[str]) -> None:
    """Forked children would run steps that nobody beats for."""
    with pytest.raises(SystemExit, match="2"):
        signals.prepare(instance=SimpleNamespace(pool_cls=pool, concurrency=1))
    assert "threads" in capsys.readouterr().err


def test_a_worker_shows_as_many_slots_as_it_has_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--concurrency` is stronger than the settings, and the ledger admits work by what workers show."""
    made: list[int] = []

    def make(slots: int) -> SimpleNamespace:
        made.append(slots)
        return SimpleNamespace(ledger=MemoryLedger())

    monkeypatch.setattr(signals, "make_services", make)

    signals.prepare(instance=SimpleNamespace(pool_cls=Threads, concurrency=9))

    assert made == [9]
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler, "Celery's own comes after it"


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (ConfigInvalid("store.bucket: missing"), "config_invalid: store.bucket: missing", 2),
        (StateRefused("Redis evicts keys"), "state_refused: Redis evicts keys", 3),
        (RuntimeError("a bug"), "internal: RuntimeError", 1),
    ],
)
def test_what_cannot_work_ends_the_worker_with_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    said: str,
    code: int,
) -> None:
    """Celery would log an ordinary error of a signal handler and go on without the runner's threads."""

    def broken(slots: int) -> None:
        raise error

    monkeypatch.setattr(signals, "make_services", broken)

    with pytest.raises(SystemExit) as ended:
        signals.prepare(instance=SimpleNamespace(pool_cls=Threads, concurrency=1))
    assert ended.value.code == code
    # A log that another test set up in this process may tell of the bug before.
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"distworker: {said}")


@pytest.mark.parametrize(
    ("given", "level"), [(logging.WARNING, "info"), (logging.DEBUG, "debug"), (None, "info")]
)
def test_the_command_lines_level_is_stronger_than_the_setting(
    monkeypatch: pytest.MonkeyPatch, given: int | None, level: str
) -> None:
    """WARNING is what Celery says when nothing was given."""
    seen: list[tuple[str, str]] = []
    log = SimpleNamespace(format="json", level="info")
    monkeypatch.setattr(signals, "settings", lambda: SimpleNamespace(settings=SimpleNamespace(log=log)))
    monkeypatch.setattr(signals.logs, "setup", lambda *args: seen.append(args))

    signals.set_up_logging(loglevel=given)

    assert seen == [("json", level)]
