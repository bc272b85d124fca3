"""What Celery is told of the broker: its URL as kombu spells it, the options of its transport, TLS.

The same for workers and for producers. kombu wants Sentinels one URL each, the primary's name beside them,
and leaves TLS unchecked unless it is told otherwise: so it is told. Plain values; nothing is imported from
Celery here.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from distworker.state.address import Access, is_redis, parse_address

#: Bounded publishes: a half-open connection must not hold a worker's slot or a person's terminal.
REDIS_OPTIONS: Final[Mapping[str, Any]] = {
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    # A silently dropped connection is noticed within a minute, also behind NAT.
    "socket_keepalive": True,
    "health_check_interval": 25,
}
#: One quick second try. kombu's own waits for 6 s in all, for a broker that refuses at once, and holds the
#: slot for that time; what was not sent is sent again by the ledger.
RETRY_OPTIONS: Final[Mapping[str, Any]] = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.2,
    "interval_max": 0.5,
}


@dataclass(frozen=True, slots=True)
class Broker:
    """`url` and `options` may hold passwords under names that Celery masks; `tls` is None without TLS."""

    url: str = field(repr=False)
    options: Mapping[str, Any] = field(repr=False)
    tls: Mapping[str, Any] | None
    on_redis: bool


def broker_of(url: str, key_prefix: str, access: Access | None = None) -> Broker:
    """The broker at `url`, one that `settings.py` accepts.

    `key_prefix` separates fleets that share one Redis; RabbitMQ has virtual hosts for that.
    """
    if not is_redis(url):
        # The broker answers each publish, so a message that it refused is an error here and is sent again.
        return Broker(url, {**RETRY_OPTIONS, "confirm_publish": True}, _amqp_tls(url), on_redis=False)
    access = access or Access()
    address = parse_address(url)
    tls = dict(access.tls) if address.tls else None
    options = {**RETRY_OPTIONS, **REDIS_OPTIONS, "global_keyprefix": key_prefix}
    if not address.by_sentinel:
        return Broker(url, options, tls, on_redis=True)
    secure = {"ssl": True, **tls} if tls else {}
    options |= {
        "master_name": address.master,
        "sentinel_kwargs": {**access.sentinel_options, **secure},
    }
    return Broker(";".join(address.each_sentinel()), options, tls, on_redis=True)


def _amqp_tls(url: str) -> Mapping[str, Any] | None:
    """Left alone, py-amqp checks who signed a certificate and not for which name; None is the URL's name."""
    if not url.startswith("amqps:"):
        return None
    return {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
