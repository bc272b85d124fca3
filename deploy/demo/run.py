"""The demo's run: start everything, push samples, migrate them through the task graph, prove it, report it.

Everything runs on loopback and free ports, with data in one folder that later runs find again; only the
ledger starts empty each time. What it shows is the product's own command line against the product's own
workers.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from deploy.demo import images, report, verify
from deploy.demo.lock import FolderTaken, alone
from deploy.demo.processes import clean_environment
from deploy.demo.servers import (
    ROOT,
    CeleryWorker,
    DockerRegistry,
    Flower,
    Htpasswd,
    ManagedProcess,
    ServerFailed,
    Swift,
    Valkey,
    write_private,
)
from distworker.blobstore.s3 import S3Options, S3Store

BUCKET = "distworker"
USER = "demo"
SLOTS = 4
#: The `distworker` command of this tree, also where the package is not installed.
COMMAND = (sys.executable, "-c", "from distworker.cli.main import main; main()")


class DemoFailed(Exception):
    """The demo did not do what it promises; the text says what."""


def say(text: str = "") -> None:
    """One line now, also when stdout is a pipe."""
    print(text, flush=True)


class Demo:
    """All servers of the demo. `folder` keeps images, registries and store for later runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        for old in ("valkey", "logs"):
            shutil.rmtree(self.folder / old, ignore_errors=True)
        self.password = secrets.token_urlsafe(9)
        self.valkey = Valkey(self.folder / "valkey")
        self.swift = Swift(self.folder / "swift")
        self.source = DockerRegistry(self.folder / "source", name="source registry")
        login = Htpasswd(USER, self.password)
        self.destination = DockerRegistry(
            self.folder / "destination", auth=login, name="destination registry"
        )
        self.config = self._write_config()
        self.settings = {"DISTWORKER_CONFIG": str(self.config)}
        logs = self.folder / "logs"
        self.workers = [CeleryWorker(logs, name, self.settings, concurrency=SLOTS) for name in ("one", "two")]
        flower = {**self.settings, "DISTWORKER_FLOWER_AUTH": f"{USER}:{self.password}"}
        self.flower = Flower(logs, flower)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Everything up inside; everything down afterwards, the last started first."""
        with contextlib.ExitStack() as stack:
            self._start(stack, self.valkey, self.swift, self.source, self.destination)
            make_bucket(self.swift, BUCKET)
            self._start(stack, *self.workers, self.flower)
            self._introduce()
            yield

    @staticmethod
    def _start(stack: contextlib.ExitStack, *servers: ManagedProcess | Swift) -> None:
        """Side by side, for most of their start is waiting; raises ServerFailed when one does not come up."""
        for server in servers:
            stack.callback(server.stop)
        with ThreadPoolExecutor(len(servers)) as pool:
            for started in [pool.submit(server.start) for server in servers]:
                started.result()

    def skopeo_login(self) -> dict[str, str]:
        """Environment that gives skopeo the destination's login without showing it in a process list."""
        return {"REGISTRY_AUTH_FILE": str(self.config / "auth.json")}

    def distworker(self, *arguments: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
        """Run the command line as an operator would, with the demo's settings."""
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=ROOT,
            env=clean_environment(self.settings),
            stdout=subprocess.PIPE if capture else None,
            text=True,
            check=False,
        )

    def _introduce(self) -> None:
        say(f"Valkey                {self.valkey.url()}")
        say(f"S3 store (Swift)      {self.swift.endpoint}")
        say(f"source registry       {self.source.host}")
        say(f"destination registry  {self.destination.host}  (login {USER})")
        say(f"workers               one and two, {SLOTS} slots each; logs in {_shown(self.folder / 'logs')}")
        say(f"Flower                {self.flower.url}  (login {USER}, password {self.password})")
        say(f"settings              {_shown(self.config)}: registries.toml, distworker.toml")

    def _write_config(self) -> Path:
        """The settings files that workers, Flower and the command line share."""
        folder = self.folder / "config"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(folder / "password", self.password)
        write_private(folder / "distworker.toml", self._settings_file())
        write_private(folder / "registries.toml", self._registries_file())
        login = {"auths": {self.destination.host: {"auth": _basic(USER, self.password)}}}
        write_private(folder / "auth.json", json.dumps(login))
        return folder

    def _settings_file(self) -> str:
        ledger, broker = self.valkey.url(1), self.valkey.url(0)
        head = f'redis_url = "{ledger}"\nbroker_url = "{broker}"\nslots = {SLOTS}\n\n'
        return head + store_section(self.swift, BUCKET)

    def _registries_file(self) -> str:
        return (
            f'["{self.source.host}"]\nplain_http = true\nprivate = true\n\n'
            f'["{self.destination.host}"]\nplain_http = true\nprivate = true\n'
            f'username = "{USER}"\npassword_file = "password"\n'
        )


def make_bucket(swift: Swift, bucket: str) -> None:
    """Create the bucket unless it is there: a worker never does that by itself."""
    store = S3Store(
        S3Options(
            bucket=bucket,
            endpoint=swift.endpoint,
            region=swift.region,
            access_key=swift.access_key,
            secret_key=swift.secret_key,
        )
    )
    store.make_bucket()
    store.close()


def store_section(swift: Swift, bucket: str) -> str:
    """The `[store]` table of a settings file."""
    return (
        f'[store]\nkind = "s3"\nendpoint = "{swift.endpoint}"\nbucket = "{bucket}"\n'
        f'access_key = "{swift.access_key}"\nsecret_key = "{swift.secret_key}"\n'
    )


def run(folder: Path, *, once: bool, flip: bool) -> int:
    """The whole demo; returns the exit status. Without `once` it stays until Ctrl-C."""
    say(f"distworker demo, data in {_shown(folder.resolve())}")
    try:
        with alone(folder):
            layout = images.ensure(folder / "images", say)
            demo = Demo(folder)
            with demo.running():
                code = _show(demo, layout, flip)
                if not once:
                    _stay(demo)
    except (ServerFailed, verify.VerificationFailed, DemoFailed, FolderTaken) as error:
        say(f"demo failed: {error}")
        return 1
    return code


def _show(demo: Demo, layout: Path, flip: bool) -> int:
    push_seconds = _push(demo, layout)
    pairs = _job_file(demo, layout)
    say(f"\n$ distworker migrate {_shown(pairs)}")
    begin = time.monotonic()
    code = demo.distworker("migrate", str(pairs)).returncode
    seconds = {"migrating": time.monotonic() - begin, "pushing samples": push_seconds}
    job = _last_job(demo)
    say("\nverifying every digest with skopeo")
    begin = time.monotonic()
    proof = _prove(demo, layout, flip)
    seconds["verifying"] = time.monotonic() - begin
    say("\nReport")
    for line in report.lines(job, proof, seconds):
        say(f"  {line}")
    if proof is None or code:
        why = "verification, see above" if proof is None else f"distworker migrate ended with status {code}"
        say(f"demo failed: {why}")
        return 1
    return 0


def _push(demo: Demo, layout: Path) -> float:
    """The samples into the source registry, as far as they are not there; returns seconds."""
    begin, there = time.monotonic(), 0
    for name in images.names(layout):
        reference = f"docker://{demo.source.host}/samples/{name}"
        if _digest_at(reference) == verify.reference_digest(layout, name):
            there += 1
            continue
        verify.skopeo(
            "copy", "--quiet", "--all", "--dest-tls-verify=false", f"oci:{layout}:{name}", reference
        )
    total = len(images.names(layout))
    say(f"source registry       {total - there} sample images pushed with skopeo, {there} were already there")
    return time.monotonic() - begin


def _digest_at(reference: str) -> str:
    try:
        return verify.skopeo("inspect", "--tls-verify=false", "--format", "{{.Digest}}", reference).strip()
    except verify.VerificationFailed:
        return ""


def _job_file(demo: Demo, layout: Path) -> Path:
    lines = ["version: 1", "pairs:"]
    for name in images.names(layout):
        lines.append(f"  - source: {demo.source.host}/samples/{name}")
        lines.append(f"    destination: {demo.destination.host}/mirror/{name}")
    path = demo.folder / "migrate.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _last_job(demo: Demo) -> Mapping[str, Any]:
    """The newest job's record, from `distworker status --json`."""
    answer = demo.distworker("status", "--json", capture=True)
    for line in answer.stdout.splitlines():
        record: dict[str, Any] = json.loads(line)
        if "images" in record:
            return record
    raise DemoFailed("distworker status knows no job")


def _prove(demo: Demo, layout: Path, flip: bool) -> report.Proof | None:
    """Read everything back at both ends. None, after a line that says why, when it does not agree."""
    flipped = verify.flip_one_byte(demo.destination.folder / "data", layout) if flip else None
    if flipped:
        say("one byte of a stored blob was flipped in the destination's data folder, as asked")
    manifests: set[str] = set()
    blobs: set[str] = set()
    try:
        for name in images.names(layout):
            found = verify.compare(
                f"{demo.source.host}/samples/{name}",
                f"{demo.destination.host}/mirror/{name}",
                demo.folder / "verify",
                demo.skopeo_login(),
            )
            if found.root != verify.reference_digest(layout, name):
                raise verify.VerificationFailed(f"{name} is {found.root}, not the image that was made")
            manifests |= set(found.manifests)
            blobs |= set(found.blobs)
            say(f"  {name:<12} {found.root}  equal at both ends")
    except verify.VerificationFailed as error:
        say(f"  {error}")
        return None
    finally:
        if flipped:
            verify.flip_one_byte(demo.destination.folder / "data", layout)
    return report.Proof(len(images.names(layout)), len(manifests), len(blobs))


def _stay(demo: Demo) -> None:
    say(f"\nFlower is at {demo.flower.url} (login {USER}, password {demo.password}).")
    command = _shown(Path(sys.executable).with_name("distworker"))
    say("In another terminal, from this folder:")
    say(f"  export DISTWORKER_CONFIG={_shown(demo.config)}")
    say(f"  {command} status")
    say(f"  {command} doctor")
    say(f"  {command} copy {demo.source.host}/samples/python:3 {demo.destination.host}/more/python")
    with contextlib.suppress(KeyboardInterrupt):
        say("Ctrl-C stops everything.")
        while True:
            time.sleep(3600)
    say("\nstopping")


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def _shown(path: Path) -> str:
    """A path as a person in the current folder would type it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
