"""The licences of everything the locks bring in: permissive ones, and named exceptions with their reason.

distworker is Apache-2.0 and ships none of these packages; the container image does. A package whose licence
is not on the list fails here, on the day it is locked, and not when somebody asks.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.demo.swift import SWIFT_VENV, swift_environment

# Read before the environment is cleaned for the tests.
_SWIFT = Path(os.environ[SWIFT_VENV]) if SWIFT_VENV in os.environ else None
LOCKS = Path(__file__).parents[2] / "deploy" / "locks"

#: As packages spell them, in SPDX or as classifiers.
PERMISSIVE = {
    *("Apache-2.0", "Apache Software License", "Apache License 2.0"),
    *("BSD-2-Clause", "BSD-3-Clause", "BSD License", "0BSD"),
    *(
        "MIT",
        "MIT License",
        "MIT-0",
        "ISC",
        "PSF-2.0",
        "Python Software Foundation License",
        "Zlib",
        "Unlicense",
    ),
    "DFSG approved",  # a Debian classifier that stands beside the licence itself
}
#: Licences that ask something of us, and why we can give it.
EXCEPTIONS = {
    # File-level copyleft: unmodified files may be used and shipped by anyone. We modify none.
    "certifi": {"MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)"},
    # The same, and only used by the tests and by mypy; the container image holds neither.
    "hypothesis": {"MPL-2.0"},
    "pathspec": {"Mozilla Public License 2.0 (MPL 2.0)", "MPL-2.0"},
}
#: Locked for other systems or Python versions than the one at hand, so no metadata can be read here.
ELSEWHERE = {
    **{"async-timeout": "Apache-2.0", "colorama": "BSD-3-Clause", "tzdata": "Apache-2.0"},
    "pyyaml-ft": "MIT",  # for free-threaded Pythons only
}


def normal(name: str) -> str:
    """A package name as locks spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(lock: str) -> set[str]:
    """The packages of a lock file."""
    return {
        normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", (LOCKS / lock).read_text(), re.MULTILINE)
    }


def licences(python: Path) -> dict[str, str]:
    """What the packages installed for `python` say of themselves, by name."""
    command = [sys.executable, "-m", "piplicenses", "--python", str(python), "--from=mixed", "--format=json"]
    # pip-licenses leaves out the packages it needs itself unless it is told to show system packages.
    output = subprocess.run([*command, "--with-system"], check=True, capture_output=True, text=True).stdout
    return {normal(entry["Name"]): entry["License"] for entry in json.loads(output)}


def allowed(package: str, expression: str) -> bool:
    """One side of each OR must be allowed whole; the parts of AND, and classifiers side by side, all must
    be."""
    fine = PERMISSIVE | EXCEPTIONS.get(package, set())
    return any(
        all(part.strip(" ()") in fine or part.strip() in fine for part in re.split(r" AND |;", side))
        for side in expression.split(" OR ")
    )


def refused(lock: str, python: Path) -> list[str]:
    """The locked packages whose licence is unknown or not on the list."""
    known = ELSEWHERE | licences(python)
    return sorted(
        f"{package}: {known.get(package, 'not installed')}"
        for package in locked(lock)
        if package not in known or not allowed(package, known[package])
    )


@pytest.mark.parametrize("lock", ["run.lock", "test.lock"])
def test_every_locked_package_has_a_licence_we_can_live_with(lock: str) -> None:
    """Both locks are installed in the environment that runs this."""
    assert len(locked(lock)) > 30
    assert refused(lock, Path(sys.executable)) == []


@pytest.mark.servers
def test_the_s3_server_of_the_tests_has_licences_we_can_live_with() -> None:
    """It lives in an environment of its own."""
    assert refused("swift.lock", swift_environment(_SWIFT) / "bin" / "python") == []


@pytest.mark.parametrize(
    ("expression", "fine"),
    [
        ("MIT", True),
        ("Apache-2.0 OR GPL-3.0-only", True),
        ("Apache-2.0 AND BSD-2-Clause", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only", False),
        ("MPL-2.0", False),
        ("UNKNOWN", False),
        ("", False),
    ],
)
def test_an_unlisted_licence_is_refused(expression: str, fine: bool) -> None:
    """The list would be of no use if everything passed it."""
    assert allowed("somebody", expression) is fine
    assert allowed("certifi", "MPL-2.0")
