"""The installation that chaos happens to: real servers, a gate before each, three workers and a supervisor.

    source, destination   docker-registry on disk
    valkey                Valkey with an append-only file
    store                 OpenStack Swift by its S3 API
    workers               `python -m tasks`, started again whenever they end, as a process manager does
    scheduler             `celery -A tasks beat`

Workers and command line see the servers only through the gates; watcher, checker and measuring go past them.
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from deploy.demo.processes import ManagedProcess
from deploy.demo.servers import BeatScheduler, CeleryWorker, DockerRegistry, ServerFailed, Swift, Valkey
from tests.chaos.checker import s3_client
from tests.chaos.gate import Gate
from tests.chaos.plan import WORKERS
from tests.scenarios.fleet import Fleet

BUCKET: Final = "chaos"
#: Few images at a time, so that a job is in the middle of everything for long; parts smaller than the large
#: layers, so that there is something to go on from.
SETTINGS: Final = 'window = 16\npart_size = "5 MiB"'
#: Sweeps come every few seconds, so that there is a time after them within a run.
UPKEEP: Final = "\n[upkeep]\nleftovers = 3\nreports = 3\nlost_jobs = 10\n"
#: Layers read at a time: the large ones must get on although the source is slow.
READERS: Final = 3


class Supervised:
    """A process that is started again whenever it ends, until it is `dismissed`."""

    def __init__(self, process: ManagedProcess) -> None:
        self.process = process
        self.frozen = False
        self.starts = 0
        self._dismissed = threading.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Is it up, healthy, and not frozen?"""
        return self._up.is_set() and self.process.running and not self.frozen

    def wait_ready(self, within: float = 90.0) -> bool:
        """Waits until it is up."""
        return self._up.wait(within)

    # Whoever kills only sends a signal. One thread starts the process and sees it end: two would lose one.

    def kill9(self) -> None:
        """Kills it; the supervisor brings it back."""
        self._up.clear()
        self.process.signal(signal.SIGKILL)

    def restart(self, within: float = 40.0) -> None:
        """Stops it in the orderly way and waits until it is back."""
        before = self.starts
        self._up.clear()
        self.process.signal(signal.SIGTERM)
        if not self._up.wait(within) and self.starts == before:
            self.process.signal(signal.SIGKILL)
            self.wait_ready()

    def freeze(self) -> None:
        """It sleeps from now on."""
        self.frozen = True
        self.process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It wakes up."""
        self.process.signal(signal.SIGCONT)
        self.frozen = False

    def dismiss(self) -> None:
        """Stops it for good."""
        self._dismissed.set()
        self.thaw()
        self.process.signal(signal.SIGTERM)
        self._thread.join()
        self.process.stop(within=20)

    def _keep(self) -> None:
        while not self._dismissed.is_set():
            if not self.process.running:
                self._up.clear()
                # It may be killed while it starts, or not get up while a server is away: then again.
                with contextlib.suppress(ServerFailed):
                    self.process.start(within=90)
                    self.starts += 1
                    self._up.set()
            self._dismissed.wait(0.1)


@dataclass(frozen=True)
class _Address:
    """Where the fleet finds Valkey: at the gate."""

    gate: Gate

    def url(self, database: int = 0) -> str:
        return f"redis://{self.gate.host}/{database}"


@dataclass
class Site:
    """Everything that runs; a context manager that starts the servers, `start_fleet` the workers."""

    folder: Path
    venv: Path | None = None
    workers: list[Supervised] = field(default_factory=list)
    schedulers: list[Supervised] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        try:
            return self._start()
        except BaseException:
            self._stack.close()
            raise

    def _start(self) -> Self:
        keep = self._stack.enter_context
        self.source = keep(DockerRegistry(self.folder / "source", name="source"))
        self.destination = keep(DockerRegistry(self.folder / "destination", name="destination"))
        self.valkey = keep(Valkey(self.folder / "valkey"))
        self.store = Swift(self.folder / "store", venv=self.venv)
        (self.folder / "store").mkdir(parents=True, exist_ok=True)
        keep(self.store)
        self.s3 = s3_client(self.store.endpoint, self.store.access_key, self.store.secret_key)
        self._stack.callback(self.s3.close)
        self.s3.create_bucket(Bucket=BUCKET)
        ports = (self.source.port, self.destination.port, self.valkey.port, self.store.port)
        self.gates = [keep(Gate(port)) for port in ports]
        self.to_source, self.to_destination, self.to_valkey, self.to_store = self.gates
        table = {
            "kind": "s3",
            "endpoint": f"http://{self.to_store.host}",
            "bucket": BUCKET,
            "access_key": self.store.access_key,
            "secret_key": self.store.secret_key,
        }
        store = "[store]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        address: Any = _Address(self.to_valkey)
        self.fleet = Fleet(self.folder / "fleet", address, store + UPKEEP, more=SETTINGS)
        self.fleet.know(self.to_source.host, max_concurrency=READERS)
        self.fleet.know(self.to_destination.host)
        self.fleet.write()
        self._stack.callback(self.fleet.stop)
        return self

    def start_fleet(self) -> None:
        """Start workers and scheduler, and wait until they are up."""
        folder, settings = self.fleet.folder, self.fleet.settings
        for number in range(WORKERS):
            self.workers.append(Supervised(CeleryWorker(folder, f"w{number}", settings, lean=True)))
        self.schedulers.append(Supervised(BeatScheduler(folder, "s0", settings)))
        for one in self.crew:
            assert one.wait_ready(), f"{one.process.name} does not come up:\n{one.process.tail(30)}"

    @property
    def crew(self) -> list[Supervised]:
        """Workers and scheduler."""
        return [*self.workers, *self.schedulers]

    def logs(self) -> str:
        """The end of what workers and scheduler said."""
        return "\n".join(f"--- {one.process.name}\n{one.process.tail(15)}" for one in self.crew)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        threads = [threading.Thread(target=one.dismiss) for one in self.crew]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._stack.close()
