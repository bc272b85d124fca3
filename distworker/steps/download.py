"""Download one blob into the store: registry → hash → store, once for everybody who wants it.

Nothing is visible in the store before digest and size agree. When exactly one upload waits for the blob, the
same pass also feeds it (`tee.py`); whatever happens on that side, the download goes on. What it hands on:
`via`, the way by which this run really read the blob ("" when the store had it already), and `teed`, the
upload step it finished on the way.

A run that was stopped, or failed in a way that passes, leaves what it has for the next one, which goes on at
that byte. Wrong bytes are read once more, from the start, on a connection of their own and for the store
only; what is wrong twice is wrong. Blobs of one chunk were read twice by the registry port already.
"""

from __future__ import annotations

import logging
from typing import Any

from distworker.blobstore.base import BlobWriter
from distworker.blobstore.keys import blob_key
from distworker.errors import DigestMismatch, DistworkerError, SizeMismatch, StoreFull
from distworker.plan.build import slot, via
from distworker.plan.codec import load_blob
from distworker.plan.ends import in_store
from distworker.plan.model import BlobMove
from distworker.state.base import Change, Claim
from distworker.state.texts import size_text
from distworker.steps.base import Answer, Context, Done, Watch
from distworker.steps.tee import Tee

log = logging.getLogger(__name__)


def download(context: Context, claim: Claim) -> Answer:
    """See the module text.

    Raises:
        BlobUnknown, DigestMismatch, SizeMismatch and whatever else the source answers; StoreFull,
        StoreUnavailable.
    """
    move = load_blob(claim.body, claim.job)
    if in_store(context.store, move.tenant, move.digest, move.size):
        counts = {} if move.counted else {"saved_stored": move.size}
        return Done("already in the store", Change(counts=counts, delivered={"via": ""}))
    pour = _Pour(context, claim, move)
    try:
        pour.run()
        teed = pour.tee.finish() if pour.tee else None
    finally:
        pour.cut("the download ended")
    text = f"{size_text(move.size)} from {move.source.host}/{move.source.repository}"
    if pour.resumed:
        text += f", the first {size_text(pour.resumed)} by an earlier run"
    return Done(text + (f", also to {teed[1]}" if teed else ""), _change(move, pour.tee, teed))


class _Pour:
    """The reading of one blob. `total`: the bytes that are in the writer; `resumed`: of these, what an
    earlier run had brought."""

    def __init__(self, context: Context, claim: Claim, move: BlobMove) -> None:
        self.total = self.resumed = 0
        self.tee: Tee | None = None
        self._context = context
        self._claim = claim
        self._move = move

    def run(self) -> None:
        """Bring the blob into the store; wrong bytes are read once more, from the start."""
        try:
            self._read(resume=True)
        except (DigestMismatch, SizeMismatch) as error:
            if not self.total:
                raise
            self.cut("the source sent wrong bytes")
            log.warning("%s; it is read once more", error)
            self._read(resume=False)

    def cut(self, why: str) -> None:
        """The tee, if there is one, gets no more."""
        if self.tee:
            self.tee.cut(why)

    def _read(self, resume: bool) -> None:
        context, move = self._context, self._move
        key = blob_key(move.tenant, move.digest)
        with context.store.writer(key, move.digest, move.size, self._claim.token, resume) as writer:
            self.total = self.resumed = writer.hasher.seen
            context.watch.moved(self.total)
            context.watch.kept(writer.kept)
            if resume and not self.total:
                # A tee needs the whole blob: what is gone on with is sent from the store.
                self.tee = Tee.open(context, self._claim, move)
            try:
                self._stream(writer)
            except DistworkerError as error:
                if _passes(context.watch, error):
                    writer.keep()
                raise

    def _stream(self, writer: BlobWriter) -> None:
        context, move = self._context, self._move
        registry = context.registries.source(move.source.host, move.source.credential)
        with registry.read_blob(move.source.repository, move.digest, move.size, writer.hasher) as blob:
            for chunk in blob:
                context.watch.check()
                writer.write(chunk)
                if self.tee:
                    self.tee.feed(chunk)
                self.total += len(chunk)
                context.watch.moved(self.total)
                context.watch.kept(writer.kept)
            writer.commit(blob.verified)


def _passes(watch: Watch, error: DistworkerError) -> bool:
    """Will this step be run again, so that what is in the store already is of use? Wrong bytes never are."""
    try:
        watch.check()
    except DistworkerError as stop:
        error = stop  # a connection that was hung up fails in many ways
    # A full store is waited for; giving up the bytes would read them all again at each try.
    again = error.retry or isinstance(error, StoreFull)
    return again and not isinstance(error, DigestMismatch | SizeMismatch)


def _change(move: BlobMove, tee: Tee | None, teed: tuple[str, str] | None) -> Change:
    delivered: dict[str, Any] = {"via": via(move.source)}
    hints: tuple[tuple[str, str, str, str], ...] = ()
    if tee and teed:
        delivered["teed"] = list(teed)
        hints = ((*slot(tee.destination), str(move.digest), tee.destination.repository),)
    return Change(counts={"downloaded": move.size}, delivered=delivered, hints=hints)
