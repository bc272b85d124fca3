"""`python -m deploy.demo`: see `run.py`. Everything that was started is stopped, however it ends.

ONCE=1                    end after the report; the exit status tells whether all of it is true
DISTWORKER_DEMO_DIR       where images, registries and store are kept, `.demo` unless given
DISTWORKER_DEMO_FLIP=1    flip a byte of a stored blob before verification, which must then fail
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from deploy.demo.processes import stop_on_signals
from deploy.demo.run import run


def main() -> int:
    """Exit status: 0 all proved, 1 not, 130 stopped by Ctrl-C before the report."""
    stop_on_signals()
    try:
        return run(
            Path(os.environ.get("DISTWORKER_DEMO_DIR") or ".demo"),
            once=os.environ.get("ONCE", "") not in ("", "0"),
            flip=os.environ.get("DISTWORKER_DEMO_FLIP", "") not in ("", "0"),
        )
    except KeyboardInterrupt:
        print("\nstopped", flush=True)
        return 130


sys.exit(main())
