"""The command line: `distworker COMMAND …`, and the one place where errors become exit codes.

Exit codes: 0 all well, 1 some images failed, 2 the request is wrong, 3 our own servers (Redis, broker, store,
workers) are not there, 130 interrupted. Errors are one line on stderr, `code: message`; a traceback is never
shown, with -v it is in the log. Commands are imported only when called, so that `--help` costs no Celery.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from distworker import __version__
from distworker.cli.options import Run
from distworker.errors import (
    DistworkerError,
    InfrastructureError,
    InternalError,
    Interrupted,
    InvalidRequest,
    RequestError,
)

#: Exit codes; `report.py` gives those of a job that ran.
OK, SOME_FAILED, USAGE, INFRASTRUCTURE, INTERRUPTED = 0, 1, 2, 3, 130

#: Command → its one line in the list, here so that the list imports none of them.
COMMANDS: Final = {
    "copy": "Copy an image, or all tags of a repository, from registry to registry.",
    "pull": "Bring an image from its registry into the store.",
    "push": "Send an image from the store to a registry.",
    "migrate": "Copy everything that a job file lists.",
    "status": "List jobs, or show one job.",
    "cancel": "Stop a job.",
    "pause": "Hold a job, or everything at a registry.",
    "resume": "Let a paused job or registry go on.",
    "retry": "Run again those images of a job that failed.",
    "stuck": "List what is late or held up, why, and what to do.",
    "recover": "Go on with the jobs that a loss of Redis left behind.",
    "export": "Write images of the store as an OCI layout or a docker archive.",
    "import": "Bring images from an OCI layout or a docker archive into the store.",
    "usage": "Say what the store holds, and for which repositories.",
    "forget": "Give up an image that the store keeps; gc then frees its room.",
    "gc": "Delete from the store what no image and no job needs.",
    "scrub": "Read the store again, put aside what is damaged, bring it anew.",
    "doctor": "Check Redis, broker, store, workers and registries, and say what to do.",
}


class Commands(click.Group):
    """Loads a command from the module of its name when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        # A module cannot be called as the statement is.
        module = "import_" if cmd_name == "import" else cmd_name
        command = importlib.import_module(f"distworker.cli.{module}").command
        assert isinstance(command, click.Command)  # noqa: S101 - tells mypy what every command module holds
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            ctx.fail(f"no command {args[0]!r}; there are {', '.join(COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 all well, 1 some failed, 2 usage, 3 infrastructure, 130 interrupted.",
)
@click.version_option(__version__, "-V", "--version", prog_name="distworker")
def cli() -> None:
    """Move container images in bulk between registries.

    \b
    Try it without any server:
      distworker copy --local alpine:3.20 registry.example.com/mirror/alpine:3.20
    With a fleet of workers:
      distworker doctor
      distworker migrate images.yaml
      distworker status
    """


def run(arguments: Sequence[str] | None = None) -> int:  # noqa: PLR0911 - one line per way to end
    """Run one command line; returns its exit code and never raises."""
    # Looked for by hand: a command line that cannot be read is an event too.
    state = Run(as_json="--json" in (sys.argv[1:] if arguments is None else arguments))
    _make_writable()
    try:
        answer: Any = cli.main(args=arguments, prog_name="distworker", standalone_mode=False, obj=state)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
    except click.ClickException as error:
        return _refuse(error, state)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # click ends by SystemExit(1) in this one case, which would say that images failed.
        # The reader of our output left (`| head`); without this Python complains again when it exits.
        _drop_output()
        return INTERRUPTED
    except DistworkerError as error:
        return _tell(error, state)
    except Exception as error:  # noqa: BLE001 - the boundary: no traceback reaches a user
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # stores have their own error for it
            _drop_output()
            click.echo("output: no space left where stdout goes; jobs of a fleet go on", err=True)
            return INFRASTRUCTURE
        return _tell(_internal(error, state), state)
    return answer if isinstance(answer, int) else OK


def _make_writable() -> None:
    """An arrow in a Latin-1 terminal and a closed stdout must not end the work behind them."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - to the end of the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _drop_output() -> None:
    """What is still buffered goes nowhere; else Python tries once more, and complains, when it exits."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def code_of(error: DistworkerError) -> int:
    """The exit code of an error that ended a command."""
    if isinstance(error, RequestError):
        return USAGE
    if isinstance(error, InfrastructureError):
        return INFRASTRUCTURE
    return INTERRUPTED if isinstance(error, Interrupted) else SOME_FAILED


def _tell(error: DistworkerError, state: Run) -> int:
    code = code_of(error)
    if state.as_json:
        print(json.dumps({"event": "error", "v": 1, **error.to_dict(), "exit": code}), flush=True)  # noqa: T201
    click.echo(str(error), err=True)
    return code


def _refuse(error: click.ClickException, state: Run) -> int:
    """click's own message and hint, in our form: one line, then how to get help."""
    context = getattr(error, "ctx", None)
    if state.as_json:
        record = InvalidRequest(error.format_message()).to_dict()
        print(json.dumps({"event": "error", "v": 1, **record, "exit": USAGE}), flush=True)  # noqa: T201
    click.echo(f"usage: {error.format_message()}", err=True)
    if context is not None:
        click.echo(f"Try '{context.command_path} --help'.", err=True)
    return USAGE


def _internal(error: Exception, state: Run) -> InternalError:
    logging.getLogger("distworker.cli").info("unexpected error", exc_info=error)
    where = "the log above has the details" if state.verbose else "run it again with -v for the details"
    return InternalError(f"unexpected {type(error).__name__} in this program; {where}, and please report it")


def main() -> NoReturn:
    """The console script."""
    sys.exit(run())
