"""The tasks that move bytes: a blob into the store, a blob to a destination."""

from __future__ import annotations

from typing import Any

from distworker import names
from tasks.app import app
from tasks.base import MessageTask, run_step


@app.task(name=names.DOWNLOAD_LAYER, base=MessageTask)
def download_layer(*args: Any, **message: Any) -> str:
    """Source → hash → store, and with one waiting destination in the same pass to it."""
    return run_step(names.DOWNLOAD_LAYER, args, message)


@app.task(name=names.UPLOAD_LAYER, base=MessageTask)
def upload_layer(*args: Any, **message: Any) -> str:
    """There already? Mountable? Else store → destination."""
    return run_step(names.UPLOAD_LAYER, args, message)
