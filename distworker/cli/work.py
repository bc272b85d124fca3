"""Where a command gets its work done: the fleet, or this process.

Promises that a fleet that is not there is told within 5 seconds, with what was tried and what to do instead,
before anything is recorded. Imports of service/ are inside the functions: `--help` costs no Redis or boto3.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import click

from distworker.cli.options import Run, start_log
from distworker.errors import InvalidReference, NoWorker, StateUnavailable, StoreUnavailable

if TYPE_CHECKING:
    from distworker.service.care import Care
    from distworker.service.doctor import Check
    from distworker.service.jobs import Jobs
    from distworker.settings import Config
    from distworker.state.base import WorkerView

T = TypeVar("T")

#: Seconds for the first question to Redis: with the start of Python it stays under the promised five.
FIRST_ANSWER: Final = 4.0
INSTEAD: Final = "add --local to do the work in this process without Redis or workers"


def settings(run: Run) -> Config:
    """The operator's settings; the log now looks as they say, unless the command line said otherwise."""
    from distworker.settings import load  # noqa: PLC0415 - see the module text

    config = load(run.config)
    if run.log_format is None:
        start_log(config.settings.log.format, run.verbose)
    return config


def with_plain_http(config: Config, hosts: Iterable[str]) -> Config:
    """`config`, with http instead of https to `hosts`; raises InvalidReference for what is no host."""
    from distworker.reference import parse_host  # noqa: PLC0415 - see the module text
    from distworker.settings_registry import RegistrySettings  # noqa: PLC0415

    tables = dict(config.registries)
    for text in hosts:
        try:
            host = parse_host(text)
        except InvalidReference as error:
            raise InvalidReference(f"--plain-http {text}: {error.message}") from None
        tables[host] = tables.get(host, RegistrySettings()).model_copy(
            update={"plain_http": True, "ca_file": ""}
        )
    return replace(config, registries=tables)


@contextmanager
def fleet(config: Config) -> Iterator[Jobs]:
    """The fleet's use cases; nothing is asked yet."""
    from distworker.service import wiring  # noqa: PLC0415 - see the module text

    with _named(config), wiring.build_client(config) as client:
        yield client.jobs


@contextmanager
def local(config: Config, store: Path | None) -> Iterator[Jobs]:
    """The same use cases done by this process, with blobs in the folder `store` or the user's cache."""
    from distworker.service import wiring  # noqa: PLC0415 - see the module text

    if store is not None:
        try:
            store.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"--store {store}: cannot be made: {error.strerror}") from None
    with wiring.build_local(config, store) as service:
        yield service.jobs


@contextmanager
def care(config: Config, local: bool, store: Path | None) -> Iterator[Care]:
    """The store's upkeep: of the configured store, or of the one that local runs use."""
    if store is not None and not local:
        raise click.UsageError(
            "--store goes with --local; a fleet's store is a setting (see `distworker doctor`)"
        )
    from distworker.service import wiring  # noqa: PLC0415 - see the module text

    with _named(config), wiring.build_care(config, local=local, folder=store) as found:
        yield found


def examine(config: Config) -> Iterator[Check]:
    """The doctor's findings, each as soon as it is there."""
    from distworker.service import doctor, wiring  # noqa: PLC0415 - see the module text

    yield from doctor.examine(wiring.build_patient(config))


def workers(config: Config) -> Sequence[WorkerView]:
    """The live workers; raises StateUnavailable in time. Needs Redis only: where nothing is set up at all,
    that is said, and not that a key of the store is missing."""
    from distworker.service import adapters  # noqa: PLC0415 - see the module text

    with _named(config):
        return within(FIRST_ANSWER, adapters.build_ledger(config.settings).workers)


def require_redis(config: Config) -> None:
    """Raises StateUnavailable in time, naming --local, unless Redis is there and fit for the ledger."""
    from distworker.service import adapters  # noqa: PLC0415 - see the module text

    with _instead(), _named(config):
        within(FIRST_ANSWER, adapters.build_ledger(config.settings).check)


def require_worker(config: Config) -> None:
    """Raises StateUnavailable or NoWorker, naming --local, unless somebody is there to do the work."""
    with _instead():
        found = workers(config)
    if not any(worker.slots > 0 for worker in found):
        raise NoWorker(f"no worker is alive: start one with `celery -A tasks worker`, or {INSTEAD}")


@contextmanager
def _instead() -> Iterator[None]:
    try:
        yield
    except StateUnavailable as error:
        message = error.message.rstrip(".")
        raise type(error)(f"{message}; put that right, or {INSTEAD}", **error.fields) from error


def within(seconds: float, call: Callable[[], T]) -> T:
    """`call()`, or StateUnavailable when it takes longer: name servers and firewalls that drop packets know
    no socket timeout. A call that is late is left behind in a daemon thread."""
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append((call(), None))
        except BaseException as error:  # noqa: BLE001 - handed to the caller below
            answers.append((None, error))

    thread = threading.Thread(target=run, name="distworker-first-answer", daemon=True)
    thread.start()
    thread.join(seconds)
    if not answers:
        raise StateUnavailable(f"no answer from Redis within {seconds:.0f} s")
    value, error = answers[0]
    if error is not None:
        raise error
    answer: T = value
    return answer


@contextmanager
def _named(config: Config) -> Iterator[None]:
    """Errors of Redis leave with the address that was tried, without its password."""
    try:
        yield
    except StateUnavailable as error:
        from distworker.settings import shown  # noqa: PLC0415 - see the module text

        address = shown(config.settings.redis_url)
        if (urlsplit(address).hostname or address) in error.message:
            raise
        raise type(error)(f"{error.message} (redis_url is {address}).", **error.fields) from error
