"""What `copy`, `pull`, `push` and `migrate` share: check the request, hand it over, watch it, report.

The request is checked before any server is asked, and a fleet is asked for a live worker before anything is
recorded. Ctrl-C means: on a fleet, leave the job running and say how to stop it; in local mode, stop the work
cleanly.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from distworker.cli import report, work
from distworker.cli.follow import follow, interruptible
from distworker.cli.options import current
from distworker.names import VERSION
from distworker.plan.model import JobRequest

#: A list of a thousand pairs with the same slip need not scroll everything else away.
CAUTIONS_SHOWN: Final = 5


def start(
    fields: Mapping[str, Any],
    *,
    priority: int | None,
    detach: bool,
    local: bool,
    store: Path | None,
    plain_http: tuple[str, ...],
    as_json: bool,
) -> int:
    """Make a job of `fields` (those of docs/enqueue.md without `v`) and see it through to its exit code."""
    if local and detach:
        raise click.UsageError("--detach needs a fleet: with --local the work is done by this process")
    if store is not None and not local:
        raise click.UsageError(
            "--store goes with --local; a fleet's store is a setting (see `distworker doctor`)"
        )
    if plain_http and not local:
        raise click.UsageError("--plain-http goes with --local; a fleet's workers read it in registries.toml")
    request = checked(fields if priority is None else {**fields, "priority": priority})
    caution(request, as_json)
    if local:
        return _here(request, store, plain_http, as_json)
    return _fleet(request, detach, as_json)


def checked(fields: Mapping[str, Any]) -> JobRequest:
    """The job that `fields` ask for; raises InvalidRequest or InvalidReference naming the field."""
    from distworker.service.jobs import new_job_id  # noqa: PLC0415 - keeps --help quick
    from distworker.service.payload import parse_request  # noqa: PLC0415

    return parse_request({"v": VERSION, **fields}, new_id=new_job_id(), created=time.time())


def caution(request: JobRequest, as_json: bool) -> None:
    """Say what may not have been meant, before anything is done about it."""
    from distworker.service.payload import cautions  # noqa: PLC0415 - keeps --help quick

    said = cautions(request)
    for message in said[:CAUTIONS_SHOWN]:
        if as_json:
            click.echo(json.dumps({"event": "caution", "v": VERSION, "message": message}, ensure_ascii=False))
        click.echo(f"caution: {message}", err=True)
    if len(said) > CAUTIONS_SHOWN:
        click.echo(f"caution: and {len(said) - CAUTIONS_SHOWN} more of this kind", err=True)


def _fleet(request: JobRequest, detach: bool, as_json: bool) -> int:
    from distworker.cli import render  # noqa: PLC0415 - rich is needed from here on

    config = work.settings(current())
    work.require_redis(config)
    if not detach:
        work.require_worker(config)
    with interruptible(), work.fleet(config) as jobs:
        display = render.choose(as_json)
        try:
            jobs.create(request)
            if detach:
                return detached(request.id, not work.workers(config), display, jobs.view(request.id))
            return follow(jobs, request.id, display)
        except KeyboardInterrupt:
            click.echo(left(request.id), err=True)
            return report.INTERRUPTED


def detached(job: str, waiting: bool, display: Any, view: Any) -> int:
    """Show the job once and leave; `waiting`: nobody is there yet who would do it."""
    with display:
        display.begin(view)
        if waiting:
            display.notice("no_worker: no worker is alive; the job waits for one")
        display.notice(
            f"detached; follow: distworker status {job} --follow   cancel: distworker cancel {job}"
        )
    return report.OK


def left(job: str) -> str:
    """What is said when Ctrl-C leaves a job running."""
    return (
        f"detached: job {job} goes on without this terminal\n"
        f"  follow: distworker status {job} --follow\n"
        f"  cancel: distworker cancel {job}"
    )


def _here(request: JobRequest, store: Path | None, plain_http: tuple[str, ...], as_json: bool) -> int:
    from distworker.cli import render  # noqa: PLC0415 - rich is needed from here on

    config = work.with_plain_http(work.settings(current()), plain_http)
    with interruptible():
        try:
            with work.local(config, store) as jobs:
                jobs.create(request)
                return follow(jobs, request.id, render.choose(as_json))
        except KeyboardInterrupt:
            click.echo(f"interrupted: job {request.id} was stopped; run it again to go on", err=True)
            return report.INTERRUPTED
