"""`python -m tasks`: a worker without what only other commands need, and events in batches."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

from deploy.demo.processes import clean_environment
from deploy.demo.swift import ROOT
from tasks.app import app
from tasks.consumer import PatientConsumer
from tasks.events import BATCH_SECONDS, EventBatches

PROBE = """
import sys, runpy
sys.argv = ["tasks", "--help"]
try:
    runpy.run_module("tasks", run_name="__main__")
except SystemExit as end:
    assert not end.code
print([name for name in ("flower", "tornado", "celery.bin.celery") if name in sys.modules])
"""


def test_the_lean_worker_takes_celerys_options_and_loads_neither_dashboard_nor_other_commands() -> None:
    """What a worker never uses would stay in its memory."""
    ran = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--concurrency" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "[]"


def test_events_are_sent_by_the_clock_and_once_more_before_the_connection_closes() -> None:
    """Celery would send each one at its loop's next turn."""
    sent: list[str] = []
    timers: list[tuple[float, Any]] = []
    cancelled: list[bool] = []

    def repeat(seconds: float, work: Any, args: tuple[Any, ...]) -> Any:
        timers.append((seconds, lambda: work(*args)))
        return SimpleNamespace(cancel=lambda: cancelled.append(True))

    consumer = SimpleNamespace(
        timer=SimpleNamespace(call_repeatedly=repeat),
        event_dispatcher=SimpleNamespace(flush=lambda: sent.append("batch")),
        steps=[],
    )
    batches = EventBatches(consumer)
    batches.start(consumer)
    ((seconds, tick),) = timers
    assert (seconds, sent) == (BATCH_SECONDS, [])
    tick()
    assert sent == ["batch"]
    batches.stop(consumer)
    assert (cancelled, sent) == ([True], ["batch", "batch"])


def test_the_worker_uses_both() -> None:
    """Without the consumer every event goes at once, without the step none ever goes."""
    assert app.conf.worker_consumer == f"{PatientConsumer.__module__}:{PatientConsumer.__name__}"
    assert EventBatches in app.steps["consumer"]
