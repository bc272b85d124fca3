"""Things that workers keep in Redis for each other without Redis seeing them.

Names become keyed marks (HMAC), values are encrypted and bound to their name (AES-GCM), both with keys drawn
from a secret that only the fleet has; so a dump of Redis shows neither what is kept nor for what, and a value
moved or changed by somebody else counts as none. What is kept so is a help, never a need: when Redis is away
every answer is "nothing known, go on by yourself", told once in the log, and Redis is left alone for a while.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import logging
import os
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeVar

from distworker.errors import DistworkerError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from distworker.state.connection import Connection

#: Seconds Redis is left alone after it failed: a server that hangs costs many seconds for each question.
AWAY: Final = 30.0
_NONCE: Final = 12  # bytes, what AES-GCM wants

T = TypeVar("T")
_LOG = logging.getLogger(__name__)


class Sealed:
    """What the kept things have in common. `what`: what they are, for the log; `purpose`: theirs alone.

    `secret`: what all workers of the fleet have in common and nobody else; a worker with another one sees
    nothing.
    """

    def __init__(
        self,
        redis: Connection,
        secret: str,
        what: str,
        purpose: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._what = what
        self._clock = clock
        self._away_until = float("-inf")
        self._told = False
        self._names = _drawn(secret, f"distworker {purpose}: names".encode())
        self._key = _drawn(secret, f"distworker {purpose}: values".encode())

    # --- Redis --------------------------------------------------------------------------------------------
    def _asked(self, run: Callable[[], T], otherwise: T) -> T:
        if self._clock() < self._away_until:
            return otherwise
        try:
            with self._redis.errors():
                found = run()
        except DistworkerError as error:
            self._away_until = self._clock() + AWAY
            if not self._told:
                _LOG.warning("%s are not shared with other workers for now: %s", self._what, error.message)
            self._told = True
            return otherwise
        self._told = False
        return found

    # --- secrecy ------------------------------------------------------------------------------------------
    @cached_property
    def _values(self) -> AESGCM:
        # 8 MiB of a worker's memory, which one that moves between open registries never needs.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        return AESGCM(self._key)

    def _mark(self, name: str) -> str:
        return hmac.new(self._names, name.encode(), hashlib.sha256).hexdigest()

    def _closed(self, name: str, value: bytes) -> str:
        nonce = os.urandom(_NONCE)
        return base64.b64encode(nonce + self._values.encrypt(nonce, value, name.encode())).decode("ascii")

    def _opened(self, name: str, text: str) -> bytes | None:
        """None for what this fleet did not write under this name."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - see `_values`

        with contextlib.suppress(ValueError, InvalidTag):
            sealed = base64.b64decode(text, validate=True)
            return self._values.decrypt(sealed[:_NONCE], sealed[_NONCE:], name.encode())
        return None


def _drawn(secret: str, purpose: bytes) -> bytes:
    """A key of its own for each purpose (HMAC as a PRF, as in the first block of RFC 5869's expansion)."""
    return hmac.new(secret.encode(), purpose + b"\x01", hashlib.sha256).digest()
