"""The upload sessions of one step: written down while they are open, found again by its next run.

What an earlier run of the step left is handed to the upload, which goes on with it where that is sound; all
others are cancelled. Blobs that are sent in no time have none written down: their sessions hold nothing, and
registries forget them by themselves.
"""

from __future__ import annotations

import time

from distworker.errors import DistworkerError, Lost, StateUnavailable
from distworker.limits import SMALL_BLOB
from distworker.plan.model import BlobMove, Place
from distworker.registry.base import Registry, UploadSession
from distworker.state.sessions import KeptSession
from distworker.steps.base import Context


class OpenSessions:
    """Those of the upload step `step` to `place`, run under the claim `token`."""

    def __init__(self, context: Context, step: str, token: str, move: BlobMove, place: Place) -> None:
        self._context = context
        self._step = step
        self._token = token
        self._place = place
        self._worth = move.size > SMALL_BLOB
        self._noted: UploadSession | None = None

    def left(self, registry: Registry) -> UploadSession | None:
        """The newest session of an earlier run, if it is of the same place; the others are cancelled."""
        found: UploadSession | None = None
        known = self._context.sessions.of(self._step) if self._worth else ()
        others = [kept for kept in known if kept.token != self._token]
        if others:
            self._context.watch.fence()  # they may be a successor's, if this worker was frozen
        for kept in others:
            session = UploadSession(kept.repository, kept.location, kept.min_chunk, begun=True)
            here = (kept.host, kept.credential, kept.repository)
            if found is None and here == (self._place.host, self._place.credential, self._place.repository):
                found = session
                self.note(session, 0)
            elif not self._context.registries.client(kept.host, kept.credential).cancel_upload(session):
                continue  # left to the next run, or to the sweep
            self._context.sessions.drop(self._step, kept.token)
        return found

    def note(self, session: UploadSession, held: int) -> None:
        """A session as it now is, and the bytes in it."""
        if session == self._noted and not held:
            return
        self._noted = session
        if not self._worth:
            return
        if held:
            self._context.watch.kept(held)
        self._context.sessions.keep(
            KeptSession(
                step=self._step,
                token=self._token,
                host=self._place.host,
                credential=self._place.credential,
                repository=session.repository,
                location=session.location,
                min_chunk=session.min_chunk,
                started=time.time(),
            )
        )

    def over(self) -> None:
        """None is open any more."""
        if self._noted is not None and self._worth:
            self._context.sessions.drop(self._step, self._token)

    def end(self, registry: Registry) -> None:
        """The run failed: take back what it opened. What the registry could not be told, because it is not
        there, stays written down for the next run and for the sweep."""
        if self._noted is not None and self.ours() and registry.cancel_upload(self._noted):
            self.over()

    def ours(self) -> bool:
        """May this run still take its sessions back? Whoever has its step now may have gone on with them."""
        try:
            self._context.watch.fence()
        except (Lost, StateUnavailable):
            return False
        except DistworkerError:
            pass  # it was stopped for another reason
        return True
