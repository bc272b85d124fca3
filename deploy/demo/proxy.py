"""A TCP proxy on loopback that is slow, cuts, or goes silent: a bad network on demand.

It understands nothing of what passes through it. The rate is shared by all connections and counts what comes
back from the server and what goes to it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Final, Self

_CHUNK: Final = 16 * 1024


class ThrottlingProxy:
    """Forwards a free loopback port to `target` (host, port), at most `rate` bytes a second (0: no limit).

    `down` and `up` count the bytes that passed; `cut` breaks every open connection with a reset; `cut_after`
    does so once when that many bytes have come down. `rate` may be changed at any time.
    """

    def __init__(self, target: tuple[str, int], rate: float = 0, cut_after: int = 0) -> None:
        self.rate = rate
        self.cut_after = cut_after
        self.up = 0
        self.down = 0
        self._target = target
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._free_at = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.host = f"127.0.0.1:{self.port}"
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._spawn(self._accept)

    def cut(self) -> None:
        """Breaks every open connection; new ones are taken."""
        with self._changed:
            connections, self._open = self._open, set()
        for connection in connections:
            # Linger 0: the other side sees a reset, as when a machine dies, and not an orderly end.
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                connection.shutdown(socket.SHUT_RDWR)

    def wait_for(self, down: int, within: float = 60.0) -> bool:
        """Waits until that many bytes came from the server; False when the time is over."""
        with self._changed:
            return self._changed.wait_for(lambda: self.down >= down, within)

    def close(self) -> None:
        """Ends everything, threads included."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _spawn(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, timeout=10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._changed:
                self._open |= {client, server}
            done = threading.Barrier(2)
            self._spawn(self._pump, client, server, False, done)
            self._spawn(self._pump, server, client, True, done)

    def _pump(
        self, source: socket.socket, sink: socket.socket, downward: bool, done: threading.Barrier
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                self._pace(len(chunk))
                sink.sendall(chunk)
                self._count(len(chunk), downward)
            sink.shutdown(socket.SHUT_WR)
        # Both directions end before a socket is closed: its number must not be given away while the other
        # reads.
        with contextlib.suppress(threading.BrokenBarrierError):
            done.wait()
        with self._changed:
            self._open.discard(source)
        source.close()

    def _pace(self, size: int) -> None:
        if self.rate <= 0:
            return
        with self._changed:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + size / self.rate
            pause = self._free_at - now
        time.sleep(pause)

    def _count(self, size: int, downward: bool) -> None:
        with self._changed:
            if not downward:
                self.up += size
                return
            self.down += size
            due = 0 < self.cut_after <= self.down
            if due:
                self.cut_after = 0
            self._changed.notify_all()
        if due:
            self.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
