"""Options that several commands share, spelled once so that they mean the same everywhere."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

import click

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Run:
    """One run of the command line: what its error handling must know. Lives in `ctx.obj`."""

    as_json: bool = False
    verbose: int = 0
    log_format: str | None = None
    config: Path | None = None


def common(command: F) -> F:
    """`--config`, `--log-format` and `-v`: on every command. They start the log before the command runs."""

    @click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Settings file, or a folder with distworker.toml and registries.toml.",
    )
    @click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        help="How log lines on stderr look; otherwise the setting log.format.",
    )
    @click.option("-v", "--verbose", count=True, help="Log what happens on stderr; twice: in detail.")
    @functools.wraps(command)
    def wrapped(*, config: Path | None, log_format: str | None, verbose: int, **values: Any) -> Any:
        run = current()
        run.config, run.log_format, run.verbose = config, log_format, verbose
        start_log(log_format or "text", verbose)
        return command(**values)

    return wrapped  # type: ignore[return-value]


def start_log(log_format: str, verbose: int) -> None:
    """The log of the command line: warnings only, because the result itself is on stdout."""
    from distworker import logs  # noqa: PLC0415 - not needed for --help

    level = ("warning", "info", "debug")[min(verbose, 2)]
    logs.setup(format=log_format, level=level, stream=cast(TextIO, _Stderr()))


class _Stderr:
    """Whatever `sys.stderr` is when a line is written: bars take its place while they are shown."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def as_json(command: F) -> F:
    """`--json`: machine-readable lines, and nothing else, on stdout."""

    def remember(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
        context.ensure_object(Run).as_json = value
        return value

    option = click.option(
        "--json",
        "as_json",
        is_flag=True,
        callback=remember,
        help="JSON lines on stdout, and nothing else there.",
    )
    return option(command)


def job(command: F) -> F:
    """What every command that makes a job takes."""
    for option in reversed(
        (
            click.option(
                "--priority",
                type=click.IntRange(0, 9),
                help="0 (last) to 9 (first); 5 unless given.",
            ),
            click.option("--detach", is_flag=True, help="Print the job's id and leave, live worker or not."),
            click.option(
                "--local", is_flag=True, help="Do the work in this process: no Redis, worker or S3."
            ),
            click.option(
                "--store",
                type=click.Path(file_okay=False, path_type=Path),
                metavar="DIR",
                help="With --local: the folder that keeps the blobs.",
            ),
            click.option(
                "--plain-http",
                multiple=True,
                metavar="HOST",
                help="With --local: speak http to this host or host:port; may be given several times.",
            ),
        )
    ):
        command = option(command)
    return as_json(command)


def stored(command: F) -> F:
    """What every command about the store takes: the configured one, or that of local runs."""
    local = click.option(
        "--local", is_flag=True, help="The store of --local runs, without Redis and workers."
    )
    store = click.option(
        "--store",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="With --local: the folder that keeps the blobs.",
    )
    return local(store(as_json(command)))


def held(command: F) -> F:
    """What `pause` and `resume` are about: a job, or a registry."""
    job = click.argument("job", metavar="[JOB]", required=False)
    origin = click.option("--origin", metavar="HOST", help="This registry (host or host:port), in all jobs.")
    return job(origin(command))


def one_of(job: str | None, origin: str | None) -> str:
    """The job or the host that was named; raises UsageError unless it is exactly one, InvalidReference for
    what is no host."""
    if (job is None) == (origin is None):
        raise click.UsageError("name either a JOB or --origin HOST; `distworker status` lists jobs")
    if origin is None:
        return str(job)
    from distworker.reference import parse_host  # noqa: PLC0415 - not needed for --help

    return parse_host(origin)


def current() -> Run:
    """The run this command belongs to."""
    return click.get_current_context().ensure_object(Run)


def selected(all_tags: bool, platforms: tuple[str, ...]) -> dict[str, Any]:
    """The request fields of `selection`'s options, without those that were not given."""
    fields: dict[str, Any] = {"all_tags": True} if all_tags else {}
    return fields | ({"platforms": list(platforms)} if platforms else {})


def selection(command: F) -> F:
    """Which images of a repository, and which platforms of an image."""
    platform = click.option(
        "--platform",
        "platforms",
        multiple=True,
        metavar="OS/ARCH[/VARIANT]",
        help="Only this platform of a multi-platform image; may be given several times. All unless given.",
    )
    all_tags = click.option("--all-tags", is_flag=True, help="Every tag of the source repository.")
    return all_tags(platform(command))
