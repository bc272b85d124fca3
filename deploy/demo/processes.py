"""Child processes of the demo and the tests: clean environment, awaited when started, stopped in any case.

Every process leads a group of its own, so that a Ctrl-C in the terminal reaches only us and a stop reaches
its children too. What still runs when the interpreter ends is stopped then; `stop_on_signals` makes TERM and
HUP end the interpreter in the ordinary way. Nothing here prints; an error carries the end of the process's
log.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

#: Variables that change how a child reaches the network or a store. A machine's own CA bundle alone makes
#: docker-registry's S3 driver panic; our own settings of the caller must not reach a worker unasked either.
_AMBIENT: Final = re.compile(
    r"(?i)AWS_.*|DISTWORKER_.*|FLOWER_.*|CELERY_.*|RABBITMQ_.*|.*_PROXY|.*CA_BUNDLE|.*CA_?CERTS?.*|.*SSL_CERT.*"
    r"|.*_CAINFO|PIP_CERT|DOCKER_CONFIG|REGISTRY_AUTH_FILE"
)

#: Seconds a server may take to answer. Generous: a loaded machine is slow, a broken server says so by ending.
HEALTHY_WITHIN: Final = 60.0
#: Seconds between TERM and KILL.
STOP_WITHIN: Final = 10.0


class ServerFailed(RuntimeError):
    """A helper process did not start, did not answer or ended by itself."""


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without store, proxy, CA and service settings, plus `extra`."""
    kept = {name: value for name, value in os.environ.items() if not _AMBIENT.fullmatch(name)}
    return kept | dict(extra or {})


def is_ambient(name: str) -> bool:
    """Is `name` one of the variables that `clean_environment` leaves out?"""
    return _AMBIENT.fullmatch(name) is not None


def free_port() -> int:
    """A loopback port that nobody listens on just now, and that was not given out before by this process."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _GIVEN:
            _GIVEN.add(port)
            return port


_GIVEN: set[int] = set()


def http_status(port: int, path: str, timeout: float = 2.0) -> int:
    """The status of GET `path` on a loopback port, 0 when nothing answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def talk(port: int, send: bytes, timeout: float = 2.0) -> bytes:
    """The first bytes a loopback port answers to `send`, none when nothing answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
            connection.sendall(send)
            return connection.recv(64)
    except OSError:
        return b""


def wait_until(ready: Callable[[], bool], within: float, what: str, every: float = 0.05) -> None:
    """Returns once `ready()`; raises ServerFailed with `what` after `within` seconds."""
    deadline = time.monotonic() + within
    while not ready():
        if time.monotonic() > deadline:
            raise ServerFailed(f"{what} within {within:g} s")
        time.sleep(every)


class ManagedProcess:
    """One child process: `start` returns when it is healthy, `stop` when it is gone. Also a context manager.

    `argv` is what runs; `log` takes stdout and stderr (`errors`, when given, takes stderr alone); `healthy`
    says whether it answers. It may be started again after a stop or a kill and then appends to the same log.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        healthy: Callable[[], bool],
        errors: Path | None = None,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self.errors = errors
        self._argv = [str(word) for word in argv]
        self._healthy = healthy
        self._environment = clean_environment(environment)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False

    def start(self, within: float = HEALTHY_WITHIN) -> Self:
        """Starts it and waits until it is healthy; raises ServerFailed with the end of its log."""
        if self.running:
            return self
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out, (self.errors or self.log).open("ab") as err:
            try:
                self._process = subprocess.Popen(
                    self._argv,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    env=self._environment,
                    cwd=self._folder,
                    start_new_session=True,
                )
            except OSError as error:
                raise ServerFailed(f"{self.name}: cannot run {self._argv[0]}: {error.strerror}") from error
        self._frozen = False
        _LIVE.append(self)
        try:
            self.wait_healthy(within)
        except BaseException:
            self.stop()
            raise
        return self

    def wait_healthy(self, within: float = HEALTHY_WITHIN) -> None:
        """Returns once it answers; raises ServerFailed when it ended or the time is over."""
        deadline = time.monotonic() + within
        while True:
            if not self.running:
                code = self._process.returncode if self._process else None
                raise ServerFailed(f"{self.name} ended with status {code}:\n{self.tail()}")
            if self._healthy():
                return
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.name} did not answer within {within:g} s:\n{self.tail()}")
            time.sleep(0.05)

    def stop(self, within: float = STOP_WITHIN) -> None:
        """TERM to the group, KILL after `within` seconds; returns when it is gone. Safe to repeat."""
        process = self._process
        if process is None:
            return
        self.thaw()
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(within)
        self.kill9()

    def kill9(self) -> None:
        """KILL to the whole group, as a machine that dies; returns when it is gone."""
        process = self._process
        if process is None:
            return
        # The leader may be gone while its children live, so the group gets the signal in any case.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_WITHIN)
        self._process = None
        if self in _LIVE:
            _LIVE.remove(self)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process group; nothing happens when it has ended."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def freeze(self) -> None:
        """Stops it in its tracks, as a machine that hangs: connections stay open and silent."""
        self.signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Lets a frozen process go on."""
        if self._frozen:
            self.signal(signal.SIGCONT)
            self._frozen = False

    def wait(self, within: float) -> int:
        """The exit status, once it ends by itself; raises ServerFailed after `within` seconds."""
        if self._process is None:
            raise ServerFailed(f"{self.name} is not running")
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise ServerFailed(f"{self.name} did not end within {within:g} s:\n{self.tail()}") from None

    @property
    def running(self) -> bool:
        """Is the process there (healthy or not)?"""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id; raises ServerFailed when it was not started."""
        if self._process is None:
            raise ServerFailed(f"{self.name} is not running")
        return self._process.pid

    def text(self) -> str:
        """Its whole log."""
        files = {self.log, self.errors or self.log}
        return "".join(f.read_text(errors="replace") for f in sorted(files) if f.exists())

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        return "\n".join(self.text().splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


_LIVE: list[ManagedProcess] = []
_OWNER: Final = os.getpid()


def stop_everything() -> None:
    """Stops all that was started here and still runs, the last one first. Runs by itself at exit."""
    if os.getpid() != _OWNER:
        return  # a forked child leaves its parent's servers alone
    for process in reversed(_LIVE.copy()):
        process.stop(within=3.0)


atexit.register(stop_everything)


def stop_on_signals() -> None:
    """From now on TERM and HUP end this program by SystemExit, so that everything started is stopped."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
