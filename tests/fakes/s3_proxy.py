"""A proxy before a real S3 server that refuses what a test tells it to.

The server behind keeps and checks everything (signatures too: the Host header goes through as it came), so a
scenario sees real behaviour around one fault: `refuse("PUT", digest, 507)` for ever, or the next `times`.
"""

from __future__ import annotations

import http.client
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

#: Headers that belong to one connection only.
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "expect"})


@dataclass
class Refusal:
    """What is refused, and how many times more; None is for ever. `met` counts."""

    method: str
    part: str
    status: int
    code: str
    times: int | None
    met: int = 0


class S3Proxy:
    """On a free loopback port; a context manager."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self._refusals: list[Refusal] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def refuse(
        self, method: str, part: str, status: int, code: str = "", times: int | None = None
    ) -> Refusal:
        """Answer requests of `method` whose path holds `part` with an S3 error."""
        refusal = Refusal(method, part, status, code, times)
        with self._lock:
            self._refusals.append(refusal)
        return refusal

    def forgive(self) -> None:
        """Let everything through again."""
        with self._lock:
            self._refusals.clear()

    def verdict(self, method: str, path: str) -> Refusal | None:
        """The refusal that this request meets."""
        with self._lock:
            for refusal in self._refusals:
                if refusal.method == method and refusal.part in path and refusal.times != 0:
                    refusal.met += 1
                    refusal.times = None if refusal.times is None else refusal.times - 1
                    return refusal
        return None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    def __init__(self, address: tuple[str, int], owner: S3Proxy) -> None:
        self.owner = owner
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away in the middle are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    # One request per connection: closing the server then waits for nobody.
    server: _Server

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        refusal = self.server.owner.verdict(self.command, self.path)
        if refusal is None:
            self._forward(body)
        else:
            self._answer(refusal.status, [], f"<Error><Code>{refusal.code}</Code></Error>".encode())

    # The names http.server looks for.
    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815

    def _forward(self, body: bytes) -> None:
        connection = http.client.HTTPConnection(self.server.owner.target, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            reply = connection.getresponse()
            data = reply.read()
            headers = [(name, value) for name, value in reply.getheaders() if name.lower() not in _HOP]
            size = reply.getheader("Content-Length") if self.command == "HEAD" else None
            self._answer(reply.status, headers, data, size)
        finally:
            connection.close()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, size: str | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", size or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's name
        """Silence."""
