"""Upkeep: one message, one bite of a sweep, in the worker that got it first."""

from __future__ import annotations

import logging
from typing import Any

from distworker import names
from distworker.errors import DistworkerError, InvalidRequest
from tasks.app import app
from tasks.base import MessageTask, fail, refuse, services, version_of

log = logging.getLogger(__name__)


@app.task(name=names.SWEEP, base=MessageTask)
def sweep(*args: Any, **message: Any) -> str:
    """Run the sweep that the message names, if it is due and nobody else is at it."""
    try:
        name = _sweep_of(args, message)
    except DistworkerError as error:
        refuse(error)
    try:
        said = services().upkeep.run(name)
    except DistworkerError as error:
        log.warning("sweep %s failed: %s", name, error)
        fail(error)
    except Exception as error:
        log.exception("sweep %s failed unexpectedly", name)
        fail(
            RuntimeError(
                f"internal: {type(error).__name__} in sweep {name}; the worker's log has the details"
            )
        )
    log.info("%s", said)
    return said


def _sweep_of(args: tuple[Any, ...], message: dict[str, Any]) -> str:
    if version_of(message) > names.VERSION:
        raise InvalidRequest("The message is of a newer release, whose scheduler rings again.", field="v")
    name = message.get("sweep")
    if args or set(message) - {"v", "sweep"} or not isinstance(name, str):
        raise InvalidRequest("A sweep's message holds v and sweep, nothing else.", field="sweep")
    return name
