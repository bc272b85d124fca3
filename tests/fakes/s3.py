"""A tiny S3 server that fails as told: it keeps nothing, checks nothing, and answers each operation from a
script.

Operations are `put get head list create part complete abort delete`. Without a script each succeeds;
`script` gives the next answers of one operation, and the last of them is repeated. Every request is recorded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Answer:
    """One answer: `code` makes an S3 error body. `cut` sends that many bytes of `body` and breaks off;
    `silent` says nothing until the server is closed; `broken` closes without a word."""

    status: int = 200
    code: str = ""
    body: bytes = b""
    cut: int | None = None
    silent: bool = False
    broken: bool = False


OK = Answer()
_CREATED = b"<InitiateMultipartUploadResult><UploadId>upload-1</UploadId></InitiateMultipartUploadResult>"
_COMPLETED = b'<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>'
_BODIES = {"create": _CREATED, "complete": _COMPLETED}


class ScriptedS3:
    """The server, on a free loopback port; a context manager. `requests` holds (operation, path) in order."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self._scripts: dict[str, list[Answer]] = {}
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._take, self._closing))
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def script(self, operation: str, *answers: Answer) -> None:
        """The next answers of `operation`; the last one stays."""
        self._scripts[operation] = list(answers)

    def count(self, operation: str) -> int:
        """How often it was asked."""
        return sum(asked == operation for asked, _ in self.requests)

    def _take(self, operation: str, path: str, headers: dict[str, str]) -> Answer:
        with self._lock:
            self.requests.append((operation, path))
            self.headers.append(headers)
            answers = self._scripts.get(operation, [Answer(body=_BODIES.get(operation, b""))])
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return Answer(body=_BODIES[operation]) if answer is OK and operation in _BODIES else answer

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _operation(method: str, query: dict[str, list[str]]) -> str:
    if "uploads" in query:
        return "create" if method == "POST" else "uploads"
    if "uploadId" in query:
        return {"PUT": "part", "POST": "complete", "DELETE": "abort"}[method]
    if "list-type" in query:
        return "list"
    return method.lower()


def _handler(
    take: Callable[[str, str, dict[str, str]], Answer], closing: threading.Event
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:
                self.close_connection = True

        def answer(self) -> None:
            parts = urlsplit(self.path)
            operation = _operation(self.command, parse_qs(parts.query, keep_blank_values=True))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = take(operation, parts.path, dict(self.headers))
            if answer.silent:
                closing.wait(20)
            if answer.silent or answer.broken:
                self.close_connection = True
                return
            self.send(answer)

        def send(self, answer: Answer) -> None:
            body = answer.body
            if answer.code:
                body = f"<Error><Code>{answer.code}</Code><Message>no</Message></Error>".encode()
            self.send_response(answer.status)
            self.send_header("ETag", '"e"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            self.wfile.write(body if answer.cut is None else body[: answer.cut])
            if answer.cut is not None:
                self.close_connection = True

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815 -- the base class calls these

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 -- the base class's name
            """Nothing: the requests are recorded."""

    return Handler
