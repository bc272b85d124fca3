"""Where a Redis is: what its URL says, and what is needed besides a URL.

A URL names one server (`redis://`, with TLS `rediss://`, or `unix://`), or the Sentinels that know which
server is the primary just now (`sentinel://host,host/0?master=NAME`, with TLS `sentinels://`). It promises
that a URL cannot weaken anything: options such as `ssl_cert_reqs=none` are refused, not ignored. Pure text;
nothing is connected or looked up here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

PORT: Final = 6379
SENTINEL_PORT: Final = 26379
#: Seconds for each Sentinel: those after a dead one must be reached while a lease still holds.
SENTINEL_TIMEOUT: Final = 1.5
#: Scheme → whether it is a way to Sentinels, and whether everything goes through TLS.
SCHEMES: Final[Mapping[str, tuple[bool, bool]]] = {
    "redis": (False, False),
    "rediss": (False, True),
    "unix": (False, False),
    "redis+socket": (False, False),
    "sentinel": (True, False),
    "sentinels": (True, True),
}
#: The one option that a URL of each kind takes; others take none.
_OPTION: Final = {"unix": "db", "redis+socket": "virtual_host", "sentinel": "master", "sentinels": "master"}


@dataclass(frozen=True, slots=True)
class Access:
    """What stands in settings of its own instead of the URL.

    `ca_file` is trusted instead of the system's authorities; `client_cert` and `client_key` are shown to the
    server (the key may lie in the certificate's file). Sentinels have a login of their own.
    """

    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""
    sentinel_user: str = ""
    sentinel_password: str = field(default="", repr=False)

    @property
    def sentinel_options(self) -> dict[str, Any]:
        """How Sentinels are talked to, as keyword arguments of redis-py; TLS comes on top."""
        login = {"username": self.sentinel_user, "password": self.sentinel_password}
        return {
            "socket_timeout": SENTINEL_TIMEOUT,
            "socket_connect_timeout": SENTINEL_TIMEOUT,
            # The next Sentinel is the second try; redis-py's own three would wait for seconds at a dead one.
            "retry": None,
            **{name: value for name, value in login.items() if value},
        }

    @property
    def tls(self) -> dict[str, Any]:
        """How TLS is spoken, as keyword arguments of redis-py: certificate and name are always checked."""
        made: dict[str, Any] = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
        if self.ca_file:
            made["ssl_ca_certs"] = self.ca_file
        if self.client_cert:
            made["ssl_certfile"] = self.client_cert
            made["ssl_keyfile"] = self.client_key or self.client_cert
        return made


@dataclass(frozen=True, slots=True)
class Address:
    """A URL taken apart. `nodes` are the server, or the Sentinels with the name of the `master` they watch;
    a socket has a `path` and no nodes. User and password are those of the server."""

    scheme: str
    nodes: tuple[tuple[str, int], ...] = ()
    path: str = ""
    database: int = 0
    master: str = ""
    user: str = ""
    password: str = field(default="", repr=False)

    @property
    def by_sentinel(self) -> bool:
        """Whether Sentinels are asked where the server is."""
        return SCHEMES[self.scheme][0]

    @property
    def tls(self) -> bool:
        """Whether every connection, those to Sentinels too, goes through TLS."""
        return SCHEMES[self.scheme][1]

    @property
    def login(self) -> dict[str, str]:
        """The server's login as keyword arguments of redis-py; empty without one."""
        found = {"username": self.user, "password": self.password}
        return {name: value for name, value in found.items() if value}

    @property
    def place(self) -> str:
        """What may be shown of it: no user, no password."""
        if self.path:
            return self.path
        where = ",".join(_joined(host, port) for host, port in self.nodes)
        return f"{where}/{self.database}" + (f" ({self.master})" if self.master else "")

    def each_sentinel(self) -> tuple[str, ...]:
        """A URL for each Sentinel, all with the server's login and database, as kombu wants them."""
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@" if self.login else ""
        return tuple(f"sentinel://{login}{_joined(host, port)}/{self.database}" for host, port in self.nodes)


def is_redis(url: str) -> bool:
    """Whether a URL leads to a Redis at all."""
    return urlsplit(url).scheme in SCHEMES


def parse_address(url: str) -> Address:
    """The address in a URL.

    Raises:
        ValueError: a sentence for the operator, without any part of the URL that may be secret.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES:
        raise ValueError(
            "expected a URL such as redis://host:6379/1, rediss://host/1, unix:///run/redis.sock?db=1"
            " or sentinel://host,host/1?master=NAME"
        )
    rest, _, query = rest.partition("?")
    before, _, after = rest.partition("/")
    login, _, hosts = before.rpartition("@")
    user, _, password = login.partition(":")
    if "@" in login and "," in hosts + login:
        raise ValueError("its login stands once, before the first host; write @ in a password as %40")
    user, password = unquote(user), unquote(password)
    option = _only_option(scheme, query)
    if scheme in ("unix", "redis+socket"):
        path = f"/{unquote(after)}"
        return Address(scheme, path=path, database=_number(option or "0"), user=user, password=password)
    sentinel = SCHEMES[scheme][0]
    port = SENTINEL_PORT if sentinel else PORT
    nodes = tuple(_node(part, port) for part in hosts.split(","))
    if len(nodes) > 1 and not sentinel:
        raise ValueError("several servers are named with sentinel://host,host/0?master=NAME only")
    if sentinel and not option:
        raise ValueError("it names Sentinels and no primary: add ?master=NAME")
    database = _number(after.strip("/") or "0")
    return Address(scheme, nodes, "", database, option, user, password)


def _only_option(scheme: str, query: str) -> str:
    known = _OPTION.get(scheme, "")
    found = ""
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name.startswith("ssl"):
            raise ValueError("certificates are always checked: trust your own authority with redis_ca_file")
        if name != known:
            takes = f"takes only {known}" if known else "takes no option"
            raise ValueError(f"a {scheme}:// URL {takes} after its ?")
        found = value
    return found


def _node(text: str, port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        given = parts.port
    except ValueError:
        # Python's own words would quote the text, which may be the end of a password with a slash.
        raise ValueError("its port is no number from 0 to 65535; write / in a password as %2F") from None
    return parts.hostname or "localhost", given or port


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError("its database is no number; write / in a password as %2F")
    return int(text)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
