"""The wheel holds the library and nothing else.

`tasks` and `config` are names that other distributions own; in someone's site-packages they would collide.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IGNORED = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """What the build makes, opened."""
    with zipfile.ZipFile(built_wheel(tmp_path_factory.mktemp("wheel"))) as opened:
        yield opened


def built_wheel(folder: Path) -> Path:
    """The wheel, built without network from a copy of the tree in `folder` (a build leaves files behind)."""
    tree = folder / "tree"
    shutil.copytree(ROOT, tree, ignore=IGNORED)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            str(tree / "out"),
            str(tree),
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )
    (path,) = (tree / "out").glob("*.whl")
    return path


def test_only_the_library_and_its_metadata_are_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    """No tasks, no config, no tests, no deploy."""
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    (metadata,) = tops - {"distworker"}
    assert metadata.startswith("distworker-")
    assert metadata.endswith(".dist-info")


def test_every_file_of_the_library_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    """Modules, Lua scripts and the typing marker: a missing one is only noticed where it is installed."""
    wanted = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "distworker").rglob("*")
        if path.suffix in (".py", ".lua") or path.name == "py.typed"
    }
    assert wanted == {name for name in wheel.namelist() if name.startswith("distworker/")}
    assert "distworker/py.typed" in wanted
    assert any(name.endswith(".lua") for name in wanted)


def test_the_wheel_names_its_licence_command_and_python(wheel: zipfile.ZipFile) -> None:
    """What an installer and a lawyer look for."""
    names = {Path(name).name: name for name in wheel.namelist() if ".dist-info/" in name}
    metadata = Parser().parsestr(wheel.read(names["METADATA"]).decode())
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "LICENSE" in names
    assert "distworker = distworker.cli.main:main" in wheel.read(names["entry_points.txt"]).decode()


def test_the_licence_is_the_whole_apache_licence() -> None:
    """The text, not a pointer to it."""
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in text
    assert "9. Accepting Warranty or Additional Liability." in text
