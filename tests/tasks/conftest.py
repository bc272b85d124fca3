"""A worker's tasks without a worker: run in this process, over a scripted runner."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery.result import EagerResult

from distworker.errors import InvalidRequest
from tasks import app, base, layers, publish, signals, start, upkeep  # noqa: F401 - a worker loads them by `include`


class ScriptedRunner:
    """Answers `run` with what it was told to and remembers everything it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.life: list[str] = []
        self.answer: Callable[[str], str] = lambda step: f"ran {step}"

    def run(self, step: str) -> str:
        self.asked.append(step)
        return self.answer(step)

    def start(self) -> None:
        self.life.append("start")

    def drain(self) -> None:
        self.life.append("drain")

    def stop(self) -> None:
        self.life.append("stop")


class ScriptedUpkeep:
    """Answers `run` with what it was told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.life: list[str] = []
        self.answer: Callable[[str], str] = lambda name: f"{name}: nothing"

    def run(self, name: str) -> str:
        self.asked.append(name)
        return self.answer(name)

    def start(self) -> None:
        self.life.append("start")

    def stop(self) -> None:
        self.life.append("stop")


class ScriptedJobs:
    """Takes job requests; refuses those without a source, as the real parser does."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []

    def submit(self, payload: dict[str, Any]) -> str:
        if "source" not in payload:
            raise InvalidRequest("source: missing", field="source")
        self.taken.append(payload)
        return "20260101-00000000"


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> ScriptedRunner:
    """The runner behind all tasks of this test."""
    return _services(monkeypatch).runner


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> ScriptedUpkeep:
    """The upkeep behind all tasks of this test."""
    return _services(monkeypatch).upkeep


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> ScriptedJobs:
    """The jobs behind all tasks of this test."""
    return _services(monkeypatch).jobs


def _services(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    fake = SimpleNamespace(runner=ScriptedRunner(), jobs=ScriptedJobs(), upkeep=ScriptedUpkeep())
    for module in (base, signals, upkeep):
        monkeypatch.setattr(module, "services", lambda: fake)
    return fake


@pytest.fixture
def receive() -> Callable[..., EagerResult]:
    """Run a task as if its message had arrived."""

    def run(name: str, *args: Any, **kwargs: Any) -> EagerResult:
        return app.tasks[name].apply(args=args, kwargs=kwargs)

    return run
