"""Tokens and refused logins shared by many processes, through a vault that this room knows nothing more of.

Two levels: what this process knows, then the vault. A fleet of workers so asks a token server once for each
repository and login, and a wrong password is tried once and not once for each worker. The vault is a help and
never a need: whatever it does not know, or when it is away, is asked for as if it did not exist.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from distworker import stopping
from distworker.registry.challenge import Challenge, choose
from distworker.registry.scopes import Scope
from distworker.registry.tokencache import MemoryTokenCache, TokenKey
from distworker.registry.tokens import Token
from distworker.registry.waits import CHALLENGE_MEMORY, TOKEN_TURN, TOKEN_TURN_POLL


class Vault(Protocol):
    """Small secret values that several processes see, each for a limited time. No method ever raises."""

    def read(self, name: str) -> tuple[bytes, float] | None:
        """The value and the seconds it has left; None when there is none."""
        ...

    def write(self, name: str, value: bytes, seconds: float) -> None:
        """Keep it for so long, replacing what was there."""
        ...

    def erase(self, name: str) -> None:
        """Forget it."""
        ...

    def claim(self, name: str, seconds: float) -> str:
        """Take the lock of that name for at most so long: a token to free it with, "" when it is taken. When
        the vault is away everyone gets one.
        """
        ...

    def free(self, name: str, token: str) -> None:
        """Give the lock back, if it is still held by that token."""
        ...


class SharedTokenCache:
    """See `tokencache.TokenCache`. `clock` must be the one that `memory` and the tokens go by."""

    def __init__(
        self,
        memory: MemoryTokenCache,
        vault: Vault,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = stopping.sleep,
    ) -> None:
        self._memory = memory
        self._vault = vault
        self._clock = clock
        self._sleep = sleep

    def get(self, key: TokenKey, refused: str = "") -> Token | None:
        """See `TokenCache.get`."""
        found = self._memory.get(key, refused)
        if found is not None:
            return found
        token = self._kept(key)
        if token is None or token.header == refused:
            return None
        self._memory.put(key, token)
        return token

    def drop(self, key: TokenKey, refused: str) -> None:
        """See `TokenCache.drop`."""
        self._memory.drop(key, refused)
        token = self._kept(key)
        if token is not None and token.header == refused:
            self._vault.erase(_name(key))

    def put(self, key: TokenKey, token: Token) -> None:
        """See `TokenCache.put`."""
        self._memory.put(key, token)
        self._vault.write(_name(key), _packed(token), token.renew_at - self._clock())

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """See `TokenCache.turn`; the threads of this process first, then the others."""
        with self._memory.turn(name):
            lock = f"turn {name}"
            token = self._claimed(lock)
            try:
                yield
            finally:
                if token:
                    self._vault.free(lock, token)

    def refuse(self, login: str, seconds: float) -> None:
        """See `TokenCache.refuse`."""
        self._memory.refuse(login, seconds)
        self._vault.write(f"refused {login}", b"refused", seconds)

    def is_refused(self, login: str, *, ask: bool = True) -> bool:
        """See `TokenCache.is_refused`."""
        if self._memory.is_refused(login):
            return True
        kept = self._vault.read(f"refused {login}") if ask else None
        if kept is None:
            return False
        self._memory.refuse(login, kept[1])
        return True

    def clear(self, login: str) -> None:
        """See `TokenCache.clear`."""
        self._memory.clear(login)
        self._vault.erase(f"refused {login}")

    def learn(self, registry: str, challenge: Challenge) -> None:
        """See `TokenCache.learn`."""
        facts = {"scheme": challenge.scheme, "realm": challenge.realm, "service": challenge.service}
        self._vault.write(f"challenge {registry}", json.dumps(facts).encode(), CHALLENGE_MEMORY)

    def recall(self, registry: str) -> Challenge | None:
        """See `TokenCache.recall`; what it says is judged at use, like any challenge."""
        kept = self._vault.read(f"challenge {registry}")
        facts = _document(kept[0]) if kept else {}
        text = {name: value for name, value in facts.items() if isinstance(value, str)}
        return choose([Challenge(text.pop("scheme", ""), text)])

    def _kept(self, key: TokenKey) -> Token | None:
        """The vault's token, if it covers `key`."""
        kept = self._vault.read(_name(key))
        token = _unpacked(*kept, self._clock()) if kept else None
        return token if token is not None and token.covers(key.scopes) else None

    def _claimed(self, lock: str) -> str:
        """The lock's token, "" after waiting as long as a lock can be held: its holder is lost."""
        waited = 0.0
        while waited < TOKEN_TURN:
            token = self._vault.claim(lock, TOKEN_TURN)
            if token:
                return token
            self._sleep(TOKEN_TURN_POLL)
            waited += TOKEN_TURN_POLL
        return ""


def _name(key: TokenKey) -> str:
    return f"token {key.place}"


def _packed(token: Token) -> bytes:
    return json.dumps({"token": token.value, "scopes": [str(scope) for scope in token.scopes]}).encode()


def _unpacked(value: bytes, left: float, now: float) -> Token | None:
    """The token, None when something else lies there: another version of this program wrote it."""
    document = _document(value)
    if not isinstance(document.get("token"), str):
        return None
    texts = document.get("scopes")
    scopes = [Scope.parse(str(text)) for text in (texts if isinstance(texts, list) else ())]
    return Token(document["token"], tuple(one for one in scopes if one), now + left)


def _document(value: bytes) -> dict[str, Any]:
    """The JSON object, empty for anything else."""
    document: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(value)
    return document if isinstance(document, dict) else {}
