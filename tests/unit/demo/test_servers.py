"""The helper processes themselves: they start clean, say why they failed, end with their children, and count
bytes."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.demo.servers import (
    Access,
    DockerRegistry,
    Htpasswd,
    ManagedProcess,
    RabbitMQ,
    S3Storage,
    ServerFailed,
    Swift,
    ThrottlingProxy,
    Valkey,
    accesses,
    clean_environment,
    free_port,
    http_status,
    served_bytes,
    talk,
    wait_until,
)
from distworker.blobstore.s3 import S3Store
from tests.conftest import BUCKET
from tests.images import digest_at, has, push_image, push_index

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


def process(tmp_path: Path, argv: list[str], healthy: Callable[[], bool] | None = None) -> ManagedProcess:
    """A process whose log says `up` when it is healthy."""
    log = tmp_path / "log"
    return ManagedProcess("helper", argv, log=log, healthy=healthy or (lambda: "up" in log.read_text()))


def gone(pid: int) -> bool:
    """Is there no such process (a zombie is none)?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_children_get_a_clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's stores, proxies and certificates reaches a server; the rest does."""
    ambient = ("AWS_CA_BUNDLE", "AWS_PROFILE", "https_proxy", "NO_PROXY", "SSL_CERT_FILE", "DISTWORKER_REDIS")
    for name in (*ambient, "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("LANG", "C.UTF-8")
    got = clean_environment({"DISTWORKER_STORE": "given"})
    assert "x" not in got.values()
    assert got["DISTWORKER_STORE"] == "given"
    assert got["LANG"] == "C.UTF-8"
    assert "PATH" in got


def test_a_process_that_ends_at_once_says_why(tmp_path: Path) -> None:
    """The error carries the status and the end of the log."""
    script = "import sys; print('no such disk', flush=True); sys.exit(3)"
    with pytest.raises(ServerFailed, match=r"status 3:\nno such disk"):
        process(tmp_path, [sys.executable, "-c", script], lambda: False).start()


def test_a_process_that_never_answers_is_stopped(tmp_path: Path) -> None:
    """After the deadline nothing is left running."""
    helper = process(tmp_path, SLEEPER, lambda: False)
    with pytest.raises(ServerFailed, match=r"did not answer within 0\.3 s:\nup"):
        helper.start(within=0.3)
    assert not helper.running


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Not a traceback from the depths of subprocess."""
    with pytest.raises(ServerFailed, match="cannot run /no/such/program"):
        process(tmp_path, ["/no/such/program"]).start()


@pytest.mark.parametrize("end", [ManagedProcess.stop, ManagedProcess.kill9])
def test_children_of_a_process_end_with_it(tmp_path: Path, end: Callable[[ManagedProcess], None]) -> None:
    """A worker's own children do not outlive it, whichever way it goes."""
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('up', child.pid, flush=True); time.sleep(60)"
    )
    helper = process(tmp_path, [sys.executable, "-c", script]).start()
    child = int(helper.text().split()[1])
    assert not gone(child)
    end(helper)
    wait_until(lambda: gone(child), 5, "the child did not end")
    assert not helper.running
    helper.stop()


def test_a_process_that_ignores_term_is_killed(tmp_path: Path) -> None:
    """Stopping ends in any case."""
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    helper = process(tmp_path, [sys.executable, "-c", script]).start()
    pid = helper.pid
    helper.stop(within=0.2)
    assert gone(pid)


def test_a_frozen_process_stands_still_until_it_is_thawed(tmp_path: Path) -> None:
    """It keeps its place and its log, and goes on as if nothing had happened; stopping it works too."""
    script = "import time\nfor n in range(6000): print('up', n, flush=True); time.sleep(0.01)"
    helper = process(tmp_path, [sys.executable, "-c", script]).start()
    helper.freeze()
    wait_until(lambda: Path(f"/proc/{helper.pid}/stat").read_text().split()[2] == "T", 5, "it did not freeze")
    before = helper.text()
    time.sleep(0.1)
    assert helper.text() == before
    helper.thaw()
    wait_until(lambda: len(helper.text()) > len(before), 5, "it did not go on")
    helper.freeze()
    helper.stop()
    assert not helper.running


def test_everything_ends_with_the_interpreter(tmp_path: Path) -> None:
    """A script that forgets its servers, or is told to end by TERM, leaves none behind."""
    script = (
        "import sys, time; from pathlib import Path\n"
        "from deploy.demo.processes import ManagedProcess, stop_on_signals\n"
        "stop_on_signals()\n"
        "p = ManagedProcess('x', ['sleep', '60'], log=Path(sys.argv[1]), healthy=lambda: True).start()\n"
        "print(p.pid, flush=True)\n"
        "time.sleep(float(sys.argv[2]))\n"
    )
    for pause, ended in (("0", 0), ("60", 143)):
        argv = [sys.executable, "-c", script, str(tmp_path / "log"), pause]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=clean_environment()) as child:
            assert child.stdout is not None
            pid = int(child.stdout.readline())
            if ended:
                child.terminate()
            assert child.wait(20) == ended
        assert gone(pid)


def test_a_port_is_given_only_once() -> None:
    """Two servers made before either starts do not get the same port."""
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50


LOG = """\
127.0.0.1 - - [23/Nov/2026:13:10:00 +0000] "GET /v2/a/blobs/sha256:1 HTTP/1.1" 200 1000 "" "skopeo/1.9.3"
127.0.0.1 - - [23/Nov/2026:13:10:01 +0000] "GET /v2/a/blobs/sha256:1?x=y HTTP/1.1" 206 500 "" "distworker/0.1"
time="2026-11-23" level=warning msg="not a request"
127.0.0.1 - - [23/Nov/2026:13:10:02 +0000] "HEAD /v2/a/blobs/sha256:1 HTTP/1.1" 200 0 "" ""
127.0.0.1 - user [23/Nov/2026:13:10:03 +0000] "PUT /v2/a/manifests/1 HTTP/1.1" 201 0 "" "x"
"""


def test_the_access_log_is_counted_by_method_and_path(tmp_path: Path) -> None:
    """Bytes are added up, queries dropped, other lines passed over, a missing log is an empty one."""
    log = tmp_path / "access.log"
    assert served_bytes(log) == {}
    log.write_text(LOG)
    assert served_bytes(log) == {
        ("GET", "/v2/a/blobs/sha256:1"): 1500,
        ("HEAD", "/v2/a/blobs/sha256:1"): 0,
        ("PUT", "/v2/a/manifests/1"): 0,
    }
    assert accesses(log)[1] == Access("GET", "/v2/a/blobs/sha256:1", 206, 500, "distworker/0.1")
    assert [access.method for access in accesses(log)] == ["GET", "GET", "HEAD", "PUT"]


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends 1 MiB to whoever connects and then waits; its port."""
    server = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(bytes(1024 * 1024))
                connection.recv(1)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    threads.append(threading.Thread(target=accept))
    threads[0].start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    for thread in threads:
        thread.join(5)


def receive(port: int, size: int) -> int:
    """How many of `size` bytes come before the connection ends."""
    got = 0
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        try:
            while got < size and (chunk := connection.recv(65536)):
                got += len(chunk)
        except ConnectionResetError:
            pass
    return got


def test_the_proxy_passes_everything_and_counts_it(echo: int) -> None:
    """Without limits it is only a wire, slow or not."""
    with ThrottlingProxy(("127.0.0.1", echo), rate=20_000_000) as proxy:
        assert receive(proxy.port, 1024 * 1024) == 1024 * 1024
        assert proxy.wait_for(1024 * 1024, within=5)
        assert proxy.down == 1024 * 1024


def test_the_proxy_cuts_once_at_the_given_byte(echo: int) -> None:
    """The first connection breaks in the middle, the next one is whole."""
    with ThrottlingProxy(("127.0.0.1", echo), rate=20_000_000, cut_after=300_000) as proxy:
        assert 0 < receive(proxy.port, 1024 * 1024) < 1024 * 1024
        assert receive(proxy.port, 1024 * 1024) == 1024 * 1024


def test_a_proxy_to_nowhere_hangs_up() -> None:
    """A server that is down looks down."""
    with ThrottlingProxy(("127.0.0.1", free_port())) as proxy:
        assert receive(proxy.port, 1) == 0


@pytest.mark.servers
class TestRealServers:
    """Each real server starts, answers, survives a kill and keeps its data."""

    def test_valkey_keeps_its_data_over_a_kill(self, tmp_path: Path) -> None:
        """The append-only file is on, eviction off."""
        with Valkey(tmp_path / "valkey", maxmemory=50_000_000) as server:
            assert talk(server.port, b"SET a 1\r\n") == b"+OK\r\n"
            assert b"noeviction" in talk(server.port, b"CONFIG GET maxmemory-policy\r\n")
            wait_until((tmp_path / "valkey/appendonlydir").exists, 5, "no append-only file")
            time.sleep(1.1)  # appendfsync everysec
            server.kill9()
            server.start()
            assert talk(server.port, b"GET a\r\n") == b"$1\r\n1\r\n"

    def test_valkey_with_a_password_lets_nobody_else_in(self, tmp_path: Path) -> None:
        """And the password is in no argument list."""
        with Valkey(tmp_path / "valkey", password="hush") as server:
            assert talk(server.port, b"GET a\r\n").startswith(b"-NOAUTH")
            assert b"hush" not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
            assert server.url(3) == f"redis://:hush@127.0.0.1:{server.port}/3"

    def test_a_registry_serves_images_and_counts_them(self, registry: DockerRegistry, tmp_path: Path) -> None:
        """What skopeo pushed is there under its digest, and reading it is counted to the byte."""
        pushed = push_index(tmp_path, f"{registry.host}/lab/multi:1")
        assert len(pushed.manifests) == 4
        assert digest_at(pushed.reference) == pushed.digest
        assert not has(f"{registry.host}/lab/multi:2")
        digest, size = next(iter(pushed.blobs.items()))
        blob = f"/v2/lab/multi/blobs/{digest}"
        assert ("GET", blob) not in registry.served()
        assert http_status(registry.port, blob) == 200
        wait_until(
            lambda: registry.served().get(("GET", blob)) == size, 5, "the access log does not count it"
        )

    def test_a_registry_with_a_login_wants_it(
        self, new_registry: Callable[..., DockerRegistry], tmp_path: Path
    ) -> None:
        """Without the right password there is no pushing."""
        registry = new_registry(auth=Htpasswd("lab", "labpass"))
        assert http_status(registry.port, "/v2/") == 401
        pushed = push_image(tmp_path, f"{registry.host}/lab/a:1", login="lab:labpass")
        assert digest_at(pushed.reference, "lab:labpass") == pushed.digest
        assert not has(pushed.reference, "lab:wrong")
        assert "labpass" not in (registry.folder / "htpasswd").read_text()

    def test_a_registry_on_s3_redirects_blobs_there(
        self, new_registry: Callable[..., DockerRegistry], s3_store: S3Store, swift: Swift, tmp_path: Path
    ) -> None:
        """Blob requests are answered 307 to the S3 server, and skopeo follows."""
        storage = S3Storage(swift.endpoint, BUCKET, swift.access_key, swift.secret_key)
        registry = new_registry(storage=storage)
        pushed = push_image(tmp_path, f"{registry.host}/lab/a:1")
        assert digest_at(pushed.reference) == pushed.digest
        assert http_status(registry.port, f"/v2/lab/a/blobs/{next(iter(pushed.blobs))}") == 307

    def test_rabbitmq_runs_as_a_private_node(self, tmp_path: Path) -> None:
        """It answers AMQP and leaves nothing running, its port mapper included."""
        server = RabbitMQ(tmp_path / "rabbit").start()
        try:
            assert talk(server.port, b"AMQP\x00\x00\x09\x01").startswith(b"\x01")
        finally:
            server.stop()
        commands = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert str(tmp_path / "rabbit") not in commands
