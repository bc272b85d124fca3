"""Logging in: from a 401 to the next `Authorization`, or to a typed refusal.

An `Authenticator` serves one registry and one credential for a whole process; an `Attempt` is its memory of
one logical request: at most two token requests, never a second try with what was just refused. Sending the
token request is passed in, so all of it runs without sockets. Secrets go to the registry itself and to
trusted realms only; a realm that may not have them ends the request, it is not asked anonymously behind
the operator's back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from urllib.parse import urljoin

from distworker.errors import Denied, ProtocolError, RealmRefused, TransferError, Unauthorized
from distworker.registry import faults, scopes, tokens
from distworker.registry.challenge import Challenge, choose
from distworker.registry.credentials import Credential
from distworker.registry.faults import Where
from distworker.registry.scopes import Scope
from distworker.registry.tokens import Token, TokenCache, TokenKey, TokenRequest
from distworker.registry.urls import Origin, origin_of
from distworker.registry.waits import BAD_LOGIN_MEMORY, TOKEN_REQUESTS_MAX

#: Sends a token request; gives status and body, raises typed errors for everything but 200 and 4xx.
TokenSender = Callable[[TokenRequest, Where], tuple[int, bytes]]
_STRIPES = 16


class Authenticator:
    """How one registry wants to be logged in to, learned from its challenges and shared by all threads."""

    def __init__(
        self,
        registry: Origin,
        realms: frozenset[Origin],
        *,
        find: Callable[[], Credential | None],
        send: TokenSender,
        probe: Callable[[str, Where], bool],
        cache: TokenCache | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.registry = registry
        self.realms = realms
        self.clock = clock
        self.send = send
        self.probe = probe  # asks `/v2/` with a given Authorization: is the login good at all?
        self.cache = cache or tokens.MemoryTokenCache(clock)
        self._find = find
        self._known: Challenge | None = None
        self._refused: dict[str, float] = {}
        self._accepted: set[str] = set()
        self._locks = [threading.Lock() for _ in range(_STRIPES)]

    def attempt(self, needed: tuple[Scope, ...], where: Where) -> Attempt:
        """The login of one logical request."""
        return Attempt(self, needed, where)

    def credential(self) -> Credential | None:
        """The login, bound to the registry and its trusted realms; looked up at each use."""
        found = self._find()
        return found.bound_to(self.realms) if found else None

    @property
    def known(self) -> Challenge | None:
        """The challenge last chosen, used to log in before being asked."""
        return self._known

    def remember(self, chosen: Challenge) -> None:
        """Log in like this from now on."""
        self._known = chosen

    def lock(self, key: TokenKey) -> threading.Lock:
        """One token request at a time for the same key: the others find its answer in the cache."""
        return self._locks[hash(key) % _STRIPES]

    def check_not_refused(self, credential: Credential | None, where: Where) -> None:
        """Raise at once for a login that was refused in the last ten minutes: trying again locks accounts."""
        until = self._refused.get(credential.fingerprint, 0.0) if credential else 0.0
        if until > self.clock():
            raise unauthorized(where)

    def refuse(self, credential: Credential) -> None:
        """Remember a bad login."""
        self._refused[credential.fingerprint] = self.clock() + BAD_LOGIN_MEMORY

    def accept(self, credential: Credential | None) -> None:
        """It works."""
        if credential:
            self._accepted.add(credential.fingerprint)
            self._refused.pop(credential.fingerprint, None)

    def is_accepted(self, credential: Credential) -> bool:
        """Has it worked before, so that a refusal is about the thing asked for and not about the login?"""
        return credential.fingerprint in self._accepted


class Attempt:
    """One logical request's way through 401s."""

    def __init__(self, auth: Authenticator, needed: tuple[Scope, ...], where: Where) -> None:
        self._auth = auth
        self._needed = needed
        self._where = where
        self._requests = 0
        self._used = ""
        self._fresh = False  # was `_used` made for this very request, knowing its challenge?

    def header(self) -> str:
        """`Authorization` before the registry asked: from what it asked earlier, "" if it never did."""
        known = self._auth.known
        if known is None:
            return ""
        credential = self._auth.credential()
        if known.scheme == "basic":
            self._used = self._basic(credential) if credential else ""
        elif credential and credential.registry_token:
            self._used = credential.bearer(self._auth.registry)
        else:
            self._used = self._token(known, credential).header
        return self._used

    def answer(self, challenges: list[Challenge]) -> str:
        """`Authorization` for the next try after a 401.

        Raises:
            AuthRequired: a login is wanted and we have none.
            Unauthorized: the login is refused, or cannot be used here.
            Denied: logged in, and still not allowed.
            RealmRefused: the token server may not have this login.
        """
        credential = self._auth.credential()
        chosen = choose(challenges) or self._auth.known
        if chosen is None:
            raise unauthorized(self._where) if credential else faults.auth_required(self._where)
        self._auth.remember(chosen)
        if chosen.scheme == "basic":
            return self._answer_basic(credential)
        if credential and credential.registry_token:
            header = credential.bearer(self._auth.registry)
            if header == self._used:
                raise unauthorized(self._where)
            self._used = header
            return header
        return self._answer_bearer(chosen, credential)

    def _answer_basic(self, credential: Credential | None) -> str:
        if credential is None:
            raise faults.auth_required(self._where)
        header = self._basic(credential)
        if header == self._used:
            raise self._basic_refused(credential, header)
        self._used = header
        return header

    def _basic_refused(self, credential: Credential, header: str) -> TransferError:
        """Some registries answer 401 for a repository that is closed to a good login; ping tells it apart, so
        that one closed repository does not stop all work with this login.
        """
        if self._auth.is_accepted(credential) or self._auth.probe(header, self._where):
            self._auth.accept(credential)
            return denied(self._where)
        self._auth.refuse(credential)
        return unauthorized(self._where)

    def _answer_bearer(self, chosen: Challenge, credential: Credential | None) -> str:
        wanted = scopes.united(self._needed, chosen.scopes)
        wider = wanted != self._needed
        if self._requests >= TOKEN_REQUESTS_MAX or (self._fresh and not wider):
            # A token server does not say no, it grants less: a fresh token that fails means "not allowed".
            raise denied(self._where) if credential else faults.auth_required(self._where)
        self._needed = wanted
        self._used = self._token(chosen, credential, instead_of=self._used).header
        self._fresh = True
        return self._used

    def _basic(self, credential: Credential) -> str:
        self._auth.check_not_refused(credential, self._where)
        return credential.basic(self._auth.registry)

    def _token(self, chosen: Challenge, credential: Credential | None, instead_of: str = "") -> Token:
        realm = self._realm(chosen, credential)
        fingerprint = credential.fingerprint if credential else ""
        key = TokenKey(realm, chosen.service, fingerprint, tuple(sorted(self._needed)))
        with self._auth.lock(key):
            cached = self._auth.cache.get(key)
            # Another thread may have replaced the refused token already: then use that one.
            if cached is not None and cached.header != instead_of:
                return cached
            self._auth.cache.drop(key)
            self._auth.check_not_refused(credential, self._where)
            self._requests += 1
            token = self._fetch(realm, chosen.service, credential)
            self._auth.cache.put(key, token)
            return token

    def _realm(self, chosen: Challenge, credential: Credential | None) -> str:
        """The realm's address, if it may be asked."""
        realm = urljoin(f"{self._auth.registry}/v2/", chosen.realm).partition("#")[0]
        try:
            origin = origin_of(realm)
        except ProtocolError:
            raise RealmRefused(
                f"{self._where}: the registry names a token server without a usable address",
                **self._where.fields,
            ) from None
        if origin.scheme == "http" and self._auth.registry.scheme == "https":
            raise RealmRefused(
                f"{self._where}: the token server {origin.netloc} is plain http; logging in there is refused",
                **self._where.fields,
            )
        if credential is not None and origin not in self._auth.realms:
            raise RealmRefused(
                f"{self._where}: the registry sends logins to {origin.netloc}, which is another host; "
                f"if that is right, add it to `token_realms` of {self._where.registry} in registries.toml",
                **self._where.fields,
            )
        return realm

    def _fetch(self, realm: str, service: str, credential: Credential | None) -> Token:
        if credential is not None and credential.identity_token:
            request = tokens.post_request(realm, service, self._needed, credential)
            status, body = self._auth.send(request, self._where)
            if status not in tokens.POST_REFUSED:
                return self._read(status, body, realm, credential)
            if not (credential.username and credential.username != "<token>"):
                return self._read(status, body, realm, credential)
        request = tokens.get_request(realm, service, self._needed, credential)
        return self._read(*self._auth.send(request, self._where), realm, credential)

    def _read(self, status: int, body: bytes, realm: str, credential: Credential | None) -> Token:
        host = origin_of(realm).netloc
        if status == 200:
            try:
                token = tokens.read_token(body, self._needed, time.time(), self._auth.clock())
            except ProtocolError as error:
                raise ProtocolError(f"{self._where}: {host}: {error.message}", **self._where.fields) from None
            self._auth.accept(credential)
            return token
        raise self._token_refused(status, body, host, credential)

    def _token_refused(
        self, status: int, body: bytes, host: str, credential: Credential | None
    ) -> TransferError:
        if status == 401 and credential is None:
            return faults.auth_required(self._where)
        if status in {400, 401} and credential is not None:
            if not self._auth.is_accepted(credential):
                self._auth.refuse(credential)
            return unauthorized(self._where)
        if status in {401, 403}:
            return denied(self._where)
        said = faults.read_problem(body)
        return ProtocolError(
            f"{self._where}: the token server {host} answered {status}; {said.code} {said.text}".rstrip("; "),
            **self._where.fields,
            status=status,
        )


def unauthorized(where: Where) -> Unauthorized:
    """The login was refused."""
    return Unauthorized(
        f"{where}: {where.registry} refuses the login; check its user and password in registries.toml "
        "or auth_files",
        **where.fields,
        status=401,
    )


def denied(where: Where) -> Denied:
    """The login is good and may not do this."""
    return Denied(
        f"{where}: the login for {where.registry} is accepted but may not do this ({where.phase})",
        **where.fields,
        status=401,
    )
