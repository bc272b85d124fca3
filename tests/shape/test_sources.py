"""The shape of the source tree: documented, without loose ends, and free of places it must not know."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from distworker import names

ROOT = Path(__file__).parents[2]
CODE = ("distworker", "tasks", "deploy", "bench", "tests")
#: Pages of the OCI specifications, named with their specification.
FOREIGN_PAGES = {"descriptor.md", "media-types.md", "spec.md"}
TASKS = {
    names.SUBMIT_JOB,
    names.EXPAND_JOB,
    names.PLAN_IMAGE,
    names.DOWNLOAD_LAYER,
    names.UPLOAD_LAYER,
    names.PUBLISH_IMAGE,
    names.SWEEP,
}


def modules(*folders: str) -> list[Path]:
    """The Python files below these folders, relative to the tree."""
    return sorted(path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py"))


def project_files() -> list[Path]:
    """Every file of the project: what git tracks or would take."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode == 0:
        found = [ROOT / name for name in listing.stdout.split("\0") if name]
    else:
        # A release archive has no git; then nothing but the tree itself is there.
        hidden = (".venv", ".git", ".mypy_cache", ".demo")
        found = [path for path in ROOT.rglob("*") if not path.relative_to(ROOT).parts[0].startswith(hidden)]
    return [path for path in found if path.is_file()]


def mentions(texts: Sequence[str]) -> list[str]:
    """Where any of these texts stands in a file of the project."""
    return [
        f"{path.relative_to(ROOT)}: {text}"
        for path in project_files()
        if (content := path.read_text(errors="replace"))
        for text in texts
        if text in content
    ]


def public(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions and classes that other modules may use."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_":
            yield node


@pytest.mark.parametrize("path", [path for path in modules(*CODE) if path.name != "__init__.py"], ids=str)
def test_every_module_and_everything_public_in_it_is_documented(path: Path) -> None:
    """Modules say what they are; public functions and classes say what they promise; tests say what they
    show."""
    tree = ast.parse((ROOT / path).read_text())
    promises = [node for node in public(tree) if path.parts[0] != "tests" or node.name.startswith("test_")]
    missing = [node.name for node in promises if not ast.get_docstring(node)]
    assert ast.get_docstring(tree), f"{path} has no module text"
    assert missing == []


def test_packages_below_the_top_have_empty_init_files() -> None:
    """Importing a room must not run code, nor hide where a name lives."""
    inits = [path for path in modules("distworker") if path.name == "__init__.py" and len(path.parts) > 2]
    assert inits
    assert [str(path) for path in inits if (ROOT / path).read_text().strip()] == []


# Spelled in halves, so that this file does not find itself.
LOOSE_ENDS = (
    *("TO" + "DO", "FIX" + "ME", "X" + "XX", "NotImplemented" + "Error"),
    *("mark." + "skip", "pytest." + "skip", "import" + "orskip", "x" + "fail", "except" + ":"),
)


@pytest.mark.parametrize("path", modules(*CODE), ids=str)
def test_no_module_has_loose_ends(path: Path) -> None:
    """No reminder, no stub, no test that does not run, no handler that swallows everything."""
    if path == Path("tests/no_skips.py"):
        return
    text = (ROOT / path).read_text()
    assert [word for word in LOOSE_ENDS if word in text] == []


HOSTS = (
    "py" + "pi.",
    "python" + "hosted",
    "debian" + ".org",
    "ubuntu" + ".com",
    "npm" + "js",
    "index-" + "url =",
)


def test_no_file_names_a_package_index() -> None:
    """Where packages come from is the machine's business: mirrors differ, and locks carry hashes."""
    assert mentions(HOSTS) == []


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    """Paths of one machine make the project work there and nowhere else."""
    paths = ("/" + "work/", "/" + "tmp/v/", "/" + "root/", "/" + "farm/")
    assert mentions(paths) == []


def test_a_page_that_a_source_names_is_there() -> None:
    """A comment that sends its reader to a page of this project's that does not exist proves nothing."""
    there = {path.name for path in project_files() if path.suffix == ".md"}
    named = [
        (str(path), page)
        for path in modules(*CODE)
        for page in re.findall(r"\b[\w-]+\.md\b", (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert [(path, page) for path, page in named if page not in there | FOREIGN_PAGES] == []


def test_task_names_are_spelled_only_once() -> None:
    """Names are the contract with other systems: each is unique, and code refers to the constant."""
    assert len(TASKS) == 7
    spelled = [
        f"{path}: {node.value}"
        for path in modules("distworker", "tasks")
        if path != Path("distworker/names.py")
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.Constant) and node.value in TASKS
    ]
    assert spelled == []
