"""A TCP proxy on a loopback port that keeps its port while it cuts, stalls, refuses, answers 503, or is slow.

It stands between the workers and one server, so that the network and the server can fail apart from each
other. It understands nothing of what passes, except that in the mode `BUSY` it answers every request as an
HTTP server that is overloaded.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Final, Self

_CHUNK: Final = 64 * 1024
#: What a mode does to what passes: everything, nothing (connections stay), a refusal, a reset, a 503.
OPEN, STALLED, REFUSING, RESETTING, BUSY = "open", "stalled", "refusing", "resetting", "busy"
_SLOW_DOWN: Final = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_503: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_SLOW_DOWN), _SLOW_DOWN)
)
#: Linger 0: the other side sees a reset, as when a machine dies, and not an orderly end.
_ABRUPT: Final = b"\x01\0\0\0\0\0\0\0"


class Gate:
    """Forwards `port` to `target`, at most `rate` bytes a second for all connections together (0: no limit).

    `down` and `up` count the bytes that really went to the client and to the server.
    """

    def __init__(self, target: int, rate: float = 0) -> None:
        self.rate = rate
        self.down = 0
        self.up = 0
        self._target = ("127.0.0.1", target)
        self._mode = OPEN
        self._changed = threading.Condition()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._free_at = 0.0
        self._closed = False
        self._listener = self._bound(0)
        self.port = int(self._listener.getsockname()[1])
        self.host = f"127.0.0.1:{self.port}"
        self._listen()

    # --- what a fault does ----------------------------------------------------------------------------------

    def reset(self) -> None:
        """Breaks every open connection; new ones are taken as the mode says."""
        with self._changed:
            pairs = list(self._pairs)
        for pair in pairs:
            for one in pair:
                with contextlib.suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABRUPT)
                    one.shutdown(socket.SHUT_RDWR)

    def set(self, mode: str) -> None:
        """From now on every connection, open or new, meets this mode."""
        with self._changed:
            before, self._mode = self._mode, mode
            self._changed.notify_all()
        if before == REFUSING and mode != REFUSING:
            self._listen()
        if mode == REFUSING and before != REFUSING:
            # Bound and not listening: the kernel refuses, and nobody else can take the port meanwhile.
            placeholder = self._bound(self.port)
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = placeholder
        if mode in {REFUSING, RESETTING, BUSY}:
            self.reset()

    def close(self) -> None:
        """Ends everything."""
        self._closed = True
        self.set(OPEN)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    # --- how it works ---------------------------------------------------------------------------------------

    @staticmethod
    def _bound(port: int) -> socket.socket:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", port))
        return one

    def _listen(self) -> None:
        self._listener.listen(256)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while not self._closed:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        mode = self._mode
        if mode == RESETTING:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABRUPT)
            client.close()
            return
        if mode == BUSY:
            self._refuse_politely(client)
            return
        try:
            server = socket.create_connection(self._target, timeout=10)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        pair = (client, server)
        with self._changed:
            self._pairs.add(pair)
        upward = threading.Thread(target=self._pump, args=(client, server, False), daemon=True)
        upward.start()
        self._pump(server, client, True)
        upward.join()
        with self._changed:
            self._pairs.discard(pair)
        client.close()
        server.close()

    @staticmethod
    def _refuse_politely(client: socket.socket) -> None:
        client.settimeout(2)
        with contextlib.suppress(OSError), client:
            client.recv(_CHUNK)
            client.sendall(_503)
            client.shutdown(socket.SHUT_WR)
            # What is still on its way must be taken, or the answer would be lost in a reset.
            while client.recv(_CHUNK):
                pass

    def _pump(self, source: socket.socket, sink: socket.socket, downward: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                self._pace(len(chunk))
                sink.sendall(chunk)
                with self._changed:
                    if downward:
                        self.down += len(chunk)
                    else:
                        self.up += len(chunk)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR if not downward else socket.SHUT_RDWR)

    def _pace(self, size: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._mode != STALLED or self._closed)
            if self.rate <= 0:
                return
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + size / self.rate
            pause = self._free_at - now
        time.sleep(pause)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
