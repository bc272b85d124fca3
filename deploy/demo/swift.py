"""OpenStack Swift with its s3api as a real S3 server: four small processes, one folder, no system users.

It checks signatures, keeps its data over restarts and speaks real multipart. It lives in a virtual
environment of its own (deploy/locks/swift.lock). Every file it reads is written here, so nothing under /etc
is touched.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from deploy.demo.processes import (
    HEALTHY_WITHIN,
    ManagedProcess,
    ServerFailed,
    clean_environment,
    free_port,
    http_status,
)

ROOT: Final = Path(__file__).resolve().parents[2]
#: Names the environment that holds Swift; otherwise `.venv-swift` of this tree.
SWIFT_VENV: Final = "DISTWORKER_SWIFT_VENV"

_BACKENDS: Final = ("object", "container", "account")

_SWIFT = """[swift-hash]
swift_hash_path_suffix = distworker
swift_hash_path_prefix = distworker
[storage-policy:0]
name = gold
default = yes
"""

# fallocate_reserve = 0: the default refuses writes below 1 % of free disk, which is much on a big one.
_BACKEND = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/node
mount_check = false
fallocate_reserve = 0
[pipeline:main]
pipeline = healthcheck {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
{tuning}
[filter:healthcheck]
use = egg:swift#healthcheck
"""

_OBJECT_TUNING = "disk_chunk_size = 1048576\nnetwork_chunk_size = 1048576\nmb_per_sync = 512"

# The part and segment limits go up together, or an upload of more than 1000 parts cannot be completed.
_PROXY = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = {workers}
user = {user}
swift_dir = {folder}
client_timeout = 60
[pipeline:main]
pipeline = {pipeline}
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
client_chunk_size = 1048576
object_chunk_size = 1048576
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
dns_compliant_bucket_names = true
max_upload_part_num = 10000
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:slo]
use = egg:swift#slo
max_manifest_segments = 10000
max_manifest_size = 8388608
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
{filters}"""

_PLAIN_FILTERS: Final = (
    "catch_errors",
    "gatekeeper",
    "healthcheck",
    "listing_formats",
    "bulk",
    "copy",
    "dlo",
    "symlink",
)
_PIPELINE: Final = (
    "catch_errors gatekeeper healthcheck listing_formats bulk s3api tempauth copy slo dlo versioned_writes "
    "symlink proxy-server"
)

# One process for the three rings: the command-line builder takes nine, a third of a second each.
_RINGS = """
import sys
from swift.common.ring import RingBuilder
for kind, port in zip(sys.argv[2::2], sys.argv[3::2]):
    builder = RingBuilder(4, 1, 0)
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "d1",
                     "weight": 1.0, "replication_ip": "127.0.0.1", "replication_port": int(port)})
    builder.rebalance()
    builder.get_ring().save(f"{sys.argv[1]}/{kind}.ring.gz")
"""


def swift_environment(given: Path | None = None) -> Path:
    """The virtual environment that holds Swift; raises ServerFailed when it is not there."""
    folder = given or Path(os.environ.get(SWIFT_VENV) or ROOT / ".venv-swift")
    if not (folder / "bin" / "swift-proxy-server").exists():
        raise ServerFailed(
            f"no Swift in {folder}: `make swift` installs it there, ${SWIFT_VENV} names another place"
        )
    return folder


class Swift:
    """A real S3 server in `folder`; its data outlives `stop` and `start`.

    `endpoint`, `access_key` and `secret_key` are what a client needs; the region is us-east-1 and the
    addressing path style. The keys are the server's own throw-away login on loopback.
    """

    access_key: Final = "test:tester"
    secret_key: Final = "testing"
    region: Final = "us-east-1"

    def __init__(self, folder: Path, *, venv: Path | None = None, workers: int = 0) -> None:
        self.folder = folder.resolve()
        self.venv = swift_environment(venv)
        self._binaries = self.venv / "bin"
        self._workers = workers
        self._ports = {kind: free_port() for kind in (*_BACKENDS, "proxy")}
        self.port = self._ports["proxy"]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.processes = [self._server(kind) for kind in self._ports]

    def _server(self, kind: str) -> ManagedProcess:
        return ManagedProcess(
            f"swift {kind} server",
            [self._binaries / f"swift-{kind}-server", self.folder / f"{kind}-server.conf"],
            log=self.folder / "log" / f"{kind}.log",
            healthy=lambda: http_status(self._ports[kind], "/healthcheck") == 200,
            environment={"PYTHONWARNINGS": "ignore"},
            folder=self.folder,
        )

    def start(self, within: float = HEALTHY_WITHIN) -> Self:
        """Writes the configuration and starts all four; raises ServerFailed when one does not answer."""
        self._configure()
        deadline = time.monotonic() + within
        for process in self.processes:
            process.start(max(1.0, deadline - time.monotonic()))
        return self

    def stop(self) -> None:
        """Stops them, the front one first; what was stored stays in the folder."""
        for process in reversed(self.processes):
            process.stop()

    def kill9(self) -> None:
        """All four at once, as a machine that dies."""
        for process in self.processes:
            process.kill9()

    def freeze(self) -> None:
        """The front server stops answering; connections stay open."""
        self.processes[-1].freeze()

    def thaw(self) -> None:
        """The front server answers again."""
        self.processes[-1].thaw()

    def _configure(self) -> None:
        (self.folder / "node" / "d1").mkdir(parents=True, exist_ok=True)
        common = {"folder": self.folder, "user": _user()}
        self._write("swift.conf", _SWIFT)
        for kind in _BACKENDS:
            tuning = _OBJECT_TUNING if kind == "object" else ""
            text = _BACKEND.format(kind=kind, port=self._ports[kind], tuning=tuning, **common)
            self._write(f"{kind}-server.conf", text)
        filters = "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in _PLAIN_FILTERS)
        proxy = _PROXY.format(
            port=self.port, workers=self._workers, filters=filters, pipeline=_PIPELINE, **common
        )
        self._write("proxy-server.conf", proxy)
        self._write_rings()

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)

    def _write_rings(self) -> None:
        # The ring names this start's ports; one device holds everything, so old data is found again.
        rings = [word for kind in _BACKENDS for word in (kind, str(self._ports[kind]))]
        done = subprocess.run(
            [self._binaries / "python", "-W", "ignore", "-c", _RINGS, self.folder, *rings],
            env=clean_environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ServerFailed(f"Swift's rings could not be built:\n{done.stderr[-2000:]}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _user() -> str:

    return pwd.getpwuid(os.getuid()).pw_name
