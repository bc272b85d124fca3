"""A proxy before a real registry that holds single requests back, on the way there or on the way back.

The registry keeps and checks everything. A test names a request once (`hold`), learns when it has come, and
lets it go when the moment is right: that is how a worker is frozen between two calls, or a write comes late.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "expect"})
#: Nothing is held for longer than this, so that a failing test ends.
_GUARD = 180.0


@dataclass
class Hold:
    """One request held back: `sent` says whether the registry got it before. `come` once it is there."""

    method: str
    path: str
    sent: bool
    come: threading.Event = field(default_factory=threading.Event)
    free: threading.Event = field(default_factory=threading.Event)

    def arrived(self) -> bool:
        """Has the request come?"""
        return self.come.is_set()

    def release(self) -> None:
        """Let it go on."""
        self.free.set()

    def wait(self) -> None:
        self.come.set()
        self.free.wait(_GUARD)


class HoldingProxy:
    """On a free loopback port; a context manager. `port` is the registry's."""

    def __init__(self, port: int) -> None:
        self.target = f"127.0.0.1:{port}"
        self._holds: list[Hold] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def hold(self, method: str, path: str, *, sent: bool) -> Hold:
        """Hold the next request of that method and path: before the registry gets it, or (`sent`) its
        answer."""
        made = Hold(method, path, sent)
        with self._lock:
            self._holds.append(made)
        return made

    def taken(self, method: str, path: str) -> Hold | None:
        """The hold that waits for this request, which is used up by it."""
        with self._lock:
            for one in self._holds:
                if (one.method, one.path) == (method, path):
                    self._holds.remove(one)
                    return one
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
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], owner: HoldingProxy) -> None:
        self.owner = owner
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away in the middle are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        held = self.server.owner.taken(self.command, self.path)
        if held and not held.sent:
            held.wait()
        status, headers, data = self._ask(body)
        if held and held.sent:
            held.wait()
        with contextlib.suppress(OSError):
            self._answer(status, headers, data)

    # The names http.server looks for.
    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
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
            return reply.status, [*headers, ("Content-Length", size or str(len(data)))], data
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's name
        """Silence."""
