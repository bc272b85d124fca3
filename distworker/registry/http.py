"""Sending, in three layers of one concern each: login → redirects → one request.

`HTTP.send` also retries in place what a moment heals (connection faults, 5xx, 429 with a short wait) for
requests whose body can be sent again; longer patience belongs to the ledger, so a longer wait becomes an
error with `delay`. Redirects are walked by hand: `Authorization` exists only towards the registry's own
origin, cookies do not exist, and a write never turns into a GET; elsewhere only https on its usual port is
spoken, or what an operator named. Which addresses may be dialled at all is the door's business (`door.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import requests
from requests.structures import CaseInsensitiveDict

from distworker import stopping
from distworker.errors import (
    AddressRefused,
    DistworkerError,
    ProtocolError,
    RealmRefused,
    RedirectRefused,
    RequestTimeout,
    TransferError,
    Unavailable,
)
from distworker.limits import REDIRECTS_MAX, SLEEP_MAX, TOKEN_BODY_MAX
from distworker.registry import faults
from distworker.registry.attempt import Attempt
from distworker.registry.auth import Authenticator, Logins, Wire
from distworker.registry.budget import BudgetGauge
from distworker.registry.call import NETWORK_ERRORS, Call, Reply, SentBody
from distworker.registry.challenge import Challenge, parse
from distworker.registry.circuit import Circuit
from distworker.registry.credentials import Credential
from distworker.registry.dialer import Dialer
from distworker.registry.echoes import secrets_sent
from distworker.registry.faults import TRANSIENT, Where
from distworker.registry.realms import refused
from distworker.registry.tokencache import TokenCache
from distworker.registry.tokens import TokenRequest
from distworker.registry.urls import Origin, origin_of, resolve
from distworker.registry.waits import (
    BACKOFF_BASE,
    BACKOFF_CAP,
    CONNECT_TIMEOUT,
    FAILURES_IN_A_ROW,
    TRIES,
)
from distworker.retrying import Backoff

_log = logging.getLogger(__name__)
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_REPLAYING: Final = frozenset({307, 308})
#: All that a host other than the registry gets to see.
_ABROAD: Final = frozenset(
    {"accept", "accept-encoding", "content-length", "content-type", "range", "user-agent"}
)
#: Tries in place and the pauses between them.
BACKOFF: Final = Backoff(base=BACKOFF_BASE, cap=BACKOFF_CAP, tries=TRIES)


class HTTP:
    """Requests to one registry with one credential."""

    def __init__(
        self,
        origin: Origin,
        realms: frozenset[Origin],
        *,
        find: Callable[[str], Credential | None],
        dialer: Dialer,
        user_agent: str,
        backoff: Backoff = BACKOFF,
        sleep: Callable[[float], None] = stopping.sleep,
        clock: Callable[[], float] = time.monotonic,
        renew: Callable[[str, Credential], None] | None = None,
        tokens: TokenCache | None = None,
    ) -> None:
        self.origin = origin
        self.budget = BudgetGauge()
        logins = Logins(find, renew) if renew else Logins(find)
        wire = Wire(self._send_token_request, self._probe)
        self.auth = Authenticator(origin, realms, logins=logins, wire=wire, cache=tokens, clock=clock)
        self._dialer = dialer
        self._user_agent = user_agent
        self._answered: set[Origin] = set()
        self._circuit = Circuit(clock)
        self._backoff = backoff
        self._sleep = sleep

    def send(self, call: Call) -> Reply:
        """The reply to `call`, whatever its status, except those that raise:

        401 that no login answers, 429, and server errors or connection faults that outlast the tries in
        place.
        """
        try:
            self._check_circuit(origin_of(call.url), call.where)
            if call.streams or call.once:
                return self._settled(call)
            return self._patiently(call.where, lambda: self._settled(call))
        except TransferError as error:
            raise faults.default_delay(faults.located(error, call.where), time.time()) from None

    # --- patience -------------------------------------------------------------------------------------------
    def _patiently(self, where: Where, run: Callable[[], Reply]) -> Reply:
        attempt = 0
        while True:
            attempt += 1
            try:
                return run()
            except TransferError as error:
                # A silence took its minute already: the next one is the ledger's, which frees the slot.
                error.fields.setdefault("attempts", attempt)
                error.fields["attempts"] = max(attempt, error.fields["attempts"])
                if isinstance(error, RequestTimeout) or not (error.retry or isinstance(error, Unavailable)):
                    raise
                asked = error.delay
                if self._backoff.exhausted(attempt) or (asked or 0.0) > SLEEP_MAX:
                    raise
                wait = self._backoff.delay(attempt) if asked is None else asked
            self._sleep(wait)

    def _settled(self, call: Call) -> Reply:
        return self._raise_transient(self._logged_in(call))

    def _raise_transient(self, reply: Reply) -> Reply:
        if reply.status in TRANSIENT or (reply.status == 403 and reply.problem.says("secondary rate limit")):
            with reply:
                raise reply.error()
        return reply

    # --- login ----------------------------------------------------------------------------------------------
    def _logged_in(self, call: Call) -> Reply:
        if call.anonymous:
            return self._redirected(call, "")
        if call.authorization is not None:
            return self._redirected(call, call.authorization)
        attempt = Attempt(self.auth, call.scopes, call.where)
        authorization = attempt.header()
        while True:
            reply = self._redirected(call, authorization)
            if reply.status not in {401, 403} or reply.origin != self.origin:
                return reply  # a 401 from elsewhere is never answered with our login
            if reply.status == 403:
                authorization = attempt.expired(reply.problem)
                if not authorization:
                    return reply
            with reply:
                challenges = parse(reply.header_values("WWW-Authenticate"))
            if reply.status == 401:
                authorization = attempt.answer(challenges)

    def _probe(self, authorization: str, where: Where) -> tuple[int, list[Challenge]]:
        """What the registry itself says to this login."""
        call = Call("GET", f"{self.origin}/v2/", where)

        def run() -> Reply:
            return self._raise_transient(self._redirected(call, authorization))

        with self._patiently(where, run) as reply:
            return reply.status, parse(reply.header_values("WWW-Authenticate"))

    def _send_token_request(self, request: TokenRequest, where: Where) -> tuple[int, bytes]:
        headers = {"User-Agent": self._user_agent, "Accept-Encoding": "identity", **request.headers}
        call = Call(request.method, request.url, where, headers=headers, body=request.body)

        def run() -> Reply:
            try:
                return self._raise_transient(self._once(call, call.url, dict(call.headers)))
            except AddressRefused as error:
                raise RealmRefused(error.message, **where.fields) from None

        with self._patiently(where, run) as reply:
            if reply.status in _REDIRECTS:
                name = reply.origin.netloc
                raise refused(where, f"the token server {name} redirects, which is refused")
            body = reply.read(TOKEN_BODY_MAX + 1)
        if len(body) > TOKEN_BODY_MAX:
            raise ProtocolError(f"{where}: the token server's answer is too long", **where.fields)
        return reply.status, body

    def exchange(self, request: TokenRequest, where: Where) -> tuple[int, bytes]:
        """Status and body of a request that makes a login: what is in it goes to that server or nowhere, so
        no redirect is followed and no login added, and nothing the server says gets into an error.
        """
        headers = {"User-Agent": self._user_agent, "Accept-Encoding": "identity", **request.headers}
        # On a new connection: an old one, idle since the last login, may be dead without our knowing.
        call = Call(request.method, request.url, where, headers=headers, body=request.body, fresh=True)

        def run() -> Reply:
            return self._raise_transient(self._once(call, call.url, dict(call.headers)).quiet())

        try:
            with self._patiently(where, run) as reply:
                return self._unmoved(reply, where)
        except TransferError as error:
            raise faults.default_delay(faults.located(error, where), time.time()) from None

    @staticmethod
    def _unmoved(reply: Reply, where: Where) -> tuple[int, bytes]:
        name = reply.origin.netloc
        if reply.status in _REDIRECTS:
            raise RedirectRefused(f"{where}: {name} redirects a login, which is refused", **where.fields)
        body = reply.read(TOKEN_BODY_MAX + 1)
        if len(body) > TOKEN_BODY_MAX:
            raise ProtocolError(f"{where}: the answer of {name} is too long", **where.fields)
        return reply.status, body

    # --- redirects ------------------------------------------------------------------------------------------
    def _redirected(self, call: Call, authorization: str) -> Reply:
        url, at_home, seen = call.url, not call.anonymous, {call.url}
        while True:
            at_home = at_home and origin_of(url) == self.origin
            self._check_abroad(origin_of(url), call.where)
            reply = self._hop(call, url, self._headers(call, at_home, authorization))
            if at_home:
                self.budget.see(reply.header)
            target = reply.header("Location")
            if reply.status not in _REDIRECTS or not target:
                return reply
            with reply:
                url = self._next_hop(call, reply, target)
            if url in seen or len(seen) > REDIRECTS_MAX:
                raise RedirectRefused(
                    f"{call.where}: redirects in a circle or too often", **call.where.fields
                )
            seen.add(url)

    def _next_hop(self, call: Call, reply: Reply, target: str) -> str:
        if call.method not in {"GET", "HEAD"} and reply.status not in _REPLAYING:
            raise RedirectRefused(
                f"{call.where}: {reply.origin.netloc} answered {reply.status} to {call.where.phase}, "
                "which would lose what is being written",
                **call.where.fields,
                status=reply.status,
            )
        try:
            return resolve(reply.url, target)
        except ProtocolError as error:
            reason = error.message
        raise RedirectRefused(
            f"{call.where}: {reply.origin.netloc} redirects to {reason}; refused", **call.where.fields
        )

    def _hop(self, call: Call, url: str, headers: dict[str, str]) -> Reply:
        """One request; where a redirect led inward it is the redirect that is refused."""
        if url != call.url:
            _log.debug("%s: redirected to %s", call.where, origin_of(url).netloc)
        try:
            return self._once(call, url, headers)
        except AddressRefused as error:
            if url == call.url:
                raise
            reason = error.message
        raise RedirectRefused(f"{reason}, so the redirect there is not followed", **call.where.fields)

    def _check_abroad(self, target: Origin, where: Where) -> None:
        """Away from the registry: https on its usual port, or an address that the operator named."""
        if target == self.origin or self._dialer.door.policy.names(target.host, target.port):
            return
        usual = {443, self.origin.port}
        if target.scheme == "https" and target.port in usual:
            return
        what = "plain http" if target.scheme == "http" else "a port of its own"
        name = (
            target.netloc if target.netloc.endswith(f":{target.port}") else f"{target.netloc}:{target.port}"
        )
        raise RedirectRefused(
            f"{where}: it leads to {name}, which is {what}; refused. If that is meant, add "
            f'"{name}" to allow_hosts in distworker.toml',
            **where.fields,
        )

    def _headers(self, call: Call, at_home: bool, authorization: str) -> dict[str, str]:
        # Never compressed in transit: a blob's bytes must arrive as they are stored.
        headers = {
            "User-Agent": self._user_agent,
            "Accept-Encoding": "identity",
            "Accept": "*/*",
            **call.headers,
        }
        if not at_home:
            return {name: value for name, value in headers.items() if name.lower() in _ABROAD}
        return {**headers, "Authorization": authorization} if authorization else headers

    # --- one request ----------------------------------------------------------------------------------------
    def _once(self, call: Call, url: str, headers: dict[str, str]) -> Reply:
        body: bytes | SentBody | None = SentBody(call.body()) if callable(call.body) else call.body
        length = len(body) if body is not None else 0
        if body is not None or call.method not in {"GET", "HEAD", "DELETE"}:
            headers["Content-Length"] = str(length)
        prepared = _prepare(call.method, url, headers, body if length else None)
        fault: BaseException
        (stopping.fence if call.fenced else stopping.check)()
        if call.fresh:
            self._dialer.adapter().close()
        try:
            if self._dialer.proxies:
                self._dialer.door.check_proxied(origin_of(url).host, origin_of(url).port)
            response = self._dialer.adapter().send(
                prepared,
                stream=True,
                timeout=(self._dialer.connect_timeout or CONNECT_TIMEOUT, call.timeout),
                proxies=self._dialer.proxies,
            )
            self._note(origin_of(url), int(response.status_code))
            return Reply(response, url, call.where, partial(secrets_sent, headers, url, body))
        except (AddressRefused, ProtocolError) as error:  # of the door, and of what came in
            fault = type(error)(f"{call.where}: {error.message}", **call.where.fields)
        except DistworkerError:
            raise
        except NETWORK_ERRORS as error:
            stopping.check()  # we hung up ourselves
            ours = body.failure if isinstance(body, SentBody) else None
            fault = ours or self._fault(error, origin_of(url), call.where)
            if ours is None:
                self._circuit.failed(origin_of(url))
        # Raised out here: the library's exception knows the address and must not hang below ours.
        raise fault

    def _note(self, origin: Origin, status: int) -> None:
        self._answered.add(origin)
        if status >= 500:
            self._circuit.failed(origin)
        else:
            self._circuit.worked(origin)

    def _check_circuit(self, origin: Origin, where: Where) -> None:
        wait = self._circuit.wait(origin)
        if wait > 0:
            raise Unavailable(
                f"{where}: {origin.netloc} failed {FAILURES_IN_A_ROW} times in a row and is left alone for "
                f"{wait:.0f} s",
                **where.fields,
                delay=wait,
                retry_at=round(time.time() + wait),
            )

    def _fault(self, error: BaseException, origin: Origin, where: Where) -> TransferError:
        return faults.from_exception(error, origin, where, known=origin in self._answered)


def _prepare(method: str, url: str, headers: dict[str, str], body: Any) -> requests.PreparedRequest:
    """A request as given: requests' own preparation would rewrite the address of a signed URL (`%7E` to
    `~`).
    """
    prepared = requests.PreparedRequest()
    prepared.method = method
    prepared.url = url
    prepared.headers = CaseInsensitiveDict(headers)
    prepared.body = body
    return prepared
