"""Where work starts: the one task other systems send, then a job's expansion and an image's planning."""

from __future__ import annotations

from typing import Any

from distworker import names
from tasks.app import app
from tasks.base import MessageTask, run_step, submit


@app.task(name=names.SUBMIT_JOB, base=MessageTask)
def submit_job(*args: Any, **request: Any) -> str:
    """Check a job request from any system, record the job, return its id."""
    return submit(args, request)


@app.task(name=names.EXPAND_JOB, base=MessageTask)
def expand_job(*args: Any, **message: Any) -> str:
    """Release the next images of a job's frozen list."""
    return run_step(names.EXPAND_JOB, args, message)


@app.task(name=names.PLAN_IMAGE, base=MessageTask)
def plan_image(*args: Any, **message: Any) -> str:
    """Ask both sides, pin the image, claim what must move."""
    return run_step(names.PLAN_IMAGE, args, message)
