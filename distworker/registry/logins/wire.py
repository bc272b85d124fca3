"""The way from a login to its provider's servers: the registry room's own HTTP and dialer.

So a provider is subject to the same address policy, TLS rules, bounds and typed errors as a registry. A
`Wire` belongs to one registry and reaches https only, or exactly the origins it was given: the metadata
server of a cloud is plain http at an address closed to all others, and only the login that was made for it
may ask there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from distworker import stopping
from distworker.errors import ProtocolError, RealmRefused
from distworker.registry.addresses import AddressPolicy, Allowed
from distworker.registry.dialer import Dialer
from distworker.registry.door import Wires
from distworker.registry.faults import Where
from distworker.registry.http import BACKOFF, HTTP
from distworker.registry.logins.files import PHASE
from distworker.registry.tokens import TokenRequest
from distworker.registry.urls import Origin, origin_of
from distworker.retrying import Backoff


class Wire:
    """A `provider.Send`. `registry` is what errors name, `policy` says what may be reached."""

    def __init__(
        self,
        registry: str,
        user_agent: str,
        *,
        only: frozenset[Origin] | None = None,
        policy: AddressPolicy | None = None,
        ca_file: str = "",
        proxy: str = "",
        backoff: Backoff = BACKOFF,
        sleep: Callable[[float], None] = stopping.sleep,
        wires: Wires | None = None,
    ) -> None:
        self._where = Where(PHASE, registry)
        self._only = only
        dialer = Dialer(policy, ca_file=ca_file, proxy=proxy, wires=wires)
        # The origin is that of whoever it is asked for; without a login to find, no secret is bound to it.
        self._http = HTTP(
            origin_of(f"https://{registry}"),
            frozenset(),
            find=lambda _repository: None,
            dialer=dialer,
            user_agent=user_agent,
            backoff=backoff,
            sleep=sleep,
        )

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        """See `provider.Send`.

        Raises:
            RealmRefused: not https, or not one of the origins this wire is for.
            TransferError: as the registry room's requests do; a redirect is RedirectRefused.
        """
        try:
            origin = origin_of(url)
        except ProtocolError:
            raise RealmRefused(
                f"{self._where}: a login leads to something that is no address", **self._where.fields
            ) from None
        if origin not in self._only if self._only is not None else origin.scheme != "https":
            raise RealmRefused(
                f"{self._where}: a login may not be asked for at {origin}", **self._where.fields
            )
        # Once in an hour or so: nothing is gained by keeping the connection.
        sent = {**headers, "Connection": "close"}
        return self._http.exchange(TokenRequest(method, url, sent, body), self._where)


def metadata_wire(registry: str, user_agent: str, url: str, *, wires: Wires | None = None) -> Wire:
    """The wire to a cloud's metadata server at `url`, and to nothing else; never through a proxy."""
    origin = origin_of(url)
    policy = AddressPolicy((Allowed(origin.host, origin.port),))
    return Wire(registry, user_agent, only=frozenset({origin}), policy=policy, wires=wires)
