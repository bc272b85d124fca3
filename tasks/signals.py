"""What happens around the tasks of a worker process: logging, its threads, waking its event loop, draining,
leaving.

The runner's beat and reaper threads start when the worker is ready and not before: a worker that cannot
reach its broker must not look alive in the ledger. On the way out running steps are handed over first, then
the worker says farewell.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from celery.bootsteps import StartStopStep
from celery.concurrency.base import BasePool
from celery.concurrency.thread import TaskPool as ThreadPool
from celery.signals import celeryd_after_setup, setup_logging, task_postrun, worker_ready, worker_shutdown
from celery.signals import worker_shutting_down as shutting_down
from kombu.asynchronous.hub import Hub

from distworker import logs
from distworker.errors import DistworkerError, RequestError
from distworker.service.readiness import await_ledger
from distworker.service.runner import Runner
from distworker.service.upkeep import Upkeep
from tasks.app import INFRASTRUCTURE, USAGE, app, refuse_start, settings
from tasks.base import make_services, services
from tasks.events import EventBatches

log = logging.getLogger(__name__)


class _Worker:
    """The worker of this process, once it is ready. kombu's own `get_event_loop()` forgets the hub at the
    first reconnect."""

    hub: Hub | None = None
    runner: Runner | None = None
    upkeep: Upkeep | None = None


@setup_logging.connect(weak=False)
def set_up_logging(loglevel: int | None = None, **_: Any) -> None:
    """Our log instead of Celery's; `-l` of the command line is stronger than the settings."""
    wanted = settings().settings.log
    given = loglevel if loglevel and loglevel != logging.WARNING else None  # WARNING is Celery's "not given"
    level = logging.getLevelName(given).lower() if given else wanted.level
    logs.setup(wanted.format, level)
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logger = logging.getLogger(name)
        logger.addFilter(_without_data)
        if level != "debug":
            logger.setLevel(logging.WARNING)  # the runner says the same once, with job and image on it


def _without_data(record: logging.LogRecord) -> bool:
    """Celery puts a task's whole context beside its message; ours hold all of it in the line itself."""
    record.__dict__.pop("data", None)
    return True


@celeryd_after_setup.connect(weak=False)
def prepare(instance: Any, **_: Any) -> None:
    """Refuse what cannot work before the first message is taken.

    A forked child would run steps without the thread that keeps their leases, and green threads lose messages
    at a quick stop. An ordinary error would not do: Celery logs what a signal handler raises and goes on.
    A Redis that is away is waited for; TERM and Ctrl-C end the wait.
    """
    pool: type[BasePool] = instance.pool_cls
    if not issubclass(pool, ThreadPool):
        refuse_start("the worker needs --pool=threads; start more workers for more processes", USAGE)
    try:
        made = make_services(instance.concurrency)
        with _ended_by_term():
            await_ledger(made.ledger.check)
    except RequestError as error:
        refuse_start(str(error), USAGE)
    except DistworkerError as error:
        refuse_start(str(error), INFRASTRUCTURE)
    except Exception as error:
        log.exception("The worker cannot start.")
        refuse_start(f"internal: {type(error).__name__} at the start", 1)


@contextmanager
def _ended_by_term() -> Iterator[None]:
    """Celery takes over TERM only later, and without a handler the first process of a container ignores
    it."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@worker_ready.connect(weak=False)
def begin(sender: Any, **_: Any) -> None:
    """Keep the hub and start the runner's threads."""
    _Worker.hub = getattr(sender, "hub", None)
    _Worker.runner = services().runner
    _Worker.runner.start()
    _Worker.upkeep = services().upkeep
    _Worker.upkeep.start()


@task_postrun.connect(weak=False)
def wake_loop(**_: Any) -> None:
    """A finished thread does not wake the loop by itself: without prefetch the next message would wait up to
    1 s (measured: 8 tasks a second instead of 153)."""
    hub = _Worker.hub
    if hub is not None:
        hub.call_soon(_nothing)


def _nothing() -> None:
    pass


@shutting_down.connect(weak=False)
def drain(**_: Any) -> None:
    """Running steps stop at their next chunk and go back to the ledger.

    Celery calls this inside the signal handler, where the interrupted code may hold the very lock that
    draining takes; so another thread does it.
    """
    threading.Thread(target=_drain, name="distworker-drain", daemon=True).start()


def _drain() -> None:
    if _Worker.upkeep is not None:
        _Worker.upkeep.stop()
    if _Worker.runner is not None:
        _Worker.runner.drain()


class Drain(StartStopStep):
    """The same for a shutdown that came without a signal to the process, such as Flower's button."""

    requires: ClassVar[set[str]] = {"celery.worker.components:Pool"}

    def close(self, worker: Any) -> None:
        """Called before the pool waits for its threads."""
        _drain()


app.steps["worker"].add(Drain)
app.steps["consumer"].add(EventBatches)


@worker_shutdown.connect(weak=False)
def leave(**_: Any) -> None:
    """Stop the threads and say farewell: the ledger no longer counts on this worker."""
    if _Worker.runner is not None:
        _Worker.runner.stop()
