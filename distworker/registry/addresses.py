"""Which addresses a registry, or a server it points at, may have.

A name is only a wish: whoever controls it decides what it resolves to, and a job's author, a registry's
redirect or a challenge decides the name. So the rule is about addresses, and it is asked for each one that is
about to be connected to (`door.py`). Public addresses are free; everything else (private networks, loopback,
link-local, carrier NAT, multicast, metadata services of clouds) is closed unless an operator named host and
port, and what hides such an address inside IPv6 counts as that address. `ipaddress.is_global` alone is not
enough: it calls multicast, NAT64 and the metadata addresses of two clouds global.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from distworker.errors import ConfigInvalid

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Where clouds give secrets to whoever asks from inside: AWS, Azure, GCP and most others, then AWS over IPv6,
#: Azure's wire server, Oracle, Alibaba. Named by no network entry, and by a host entry only literally.
_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        *("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23"),
        *("168.63.129.16", "192.0.0.192", "100.100.100.200", "fd20:ce::254"),
    )
)
#: The prefix that carries a public IPv4 address in its last 32 bits (RFC 6052).
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
#: Private whatever `ipaddress` of this Python says: local NAT64 (RFC 8215), Teredo, old site-local addresses,
#: both old forms of IPv4 inside IPv6 (RFC 4291 2.5.5.1, RFC 2765), segment routing (RFC 9602), documentation
#: (RFC 9637), and the relays of 6to4 (RFC 7526).
_INNER: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("64:ff9b:1::/48", "2001::/32", "fec0::/10", "::/96", "::ffff:0:0:0/96", "5f00::/16", "3fff::/20"),
        "192.88.99.0/24",
    )
)
#: Addresses that no socket of ours has a reason to open, whoever allows it.
_NEVER: Final = (
    *(ipaddress.ip_network(text) for text in ("0.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32")),
    *(ipaddress.ip_network(text) for text in ("::/128", "ff00::/8")),
)


@dataclass(frozen=True, slots=True)
class Allowed:
    """One entry of an operator's list: this host, or every address of this network, on this port only."""

    host: str
    port: int
    network: Network | None = None

    @classmethod
    def parse(cls, text: str) -> Allowed:
        """The entry that `host:port`, `address:port` or `network/bits:port` spells, IPv6 in brackets.

        Raises:
            ConfigInvalid: none of these, or without a port: allowing a host does not allow all its ports.
        """
        where, colon, port = text.rpartition(":")
        if not (colon and where and port.isascii() and port.isdigit() and 0 < int(port) <= 65535):
            raise ConfigInvalid(
                f"allow_hosts: {text!r} is not host:port or network/bits:port, such as minio.example.com:9000"
                " or 10.1.0.0/16:443",
                field="allow_hosts",
            )
        plain = where.strip("[]")
        if "/" in where:
            try:
                return cls("", int(port), ipaddress.ip_network(plain))
            except ValueError:
                raise ConfigInvalid(
                    f"allow_hosts: {text!r} does not begin with a network such as 10.1.0.0/16",
                    field="allow_hosts",
                ) from None
        return cls(plain.lower(), int(port))

    def names(self, host: str, port: int) -> bool:
        """Is this very host and port the one meant?"""
        return self.network is None and (self.host, self.port) == (host.lower(), port)

    def holds(self, address: Address, port: int) -> bool:
        """Does the network hold this address, on this port?"""
        same = self.network is not None and self.network.version == address.version
        return same and port == self.port and address in self.network  # type: ignore[operator]


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """What one registry's connections may reach: the public internet and `allowed`.

    `own`: (host, port) of the service's own servers, which a network entry never opens.
    """

    allowed: tuple[Allowed, ...] = ()
    own: frozenset[tuple[str, int]] = frozenset()

    def names(self, host: str, port: int) -> bool:
        """Did an operator name this very host and port?"""
        return any(entry.names(host, port) for entry in self.allowed)

    def refusal(
        self, host: str, port: int, address: Address, resolve: Callable[[str, int], Iterable[Address]]
    ) -> str:
        """Why `address`, to which `host` resolved, may not be connected to; "" when it may.

        `resolve` finds the addresses of the service's own servers.
        """
        true = inner(address)
        kind = kind_of(true)
        if not kind:
            return ""
        if any(true in network for network in _NEVER):
            return kind
        if self.names(host, port):
            return "" if true not in _METADATA or _is_literal(host, address) else kind
        if true in _METADATA or not any(entry.holds(true, port) for entry in self.allowed):
            return kind
        mine = (inner(one) for name, own in self.own if own == port for one in resolve(name, own))
        return "a server of this service" if true in mine else ""

    def refusal_of_name(self, host: str, port: int) -> str:
        """The same where a proxy resolves the name: only what is written as an address can be judged."""
        plain = host.rstrip(".").lower()  # `localhost.` is the same host
        address = _written(plain)
        if address is not None:
            return self.refusal(plain, port, address, lambda *_: ())
        local = plain == "localhost" or plain.endswith((".localhost", ".internal", ".local"))
        return "a name of the inside" if local and not self.names(plain, port) else ""


def inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for (mapped, 6to4, NAT64), else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def kind_of(address: Address) -> str:
    """What keeps an address from being public, in words; "" for a public one."""
    if address in _METADATA:
        return "a cloud's metadata address"
    if address.is_unspecified or any(address in network for network in _NEVER):
        return "an address that no server has"
    if address.is_loopback:
        return "this machine itself"
    if address.is_link_local:
        return "a link-local address"
    inside = address.is_multicast or not address.is_global or any(address in network for network in _INNER)
    return "a private address" if inside else ""


def _is_literal(host: str, address: Address) -> bool:
    return host.strip("[]").lower() == str(address)


def _written(host: str) -> Address | None:
    """The address that `host` spells in any of the ways that resolvers take (`127.1`, `0x7f.1`,
    `2130706433`); None for a name.
    """
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.partition("%")[0])
    with contextlib.suppress(OSError, UnicodeError):
        return ipaddress.IPv4Address(socket.inet_aton(host))
    return None
