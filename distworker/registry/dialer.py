"""The sockets of the registry room: urllib3 connections that leave by our own door, one adapter per thread.

`adapter()` gives the calling thread's `HTTPAdapter`, made on first use and again after a fork, so no two
threads or processes share a connection. The adapter is used without `requests.Session`: a session would read
.netrc and proxy variables, keep cookies and walk redirects, none of which may happen here.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from distworker import stopping
from distworker.registry import tls
from distworker.registry.addresses import AddressPolicy
from distworker.registry.door import Door, Wires
from distworker.registry.incoming import GuardedResponse
from distworker.registry.tls import Contexts, TLSFiles
from distworker.registry.waits import CONNECT_TIMEOUT, SEND_TIMEOUT


class _NoQueries(logging.Filter):
    """Cuts queries out of urllib3's debug lines: they carry upload state and signatures of storage."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record pass, shortened."""
        if isinstance(record.args, tuple):
            record.args = tuple(
                one.partition("?")[0] if isinstance(one, str) and "?" in one else one for one in record.args
            )
        return True


logging.getLogger("urllib3.connectionpool").addFilter(_NoQueries())


class _Plain(HTTPConnection):
    def __init__(self, door: Door, *args: Any, **kwargs: Any) -> None:
        self._door = door
        self.response_class = functools.partial(GuardedResponse, clock=door.clock)  # type: ignore[assignment]
        super().__init__(*args, **kwargs)

    def _new_conn(self) -> socket.socket:
        return _dialled(self, self._door)

    def connect(self) -> None:
        super().connect()
        # urllib3 leaves the connect timeout on the socket while the body is sent.
        self.sock.settimeout(SEND_TIMEOUT)
        stopping.attend(self.sock)


class _Secure(_Plain, HTTPSConnection):
    """The same with TLS: what `_Plain` adds stands before HTTPSConnection in the order of bases."""


def _dialled(connection: HTTPConnection, door: Door) -> socket.socket:
    """A socket from the door, failing as urllib3's own would."""
    timeout = connection.timeout
    try:
        return door.open(
            connection.host, connection.port, timeout if isinstance(timeout, float | int) else CONNECT_TIMEOUT
        )
    except socket.gaierror as error:
        raise NameResolutionError(connection.host, connection, error) from error
    except TimeoutError as error:
        raise ConnectTimeoutError(connection, "connecting took too long") from error
    except OSError as error:
        raise NewConnectionError(connection, "no connection") from error


def _pools(door: Door, contexts: Contexts, own: frozenset[tuple[str, int]]) -> dict[str, Any]:
    """Makers of pools whose connections go through `door`; only servers of `own` see a client certificate."""

    def plain(*args: Any, **kwargs: Any) -> Any:
        pool: Any = HTTPConnectionPool(*args, **kwargs)
        pool.ConnectionCls = functools.partial(_Plain, door)
        return pool

    def secure(host: str, port: int, **kwargs: Any) -> Any:
        known = (host.strip("[]").lower(), port) in own
        kwargs["ssl_context"] = contexts.home if known else contexts.abroad
        pool: Any = HTTPSConnectionPool(host, port, **kwargs)
        pool.ConnectionCls = functools.partial(_Secure, door)
        return pool

    return {"http": plain, "https": secure}


class Adapter(requests.adapters.HTTPAdapter):
    """requests' adapter with shared TLS contexts, our connections, and no retries of its own."""

    def __init__(
        self, contexts: Contexts, door: Door, pool_size: int, own: frozenset[tuple[str, int]] = frozenset()
    ) -> None:
        self.contexts = contexts
        self._pools = _pools(door, contexts, own)
        super().__init__(pool_connections=pool_size, pool_maxsize=pool_size, max_retries=0, pool_block=False)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Pools that know our connections and context."""
        super().init_poolmanager(*args, ssl_context=self.contexts.abroad, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> urllib3.ProxyManager:
        """The same towards a proxy."""
        proxy_kwargs.setdefault("ssl_context", self.contexts.abroad)
        proxy_kwargs.setdefault("proxy_ssl_context", self.contexts.abroad)
        manager: urllib3.ProxyManager = super().proxy_manager_for(proxy, **proxy_kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing to set: the context verifies. requests would reload its own roots for each connection."""


class Dialer:
    """Adapters for one registry and credential: plain values in, one adapter per thread out.

    `proxy` is a URL or "" for none; `pool_size` the connections a thread may keep open; `policy` says what
    may be reached, `home` what the registry's own (host, port) is. `files` are those of its TLS profile (or
    only `ca_file`); a client certificate among them is for `home` and the token servers of `realms`, nobody
    else. `connect_timeout`: seconds, 0 for the usual.
    """

    def __init__(
        self,
        policy: AddressPolicy | None = None,
        *,
        home: tuple[str, int] = ("", 0),
        realms: frozenset[tuple[str, int]] = frozenset(),
        ca_file: str = "",
        files: TLSFiles | None = None,
        connect_timeout: float = 0.0,
        proxy: str = "",
        pool_size: int = 4,
        wires: Wires | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = files or TLSFiles((ca_file,) if ca_file else ())
        self._own = realms | {home}
        self.connect_timeout = connect_timeout
        self._pool_size = pool_size
        self.proxies = {"http": proxy, "https": proxy} if proxy else {}
        self.door = Door(
            policy or AddressPolicy(), home=home, proxy=_proxy_of(proxy), wires=wires, clock=clock
        )
        self._mine = threading.local()
        self._lock = threading.Lock()
        # Weak: a thread that ends takes its adapter along, and urllib3 then closes the sockets.
        self._made: weakref.WeakSet[Adapter] = weakref.WeakSet()

    def adapter(self) -> Adapter:
        """The calling thread's adapter; a new one when its certificates were replaced."""
        contexts = tls.contexts(self._files)
        found: tuple[int, Adapter] | None = getattr(self._mine, "adapter", None)
        if found is not None and found[0] == os.getpid():
            if found[1].contexts is contexts:
                return found[1]
            found[1].close()  # the idle connections; what is being read goes on
        made = Adapter(contexts, self.door, self._pool_size, self._own)
        with self._lock:
            self._made.add(made)
        self._mine.adapter = (os.getpid(), made)
        return made

    def close(self) -> None:
        """Close the idle connections of all threads; the dialer stays usable."""
        with self._lock:
            made = list(self._made)
        for one in made:
            one.close()


def _proxy_of(proxy: str) -> tuple[str, int] | None:
    """Host and port of the operator's proxy."""
    if not proxy:
        return None
    parts = urlsplit(proxy)
    return (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
