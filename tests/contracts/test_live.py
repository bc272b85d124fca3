"""`make live` itself: it says what to set, leaves no stone out, and tries a real registry."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.demo.servers import DockerRegistry, Htpasswd

ROOT = Path(__file__).parents[2]
NAMES = ("DISTWORKER_LIVE_IMAGES", "DISTWORKER_LIVE_PUSH", "DISTWORKER_CONFIG")


def live(**variables: str) -> subprocess.CompletedProcess[str]:
    """A run of it with these variables."""
    kept = {name: value for name, value in os.environ.items() if name not in NAMES}
    return subprocess.run(
        [sys.executable, "-m", "tests.live"],
        cwd=ROOT,
        env={**kept, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_registries_it_says_what_to_set() -> None:
    """One line, and no success."""
    ran = live()
    assert ran.returncode == 2
    assert ran.stdout == ""
    (line,) = ran.stderr.splitlines()
    assert all(name in line for name in NAMES[:2])


def test_the_whole_suite_does_not_try_it() -> None:
    """Its files have names that pytest looks for only when told."""
    assert list((ROOT / "tests/live").glob("test_*.py")) == []


@pytest.mark.servers
def test_it_pushes_and_reads_where_it_is_told(
    new_registry: Callable[..., DockerRegistry], tmp_path: Path
) -> None:
    """With the login of registries.toml; a wrong one is no success."""
    host = new_registry(auth=Htpasswd("robot", "SECRET-PASSWORD")).host
    settings = tmp_path / "distworker.toml"
    settings.touch()
    table = tmp_path / "registries.toml"
    where = {"DISTWORKER_CONFIG": str(settings)}
    for password, code in (("SECRET-WRONG", 1), ("SECRET-PASSWORD", 0)):
        table.write_text(f'["{host}"]\nplain_http = true\nusername = "robot"\npassword = "{password}"\n')
        ran = live(**where, DISTWORKER_LIVE_PUSH=f"{host}/scratch")
        assert ran.returncode == code, ran.stdout
        assert "SECRET" not in ran.stdout + ran.stderr
    ran = live(**where, DISTWORKER_LIVE_IMAGES=f"{host}/scratch:distworker-live")
    assert ran.returncode == 0, ran.stdout
    assert "4 passed" in ran.stdout
