"""The Celery application. Its settings are read when Celery first needs them, not at import.

A bad settings file ends the command with one line that says where and why, instead of a traceback.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

from celery import Celery

from distworker.errors import DistworkerError
from distworker.service.broker import broker_of
from distworker.settings import Config, load
from tasks.conf import celery_settings

#: `celery -A tasks flower` without options must be the safe one, so it finds our Flower settings by itself.
FLOWER_CONFIG = Path(__file__).resolve().parent.parent / "config" / "flowerconfig.py"


#: Exit codes of a process that does not start: its settings are wrong, or a server of ours is not fit.
USAGE: Final = 2
INFRASTRUCTURE: Final = 3


@functools.cache
def settings() -> Config:
    """The operator's settings; a mistake in them ends the process with exit code 2 and a line about it."""
    try:
        return load()
    except DistworkerError as error:
        refuse_start(str(error), USAGE)


def refuse_start(why: str, code: int) -> NoReturn:
    """End the process with one line and the exit code that the command line has for the same."""
    print(f"distworker: {why}", file=sys.stderr, flush=True)  # noqa: T201 - what SystemExit does with a text
    raise SystemExit(code)


def _defaults() -> dict[str, Any]:
    config = settings().settings
    broker = broker_of(config.broker, f"{config.redis_prefix}:", config.redis_access)
    return celery_settings(broker, config.slots)


os.environ.setdefault("FLOWER_CONF", str(FLOWER_CONFIG))
app = Celery("distworker")
app.add_defaults(_defaults)
