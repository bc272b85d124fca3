"""One logical request's login: from a 401 to the next `Authorization`, or to a typed refusal.

An `Attempt` remembers what this request tried: at most two token requests, never the same question to a token
server twice, never again what was just refused. It is given scopes by the verb and widens them only for the
same repositories. A token server does not say no, it grants less: a fresh token that fails means "not
allowed" (distribution's token specification). Nothing is asked anonymously behind the operator's back.
"""

from __future__ import annotations

import contextlib

from distworker.errors import AuthRequired, RealmRefused, TransferError, Unauthorized
from distworker.registry import faults, scopes
from distworker.registry.auth import Authenticator, unauthorized
from distworker.registry.challenge import Challenge, choose
from distworker.registry.credentials import Credential
from distworker.registry.faults import Problem, Where
from distworker.registry.scopes import Scope
from distworker.registry.tokenfetch import TokenFetch, denied
from distworker.registry.waits import REPLAYS_MAX

#: ECR's 403 for a login that is over ("Your authorization token has expired. Reauthenticate and try again.").
_EXPIRED = "authorization token has expired"


class Attempt:
    """See the module text. Not shared between threads."""

    def __init__(self, auth: Authenticator, needed: tuple[Scope, ...], where: Where) -> None:
        self._auth = auth
        self._needed = needed
        self._where = where
        self._tokens = TokenFetch(auth, where)
        self._replays = 0
        self._renewals = 0
        self._used = ""

    def header(self) -> str:
        """`Authorization` before the registry asked: from what it asked earlier, "" if it never did."""
        known = self._auth.known
        if known is not None:
            credential = self._auth.credential(self._where.repository)
            if credential or known.scheme == "bearer":
                # A realm that may not be asked (any more) is no answer: what the registry says now decides.
                with contextlib.suppress(RealmRefused):
                    self._used = self._made(known, credential)
        return self._used

    def answer(self, challenges: list[Challenge]) -> str:
        """`Authorization` for the next try after a 401.

        Raises:
            AuthRequired: a login is wanted and we have none.
            Unauthorized: the login is refused, or cannot be used here.
            Denied: logged in, and still not allowed.
            RealmRefused: the token server may not have this login.
        """
        self._replays += 1
        credential = self._auth.credential(self._where.repository)
        chosen = choose(challenges) or self._auth.learned(self._where)
        if chosen is None:
            raise self._no_way(credential)
        if self._replays > REPLAYS_MAX:
            raise self._still_not(chosen, credential)
        if chosen.scheme == "basic":
            self._auth.remember(chosen)
            self._used = self._answer_basic(credential)
        elif credential and credential.registry_token:
            self._auth.remember(chosen)
            self._used = self._answer_ready(credential)
        else:
            self._used = self._answer_bearer(chosen, credential)
        return self._used

    def expired(self, problem: Problem) -> str:
        """`Authorization` for one more try after a 403 that says the login is over, "" for any other 403."""
        known = self._auth.known
        if not self._used or known is None or not problem.says(_EXPIRED):
            return ""
        credential = self._auth.credential(self._where.repository)
        renewed = self._renewed(credential)
        if renewed is None:
            return ""
        self._used = self._made(known, renewed)
        return self._used

    # --- Basic --------------------------------------------------------------------------------------------
    def _answer_basic(self, credential: Credential | None) -> str:
        if credential is None:
            raise faults.auth_required(self._where)
        header = self._basic(credential)
        if header == self._used:
            renewed = self._renewed(credential)
            if renewed is None:
                raise self._basic_refused(credential, header)
            credential, header = renewed, self._basic(renewed)
        self._prove(credential, header)
        return header

    def _prove(self, credential: Credential, header: str) -> None:
        """Before its first use a login is tried on ping, as `docker login` does, by one caller at a time.

        Also where the registry's way is known already: another caller may just be finding out that this
        login is bad, and what is sent beside it would count as one more try.
        """
        if credential.fingerprint in self._auth.unjudged:
            return
        with self._auth.proving(credential):
            if not self._auth.is_accepted(credential):
                self._try_on_ping(credential, header)

    def _basic_refused(self, credential: Credential, header: str) -> TransferError:
        """Some registries answer 401 for a repository that is closed to a good login; ping tells it apart, so
        that one closed repository does not stop all work with this login.
        """
        with self._auth.cache.turn(f"ping {self._auth.registry} {credential.fingerprint}"):
            self._try_on_ping(credential, header)
        return denied(self._where)

    def _try_on_ping(self, credential: Credential, header: str) -> None:
        self._auth.check_not_refused(credential, self._where)
        status, challenges = self._auth.wire.probe(header, self._where)
        wants = choose(challenges)
        # A registry whose ping wants Bearer has not judged this.
        if status == 401 and (wants is None or wants.scheme == "basic"):
            raise self._auth.refused(credential, self._where)
        if status == 200:
            self._auth.accept(credential)
        else:
            self._auth.unjudged.add(credential.fingerprint)

    def _basic(self, credential: Credential) -> str:
        self._auth.check_not_refused(credential, self._where, ask=False)
        return credential.basic(self._auth.registry)

    # --- Bearer -------------------------------------------------------------------------------------------
    def _answer_ready(self, credential: Credential) -> str:
        header = credential.bearer(self._auth.registry)
        if header == self._used:
            raise unauthorized(self._where)
        return header

    def _answer_bearer(self, chosen: Challenge, credential: Credential | None) -> str:
        self._needed = scopes.united(self._needed, chosen.scopes)
        if not self._tokens.may_ask(chosen, self._needed):
            raise self._still_not(chosen, credential)
        return self._tokens.token(chosen, self._needed, credential, self._used).header

    # --- either -------------------------------------------------------------------------------------------
    def _made(self, chosen: Challenge, credential: Credential | None) -> str:
        """`Authorization` as `chosen` wants it."""
        if credential and chosen.scheme == "basic":
            header = self._basic(credential)
            self._prove(credential, header)
            return header
        if credential and credential.registry_token:
            return credential.bearer(self._auth.registry)
        return self._tokens.token(chosen, self._needed, credential, self._used).header

    def _renewed(self, credential: Credential | None) -> Credential | None:
        """Another login, once for each request."""
        self._renewals += 1
        if credential is None or self._renewals > 1:
            return None
        return self._auth.renewed(self._where.repository, credential)

    def _still_not(self, chosen: Challenge, credential: Credential | None) -> TransferError:
        if credential is None:
            return faults.auth_required(self._where)
        if chosen.error == "invalid_token":
            return Unauthorized(
                f"{self._where}: {self._where.registry} does not take the token that its token server gave",
                **self._where.fields,
                status=401,
            )
        return denied(self._where)

    def _no_way(self, credential: Credential | None) -> AuthRequired | Unauthorized:
        if credential is None:
            return faults.auth_required(self._where)
        return Unauthorized(
            f"{self._where}: {self._where.registry} wants a login, but in no way that is known here "
            "(it names neither Basic nor a usable Bearer)",
            **self._where.fields,
            status=401,
        )
