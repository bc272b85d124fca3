"""The Celery application. Its settings are read when Celery first needs them, not at import.

A bad settings file ends the command with one line that says where and why, instead of a traceback.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from celery import Celery

from distworker.errors import DistworkerError
from distworker.settings import Config, load
from tasks.conf import celery_settings

#: `celery -A tasks flower` without options must be the safe one, so it finds our Flower settings by itself.
FLOWER_CONFIG = Path(__file__).resolve().parent.parent / "config" / "flowerconfig.py"


@functools.cache
def settings() -> Config:
    """The operator's settings; a mistake in them ends the process with exit code 2 and a line about it."""
    try:
        return load()
    except DistworkerError as error:
        raise SystemExit(f"distworker: {error}") from None


def _defaults() -> dict[str, Any]:
    config = settings().settings
    return celery_settings(config.broker, f"{config.redis_prefix}:", config.slots)


os.environ.setdefault("FLOWER_CONF", str(FLOWER_CONFIG))
app = Celery("distworker")
app.add_defaults(_defaults)
