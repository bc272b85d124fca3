"""Logging in: what a process knows of how one registry wants it, and which logins work there.

An `Authenticator` serves one registry for a whole process; an `Attempt` (`attempt.py`) is one logical
request's way through 401s. Sending is passed in, so all of it runs without sockets. A login that never worked
here is tried by one caller at a time, and one that was refused not again for ten minutes: registries lock
accounts. Secrets go to the registry itself and to trusted realms only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from distworker.errors import TransferError, Unauthorized
from distworker.registry import faults
from distworker.registry.challenge import Challenge, choose
from distworker.registry.credentials import Credential
from distworker.registry.faults import Where
from distworker.registry.tokencache import MemoryTokenCache, TokenCache
from distworker.registry.tokens import TokenRequest
from distworker.registry.urls import Origin
from distworker.registry.waits import BAD_LOGIN_MEMORY


@dataclass(frozen=True, slots=True)
class Wire:
    """How an `Authenticator` reaches the outside.

    `send` sends a token request and gives status and body; it raises typed errors for everything but 200 and
    4xx. `probe` asks `/v2/` with a given `Authorization` ("" for none): status and challenges.
    """

    send: Callable[[TokenRequest, Where], tuple[int, bytes]]
    probe: Callable[[str, Where], tuple[int, list[Challenge]]]


@dataclass(frozen=True, slots=True)
class Logins:
    """Where the logins of one registry come from.

    `find` gives the one for a repository ("" for the registry as such), None where everyone is anonymous.
    `renew` is told of one that is over, so that the next `find` makes another where logins are made.
    """

    find: Callable[[str], Credential | None]
    renew: Callable[[str, Credential], None] = lambda _repository, _credential: None


class Authenticator:
    """How one registry wants to be logged in to, learned from its challenges and shared by all threads.

    `realms`: the origins that may see its logins. `cache` may be shared with other processes.
    """

    def __init__(
        self,
        registry: Origin,
        realms: frozenset[Origin],
        *,
        logins: Logins,
        wire: Wire,
        cache: TokenCache | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.registry = registry
        self.realms = realms
        self.clock = clock
        self.wire = wire
        self.cache = cache or MemoryTokenCache(clock)
        self.get_only: set[str] = set()  # realms that do not know the POST form
        self.unjudged: set[str] = set()  # fingerprints of logins that ping says neither yes nor no to
        self._logins = logins
        self._known: Challenge | None = None
        self._recalled = False
        self._failures: dict[str, tuple[float, TransferError]] = {}
        self._accepted: set[str] = set()
        self._lock = threading.Lock()

    def credential(self, repository: str) -> Credential | None:
        """The login, bound to the registry and its trusted realms; looked up at each use."""
        found = self._logins.find(repository)
        return found.bound_to(self.realms) if found else None

    def renewed(self, repository: str, credential: Credential) -> Credential | None:
        """Another login in the place of one that is over; None where logins are not made but written down."""
        self._logins.renew(repository, credential)
        found = self.credential(repository)
        return found if found and found.fingerprint != credential.fingerprint else None

    @property
    def known(self) -> Challenge | None:
        """The challenge last chosen, here or by another process, used to log in before being asked."""
        if self._known is None and not self._recalled:
            self._recalled = True
            self._known = self.cache.recall(str(self.registry))
        return self._known

    def remember(self, chosen: Challenge) -> None:
        """Log in like this from now on."""
        before, self._known = self._known, chosen
        if before is None or _facts(before) != _facts(chosen):
            self.cache.learn(str(self.registry), chosen)

    def learned(self, where: Where) -> Challenge | None:
        """The challenge to go by after a 401 that names none: the known one, or what `/v2/` says (old GCR
        challenges only there).
        """
        if self.known is None:
            _, challenges = self.wire.probe("", where)
            return choose(challenges)
        return self.known

    # --- which logins work --------------------------------------------------------------------------------
    def check_not_refused(self, credential: Credential | None, where: Where, *, ask: bool = True) -> None:
        """Raise at once for a login that was refused in the last ten minutes: trying again locks accounts.
        `ask`: what other processes met counts too.
        """
        if credential and self.cache.is_refused(self._name(credential), ask=ask):
            raise unauthorized(where)

    def refuse(self, credential: Credential) -> None:
        """Remember a bad login."""
        with self._lock:
            self._accepted.discard(credential.fingerprint)
        self.cache.refuse(self._name(credential), BAD_LOGIN_MEMORY)

    def refused(self, credential: Credential, where: Where) -> Unauthorized:
        """Remember a bad login; the error for it. One that is made and not written down was only over: the
        next one may work, so the same request may be tried again.
        """
        self.refuse(credential)
        made = self.renewed(where.repository, credential)
        return unauthorized(where, retry=True if made else None)

    def accept(self, credential: Credential | None) -> None:
        """It works."""
        if credential:
            with self._lock:
                self._accepted.add(credential.fingerprint)
            self.cache.clear(self._name(credential))

    def is_accepted(self, credential: Credential) -> bool:
        """Has it worked in this process?"""
        with self._lock:
            return credential.fingerprint in self._accepted

    @contextmanager
    def proving(self, credential: Credential | None) -> Iterator[None]:
        """The block of a login that never worked here is for one caller at a time: many at once would all
        send the wrong password before the first of them is told.
        """
        with ExitStack() as stack:
            if credential and not self.is_accepted(credential):
                stack.enter_context(self.cache.turn(self._name(credential)))
                if self.is_accepted(credential):
                    stack.close()
            yield

    # --- which token servers answer -----------------------------------------------------------------------
    def failed(self, realm: str, error: TransferError) -> None:
        """A token server that is down or busy: those who wait behind this caller need not find out too."""
        if error.retry:
            self._failures[realm] = (self.clock(), error)

    def check_not_failed(self, realm: str, began: float, where: Where) -> None:
        """Raise what a caller met there whom we have been waiting for since `began`."""
        when, error = self._failures.get(realm, (float("-inf"), None))
        if error is not None and when > began:
            raise faults.located(type(error)(error.message, retry=error.retry, **error.fields), where)

    def _name(self, credential: Credential) -> str:
        return f"{self.registry} {credential.fingerprint}"


def _facts(challenge: Challenge) -> tuple[str, str, str]:
    """What of a challenge is about the registry and not about the request."""
    return challenge.scheme, challenge.realm, challenge.service


def unauthorized(where: Where, *, retry: bool | None = None) -> Unauthorized:
    """The login was refused; `retry`: another one was made meanwhile."""
    return Unauthorized(
        f"{where}: {where.registry} refuses the login; check its user and password in registries.toml "
        "or auth_files",
        retry=retry,
        **where.fields,
        status=401,
    )
