"""`make bench`: our ways of copying against `skopeo copy`, in the same run, as ratios of medians.

    BENCH_ROUNDS      runs of each contender, 3 unless given; they take turns
    BENCH_IMAGE_MIB   size of the one big layer, 1024 unless given
    BENCH_BLOBS       number of small layers, 200 unless given
    BENCH_BLOB_KIB    size of each, 1024 unless given
    BENCH_BUSY_MIB    size of the four large layers that show a busy worker's memory, 256 unless given
    BENCH_CLIENT_MIB  size of the blob that the registry client moves alone, 2048 unless given
    BENCH_ONLY        names of cases (big, many, busy, client) separated by commas, all unless given
    BENCH_DIR         where everything is kept while it runs, a temporary folder unless given

Only the client's CPU is counted (command line and worker), not that of registries and stores; wall and CPU
begin with the start of the command. The peak is that of the worker, or of the command where there is none.
Script calls and commands are those of Redis for each moved blob.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from statistics import median

from bench.cases import CLIENT, MIB, Case, cases, push
from bench.client import measure
from bench.contenders import BUSY, CONTENDERS, Result, once
from bench.measure import RunFailed
from deploy.demo.processes import ServerFailed, stop_on_signals
from deploy.demo.servers import DockerRegistry

HEADINGS = ("", "wall s", "x skopeo", "cpu s", "x skopeo", "peak MiB", "script calls", "commands")
WIDTHS = (22, 8, 9, 8, 9, 9, 13, 9)


def main() -> int:
    """Exit status 1 when something could not be measured."""
    stop_on_signals()
    rounds = int(os.environ.get("BENCH_ROUNDS") or 3)
    with tempfile.TemporaryDirectory(prefix="distworker-bench-", dir=os.environ.get("BENCH_DIR")) as name:
        try:
            folder = Path(name)
            with DockerRegistry(folder / "source") as source:
                for case in filter(_wanted, cases()):
                    push(case, source.host, folder)
                    results = _measure(case, source.host, folder / "run", rounds)
                    _print(case, results, rounds)
            if _wanted(CLIENT):
                _print_client(folder)
        except (RunFailed, ServerFailed) as error:
            print(f"bench failed: {error}", file=sys.stderr, flush=True)
            return 1
    return 0


def _wanted(case: Case) -> bool:
    only = os.environ.get("BENCH_ONLY")
    return not only or case.name in only.split(",")


def _print_client(folder: Path) -> None:
    """The registry client by itself; its peak is that of a process which does nothing else."""
    print(f"\n{CLIENT.text}", flush=True)
    _row(("", "wall s", "", "cpu s", "", "peak MiB"))
    for name, cost in measure(folder, CLIENT.size // MIB).items():
        _row((name, f"{cost.wall:.2f}", "", f"{cost.cpu:.2f}", "", f"{cost.peak / MIB:.0f}"))


def _measure(case: Case, host: str, folder: Path, rounds: int) -> dict[str, list[Result]]:
    contenders = BUSY if case.busy else CONTENDERS
    results: dict[str, list[Result]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, contender in contenders.items():
            print(f"{case.text}, round {number + 1}: {name}", file=sys.stderr, flush=True)
            results[name].append(once(contender, folder, f"{host}/{case.reference}", case.reference))
    return results


def _print(case: Case, results: dict[str, list[Result]], rounds: int) -> None:
    print(f"\n{case.text}, median of {rounds}", flush=True)
    _row(HEADINGS)
    yard = results["skopeo copy"]
    for name, runs in results.items():
        wall, cpu = median(r.cost.wall for r in runs), median(r.cost.cpu for r in runs)
        moved = case.layers + 1  # the config is moved as a layer is
        scripts, commands = median(r.scripts for r in runs) / moved, median(r.commands for r in runs) / moved
        _row(
            (
                name,
                f"{wall:.2f}",
                f"{wall / median(r.cost.wall for r in yard):.2f}",
                f"{cpu:.2f}",
                f"{cpu / median(r.cost.cpu for r in yard):.2f}",
                f"{max(r.cost.peak for r in runs) / 2**20:.0f}",
                f"{scripts:.0f}" if scripts else "-",
                f"{commands:.0f}" if commands else "-",
            )
        )


def _row(cells: tuple[str, ...]) -> None:
    first, *rest = (
        cell.ljust(w) if not i else cell.rjust(w)
        for i, (cell, w) in enumerate(zip(cells, WIDTHS, strict=False))
    )
    print(first + "".join(rest), flush=True)


sys.exit(main())
