"""The whole service in one process: `distworker copy --local` needs no Redis, no worker and no S3.

The same runner, steps and use cases as the fleet's, over the in-memory ledger and a folder for blob bytes
(never memory), with a bounded thread pool in the place of Celery. Leaving the context, also by Ctrl-C, stops
running steps at their next chunk; what is already in the folder, verified blobs and broken downloads, saves
the next run's time. Broken downloads that no run went on with for a day are removed by the next one.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from distworker import names
from distworker.errors import DistworkerError
from distworker.plan.model import JobRequest
from distworker.service.jobs import Jobs, is_open
from distworker.service.runner import Equipment, Presence, Runner, StepFailed
from distworker.state.base import Admitted, JobView, Ledger
from distworker.steps.sweep import sweep_leftovers

log = logging.getLogger(__name__)

#: Threads when the operator set no `slots`: as many layers at a time as other copying tools take.
LOCAL_SLOTS: Final = 6
#: Longest time between two looks at the job, in seconds; a finished step wakes the watcher at once.
LOOK_SECONDS: Final = 0.25
#: Seconds after which a broken download in the folder is given up: another process may be at it meanwhile.
GIVE_UP: Final = 86_400.0
#: A beat costs no round trip here, and progress is seen as often as it beats.
BEAT_SECONDS: Final = 0.5


def cache_folder() -> Path:
    """Where local runs keep blobs unless told otherwise: the user's cache folder."""
    given = os.environ.get("XDG_CACHE_HOME")
    if given:
        return Path(given) / "distworker"
    home = Path.home()
    return home / "Library/Caches/distworker" if sys.platform == "darwin" else home / ".cache/distworker"


class LocalService:
    """Use it as a context: `with LocalService(…) as local: for view in local.run(request): …`."""

    def __init__(
        self, ledger: Ledger, equipment: Equipment, slots: int, close: Callable[[], None] = lambda: None
    ) -> None:
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="distworker-step")
        self._moved = threading.Event()
        self.ledger = ledger
        # Whoever runs this sees the outcomes; a second line for each failure would only say the same.
        self.runner = Runner(
            ledger,
            equipment,
            self._dispatch,
            Presence(f"local-{os.getpid()}", slots),
            beat_seconds=BEAT_SECONDS,
            failure_level=logging.INFO,
            patient=False,
        )
        self.jobs = Jobs(ledger, lambda: equipment.store, self._dispatch, window=equipment.window, local=True)
        self._kit = equipment
        self._close = close

    def __enter__(self) -> Self:
        self.runner.beat()  # the first pump must know our slots
        self.runner.start()
        threading.Thread(target=self._tidy, name="distworker-tidy", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.runner.drain()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.runner.stop()
        self._close()

    def run(self, request: JobRequest) -> Iterator[JobView]:
        """Create the job and yield its view whenever something may have moved; the last one is closed."""
        self.jobs.create(request)
        while True:
            self._moved.clear()
            view = self.jobs.view(request.id)
            yield view
            if not is_open(view):
                return
            self._moved.wait(LOOK_SECONDS)

    def _tidy(self) -> None:
        kit = self._kit
        try:
            sweep_leftovers(
                kit.store,
                kit.sessions,
                kit.registries,
                self._open_steps,
                tenants=[names.TENANT],
                grace=GIVE_UP,
            )
        except DistworkerError as error:
            log.info("old broken downloads are left for the next run: %s", error)

    def _open_steps(self) -> Iterator[str]:
        return (step for step, _ in self.ledger.open_steps(names.UPLOAD + names.DOWNLOAD))

    def _dispatch(self, admitted: Sequence[Admitted]) -> None:
        for step in admitted:
            try:
                self._pool.submit(self._work, step.id)
            except RuntimeError:
                # The pool is shut down: this process is leaving and the step with it.
                return

    def _work(self, step: str) -> None:
        try:
            self.runner.run(step)
        except (StepFailed, DistworkerError):
            pass  # the ledger has it, and the runner logged it
        except Exception:
            log.exception("step %s ended unexpectedly", step)
        finally:
            self._moved.set()
