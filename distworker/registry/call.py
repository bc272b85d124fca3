"""One logical request and its reply, so that the verbs never see a library's types.

A `Call` says what to send and, in registry words, why (phase, repository, reference): errors speak those
words and never an address. A `Reply` reads no more than it is told to and gives its connection back when
closed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final

import requests
import urllib3

from distworker.errors import TransferError
from distworker.limits import ERROR_BODY_MAX
from distworker.registry import faults
from distworker.registry.base import Body, Chunk
from distworker.registry.scopes import Scope
from distworker.registry.urls import Origin, origin_of
from distworker.registry.waits import READ_TIMEOUT, SEND_PIECE

#: What reading from a socket through urllib3 can raise.
NETWORK_ERRORS: Final = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)


#: Asks caches on the way to fetch anew what they may have spoiled (RFC 9111, 5.2.1.4).
PAST_CACHES: Final = {"Cache-Control": "no-cache"}


@dataclass(frozen=True, slots=True)
class Call:
    """One logical request.

    `body`: bytes are sent again on a retry; a factory is asked anew for each send and such a request is never
    retried below its verb. `timeout`: seconds to wait for the reply. `anonymous`: never with a credential.
    `authorization`: sent to the home origin as it is, for APIs that send no challenge; a 401 is then a reply.
    """

    method: str
    url: str = field(repr=False)
    where: faults.Where
    scopes: tuple[Scope, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | Callable[[], Body] | None = field(default=None, repr=False)
    timeout: float = field(default_factory=lambda: READ_TIMEOUT)
    anonymous: bool = False
    once: bool = False  #: never retried in place
    fenced: bool = False  #: others see its effect: the run must hold its step still, whenever it is sent
    authorization: str | None = field(default=None, repr=False)
    fresh: bool = False  #: on a connection of its own, since the last one may have been tampered with

    @property
    def streams(self) -> bool:
        """Is the body one that a retry would have to open anew?"""
        return callable(self.body)


class SentBody:
    """A body on its way: sliced so that no send stalls unseen, counted, its own failures kept apart.

    It has no `read`, so that requests takes our chunks as they are (0.17 CPU s/GiB instead of 0.5).
    """

    def __init__(self, body: Body) -> None:
        self._body = body
        self._length = len(body)
        self.failure: BaseException | None = None

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Chunk]:
        sent = 0
        try:
            for chunk in self._body:
                view = memoryview(chunk)
                sent += len(view)
                if sent > self._length:
                    raise faults.wrong_body_length(self._length)
                for start in range(0, len(view), SEND_PIECE):
                    yield view[start : start + SEND_PIECE]
            if sent != self._length:
                raise faults.wrong_body_length(self._length)
        except GeneratorExit:
            raise
        except BaseException as error:
            # requests would report an OSError of ours as the registry's.
            self.failure = error
            raise


class Reply:
    """What a server answered. Close it, or use it as a context manager; bodies are read raw and bounded."""

    def __init__(
        self,
        response: requests.Response,
        url: str,
        where: faults.Where,
        sent: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._sent = sent  # secrets of the request, which an error body may quote
        self.status = int(response.status_code)
        self.url = url
        self.origin: Origin = origin_of(url)
        self.where = where
        self._headers = response.headers
        self._raw: Any = response.raw
        self._problem: faults.Problem | None = None
        self._broken: TransferError | None = None

    def __enter__(self) -> Reply:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Reply({self.status}, {self.origin.netloc})"

    def header(self, name: str) -> str:
        """The header's value, "" when it is missing; several are joined by a comma."""
        return self._headers.get(name) or ""

    def header_values(self, name: str) -> list[str]:
        """Each header of that name by itself."""
        return list(self._raw.headers.getlist(name))

    @property
    def length(self) -> int | None:
        """Content-Length in bytes; None when missing or nonsense."""
        text = self.header("Content-Length")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None

    def read(self, limit: int) -> bytes:
        """At most `limit` bytes of the body, undecoded; typed errors when the connection breaks."""
        parts: list[bytes] = []
        left = limit
        while left > 0:
            part = self.piece(left)
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def piece(self, size: int) -> bytes:
        """The next `size` bytes as they are on the wire, fewer at the end, b"" after it.

        Raises:
            RequestTimeout: they come too slowly to be worth waiting for. Unavailable: the connection broke.
        """
        parts: list[bytes] = []
        left = size
        while left and self._broken is None:
            part = self._some(left)
            if not part:
                break
            parts.append(part)
            left -= len(part)
        if not parts and self._broken is not None:
            raise self._broken
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _some(self, size: int) -> bytes:
        """What is there, so that what came before a break is kept; the break itself is told next time."""
        try:
            return bytes(self._raw.read1(size, decode_content=False))
        except NETWORK_ERRORS as error:
            self._broken = faults.from_exception(error, self.origin, self.where)
            return b""

    def quiet(self) -> Reply:
        """This reply, its words left unread: a login's server may quote the secret that was sent."""
        self._problem = faults.Problem()
        return self

    @property
    def problem(self) -> faults.Problem:
        """What the error body says; read once, at most 64 KiB, never raising."""
        if self._problem is None:
            try:
                body = self.read(ERROR_BODY_MAX)
            except TransferError:
                body = b""
            self._problem = faults.read_problem(body, self._sent())
        return self._problem

    def error(self, reason: str = "") -> TransferError:
        """This reply as a typed error; `reason` says what was expected instead."""
        return faults.from_status(self, reason, time.time())

    def complaint(self, body: bytes) -> TransferError | None:
        """The error that an already read `body` spells although the status says that all is well."""
        problem = (
            faults.read_problem(body, self._sent())
            if b'"errors"' in body[:ERROR_BODY_MAX]
            else faults.Problem()
        )
        if not problem.code:
            return None
        self._problem = problem
        return faults.default_delay(faults.located(self.error(), self.where), time.time())

    def close(self) -> None:
        """Give the connection back if little is left of the body, else drop it."""
        left = self._raw.length_remaining
        if left is not None and left <= ERROR_BODY_MAX:
            with contextlib.suppress(*NETWORK_ERRORS):
                self._raw.read(left + 1, decode_content=False)
        self._raw.close()  # a connection that was read to its end is back in the pool by now
