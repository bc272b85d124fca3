"""Where a command gets its work done: the fleet, or this process.

Promises that a fleet that is not there is told within 5 seconds, with what was tried and what to do instead,
before anything is recorded. Imports of service/ are inside the functions: `--help` costs no Redis or boto3.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from distworker.cli.options import Run, start_log
from distworker.errors import NoWorker, StateUnavailable

if TYPE_CHECKING:
    from distworker.service.doctor import Check
    from distworker.service.jobs import Jobs
    from distworker.settings import Config

T = TypeVar("T")

#: Seconds for the first question to Redis: with the start of Python it stays under the promised five.
FIRST_ANSWER: Final = 4.0
INSTEAD: Final = "add --local to do the work in this process without Redis or workers"


@contextmanager
def fleet(run: Run) -> Iterator[Jobs]:
    """The fleet's use cases; nothing is asked yet."""
    from distworker.service import wiring  # noqa: PLC0415 - see the module text

    config = settings(run)
    with wiring.build_client(config) as client:
        try:
            yield client.jobs
        except StateUnavailable as error:
            raise _named(error, config) from error


@contextmanager
def local(run: Run, store: Path | None) -> Iterator[Jobs]:
    """The same use cases done by this process, with blobs in the folder `store` or the user's cache."""
    from distworker.service import wiring  # noqa: PLC0415 - see the module text

    with wiring.build_local(settings(run), store) as service:
        yield service.jobs


def examine(run: Run) -> Iterator[Check]:
    """The doctor's findings, each as soon as it is there."""
    from distworker.service import doctor, wiring  # noqa: PLC0415 - see the module text

    yield from doctor.examine(wiring.build_patient(settings(run)))


def settings(run: Run) -> Config:
    """The operator's settings; the log now looks as they say, unless the command line said otherwise."""
    from distworker.settings import load  # noqa: PLC0415 - see the module text

    config = load(run.config)
    if run.log_format is None:
        start_log(config.settings.log.format, run.verbose)
    return config


def require_worker(jobs: Jobs) -> None:
    """Raises StateUnavailable or NoWorker, naming --local, unless somebody is there to do the work."""
    try:
        within(FIRST_ANSWER, jobs.require_worker)
    except StateUnavailable as error:
        raise StateUnavailable(f"{error.message}; start it, or {INSTEAD}", **error.fields) from error


def alive(jobs: Jobs) -> bool:
    """Whether any worker would do the work now; raises StateUnavailable."""
    try:
        within(FIRST_ANSWER, jobs.require_worker)
    except NoWorker:
        return False
    return True


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


def _named(error: StateUnavailable, config: Config) -> StateUnavailable:
    """`error` with the address that was tried, masked."""
    from distworker.settings import shown  # noqa: PLC0415 - see the module text

    address = shown(config.settings.redis_url)
    if address in error.message:
        return error
    return StateUnavailable(f"{error.message} (redis_url is {address})", **error.fields)
