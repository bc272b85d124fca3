"""What all tasks share: reading a message, this process's services, and how a failure looks to an operator.

A message may come from anyone who reaches the broker and from newer or older releases, so its every field is
checked and a wrong one ends as one FAILURE line that names it; the worker stays up. Nothing a stranger put
into a message is shown or logged unredacted.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from celery import Task
from celery.exceptions import InvalidTaskError
from celery.worker.request import Request

from distworker import names
from distworker.errors import DistworkerError, InternalError, InvalidRequest
from distworker.logs import MASK, redact
from distworker.service.runner import StepFailed
from distworker.service.wiring import Services, build_services
from tasks.app import settings
from tasks.graph import KIND_OF, dispatch

log = logging.getLogger(__name__)

#: Longest argument text kept: the brokers' headers and Flower's table are no place for a whole job.
SHOWN_LIMIT = 500
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


def refuse(error: DistworkerError) -> NoReturn:
    """`fail` for what came before the runner, which logs its own failures."""
    log.warning("message refused: %s", error)
    fail(error)


def fail(error: Exception) -> NoReturn:
    """End the task as FAILURE with the typed error. Its cause is cut off: Flower shows whole tracebacks."""
    raise TaskFailed(redact(str(error))) from None


def check_version(message: Mapping[str, Any]) -> None:
    """Raises InvalidRequest unless the message's `v` is one this release reads."""
    version = message.get("v")
    if isinstance(version, bool) or not isinstance(version, int):
        raise InvalidRequest("The message has no version: send v: 1.", field="v")
    if version > names.VERSION:
        raise InvalidRequest(
            f"The message has version {version}, this worker reads {names.VERSION}: upgrade the worker.",
            field="v",
        )
    if version < 1:
        raise InvalidRequest(f"There is no message version {version}: send v: 1.", field="v")


def read_step(task: str, args: Sequence[Any], message: Mapping[str, Any]) -> str:
    """The step id of a step message.

    Raises:
        InvalidRequest: the message is not `{v, step}`, or its step is none of this task's kind.
    """
    if args:
        raise InvalidRequest("A step message has no positional arguments: send v and step.", field="args")
    check_version(message)
    for name in message:
        if name not in ("v", "step"):
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
    field."""
    try:
        if args:
            raise InvalidRequest("A job request has keyword arguments only (docs/enqueue.md).", field="args")
        check_version(request)
        return services().jobs.submit(request)
    except DistworkerError as error:
        refuse(error)
