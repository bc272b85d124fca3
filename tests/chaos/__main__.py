"""`make chaos`: real servers, three workers, and a long plan of kills and faults drawn from a seed.

    N           kills of workers and scheduler, 200 unless given
    SEED        draws plan and images; printed, so that a run can be repeated; of chance unless given
    CHAOS_DIR   where everything is kept while it runs, and after a run that found something; a temporary
                folder unless given
    CHAOS_PACE  stretches the quiet times between faults, 1 unless given

    python -m tests.chaos [--json FILE]

Ends with 1 when anything was lost or wrong, or a kind of fault did not happen.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from deploy.demo.processes import stop_on_signals
from tests.chaos.plan import FAULTS
from tests.chaos.run import Chaos
from tests.chaos.site import Site


def main() -> int:
    """Exit status 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write the report there, too")
    asked = parser.parse_args()
    stop_on_signals()
    seed = os.environ.get("SEED") or secrets.token_hex(4)
    kills = int(os.environ.get("N") or 200)
    pace = float(os.environ.get("CHAOS_PACE") or 1)
    again = f"make chaos N={kills} SEED={seed}"
    print(f"to repeat it: {again}", flush=True)
    kept = os.environ.get("CHAOS_DIR")
    folder = Path(tempfile.mkdtemp(prefix="distworker-chaos-", dir=kept))
    report = None
    try:
        with Site(folder) as site:
            site.start_fleet()
            report = Chaos(site, seed, kills, pace=pace, outage=30.0, say=_say).run()
            if report.findings:
                print(site.logs())
    finally:
        if kept and (report is None or report.findings):
            print(f"everything is kept in {folder}", flush=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    missing = [kind for kind in FAULTS if not report.faults.get(kind)]
    print(report.text())
    if asked.json:
        Path(asked.json).write_text(json.dumps(asdict(report), indent=1))
    if missing:
        print(f"did not happen: {', '.join(missing)}")
    if report.findings or missing:
        print(f"to repeat it: {again}")
    return int(bool(report.findings or missing))


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
