"""Makes redis-py's client for an address: time-outs, retries, TLS, and the way through Sentinels.

It promises that no call waits for ever, that a connection always goes to the primary of the moment where
Sentinels name it, and that TLS is never spoken without checking the other side. Nothing is connected yet.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from distworker.errors import ConfigInvalid
from distworker.state.address import Access, Address

CONNECT_TIMEOUT: Final = 5.0  #: seconds; a server that is there answers at once
#: Seconds; longer than any script of ours. One connection that hangs must not cost the leases of a process:
#: beat (4 s), this, and the retry fit into a lease (12 s).
SOCKET_TIMEOUT: Final = 5.0
HEALTH_CHECK: Final = (
    25  #: seconds a connection may idle before it is tried with a PING (half-open connections)
)
RETRIES: Final = (
    2  #: at once, after a dropped connection; longer outages are the callers' (they wait and beat on)
)


def open_client(address: Address, access: Access) -> redis.Redis:
    """A client of the server, or of the primary that the Sentinels name.

    Raises:
        ConfigInvalid: a certificate or key is not where the settings say.
    """
    options: dict[str, Any] = {
        "db": address.database,
        "decode_responses": True,
        "socket_timeout": SOCKET_TIMEOUT,
        "health_check_interval": HEALTH_CHECK,
        "retry": Retry(ExponentialBackoff(cap=0.2, base=0.05), RETRIES),
        "retry_on_error": [redis.ConnectionError],
        **address.login,
    }
    if address.path:
        return redis.Redis(unix_socket_path=address.path, **options)
    options |= {"socket_connect_timeout": CONNECT_TIMEOUT, "socket_keepalive": True}
    tls = _tls(access) if address.tls else {}
    if not address.by_sentinel:
        host, port = address.nodes[0]
        return redis.Redis(host=host, port=port, **options, **tls)
    asked = {**access.sentinel_options, **tls}
    sentinels = Sentinel(address.nodes, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]
    made: redis.Redis = sentinels.master_for(address.master, **options, **tls)  # type: ignore[no-untyped-call]
    return made


def _tls(access: Access) -> dict[str, Any]:
    for name in ("ca_file", "client_cert", "client_key"):
        path = getattr(access, name)
        if path and not Path(path).is_file():
            raise ConfigInvalid(f"redis_{name}: no such file: {path}", field=f"redis_{name}")
    return {"ssl": True, **access.tls}
