"""The tee: the pass that downloads a blob also feeds the one upload that waits for it.

A second thread sends; between the two stands a buffer of a few chunks. If the sending side stalls, fails or
is not needed, the tee is **cut**: that upload session is dropped and the upload step sends the blob from the
store later. The download never fails because of it, and is held up for at most `STALL` seconds at a time.
The registry port hands out a blob's last chunk only after digest and size agreed, so a wrong blob is never
complete at the destination.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from distworker.errors import Cancelled, DistworkerError, UploadSessionLost
from distworker.limits import MIB
from distworker.plan.build import via
from distworker.plan.codec import load_blob
from distworker.plan.model import BlobMove, Place
from distworker.registry.base import Chunk
from distworker.state.base import Claim
from distworker.steps.base import Context
from distworker.steps.opensessions import OpenSessions
from distworker.steps.threads import run_beside
from distworker.stopping import Stopper

log = logging.getLogger(__name__)

#: Bytes that may wait between the two sides: four chunks. More is not faster, and every slot may hold it.
BUFFER_BYTES: Final = MIB
#: Seconds the download waits for room. A destination this slow holds up the source's connection; later is
#: better.
STALL: Final = 10.0
#: Seconds for which the sending side waits for a chunk: as long as any run may be without a sign.
SILENCE: Final = 900.0
#: Seconds to wait for the destination's last answer: GHCR takes 11 s to commit 700 MB.
COMMIT: Final = 120.0
#: A stop request is heard this soon.
_SLICE: Final = 0.25

_FEEDING, _ENDED, _CUT = "feeding", "ended", "cut"


class Tee:
    """One upload being fed. Use `open`, then `feed` each chunk, `finish`, and `cut` in any case at the
    end."""

    def __init__(self, context: Context, step: str, token: str, move: BlobMove, destination: Place) -> None:
        self.step = step
        self.destination = destination
        self._context = context
        self._move = move
        self._opened = OpenSessions(context, step, token, move, destination)
        self._chunks: deque[bytes] = deque()
        self._waiting = 0  #: bytes in `_chunks`
        self._state = _FEEDING
        self._sent: bool | None = None
        self._changed = threading.Condition()
        self._stopper = Stopper()

    @classmethod
    def open(cls, context: Context, claim: Claim, download: BlobMove) -> Tee | None:
        """The tee that the ledger offered with the claim, already running; None when there is none, or when
        that upload is not of the same bytes read the same way (what one credential may read is not for
        another)."""
        if claim.tee is None:
            return None
        step, body = claim.tee
        move = load_blob(body, claim.job)
        same = (move.digest, move.size, via(move.source)) == (
            download.digest,
            download.size,
            via(download.source),
        )
        if move.destination is None or not same:
            return None
        tee = cls(context, step, claim.token, move, move.destination)
        run_beside(tee._send)
        return tee

    # --- the download's side ---------------------
    def feed(self, chunk: Chunk) -> None:
        """Hand on a chunk (copied unless it is bytes). Raises only what `watch.check` raises."""
        data = bytes(chunk)
        with self._changed:
            if not self._wait(lambda: self._state != _FEEDING or self._room(len(data)), STALL):
                self._cut("the destination does not keep up")
            if self._state == _FEEDING:
                self._chunks.append(data)
                self._waiting += len(data)
                self._changed.notify_all()

    def finish(self) -> tuple[str, str] | None:
        """(upload step, repository) once the destination holds the blob; None when the tee was cut."""
        with self._changed:
            if self._state == _FEEDING:
                self._state = _ENDED
                self._changed.notify_all()
                if not self._wait(lambda: self._sent is not None, COMMIT):
                    self._cut("the destination does not answer")
            return (self.step, self.destination.repository) if self._sent else None

    def cut(self, why: str) -> None:
        """Stop feeding; no effect after a good end."""
        with self._changed:
            if self._sent is None:
                self._cut(why)

    def _cut(self, why: str) -> None:
        if self._state != _CUT:
            log.info("the tee to %s is cut: %s", self.destination.host, why)
        self._state = _CUT
        self._stopper.stop(Cancelled("the tee was cut"))  # also where its thread waits for the destination
        self._chunks.clear()
        self._waiting = 0
        self._changed.notify_all()

    def _room(self, size: int) -> bool:
        return not self._chunks or self._waiting + size <= BUFFER_BYTES

    def _wait(self, ready: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not ready():
            self._context.watch.check()
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._changed.wait(min(left, _SLICE))
        return True

    # --- the upload's side ---------------------
    def _send(self) -> None:
        sent, why = False, "the destination has the blob already"
        try:
            with self._stopper.bound():
                sent = self._upload()
        except DistworkerError as error:
            why = str(error)
        except Exception:
            why = "an unexpected error, see the log"
            log.exception("the tee to %s failed", self.destination.host)
        finally:
            with self._changed:
                self._sent = sent and self._state != _CUT
                if not self._sent:
                    self._cut(why)
                self._changed.notify_all()

    def _upload(self) -> bool:
        move, repository = self._move, self.destination.repository
        registry = self._context.registries.client(self.destination.host, self.destination.credential)
        if registry.has_blob(repository, move.digest):
            return False
        session = registry.start_upload(repository)
        self._opened.note(session, 0)
        done = False
        try:
            registry.upload_blob(repository, move.digest, move.size, _Once(self), session)
            done = True
        finally:
            if done:
                self._opened.over()
            else:
                self._opened.end(registry)
        return True

    def _take(self) -> bytes | None:
        """The next chunk, None at the end; raises Cancelled when cut."""
        with self._changed:
            while not self._chunks and self._state == _FEEDING:
                if not self._changed.wait(SILENCE):
                    self._cut("the download stands still")
            if self._state == _CUT:
                raise Cancelled("the tee was cut")
            if not self._chunks:
                return None
            chunk = self._chunks.popleft()
            self._waiting -= len(chunk)
            self._changed.notify_all()
            return chunk


class _Once:
    """The body factory of a stream that exists once."""

    def __init__(self, tee: Tee) -> None:
        self._tee = tee
        self._used = False

    def __call__(self, offset: int) -> _Stream:
        if self._used or offset:
            raise UploadSessionLost("this pass over the blob cannot be repeated; it is sent from the store")
        self._used = True
        return _Stream(self._tee)


class _Stream:
    """The body: `len` bytes, chunk by chunk as they come."""

    def __init__(self, tee: Tee) -> None:
        self._tee = tee

    def __len__(self) -> int:
        return self._tee._move.size

    def __iter__(self) -> Iterator[Chunk]:
        while (chunk := self._tee._take()) is not None:
            yield chunk
