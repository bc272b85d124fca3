"""One logical request's dealings with a token server: from cache if possible, by one caller at a time if not.

At most two requests in all, whatever happens. A login that the token server refuses is tried once more
without any scope, as `docker login` does: some servers answer 401 for a repository that is closed to a good
login, and one closed repository must not stop all work with this login.
"""

from __future__ import annotations

import time

from distworker.errors import Denied, ProtocolError, TransferError
from distworker.registry import faults, realms, tokens
from distworker.registry.auth import Authenticator
from distworker.registry.challenge import Challenge
from distworker.registry.credentials import Credential
from distworker.registry.echoes import secrets_sent
from distworker.registry.faults import Where
from distworker.registry.scopes import Scope
from distworker.registry.tokencache import TokenKey
from distworker.registry.tokens import Token, TokenRequest
from distworker.registry.urls import origin_of
from distworker.registry.waits import TOKEN_REQUESTS_MAX

#: The user name that stands for "the password is an identity token"; it is no user.
_NOBODY = "<token>"


class TokenFetch:
    """See the module text."""

    def __init__(self, auth: Authenticator, where: Where) -> None:
        self._auth = auth
        self._where = where
        self._requests = 0
        self._granted = False
        self._sent: tuple[str, ...] = ()
        self._asked: tuple[str, str, tuple[Scope, ...]] | None = None

    def may_ask(self, chosen: Challenge, needed: tuple[Scope, ...]) -> bool:
        """Is there a request left, and would it ask anything new?"""
        return self._requests < TOKEN_REQUESTS_MAX and self._asked != (chosen.realm, chosen.service, needed)

    def token(
        self, chosen: Challenge, needed: tuple[Scope, ...], credential: Credential | None, refused: str
    ) -> Token:
        """A token for `needed` other than the one whose header was `refused`.

        Raises:
            AuthRequired, Unauthorized, Denied: what the token server's refusal means.
            RealmRefused: it may not be asked. ProtocolError: its answer cannot be used.
        """
        realm = realms.address(
            chosen.realm,
            self._auth.registry,
            self._auth.realms,
            login=credential is not None,
            where=self._where,
        )
        self._auth.remember(chosen)
        fingerprint = credential.fingerprint if credential else ""
        key = TokenKey(str(self._auth.registry), realm, chosen.service, fingerprint, needed)
        self._asked = None
        found = self._auth.cache.get(key, refused)
        if found is not None:
            return found
        began = self._auth.clock()
        with self._auth.proving(credential), self._auth.cache.turn(key.place):
            # Another thread or worker may have replaced the refused token already: then use that one.
            found = self._auth.cache.get(key, refused)
            if found is not None:
                return found
            if refused:
                self._auth.cache.drop(key, refused)
            self._auth.check_not_refused(credential, self._where)
            self._auth.check_not_failed(realm, began, self._where)
            self._asked = (chosen.realm, chosen.service, needed)
            try:
                found = self._fetch(key, credential)
            except TransferError as error:
                self._auth.failed(realm, error)
                raise
            self._auth.cache.put(key, found)
            return found

    def _fetch(self, key: TokenKey, credential: Credential | None) -> Token:
        if credential and credential.identity_token and key.realm not in self._auth.get_only:
            status, body = self._send(tokens.post_request(key.realm, key.service, key.scopes, credential))
            known_user = credential.username not in {"", _NOBODY}
            if status not in tokens.POST_REFUSED or not known_user:
                return self._read(status, body, key, credential)
            found = self._read(*self._send(self._get(key, credential)), key, credential)
            self._auth.get_only.add(key.realm)
            return found
        return self._read(*self._send(self._get(key, credential)), key, credential)

    def _get(self, key: TokenKey, credential: Credential | None) -> TokenRequest:
        return tokens.get_request(key.realm, key.service, key.scopes, credential)

    def _send(self, request: TokenRequest) -> tuple[int, bytes]:
        self._requests += 1
        self._sent = secrets_sent(request.headers, request.url, request.body)
        return self._auth.wire.send(request, self._where)

    def _read(self, status: int, body: bytes, key: TokenKey, credential: Credential | None) -> Token:
        if status != 200:
            raise self._refusal(status, body, key, credential)
        try:
            token = tokens.read_token(body, key.scopes, time.time(), self._auth.clock())
        except ProtocolError as error:
            host = origin_of(key.realm).netloc
            fault = ProtocolError(f"{self._where}: {host}: {error.message}", **self._where.fields)
        else:
            self._granted = True
            self._auth.accept(credential)
            return token
        raise fault

    def _refusal(
        self, status: int, body: bytes, key: TokenKey, credential: Credential | None
    ) -> TransferError:
        if credential is None and status in {401, 403}:
            return faults.auth_required(self._where)
        if credential is not None and status in {400, 401}:
            if self._granted or self._works_without_scope(key, credential):
                return denied(self._where)
            return self._auth.refused(credential, self._where)
        if status == 403:
            return denied(self._where)
        said = faults.read_problem(body, self._sent)
        host = origin_of(key.realm).netloc
        return ProtocolError(
            f"{self._where}: the token server {host} answered {status}; {said.code} {said.text}".rstrip("; "),
            **self._where.fields,
            status=status,
        )

    def _works_without_scope(self, key: TokenKey, credential: Credential) -> bool:
        if not key.scopes or self._requests >= TOKEN_REQUESTS_MAX:
            return False
        if credential.identity_token and key.realm not in self._auth.get_only:
            request = tokens.post_request(key.realm, key.service, (), credential)
        else:
            request = tokens.get_request(key.realm, key.service, (), credential)
        status, _ = self._send(request)
        if status == 200:
            self._auth.accept(credential)
        return status == 200


def denied(where: Where) -> Denied:
    """The login is good and may not do this."""
    return Denied(
        f"{where}: the login for {where.registry} is accepted but may not do this ({where.phase})",
        **where.fields,
        status=401,
    )
