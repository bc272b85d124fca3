"""How errors become exit codes and one line, in this process and as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distworker.cli import main, work
from distworker.errors import (
    Denied,
    DistworkerError,
    InternalError,
    Interrupted,
    InvalidRequest,
    NoWorker,
    StateUnavailable,
    StoreFull,
    WorkerLost,
)
from tests.unit.cli.calls import Command, Fleet


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequest("x"), 2),
        (NoWorker("x"), 3),
        (StateUnavailable("x"), 3),
        (StoreFull("x"), 3),
        (Denied("x"), 1),
        (WorkerLost("x"), 1),
        (InternalError("x"), 1),
        (Interrupted("x"), 130),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: DistworkerError, code: int) -> None:
    """2 the request, 3 our servers, 130 stopped, 1 everything else."""
    assert main.code_of(error) == code


def test_a_bug_is_one_line_and_its_traceback_only_in_the_log(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`internal`, what to do, and no traceback unless -v asked for the log."""

    def broken(state: Any) -> Any:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(work, "examine", broken)

    ran, verbose = run("doctor"), run("doctor", "-v")

    assert ran.code == verbose.code == 1
    assert ran.err == (
        "internal: unexpected RuntimeError in this program; run it again with -v for the details,"
        " and please report it\n"
    )
    assert "Traceback" in verbose.err
    assert "hunter2" not in verbose.err


def process(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    code = "from distworker.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **more,
    )


def test_the_version_is_printed() -> None:
    """`--version` names program and version and exits 0."""
    ran = process("--version")

    assert (ran.returncode, ran.stdout.split()[0]) == (0, "distworker,")


@pytest.mark.parametrize("command", ["", *main.COMMANDS])
def test_help_of_every_command_has_an_example(command: str) -> None:
    """Help is read by people in a hurry."""
    ran = process(*([command] if command else []), "--help")

    assert ran.returncode == 0
    assert f"  distworker {command}" in ran.stdout


def test_help_loads_no_heavy_library() -> None:
    """Start-up time is felt at every call: servers' and drawing libraries come only when needed."""
    code = (
        "import sys; from distworker.cli.main import run; run(['copy', '--help']);"
        "sys.exit(sorted({'celery', 'boto3', 'redis', 'requests', 'rich', 'yaml', 'pydantic'}"
        " & set(sys.modules)) or 0)"
    )

    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    """`distworker … | head -1` ends quietly."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ran = subprocess.run(
            [sys.executable, "-c", "from distworker.cli.main import main; main()", "copy", "--help"],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)

    assert ran.returncode == 130
    assert ran.stderr == ""


def test_a_terminal_without_arrows_still_gets_its_lines(fleet: Fleet) -> None:
    """What cannot be shown in the terminal's encoding is replaced: it must not end the work."""
    code = (
        "import sys; from distworker.cli.main import _make_writable; _make_writable();"
        "print('a \u2192 b'); print('c \u2192 d', file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii:strict"},
    )

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "a ? b\n", "c ? d\n")


@pytest.mark.parametrize("words", [["--version"], ["doctor", "--json"]])
def test_a_full_disk_behind_stdout_is_one_line(words: list[str]) -> None:
    """`distworker … > /full/disk` shows no traceback."""
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-c", "from distworker.cli.main import main; main()", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    assert (ran.returncode, ran.stderr.splitlines()) == (
        3,
        ["output: no space left where stdout goes; jobs of a fleet go on"],
    )


def test_a_closed_stdout_is_no_fault() -> None:
    """`distworker … >&-` works and prints nothing."""
    command = "from distworker.cli.main import main; main()"
    ran = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" "$@" >&-', sys.executable, "-c", command, "--version"],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (0, "")
