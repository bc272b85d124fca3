"""`make mutate`: are there changes to the riskiest modules that no test notices?

    MUTATE   modules of the registry room separated by commas (`challenge,blobs`), all of pyproject's list
             unless given

Works in a copy of the tree (`.mutate/`), because mutmut leaves a changed tree behind. Prints a score for each
module and every surviving mutant as a diff; a survivor is a question for a person, so it does not fail the
run. What the tests cannot even run with (a mutant that hangs counts as noticed) does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPY = ROOT / ".mutate"
LEFT_OUT = shutil.ignore_patterns(
    ".venv*", ".mutate", ".demo", ".bench", "*_cache", ".hypothesis", "__pycache__", "build", "dist", ".git"
)
#: How mutmut calls what a test noticed.
NOTICED = frozenset({"killed", "timeout", "suspicious", "segfault", "caught by type check"})
_RESULT = re.compile(r"^\s+(distworker\.\S+): (.+)$", re.MULTILINE)


def main() -> int:
    """Exit status 1 when the run itself failed."""
    names = [name.strip() for name in (os.environ.get("MUTATE") or "").split(",") if name.strip()]
    shutil.rmtree(COPY, ignore_errors=True)
    shutil.copytree(ROOT, COPY, ignore=LEFT_OUT)
    code = _run(names)
    results = read_results(_output("results", "--all", "true"), names)
    if code or not results:
        print("the mutation run failed; see above", file=sys.stderr)
        return 1
    report(results)
    return 0


def read_results(text: str, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """By module: what became of each mutant that was tried."""
    wanted = set(names)
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for mutant, verdict in _RESULT.findall(text):
        module = mutant.removeprefix("distworker.registry.").rpartition(".")[0]
        if verdict != "not checked" and (not wanted or module in wanted):
            found[module][mutant] = verdict
    return dict(found)


def report(results: Mapping[str, Mapping[str, str]]) -> None:
    """Scores, then what survived."""
    for module, mutants in sorted(results.items()):
        counts = Counter(mutants.values())
        noticed = sum(count for verdict, count in counts.items() if verdict in NOTICED)
        words = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
        print(f"{module:<14} {100 * noticed / len(mutants):5.1f} %  of {len(mutants)}: {words}", flush=True)
    for mutant in sorted(
        name for mutants in results.values() for name, v in mutants.items() if v not in NOTICED
    ):
        lines = _output("show", mutant).splitlines()
        print(f"\n{mutant}")
        print("\n".join(line for line in lines if re.match(r"[-+](?![-+]{2})", line)), flush=True)


def _run(names: Iterable[str]) -> int:
    """Runs mutmut in the copy and shows how far it is; of its animation, every fiftieth count."""
    words = [
        "run",
        "--max-children",
        str(os.cpu_count() or 1),
        *(f"distworker.registry.{n}.*" for n in names),
    ]
    command = [sys.executable, "-m", "mutmut", *words]
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
            elif count is None and line[0].isascii():
                print(line.rstrip(), flush=True)
    return process.returncode


def _output(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *words],
        cwd=COPY,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONWARNINGS": "ignore"}


if __name__ == "__main__":
    sys.exit(main())
