"""What all tasks share: reading a message, this process's services, and how a failure looks to an operator.

A message may come from anyone who reaches the broker and from newer or older releases, so its every field is
checked and a wrong one ends as one FAILURE line that names it; the worker stays up. Nothing a stranger put
into a message is shown or logged unredacted.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from celery import Task
from celery.exceptions import InvalidTaskError
from celery.worker.request import Request

from distworker import names
from distworker.errors import DistworkerError, InternalError, InvalidRequest, StateUnavailable
from distworker.logs import MASK, redact
from distworker.service.runner import StepFailed
from distworker.service.wiring import Services, build_services
from tasks.app import settings
from tasks.graph import KIND_OF, dispatch

log = logging.getLogger(__name__)

#: Longest argument text kept: the brokers' headers and Flower's table are no place for a whole job.
SHOWN_LIMIT = 500
#: Job requests of up to so many versions more are passed on: a rolling upgrade may skip some, and nobody may
#: fill the broker with queues.
VERSIONS_AHEAD = 5
#: Pauses (seconds) between tries to pass one on: nobody else has it.
PASS_ON_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
#: The fields of a request that sound as if they took a login: some people put theirs there, not an id.
_CREDENTIAL = re.compile(r"(_credential['\"]?\s*[:=]\s*)('[^']*'?|\"[^\"]*\"?)")


class TaskFailed(Exception):
    """What Celery and Flower show of a failed task: `code: message`, as both its text and its repr."""

    def __repr__(self) -> str:
        return str(self)


class MessageRequest(Request):
    """Celery's view of one received message, with nothing in it that an operator may not see.

    Raises `InvalidTaskError`, which Celery logs and drops, where its own class would end the worker: a body
    that is not the triple of the message protocol.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidTaskError(f"not a task message: {type(error).__name__}") from None
        for name in ("argsrepr", "kwargsrepr"):
            text = _CREDENTIAL.sub(rf"\1{MASK}", redact(str(self._request_dict.get(name) or "")))[
                :SHOWN_LIMIT
            ]
            self._request_dict[name] = text
            setattr(self, f"_{name}", text)

    def cancel(self, pool: Any, signal: int | None = None, emit_retry: bool = True) -> None:
        """Celery gives up running tasks at a cold stop (SIGQUIT, a second Ctrl-C) and then waits for their
        threads, which it cannot kill. They hand their work over as at a warm one."""
        hand_over()


class MessageTask(Task):
    """Base of all our tasks: expected errors are one log line without a traceback."""

    Request = MessageRequest
    throws = (TaskFailed,)


class _Process:
    """What this process made; a worker has one set of services."""

    services: Services | None = None


def make_services(slots: int) -> Services:
    """Registries, store, ledger and runner for a worker that runs `slots` steps at a time. Call it after any
    fork; raises ConfigInvalid for settings that cannot work."""
    config = settings()
    real = config.settings.model_copy(update={"slots": slots})  # `--concurrency` is stronger than the file
    _Process.services = build_services(replace(config, settings=real), dispatch, dispatch.ring)
    return _Process.services


def services() -> Services:
    """What `make_services` made."""
    if _Process.services is None:
        raise InternalError("This process was not started as a worker.")
    return _Process.services


def hand_over() -> None:
    """Running steps go back to the ledger. In a thread of its own, because Celery calls this inside signal
    handlers, where the interrupted code may hold the very lock that draining takes."""
    if _Process.services is not None:
        runner = _Process.services.runner
        threading.Thread(target=runner.drain, name="distworker-drain", daemon=True).start()


def refuse(error: DistworkerError) -> NoReturn:
    """`fail` for what came before the runner, which logs its own failures."""
    log.warning("message refused: %s", error)
    fail(error)


def fail(error: Exception) -> NoReturn:
    """End the task as FAILURE with the typed error. Its cause is cut off: Flower shows whole tracebacks."""
    raise TaskFailed(redact(str(error))) from None


def version_of(message: Mapping[str, Any]) -> int:
    """The message's `v`; raises InvalidRequest when there is none."""
    version = message.get("v")
    if isinstance(version, bool) or not isinstance(version, int):
        raise InvalidRequest("The message has no version: send v: 1.", field="v")
    if version < 1:
        raise InvalidRequest(f"There is no message version {version}: send v: 1.", field="v")
    return version


def read_step(task: str, args: Sequence[Any], message: Mapping[str, Any]) -> str:
    """The step id of a step message. It only says where to look, so one of a newer release is as good: if
    the step itself is too new, the ledger says so and keeps it for others.

    Raises:
        InvalidRequest: the message is not `{v, step}`, or its step is none of this task's kind.
    """
    if args:
        raise InvalidRequest("A step message has no positional arguments: send v and step.", field="args")
    newer = version_of(message) > names.VERSION
    for name in message:
        if name not in ("v", "step") and not newer:
            raise InvalidRequest("A step message holds v and step, nothing else.", field=str(name)[:40])
    step = message.get("step")
    if not isinstance(step, str) or names.kind_of(step) != KIND_OF[task]:
        raise InvalidRequest(f"{task} needs the id of one of its own steps.", field="step")
    return step


def run_step(task: str, args: Sequence[Any], message: Mapping[str, Any]) -> str:
    """Run the step a message names and return the sentence about it; a failed step raises `TaskFailed`."""
    try:
        step = read_step(task, args, message)
    except DistworkerError as error:
        refuse(error)
    try:
        return services().runner.run(step)
    except (StepFailed, DistworkerError) as error:
        fail(error)


def submit(args: Sequence[Any], request: Mapping[str, Any]) -> str:
    """Check a job request, record the job and return its id; a bad request raises `TaskFailed` naming the
    field. One of a newer release is passed on to the queue that its workers serve."""
    try:
        if args:
            raise InvalidRequest("A job request has keyword arguments only (docs/enqueue.md).", field="args")
        version = version_of(request)
        if version <= names.VERSION:
            return services().jobs.submit(request)
        if version > names.VERSION + VERSIONS_AHEAD:
            raise InvalidRequest(
                f"The message has version {version}, this worker reads {names.VERSION}: upgrade the worker.",
                field="v",
            )
        return pass_on(request, version)
    except DistworkerError as error:
        refuse(error)


def pass_on(request: Mapping[str, Any], version: int) -> str:
    """Hand a request to the workers of a newer release; raises StateUnavailable when the broker stays
    away."""
    for pause in (*PASS_ON_PAUSES, None):
        try:
            dispatch.pass_on(request, version)
            break
        except StateUnavailable:
            if pause is None:
                raise
            time.sleep(pause)
    said = f"passed on: version {version} is for newer workers, it waits in {names.queue_of(version)}"
    log.warning("%s", said)
    return said
