"""The import contracts bite: each forbidden import, put into a copy of the tree, breaks its contract.

`make test` runs the contracts on the tree itself; a contract with a typing mistake would be kept for ever.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Contract (its first words) → a file and the import that it must not have.
VIOLATIONS = {
    "Imports only point down": ("distworker/digest.py", "import distworker.registry.base"),
    "The library never imports": ("distworker/steps/base.py", "import tasks"),
    "Only the registry room": ("distworker/blobstore/local.py", "import requests"),
    "Only the S3 store": ("distworker/blobstore/local.py", "import botocore.exceptions"),
    "Only the state room": ("distworker/service/jobs.py", "from redis import Redis"),
    "Only the producer": ("distworker/service/runner.py", "import celery"),
    "Only one module draws": ("distworker/cli/main.py", "import rich.console"),
    "Adapters are joined": ("distworker/service/runner.py", "import distworker.blobstore.local"),
}
SIBLINGS = {
    "distworker/registry/base.py": "import distworker.blobstore.base",
    "distworker/state/base.py": "import distworker.registry.base",
    "distworker/blobstore/base.py": "import distworker.state.base",
}


def lint(tree: Path) -> str:
    """What import-linter says of a copy of the tree."""
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as run; run()",
            "--no-cache",
        ],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout + run.stderr


def break_tree(tree: Path, *changes: tuple[str, str]) -> None:
    """Copy what the contracts look at and add an import to each file named."""
    for name in ("distworker", "tasks"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    for name, line in changes:
        with (tree / name).open("a") as file:
            file.write(f"\n{line}\n")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report on a tree that breaks every contract."""
    tree = tmp_path_factory.mktemp("broken")
    break_tree(tree, *VIOLATIONS.values())
    return lint(tree)


@pytest.mark.parametrize("contract", VIOLATIONS)
def test_a_forbidden_import_breaks_its_contract(report: str, contract: str) -> None:
    """The contract is reported as broken, not merely present."""
    assert re.search(rf"^{re.escape(contract)}.* BROKEN", report, re.MULTILINE), report


def test_every_contract_has_a_violation_that_proves_it(report: str) -> None:
    """A new contract comes with the import that it forbids."""
    assert f"Contracts: 0 kept, {len(VIOLATIONS)} broken." in report, report


def test_ports_do_not_know_each_other(tmp_path: Path) -> None:
    """Registry, store and state are siblings: each one's import of another is named."""
    break_tree(tmp_path, *SIBLINGS.items())
    said = lint(tmp_path)
    for importer, line in SIBLINGS.items():
        module = importer.removesuffix(".py").replace("/", ".")
        assert f"{module} -> {line.removeprefix('import ')}" in said, said


def test_a_new_room_must_say_where_it_stands(tmp_path: Path) -> None:
    """A package beside the floors is refused until it is given a layer."""
    break_tree(tmp_path)
    (tmp_path / "distworker/attic").mkdir()
    (tmp_path / "distworker/attic/__init__.py").touch()
    assert re.search(r"Imports only point down.* BROKEN", lint(tmp_path))
