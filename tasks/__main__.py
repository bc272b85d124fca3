"""`python -m tasks` is `celery -A tasks worker` in 15 MiB less memory, with the same options.

Celery's own command loads all its commands and plugins, the dashboard and an interactive shell among them,
before it looks at which one is wanted; a worker keeps them for its life.
"""

from __future__ import annotations

from celery.bin.base import CLIContext
from celery.bin.worker import worker

from tasks.app import app

worker.main(prog_name="python -m tasks", obj=CLIContext(app, no_color=False, workdir=None))
