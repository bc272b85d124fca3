"""A scriptable HTTP server on loopback: real sockets, real bytes, faults on demand.

A test says what happens to the next requests that match a method and a piece of a path: an `Answer` replaces
what the server would say, a `Twist` spoils it (cut, reset, stall, corrupt, other status or headers), `PASS`
lets one through. When a script is used up the server behaves again. Every request is recorded in `seen`.

    server.on("GET", "/blobs/", Twist(cut=1000), PASS, Answer(503, headers={"Retry-After": "1"}))
    server.always("HEAD", "/manifests/", Answer(405))
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

BodySource = bytes | Callable[[], Iterable[bytes]]


@dataclass(frozen=True)
class Answer:
    """One reply and what goes wrong while it is sent.

    `body`: bytes, or a function that yields them (then give `length`). `length`: what Content-Length claims;
    None means the truth, -1 leaves the header out. `cut`: close cleanly after so many body bytes. `reset`:
    send a TCP reset after so many body bytes. `hangup`: close before any reply. `stall`: wait so many seconds
    (or until the server stops) after `cut`/`reset` bytes or before the status line. `corrupt`: flip one bit
    of that body byte. `read`: take only so many bytes of the request's body first.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: BodySource = b""
    length: int | None = None
    cut: int | None = None
    reset: int | None = None
    hangup: bool = False
    stall: float = 0.0
    corrupt: int | None = None
    read: int | None = None
    extra: tuple[tuple[str, str], ...] = ()  #: headers that may repeat a name


@dataclass(frozen=True)
class Twist:
    """Changes to what the server would say by itself; its state changes all the same (a blob is stored,
    …)."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    length: int | None = None
    cut: int | None = None
    reset: int | None = None
    hangup: bool = False
    stall: float = 0.0
    corrupt: int | None = None
    body: bytes | None = None

    def apply(self, answer: Answer) -> Answer:
        """`answer`, spoiled."""
        dropped = {name.lower() for name in self.drop}
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in dropped}
        changes: dict[str, Any] = {
            "headers": {**headers, **self.headers},
            "stall": self.stall,
            "hangup": self.hangup,
        }
        for name in ("status", "length", "cut", "reset", "corrupt", "body"):
            if getattr(self, name) is not None:
                changes[name] = getattr(self, name)
        if "content-length" in dropped:
            changes["length"] = -1
        return replace(answer, **changes)


#: Lets one matching request through untouched.
PASS = Twist()


@dataclass(frozen=True)
class Seen:
    """One request as it came in. `body` is whole, or as much of it as was read."""

    method: str
    path: str
    query: str
    headers: HTTPMessage
    body: bytes = b""

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """The query, decoded."""
        return parse_qsl(self.query, keep_blank_values=True)

    @property
    def authorization(self) -> str:
        """The Authorization header, "" without one."""
        return self.headers.get("Authorization") or ""

    @property
    def line(self) -> str:
        """`METHOD /path`, for comparing sequences."""
        return f"{self.method} {self.path}"


@dataclass
class _Rule:
    method: str
    part: str
    items: list[Answer | Twist]
    forever: bool = False

    def take(self, method: str, target: str) -> Answer | Twist | None:
        if not self.items or self.method not in {method, "*"} or self.part not in target:
            return None
        return self.items[0] if self.forever else self.items.pop(0)


class FakeServer:
    """A server with a script. Subclasses give `handle`; use it as a context manager."""

    #: Bodies of requests above this are counted and hashed by `sink`, not kept.
    keep = 64 << 20

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.stopping = threading.Event()
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._name, self._scheme = "", "http"
        self._http = _Server(("127.0.0.1", 0), self)

    def known_as(self, name: str, context: ssl.SSLContext | None) -> None:
        """Be called `name` (`host[:port]`) by clients, over TLS if there is a context; before `start`."""
        self._name, self._scheme = name, "https" if context else "http"
        if context is not None:
            self._http.socket = context.wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )

    # --- what tests use -----------------------------------------------------------------------------------
    @property
    def address(self) -> tuple[str, int]:
        """Where it really listens."""
        return "127.0.0.1", int(self._http.server_address[1])

    @property
    def host(self) -> str:
        """What clients call it: `127.0.0.1:port`, or the name it was given."""
        return self._name or f"127.0.0.1:{self.address[1]}"

    @property
    def url(self) -> str:
        """`http://127.0.0.1:port`, or the same with its name."""
        return f"{self._scheme}://{self.host}"

    def on(self, method: str, part: str, *items: Answer | Twist) -> None:
        """What happens to the next requests of `method` ("*": any) whose path and query hold `part`."""
        with self._lock:
            self._rules.append(_Rule(method, part, list(items)))

    def always(self, method: str, part: str, item: Answer | Twist) -> None:
        """The same for every matching request from now on."""
        with self._lock:
            self._rules.append(_Rule(method, part, [item], forever=True))

    def lines(self) -> list[str]:
        """`METHOD /path` of all requests so far."""
        return [one.line for one in self.seen]

    def count(self, method: str, part: str = "") -> int:
        """How many requests of `method` had `part` in path or query."""
        return sum(1 for one in self.seen if one.method == method and part in f"{one.path}?{one.query}")

    def handle(self, request: Seen) -> Answer:
        """What the server says by itself."""
        return Answer(404)

    def __enter__(self) -> FakeServer:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Serve until `stop`; a second call changes nothing. Connections wait until then."""
        with self._lock:
            if self._threads:
                return
            thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
            self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """Close every connection and wait for its thread: tests fail on sockets left open."""
        self.stopping.set()
        if self._threads:
            self._http.shutdown()
        with self._lock:
            sockets = list(self._sockets)
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._http.server_close()
        for thread in self._threads:
            thread.join(5)

    # --- inside -------------------------------------------------------------------------------------------
    def answer(self, request: Seen) -> Answer:
        """The script's word, else the server's own."""
        target = f"{request.path}?{request.query}"
        item: Answer | Twist | None = None
        with self._lock:
            self.seen.append(request)
            for rule in self._rules:
                item = rule.take(request.method, target)
                if item is not None:
                    break
        if isinstance(item, Answer):
            return item
        own = self.handle(request)
        return item.apply(own) if item is not None else own

    def peek(self, method: str, target: str) -> Answer | Twist | None:
        """The item the next such request will get; it is not used up."""
        with self._lock:
            for rule in self._rules:
                if rule.items and rule.method in {method, "*"} and rule.part in target:
                    return rule.items[0]
        return None

    def opened(self, connection: socket.socket) -> None:
        """A client connected."""
        with self._lock:
            self._sockets.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """A client's connection is done with."""
        with self._lock:
            self._sockets.discard(connection)


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close waits for them
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], owner: FakeServer) -> None:
        self.owner = owner
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away in the middle are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are written apart: each answer would wait 40 ms
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.owner.opened(self.connection)

    def finish(self) -> None:
        self.server.owner.closed(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Silence: requests are in `seen`."""

    def _serve(self) -> None:
        owner = self.server.owner
        parts = urlsplit(self.path)
        item = owner.peek(self.command, f"{parts.path}?{parts.query}")
        limit = item.read if isinstance(item, Answer) else None
        body = self._body(limit)
        answer = owner.answer(Seen(self.command, parts.path, parts.query, self.headers, body))
        if answer.read is not None:
            self.close_connection = True
        self._send(answer)

    # The names http.server looks for.
    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815

    def _body(self, limit: int | None) -> bytes:
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            return self._chunked()
        left = int(self.headers.get("Content-Length") or 0)
        left = left if limit is None else min(left, limit)
        return self.rfile.read(left) if left else b""

    def _chunked(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, answer: Answer) -> None:
        broken = answer.cut if answer.cut is not None else answer.reset
        if answer.stall and broken is None:
            self.server.owner.stopping.wait(answer.stall)
        if answer.hangup:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in (*answer.headers.items(), *answer.extra):
            self.send_header(name, value)
        self._length(answer)
        self.end_headers()
        self._payload(answer, broken)

    def _length(self, answer: Answer) -> None:
        names = {name.lower() for name in answer.headers}
        if answer.length == -1:
            self.close_connection = True
            self.send_header("Connection", "close")
        elif "content-length" not in names and answer.status not in {204, 304}:
            true = len(answer.body) if isinstance(answer.body, bytes) else 0
            self.send_header("Content-Length", str(true if answer.length is None else answer.length))

    def _payload(self, answer: Answer, broken: int | None) -> None:
        if self.command == "HEAD" or answer.status in {204, 304}:
            return
        sent = 0
        for part in [answer.body] if isinstance(answer.body, bytes) else answer.body():
            piece = part
            if answer.corrupt is not None and 0 <= answer.corrupt - sent < len(piece):
                at = answer.corrupt - sent
                piece = piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]
            if broken is not None and sent + len(piece) > broken:
                self.wfile.write(piece[: broken - sent])
                self._break(answer)
                return
            self.wfile.write(piece)
            sent += len(piece)
        if answer.length is not None and answer.length != sent:
            self.close_connection = True

    def _break(self, answer: Answer) -> None:
        self.close_connection = True
        if answer.stall:
            self.server.owner.stopping.wait(answer.stall)
        if answer.reset is not None:
            # Let the client take what was sent before: a reset throws away what is still on the way.
            self.server.owner.stopping.wait(0.05)
            # Linger of zero seconds: close sends RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
