"""The door every connection of the registry room goes through.

A host is resolved once, the address policy is asked about each address, and the connection goes to one that
passed, so that a second look-up cannot give another answer (DNS rebinding). The name stays what TLS checks.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias

from distworker.errors import AddressRefused
from distworker.registry.addresses import Address, AddressPolicy
from distworker.registry.waits import ADDRESSES_TRIED_MAX

#: Family and socket address, as `getaddrinfo` gives them.
Target: TypeAlias = tuple[int, tuple[Any, ...]]
_NODELAY: Final = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)


class Wires(Protocol):
    """Names and sockets of the machine; tests bring their own."""

    def resolve(self, host: str, port: int) -> Sequence[Target]:
        """The addresses of `host`, best first; socket.gaierror when there are none."""
        ...

    def connect(self, target: Target, timeout: float) -> socket.socket:
        """A connected socket; OSError when nobody answers within `timeout` seconds."""
        ...


class SystemWires:
    """The machine's own resolver and sockets."""

    def resolve(self, host: str, port: int) -> Sequence[Target]:
        """See `Wires.resolve`."""
        try:
            found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
        except UnicodeError:  # "a..b", or a label above 63 characters: no name that could be asked for
            raise socket.gaierror(socket.EAI_NONAME, "no name") from None
        return [(int(family), address) for family, _, _, _, address in found]

    def connect(self, target: Target, timeout: float) -> socket.socket:
        """See `Wires.connect`."""
        family, address = target
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.settimeout(timeout)
            for option in _NODELAY:
                made.setsockopt(*option)
            made.connect(address)
        except BaseException:
            made.close()
            raise
        return made


class Door:
    """Opens sockets for one registry and credential, past the address policy.

    `home` is the registry's own (host, port) and only makes the advice of a refusal fit; `proxy` is the
    operator's proxy, which may stand anywhere; `clock` measures how fast bodies come.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        home: tuple[str, int] = ("", 0),
        proxy: tuple[str, int] | None = None,
        wires: Wires | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy = policy
        self.clock = clock
        self._home = home
        self._proxy = proxy
        self._wires = wires or SystemWires()

    def open(self, host: str, port: int, timeout: float) -> socket.socket:
        """A socket to `host`.

        Raises:
            AddressRefused: every address it has is closed to us. OSError, socket.gaierror: as sockets do.
        """
        bare = host.strip("[]")
        refused, failure, tried = "", None, 0
        for target in self._wires.resolve(bare, port):
            reason = self._refusal(bare, port, _address(target))
            if reason:
                refused = reason
                continue
            if tried == ADDRESSES_TRIED_MAX:
                break
            tried += 1
            try:
                return self._wires.connect(target, timeout)
            except OSError as error:
                failure = error
        if failure is not None:
            raise failure
        if not refused:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        raise self.refusal(bare, port, refused)

    def check_proxied(self, host: str, port: int) -> None:
        """What can be said of a host that the proxy will resolve; raises AddressRefused.

        The proxy has to keep the same policy: from here only its own address is seen.
        """
        reason = self.policy.refusal_of_name(host, port)
        if reason:
            raise self.refusal(host, port, reason)

    def refusal(self, host: str, port: int, reason: str) -> AddressRefused:
        """The typed error, with what an operator can do about it."""
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if (host.lower(), port) == self._home:
            name = f"[{host}]" if ":" in host else host
            advice = (
                f'write ["{name if port == 443 else shown}"] and below it private = true into registries.toml'
            )
        else:
            advice = f'add "{shown}" to allow_hosts in distworker.toml'
        return AddressRefused(
            f"{shown} is {reason}, and connecting there is refused; if that is meant, {advice}"
        )

    def _refusal(self, host: str, port: int, address: Address) -> str:
        if (host, port) == self._proxy:
            return ""
        return self.policy.refusal(host, port, address, self._addresses)

    def _addresses(self, host: str, port: int) -> Iterable[Address]:
        with contextlib.suppress(OSError):
            return [_address(target) for target in self._wires.resolve(host, port)]
        return ()


def _address(target: Target) -> Address:
    """The address of a socket address; a zone (`fe80::1%eth0`) is none of the policy's business."""
    return ipaddress.ip_address(str(target[1][0]).partition("%")[0])
