"""The size of a blob is never the size of the process: 512 MiB pass through 48 MiB, and through less."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from deploy.demo.servers import ROOT, clean_environment
from distworker.blobstore.s3 import S3Options
from distworker.digest import Digest
from tests.fakes.registry import FakeRegistry

pytestmark = pytest.mark.servers

MIB = 1024 * 1024
SIZE = 512 * MIB
#: What the issue allows. A download with tee and S3 takes about three quarters of it, boto3 included.
ALLOWED = 48 * MIB

BLOCK = random.Random("block").randbytes(MIB)


def pieces(offset: int) -> Iterator[bytes]:
    """The blob from `offset` (whole MiB) on: no two MiB of it are the same, and nobody ever holds it."""
    for number in range(offset // MIB, SIZE // MIB):
        yield number.to_bytes(8, "big") + BLOCK[8:]


def digest() -> Digest:
    """The blob's digest."""
    seen = hashlib.sha256()
    for piece in pieces(0):
        seen.update(piece)
    return Digest(f"sha256:{seen.hexdigest()}")


class Sink:
    """A registry that takes uploads, hashes what comes and keeps nothing of it. `taken` are the digests."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self._http = _SinkServer(("127.0.0.1", 0), self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        """As in references."""
        return f"127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        """End it with its threads."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)


class _SinkServer(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, address: tuple[str, int], owner: Sink) -> None:
        self.owner = owner
        super().__init__(address, _SinkHandler)


class _SinkHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _SinkServer

    def do_HEAD(self) -> None:
        taken = self.path.rpartition("/")[2] in self.server.owner.taken
        self._answer(200 if taken else 404)

    def do_POST(self) -> None:
        self._answer(202, Location="/v2/mirror/app/blobs/uploads/session")

    def do_PUT(self) -> None:
        wanted = parse_qs(urlsplit(self.path).query)["digest"][0]
        seen, left = hashlib.sha256(), int(self.headers["Content-Length"])
        while left and (data := self.rfile.read(min(left, MIB))):
            seen.update(data)
            left -= len(data)
        good = wanted == f"sha256:{seen.hexdigest()}"
        if good:
            self.server.owner.taken.append(wanted)
        self._answer(201 if good else 400)

    def _answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Silence."""


@pytest.fixture
def sinks() -> Iterator[list[Sink]]:
    """Two registries to send to."""
    made = [Sink(), Sink()]
    yield made
    for sink in made:
        sink.close()


@pytest.mark.parametrize("kind", ["folder", "S3"])
def test_half_a_gibibyte_passes_through_less_than_48_mib(
    kind: str,
    sinks: list[Sink],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Once read and sent in one pass, once stored and sent afterwards; each way its own traced peak."""
    wanted = digest()
    errand: dict[str, Any] = {"digest": wanted, "size": SIZE, "sinks": [sink.host for sink in sinks]}
    if kind == "folder":
        errand["folder"] = str(tmp_path / "store")
    else:
        options: S3Options = request.getfixturevalue("s3_options")
        errand["s3"] = asdict(options)
    with FakeRegistry() as source:
        assert isinstance(source, FakeRegistry)
        source.put_stream("app", wanted, SIZE, pieces)

        done = subprocess.run(
            [sys.executable, "-m", "tests.scenarios.memory_probe"],
            input=json.dumps({**errand, "source": source.host}),
            env=clean_environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    peaks = json.loads(done.stdout)
    with capsys.disabled():
        shown = ", ".join(f"{way} {peak / MIB:.1f} MiB" for way, peak in peaks.items())
        print(f"\ntraced peaks with {kind}: {shown} (allowed {ALLOWED // MIB} MiB)")
    assert [sink.taken for sink in sinks] == [[wanted], [wanted]], "both registries got every byte"
    assert set(peaks) == {"tee", "store"}
    assert max(peaks.values()) < ALLOWED
