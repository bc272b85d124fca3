"""The task that makes an image visible: manifests, the tag last, read back."""

from __future__ import annotations

from typing import Any

from distworker import names
from tasks.app import app
from tasks.base import MessageTask, run_step


@app.task(name=names.PUBLISH_IMAGE, base=MessageTask)
def publish_image(*args: Any, **message: Any) -> str:
    """Children by digest, the root, its tag; the image closes."""
    return run_step(names.PUBLISH_IMAGE, args, message)
