"""`make mutate`: are there changes to the riskiest modules that no test notices?

    MUTATE   modules of the registry room separated by commas (`challenge,blobs`), all unless given

Works in a copy of the tree (`.mutate/`), because mutmut leaves a changed tree behind. Each module is tried
with the tests that are about it, so a survivor costs seconds. Prints a score for each module
and every surviving mutant as a diff; a survivor is a question for a person, so it does not fail the run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPY = ROOT / ".mutate"
LEFT_OUT = shutil.ignore_patterns(
    ".venv*", ".mutate", ".demo", ".bench", "*_cache", ".hypothesis", "__pycache__", "build", "dist", ".git"
)
UNIT = "tests/unit/registry"
READS = (f"{UNIT}/cases/test_b_*.py", f"{UNIT}/test_reads*.py", f"{UNIT}/test_resume*.py")
WRITES = (
    f"{UNIT}/cases/test_u_*.py",
    f"{UNIT}/cases/test_p_*.py",
    f"{UNIT}/test_writes*.py",
    f"{UNIT}/test_ways.py",
    f"{UNIT}/test_outcomes.py",
    f"{UNIT}/test_bodies.py",
)
DIALS = (
    f"{UNIT}/test_d*.py",
    f"{UNIT}/test_tls*.py",
    f"{UNIT}/cases/test_b_*.py",
    f"{UNIT}/cases/test_f_*.py",
)
#: What is changed, and the tests that must notice.
MODULES: Mapping[str, Sequence[str]] = {
    "challenge": (f"{UNIT}/test_challenge*.py",),
    "addresses": (f"{UNIT}/test_address*.py", f"{UNIT}/test_door*.py"),
    "door": (f"{UNIT}/test_door*.py", f"{UNIT}/test_address*.py", f"{UNIT}/test_dialer.py"),
    "dialer": DIALS,
    "blobs": READS,
    "resume": READS,
    "uploads": WRITES,
    "sessions": WRITES,
    "patches": WRITES,
    "commit": WRITES,
    "ways": WRITES,
    "outcomes": WRITES,
    "bodies": WRITES,
    "mount": WRITES,
}
#: How mutmut calls what a test noticed.
NOTICED = frozenset({"killed", "timeout", "suspicious", "segfault", "caught by type check"})
_RESULT = re.compile(r"^\s+(distworker\.\S+): (.+)$", re.MULTILINE)


def main() -> int:
    """Exit status 1 when a run failed, 2 for a module that is not in the list."""
    names = [name.strip() for name in (os.environ.get("MUTATE") or "").split(",") if name.strip()]
    if set(names) - set(MODULES):
        print(f"no such module; there are: {', '.join(MODULES)}", file=sys.stderr)
        return 2
    shutil.rmtree(COPY, ignore_errors=True)
    shutil.copytree(ROOT, COPY, ignore=LEFT_OUT)
    results: dict[str, dict[str, str]] = {}
    for name in names or MODULES:
        print(f"== {name}", flush=True)
        (COPY / "setup.cfg").write_text(configuration(name))
        shutil.rmtree(COPY / "mutants", ignore_errors=True)
        found = {} if _run() else read_results(_output("results", "--all", "true"))
        if found:
            results[name] = found
            _show_survivors(found)
    print("\n".join(scores(results)), flush=True)
    failed = [name for name in names or MODULES if name not in results]
    if failed:
        print(f"not tried, because their tests fail as it is: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def configuration(name: str) -> str:
    """What mutmut reads from setup.cfg."""
    tests = [path.relative_to(COPY) for pattern in MODULES[name] for path in sorted(COPY.glob(pattern))]
    values = {
        "source_paths": ["distworker/registry"],
        "only_mutate": [f"distworker/registry/{name}.py"],
        "also_copy": ["distworker", "deploy", "tasks", "config", "bench", "docs", "Makefile"],
        "pytest_add_cli_args": ["-q", "-x", "-p", "no:cacheprovider"],
        "pytest_add_cli_args_test_selection": [str(path) for path in dict.fromkeys(tests)],
    }
    lists = "".join(f"{key} =\n" + "".join(f"    {one}\n" for one in value) for key, value in values.items())
    return f"[mutmut]\n{lists}timeout_multiplier = 4.0\n"


def read_results(text: str) -> dict[str, str]:
    """What became of each mutant that was tried."""
    return {mutant: verdict for mutant, verdict in _RESULT.findall(text) if verdict != "not checked"}


def scores(results: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A line for each module."""
    lines = ["", "noticed of all that was changed:"]
    for module, mutants in results.items():
        counts = Counter(mutants.values())
        noticed = sum(count for verdict, count in counts.items() if verdict in NOTICED)
        words = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
        lines.append(f"{module:<12} {100 * noticed / len(mutants):5.1f} %  of {len(mutants)}: {words}")
    return lines


def _show_survivors(mutants: Mapping[str, str]) -> None:
    for mutant in sorted(name for name, verdict in mutants.items() if verdict not in NOTICED):
        print(f"\n{mutant}: {mutants[mutant]}")
        lines = _output("show", mutant).splitlines()
        print("\n".join(line for line in lines if re.match(r"[-+](?![-+]{2})", line)), flush=True)


def _run() -> int:
    """Runs mutmut in the copy and shows how far it is; of its animation, every fiftieth count."""
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(os.cpu_count() or 1)]
    told = -50
    with subprocess.Popen(
        command, cwd=COPY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_environment()
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:  # universal newlines: each turn of its spinner is a line
            count = re.search(r"(\d+)/\d+", line)
            if count is not None and int(count[1]) >= told + 50:
                told = int(count[1])
                print(f"{count[0]} mutants", flush=True)
            elif count is None and line[0].isascii() and line.strip():
                print(line.rstrip(), flush=True)
    return process.returncode


def _output(*words: str) -> str:
    command = [sys.executable, "-m", "mutmut", *words]
    return subprocess.run(
        command, cwd=COPY, env=_environment(), capture_output=True, text=True, check=False
    ).stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONWARNINGS": "ignore"}


if __name__ == "__main__":
    sys.exit(main())
