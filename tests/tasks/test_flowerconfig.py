"""The dashboard's settings: no door without a lock, and failures where people look for them."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tornado.options import options

from deploy.demo.processes import clean_environment

CONFIG = Path(__file__).resolve().parents[2] / "config" / "flowerconfig.py"


@pytest.fixture(autouse=True)
def flower_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower's own options as they are before its config file is read, and no variables of this machine."""
    import flower.options  # noqa: F401, PLC0415 - defines them

    for name in ("ADDRESS", "PORT", "AUTH", "AUTH_FILE"):
        monkeypatch.delenv(f"DISTWORKER_FLOWER_{name}", raising=False)
    for name, value in {"address": "", "port": 5555, "basic-auth": [], "auth": "", "unix-socket": ""}.items():
        monkeypatch.setattr(options._options[name], "_value", value)


def read() -> dict[str, Any]:
    """What Flower gets from the file."""
    return runpy.run_path(str(CONFIG))


def test_without_settings_only_this_machine_reaches_it() -> None:
    """The plain command is the safe one."""
    assert read()["address"] == "127.0.0.1"


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.7", "dashboard.example", "*"])
def test_an_open_address_without_a_login_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """It says what to set."""
    monkeypatch.setenv("DISTWORKER_FLOWER_ADDRESS", address)

    with pytest.raises(SystemExit, match="DISTWORKER_FLOWER_AUTH_FILE"):
        read()


def test_an_open_address_given_on_the_command_line_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower applies its command line after this file, so the file has to look at it."""
    monkeypatch.setattr(options._options["address"], "_value", "0.0.0.0")

    with pytest.raises(SystemExit, match=r"0\.0\.0\.0 needs a login"):
        read()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_needs_no_login(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Who is on the machine may look."""
    monkeypatch.setenv("DISTWORKER_FLOWER_ADDRESS", address)

    assert read()["address"] == address


def test_an_open_address_with_a_password_file_is_fine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One login a line."""
    file = tmp_path / "logins"
    file.write_text("ann:secret\n\nbob:other\n")
    monkeypatch.setenv("DISTWORKER_FLOWER_ADDRESS", "0.0.0.0")
    monkeypatch.setenv("DISTWORKER_FLOWER_AUTH_FILE", str(file))

    assert read()["basic_auth"] == ["ann:secret", "bob:other"]


@pytest.mark.parametrize("auth", ["ann", "ann:", ":secret"])
def test_half_a_login_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch, auth: str) -> None:
    """A login that nobody can use would look like a lock."""
    monkeypatch.setenv("DISTWORKER_FLOWER_AUTH", auth)

    with pytest.raises(SystemExit, match="user:password") as caught:
        read()
    assert "secret" not in str(caught.value)


def test_a_missing_password_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a traceback."""
    monkeypatch.setenv("DISTWORKER_FLOWER_AUTH_FILE", "/nowhere/logins")

    with pytest.raises(SystemExit, match="DISTWORKER_FLOWER_AUTH_FILE: cannot be read"):
        read()


@pytest.mark.parametrize("port", ["many", "0", "70000"])
def test_a_port_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    """One line, naming the variable."""
    monkeypatch.setenv("DISTWORKER_FLOWER_PORT", port)

    with pytest.raises(SystemExit, match="DISTWORKER_FLOWER_PORT"):
        read()


def test_flower_started_plainly_reads_this_file_and_stays_shut() -> None:
    """`celery -A tasks flower` needs no option to be the safe one."""
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "tasks", "flower", "--address=0.0.0.0"],
        cwd=CONFIG.parents[1],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode != 0
    assert "the dashboard on 0.0.0.0 needs a login" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failed_task_shows_its_error_in_the_result_column() -> None:
    """Flower's own column for errors does not escape what a registry said."""
    config = read()
    task = SimpleNamespace(name="distworker.plan_image", result=None, exception="denied: <b>no</b>")

    shown = config["format_task"](task)

    assert (shown.name, shown.result) == ("plan_image", "denied: <b>no</b>")
    assert "exception" not in config["tasks_columns"].split(",")
