"""Where bearer tokens and refused logins are remembered, behind one small interface.

A token is kept by what it is for: registry, realm, service, login and resources. So a token never serves
another registry (not even one with the same realm), another secret or another repository; of two tokens for
the same resources the wider one also serves the smaller need. `turn` lets one caller at a time ask a token
server for the same thing: the others find its answer here. A login that was refused is remembered too, since
trying it again locks accounts.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakValueDictionary

from distworker.registry.challenge import Challenge
from distworker.registry.scopes import Scope
from distworker.registry.tokens import Token
from distworker.registry.waits import TOKENS_KEPT


@dataclass(frozen=True, slots=True)
class TokenKey:
    """What a token is for; the fingerprint keeps two secrets apart."""

    registry: str
    realm: str = field(repr=False)
    service: str
    fingerprint: str = field(repr=False)
    scopes: tuple[Scope, ...]

    @property
    def place(self) -> str:
        """All of it but the actions, as one unambiguous text; holds no secret."""
        resources = sorted({(scope.kind, scope.name) for scope in self.scopes})
        return json.dumps([self.registry, self.realm, self.service, self.fingerprint, resources])


class TokenCache(Protocol):
    """Where tokens are remembered. Nothing here raises because a memory is away."""

    def get(self, key: TokenKey, refused: str = "") -> Token | None:
        """A token that covers `key` and is not yet due for renewal, other than the one whose header is
        `refused`. So a token that another caller got meanwhile is used instead of asking again.
        """
        ...

    def drop(self, key: TokenKey, refused: str) -> None:
        """Forget the token with that header, if it should have been enough for `key`; to be called in the
        turn of `key.place`, so that no newer one is lost.
        """
        ...

    def put(self, key: TokenKey, token: Token) -> None:
        """Remember it until it is due for renewal."""
        ...

    def turn(self, name: str) -> AbstractContextManager[None]:
        """Wait until nobody else is in the block of this name. A promise for speed, not for safety: whoever
        waited too long goes in all the same.
        """
        ...

    def refuse(self, login: str, seconds: float) -> None:
        """Remember that this login was refused."""
        ...

    def is_refused(self, login: str, *, ask: bool = True) -> bool:
        """Was it refused lately? `ask`: other processes' experience counts, at the price of a look-up."""
        ...

    def clear(self, login: str) -> None:
        """It works: forget a refusal."""
        ...

    def learn(self, registry: str, challenge: Challenge) -> None:
        """Tell other processes how this registry wants to be logged in to."""
        ...

    def recall(self, registry: str) -> Challenge | None:
        """What another process learned of it lately."""
        ...


class MemoryTokenCache:
    """What one process remembers; safe to share between threads. See `TokenCache`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: OrderedDict[str, list[Token]] = OrderedDict()
        self._refused: dict[str, float] = {}
        self._turns: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()

    def get(self, key: TokenKey, refused: str = "") -> Token | None:
        """See `TokenCache.get`; the newest wins, it was asked for with the most knowledge."""
        place, now = key.place, self._clock()
        with self._lock:
            if place not in self._tokens:
                return None
            alive = [one for one in self._tokens[place] if one.renew_at > now]
            self._tokens[place] = alive
            self._tokens.move_to_end(place)
            fits = (one for one in reversed(alive) if one.header != refused and one.covers(key.scopes))
            return next(fits, None)

    def drop(self, key: TokenKey, refused: str) -> None:
        """See `TokenCache.drop`."""
        place = key.place
        with self._lock:
            known = self._tokens.pop(place, [])
            kept = [one for one in known if one.header != refused or not one.covers(key.scopes)]
            if kept:
                self._tokens[place] = kept

    def put(self, key: TokenKey, token: Token) -> None:
        """See `TokenCache.put`."""
        place = key.place
        with self._lock:
            narrower = [one for one in self._tokens.get(place, ()) if not token.covers(one.scopes)]
            self._tokens[place] = [*narrower, token]
            self._tokens.move_to_end(place)
            while len(self._tokens) > TOKENS_KEPT:
                self._tokens.popitem(last=False)

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """See `TokenCache.turn`."""
        with self._lock:
            lock = self._turns.get(name)
            if lock is None:
                lock = self._turns[name] = threading.Lock()
        with lock:
            yield

    def refuse(self, login: str, seconds: float) -> None:
        """See `TokenCache.refuse`."""
        now = self._clock()
        with self._lock:
            self._refused = {one: until for one, until in self._refused.items() if until > now}
            self._refused[login] = now + seconds

    def is_refused(self, login: str, *, ask: bool = True) -> bool:
        """See `TokenCache.is_refused`."""
        return self._refused.get(login, 0.0) > self._clock()

    def clear(self, login: str) -> None:
        """See `TokenCache.clear`."""
        with self._lock:
            self._refused.pop(login, None)

    def learn(self, registry: str, challenge: Challenge) -> None:
        """The one who learned it remembers it himself."""

    def recall(self, registry: str) -> Challenge | None:
        """There are no others."""
        return None
