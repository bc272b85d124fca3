"""Logins that are made and get old: kept while they are good, made once for all threads.

`Keeper` remembers by key. A login is made again at 80 % of its life; if that fails, the old one is used to
its end. While one thread makes it, others that want the same one wait for it and never ask the provider
themselves. A failure is remembered too, a refusal for a minute: a provider that said no to one of two
hundred steps is not asked by all of them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from distworker.errors import DistworkerError, InternalError
from distworker.registry.credentials import Credential
from distworker.registry.waits import TOKEN_RENEW_AT

log = logging.getLogger(__name__)

#: Seconds a refusal and a fault are remembered.
REFUSAL_MEMORY: Final = 60.0
FAULT_MEMORY: Final = 10.0
#: Logins remembered; one per registry, or per host that a helper was asked for.
_KEPT_MAX: Final = 1024

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Credential | None)
_NEVER: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class Minted(Generic[V]):
    """A login just made, or none where that can be, and the seconds it is good for."""

    credential: V
    life: float


@dataclass(slots=True)
class _Slot(Generic[V]):
    lock: threading.Lock = field(default_factory=threading.Lock)
    made: Minted[V] | None = None
    made_at: float = _NEVER
    failure: DistworkerError | None = None
    failed_until: float = _NEVER

    def young(self, now: float, share: float) -> Minted[V] | None:
        """What was made, if no more than this share of its life is over."""
        made = self.made
        return made if made is not None and now < self.made_at + made.life * share else None


class Keeper(Generic[K, V]):
    """See the module text. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._slots: OrderedDict[K, _Slot[V]] = OrderedDict()

    def get(self, key: K, mint: Callable[[], Minted[V]]) -> V:
        """The login of `key`, made by `mint` when there is none that is young enough.

        Raises:
            DistworkerError: what `mint` raised, now or a moment ago.
        """
        slot = self._slot(key)
        with slot.lock:
            now = self._clock()
            found = slot.young(now, TOKEN_RENEW_AT)
            if found is None and now >= slot.failed_until:
                found = self._make(slot, mint)
            found = found or slot.young(now, 1.0)
            if found is not None:
                return found.credential
            failure = slot.failure or InternalError("a login was neither made nor refused")
        # A copy: one exception raised by many threads would collect the tracebacks of all of them.
        raise copied(failure)

    def drop(self, credential: Credential, chosen: Callable[[K], bool]) -> None:
        """Forget this very login where `chosen` says so; one that was made since stays."""
        with self._lock:
            slots = [slot for key, slot in self._slots.items() if chosen(key)]
        for slot in slots:
            with slot.lock:
                mine = slot.made.credential if slot.made else None
                if mine is not None and mine.fingerprint == credential.fingerprint:
                    slot.made = None

    def _make(self, slot: _Slot[V], mint: Callable[[], Minted[V]]) -> Minted[V] | None:
        try:
            made = mint()
        except DistworkerError as error:
            slot.failure = copied(error)
            slot.failed_until = self._clock() + (FAULT_MEMORY if error.retry else REFUSAL_MEMORY)
            if slot.young(self._clock(), 1.0):
                log.warning("a login could not be renewed, the old one is used to its end: %s", error)
            return None
        slot.made, slot.made_at = made, self._clock()
        return made

    def _slot(self, key: K) -> _Slot[V]:
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
            while len(self._slots) > _KEPT_MAX:
                self._slots.popitem(last=False)
            return slot


def copied(error: DistworkerError) -> DistworkerError:
    """`error` without its traceback and whatever hangs below it."""
    return type(error)(error.message, retry=error.retry, **error.fields)
