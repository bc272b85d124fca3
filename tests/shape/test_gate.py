"""The gate itself: a skip is a failure in CI, missing servers are named, and the Makefile explains itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.coverage_gate import too_low
from tests.mutate.__main__ import MODULES
from tests.together import lanes

ROOT = Path(__file__).parents[2]
# Spelled in halves, because no test of ours may skip and the sources are searched for it.
SKIP = "sk" + "ip"
SKIPPING = {
    "call": f"import pytest\ndef test_it() -> None:\n    pytest.{SKIP}('no server')\n",
    "mark": f"import pytest\n@pytest.mark.{SKIP}(reason='later')\ndef test_it() -> None:\n    pass\n",
    "module": f"import pytest\npytest.{SKIP}('nothing here', allow_module_level=True)\n",
    "expected": "import pytest\n@pytest.mark.x" + "fail\ndef test_it() -> None:\n    assert False\n",
}


def run_pytest(folder: Path, code: str, ci: str) -> subprocess.CompletedProcess[str]:
    """Run one test file of its own with the plugin."""
    (folder / "test_it.py").write_text(code)
    (folder / "pytest.ini").write_text("[pytest]\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.no_skips", "-p", "no:cacheprovider", str(folder)],
        env={**os.environ, "CI": ci, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("kind", SKIPPING)
def test_a_skipped_test_fails_in_ci_and_only_there(tmp_path: Path, kind: str) -> None:
    """However it is skipped; on a developer's machine it stays a skip."""
    in_ci = run_pytest(tmp_path, SKIPPING[kind], "true")
    assert in_ci.returncode != 0, in_ci.stdout
    assert "CI=true does not allow" in in_ci.stdout
    at_home = run_pytest(tmp_path, SKIPPING[kind], "")
    # 5 is "no test was collected": a module that skips itself leaves none.
    assert at_home.returncode in (0, 5), at_home.stdout


def test_a_passing_test_passes_in_ci(tmp_path: Path) -> None:
    """The plugin changes nothing else: the one test there is runs and is counted as passed."""
    run = run_pytest(tmp_path, "def test_it() -> None:\n    assert 1 + 1 == 2\n", "true")
    assert (run.returncode, "1 passed" in run.stdout) == (0, True), run.stdout


def tools(folder: Path, *present: str, wanted: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run the script with nothing on PATH but the shell's own helpers and `present`, which do nothing."""
    for name in ("sh", "id", "env"):
        (folder / name).symlink_to(str(shutil.which(name)))
    for name in present:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    script = (ROOT / "deploy/tools.sh").read_text().replace(":/usr/sbin:/sbin", "")
    return subprocess.run(
        [str(folder / "sh"), "-s", *wanted],
        input=script,
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_servers_that_are_there_are_left_alone(tmp_path: Path) -> None:
    """A second run asks nobody."""
    done = tools(tmp_path, "skopeo", "htpasswd", wanted=("skopeo", "htpasswd"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_missing_servers_are_named_where_they_cannot_be_installed(tmp_path: Path) -> None:
    """Without apt-get the run stops and says which packages it needs."""
    done = tools(tmp_path, "skopeo", wanted=("skopeo", "htpasswd", "docker-registry"))
    assert done.returncode == 1
    assert "apache2-utils docker-registry" in done.stderr
    assert "skopeo" not in done.stderr


def test_make_lists_its_targets_with_an_explanation() -> None:
    """`make` alone answers what one can do."""
    said = subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    explained = dict(re.findall(r"^ +make ([a-z-]+) +(\S.*)$", said, re.MULTILINE))
    assert {
        "setup",
        "test",
        "test-fast",
        "lint",
        "format",
        "demo",
        "bench",
        "locks",
        "fuzz",
        "mutate",
        "coverage",
    } <= set(explained)
    targets = set(re.findall(r"^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets - set(explained) == {"check", "tools", "demo-tools"}


def test_the_ci_entry_forbids_skips_and_runs_everything() -> None:
    """One command, the same as a developer's."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()
    assert 'CI="${CI:-true}"' in script.read_text()


def test_make_test_runs_every_folder_of_tests_exactly_once() -> None:
    """In one lane or the other; what one part leaves out another one runs."""
    covered = re.findall(r"^COVERED := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()
    assert "-m tests.together $(COVERED)" in (ROOT / "Makefile").read_text()
    parts = [part for lane in lanes(covered).values() for part in lane]
    ran = sorted(word for part in parts for word in part if word.startswith("tests/"))
    left_out = sorted(
        word.removeprefix("--ignore=") for part in parts for word in part if "--ignore=" in word
    )
    assert ran == left_out == sorted({*covered, "tests/scenarios", "tests/chaos"})
    whole = [
        part for part in parts if "pytest" in part and not [word for word in part if word[:6] == "tests/"]
    ]
    assert len(whole) == 1, "one part runs all that is not left out of it"
    assert all("tests.no_skips" in part for part in parts if "pytest" in part)


@pytest.mark.parametrize(
    ("lines", "branches", "told"),
    [(95, 95, []), (94, 100, ["lines"]), (100, 94, ["branches"]), (0, 0, ["lines", "branches"])],
)
def test_the_coverage_gate_looks_at_lines_and_at_branches(lines: int, branches: int, told: list[str]) -> None:
    """Many lines do not make up for few branches."""
    totals = {
        "covered_lines": lines,
        "num_statements": 100,
        "covered_branches": branches,
        "num_branches": 100,
    }
    assert [what for what in ("lines", "branches") if what in " ".join(too_low(totals))] == told


def test_what_make_test_leaves_to_make_coverage_is_run_there_whole() -> None:
    """It leaves out tests that need servers, so none may be in a folder that `make test` ignores."""
    covered = re.findall(r"^COVERED := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()
    assert "tests/unit/registry" in covered
    files = [path for folder in covered for path in (ROOT / folder).rglob("*.py")]
    assert files
    assert [str(path) for path in files if "mark.servers" in path.read_text(encoding="utf-8")] == []


def test_nothing_measured_is_no_coverage() -> None:
    """A wrong folder in the configuration must not pass."""
    empty = dict.fromkeys(("covered_lines", "num_statements", "covered_branches", "num_branches"), 0)
    assert len(too_low(empty | {"num_statements": 1, "covered_lines": 1})) == 1


def test_what_is_left_out_of_the_count_says_why() -> None:
    """`pragma: no cover` alone hides; with its reason it explains."""
    lines = [
        (path.name, line.strip())
        for path in (ROOT / "distworker").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "pragma:" in line
    ]
    assert [one for one in lines if not re.search(r"# pragma: no (cover|branch) - \w+ \w+", one[1])] == []


def test_what_is_mutated_exists_and_so_do_its_tests() -> None:
    """A renamed module must not drop out of `make mutate` unseen."""
    for name, patterns in MODULES.items():
        assert (ROOT / "distworker/registry" / f"{name}.py").exists(), name
        assert [path for pattern in patterns for path in ROOT.glob(pattern)], name
