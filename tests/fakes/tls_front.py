"""Speaks TLS before a server that does not: what comes in encrypted goes on in clear, and back."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import Self


class TLSFront:
    """Use it as a context; `port` is what to connect to, `target` the loopback port behind it."""

    def __init__(self, target: int, context: ssl.SSLContext) -> None:
        self._target = target
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *exception: object) -> None:
        # Closing alone does not wake a thread that waits in accept.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(5)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._spawn(client)

    def _spawn(self, client: socket.socket) -> None:
        thread = threading.Thread(target=self._greet, args=(client,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _greet(self, client: socket.socket) -> None:
        try:
            secure = self._context.wrap_socket(client, server_side=True)
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:  # the other side does not like our certificate, or we do not like its own
            client.close()
            return
        self._open += [secure, server]
        back = threading.Thread(target=_pass, args=(server, secure), daemon=True)
        back.start()
        _pass(secure, server)
        back.join()


def _pass(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
