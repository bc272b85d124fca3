"""Fixtures that every room of the tests may use: a clean environment, and real servers started when first
asked for.

Servers live for the whole run, what is in them for one test: each test gets an empty database, an own prefix
in the store, own registries. A missing server is a failure that says what to install, never a skip.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.servers import DockerRegistry, Swift, Valkey, is_ambient, stop_everything, talk
from deploy.demo.swift import SWIFT_VENV
from distworker.blobstore.s3 import S3Options, S3Store
from distworker.errors import DistworkerError
from tests.fakes.typed import MARKED, texts

# Read before the environment is cleaned for the tests.
_SWIFT_VENV = os.environ.get(SWIFT_VENV)
_NUMBERS = itertools.count(1)
BUCKET = "distworker-tests"


def pytest_configure(config: pytest.Config) -> None:
    """TERM ends the run like Ctrl-C does, so that servers are stopped."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Whatever a test forgot."""
    stop_everything()


@pytest.fixture(autouse=True)
def clean_environment_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No AWS_*, proxy, CA or service variable of the machine reaches a test."""
    for name in filter(is_ambient, list(os.environ)):
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def secrets_nowhere(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Case F04 over the whole suite: no log line of any library and no error, raised, caught or only made,
    holds a marked secret in any of the ways in which it may be shown or stored.
    """
    made: list[DistworkerError] = []
    real = DistworkerError.__init__

    def watched(self: DistworkerError, message: str, **fields: Any) -> None:
        real(self, message, **fields)
        made.append(self)

    monkeypatch.setattr(DistworkerError, "__init__", watched)
    caplog.set_level(logging.INFO)
    yield
    monkeypatch.undo()
    shown = [caplog.text, *(text for error in made for text in texts(error))]
    assert [text for text in shown if MARKED.search(text)] == []


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A real Valkey for the whole run. A test that stops or freezes it starts its own."""
    with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def redis_url(valkey: Valkey) -> str:
    """The address of an empty database."""
    number = next(_NUMBERS) % Valkey.DATABASES
    assert talk(valkey.port, f"SELECT {number}\r\nFLUSHDB\r\n".encode()).startswith(b"+OK")
    return valkey.url(number)


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    """A real S3 server for the whole run, with one bucket."""
    venv = Path(_SWIFT_VENV) if _SWIFT_VENV else None
    with Swift(tmp_path_factory.mktemp("swift"), venv=venv) as server:
        store = S3Store(swift_options(server))
        store.make_bucket()
        store.close()
        yield server


def swift_options(server: Swift, **changes: Any) -> S3Options:
    """How to reach the tests' bucket on that server."""
    return S3Options(
        **{
            "bucket": BUCKET,
            "endpoint": server.endpoint,
            "region": server.region,
            "access_key": server.access_key,
            "secret_key": server.secret_key,
            **changes,
        }
    )


@pytest.fixture
def s3_options(swift: Swift) -> S3Options:
    """The tests' bucket on the real server, under a prefix nobody used."""
    return swift_options(swift, prefix=f"t{os.getpid()}-{next(_NUMBERS)}")


@pytest.fixture
def s3_store(s3_options: S3Options) -> Iterator[S3Store]:
    """An empty store on the real server."""
    store = S3Store(s3_options)
    yield store
    store.close()


@pytest.fixture
def new_registry(tmp_path: Path) -> Iterator[Callable[..., DockerRegistry]]:
    """Starts real registries: `new_registry(auth=..., storage=...)` as in DockerRegistry, stopped at the
    end."""
    started: list[DockerRegistry] = []

    def start(**options: Any) -> DockerRegistry:
        folder = tmp_path / f"registry{len(started)}"
        started.append(DockerRegistry(folder, **options).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def registry(new_registry: Callable[..., DockerRegistry]) -> DockerRegistry:
    """One open registry, empty."""
    return new_registry()
