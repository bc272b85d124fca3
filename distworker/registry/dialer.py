"""The sockets every registry request goes through: urllib3 connections with our own timeouts, one adapter per
thread.

`adapter()` gives the calling thread's `HTTPAdapter`, made on first use and again after a fork, so no two
threads or processes share a connection. The adapter is used without `requests.Session`: a session would read
.netrc and proxy variables, keep cookies and walk redirects, none of which may happen here.
"""

from __future__ import annotations

import os
import ssl
import threading
import weakref
from typing import Any

import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from distworker.registry import tls
from distworker.registry.waits import SEND_TIMEOUT


class _PlainConnection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(SEND_TIMEOUT)


class _TLSConnection(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        # urllib3 leaves the connect timeout on the socket while the body is sent.
        self.sock.settimeout(SEND_TIMEOUT)


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


_POOLS = {"http": _PlainPool, "https": _TLSPool}


class Adapter(requests.adapters.HTTPAdapter):
    """requests' adapter with a shared TLS context, our connections, and no retries of its own."""

    def __init__(self, context: ssl.SSLContext, pool_size: int) -> None:
        self._context = context
        super().__init__(pool_connections=pool_size, pool_maxsize=pool_size, max_retries=0, pool_block=False)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Pools that know our connections and context."""
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> urllib3.ProxyManager:
        """The same towards a proxy."""
        proxy_kwargs.setdefault("ssl_context", self._context)
        proxy_kwargs.setdefault("proxy_ssl_context", self._context)
        manager: urllib3.ProxyManager = super().proxy_manager_for(proxy, **proxy_kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing to set: the context verifies. requests would reload its own roots for each connection."""


class Dialer:
    """Adapters for one registry and credential: plain values in, one adapter per thread out.

    `proxy` is a URL or "" for none; `pool_size` the connections a thread may keep open.
    """

    def __init__(self, ca_file: str = "", proxy: str = "", pool_size: int = 4) -> None:
        self._ca_file = ca_file
        self._pool_size = pool_size
        self.proxies = {"http": proxy, "https": proxy} if proxy else {}
        self._mine = threading.local()
        self._lock = threading.Lock()
        # Weak: a thread that ends takes its adapter along, and urllib3 then closes the sockets.
        self._made: weakref.WeakSet[Adapter] = weakref.WeakSet()

    def adapter(self) -> Adapter:
        """The calling thread's adapter."""
        found: tuple[int, Adapter] | None = getattr(self._mine, "adapter", None)
        if found is not None and found[0] == os.getpid():
            return found[1]
        made = Adapter(tls.context(self._ca_file), self._pool_size)
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
