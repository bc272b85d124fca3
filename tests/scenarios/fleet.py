"""A whole installation on loopback: Valkey, a store, registries, worker processes, and the command line.

Scenarios use it as an operator would: they run `distworker …` as a process and look at registries, logs
and store from outside. Nothing here reaches into the product.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.demo.servers import ROOT, CeleryWorker, Valkey, clean_environment, write_private

#: The `distworker` command of this tree, also where the package is not installed.
COMMAND = (sys.executable, "-c", "from distworker.cli.main import main; main()")
#: Longest wait for anything to happen; everything is there within seconds.
GUARD = 120.0


@dataclass(frozen=True)
class Ran:
    """A finished command: its exit code, what it printed, and its `--json` events."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of `--json`."""
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]

    @property
    def done(self) -> dict[str, Any]:
        """The last event: the job as it ended."""
        return self.events[-1]

    @property
    def text(self) -> str:
        """Everything it printed, for an assertion's message."""
        return f"exit {self.code}\n{self.out}\n{self.err}"


@dataclass
class Fleet:
    """`folder` holds settings and logs; `store` is the `[store]` table; `broker` another URL than its own."""

    folder: Path
    valkey: Valkey
    store: str
    registries: dict[str, dict[str, Any]] = field(default_factory=dict)
    broker: str = ""
    more: str = ""
    workers: list[CeleryWorker] = field(default_factory=list)
    commands: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def config(self) -> Path:
        """The folder of the settings files."""
        return self.folder / "config"

    @property
    def settings(self) -> dict[str, str]:
        """Environment that leads a process to the settings files."""
        return {"DISTWORKER_CONFIG": str(self.config)}

    def know(self, host: str, **table: Any) -> str:
        """Put a registry into registries.toml; plain http unless said otherwise. Returns the host."""
        self.registries[host] = {"plain_http": True, "private": True, **table}
        return host

    def write(self) -> None:
        """Write the settings files as they now are."""
        broker = f'broker_url = "{self.broker}"\n' if self.broker else ""
        head = f'redis_url = "{self.valkey.url(0)}"\n{broker}{self.more}\n'
        write_private(self.config / "distworker.toml", head + self.store)
        tables = (
            f'["{host}"]\n' + "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())
            for host, table in self.registries.items()
        )
        write_private(self.config / "registries.toml", "\n".join(tables))

    def start_workers(self, count: int = 2, slots: int = 4) -> None:
        """Start workers and wait until the ledger counts them."""
        self.write()
        for number in range(len(self.workers), len(self.workers) + count):
            worker = CeleryWorker(self.folder, f"w{number}", self.settings, concurrency=slots)
            self.workers.append(worker)
            worker.start()

    def stop(self) -> None:
        """Stop the workers and commands that still run."""
        for command in self.commands:
            if command.returncode is None:
                command.kill()
                command.communicate()
        for worker in self.workers:
            worker.stop()

    def run(self, *words: str, within: float = GUARD) -> Ran:
        """Run `distworker words…` to its end."""
        self.write()
        process = self.spawn(*words)
        try:
            out, err = process.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            logs = "\n".join(worker.tail(40) for worker in self.workers)
            raise AssertionError(f"distworker {' '.join(words)} hangs\n{out}\n{err}\n{logs}") from None
        return Ran(process.returncode, out, err)

    def spawn(self, *words: str) -> subprocess.Popen[str]:
        """Start `distworker words…` and let it run."""
        process = subprocess.Popen(
            [*COMMAND, *words],
            cwd=ROOT,
            env=clean_environment(self.settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.commands.append(process)
        return process

    def migrate(self, pairs: Sequence[Mapping[str, Any]], *options: str, name: str = "job") -> Ran:
        """`distworker migrate --json` of a file with those pairs."""
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps({"version": 1, "pairs": list(pairs)}))
        return self.run("migrate", str(path), "--json", *options)

    def look(self, job: str) -> dict[str, Any]:
        """The job as `distworker status --json` tells it now."""
        ran = self.run("status", job, "--json")
        assert ran.code == 0, ran.text
        return ran.events[0]

    def until(self, job: str, holds: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Ask for the job until `holds`; returns it. Fails naming `what`."""
        seen: list[dict[str, Any]] = []

        def asked() -> bool:
            seen.append(self.look(job))
            return holds(seen[-1])

        wait_for(asked, what, every=0.5)
        return seen[-1]

    def until_over(self, job: str) -> dict[str, Any]:
        """The job once no image of it will change any more."""
        ran = self.run("status", job, "--json", "--follow")
        assert ran.done["event"] == "done", ran.text
        return ran.done

    def logs(self) -> str:
        """Everything the workers logged."""
        return "\n".join(worker.log.read_text(errors="replace") for worker in self.workers)


def wait_for(condition: Callable[[], bool], what: str, within: float = GUARD, every: float = 0.05) -> None:
    """Wait until `condition` holds, asking `every` so many seconds; fails naming `what`."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"did not happen: {what}"
        time.sleep(every)


def _toml(value: Any) -> str:
    return json.dumps(value)
