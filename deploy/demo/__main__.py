"""`make demo`, or `python -m deploy.demo`: servers, sample images, a migration, its proof and a report.

Takes no arguments; everything that was started is stopped, however it ends. Variables:

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


def main(arguments: list[str]) -> int:
    """Exit status: 0 all proved, 1 not, 2 called wrongly, 130 stopped by Ctrl-C before the report."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__, end="")
        return 0
    if arguments:
        print(f"python -m deploy.demo takes no argument such as {arguments[0]!r}; --help", file=sys.stderr)
        return 2
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


sys.exit(main(sys.argv[1:]))
