"""Download one blob into the store: registry → hash → store, once for everybody who wants it.

Nothing is visible in the store before digest and size agree. When exactly one upload waits for the blob, the
same pass also feeds it (`tee.py`); whatever happens on that side, the download goes on. What it hands on:
`via`, the way by which this run really read the blob ("" when the store had it already), and `teed`, the
upload step it finished on the way.

Wrong bytes of a clean read are read once more, on a connection of their own and for the store only; what is
wrong twice is wrong. Blobs of one chunk were read twice by the registry port already.
"""

from __future__ import annotations

import logging
from typing import Any

from distworker.blobstore.keys import blob_key
from distworker.errors import DigestMismatch, SizeMismatch
from distworker.plan.build import slot, via
from distworker.plan.codec import load_blob
from distworker.plan.ends import in_store
from distworker.plan.model import BlobMove
from distworker.state.base import Change, Claim
from distworker.state.texts import size_text
from distworker.steps.base import Answer, Context, Done
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
    tee = Tee.open(context, claim, move)
    try:
        _read(context, claim, move, tee)
        teed = tee.finish() if tee else None
    finally:
        if tee:
            tee.cut("the download ended")
    text = f"{size_text(move.size)} from {move.source.host}/{move.source.repository}"
    return Done(text + (f", also to {teed[1]}" if teed else ""), _change(move, tee, teed))


def _read(context: Context, claim: Claim, move: BlobMove, tee: Tee | None) -> None:
    pour = _Pour(context, claim, move)
    try:
        pour.run(tee)
    except (DigestMismatch, SizeMismatch) as error:
        if not pour.total:
            raise
        if tee:
            tee.cut("the source sent wrong bytes")
        log.warning("%s; it is read once more", error)
        pour.run(None)


class _Pour:
    """One reading, and `total`: the bytes it handed on before it ended."""

    def __init__(self, context: Context, claim: Claim, move: BlobMove) -> None:
        self.total = 0
        self._context = context
        self._token = claim.token
        self._move = move

    def run(self, tee: Tee | None) -> None:
        context, move = self._context, self._move
        registry = context.registries.source(move.source.host, move.source.credential)
        key = blob_key(move.tenant, move.digest)
        self.total = 0
        with (
            registry.read_blob(move.source.repository, move.digest, move.size) as blob,
            context.store.writer(key, move.digest, move.size, self._token) as writer,
        ):
            for chunk in blob:
                context.watch.check()
                writer.write(chunk)
                if tee:
                    tee.feed(chunk)
                self.total += len(chunk)
                context.watch.moved(self.total)
            writer.commit(blob.verified)


def _change(move: BlobMove, tee: Tee | None, teed: tuple[str, str] | None) -> Change:
    delivered: dict[str, Any] = {"via": via(move.source)}
    hints: tuple[tuple[str, str, str, str], ...] = ()
    if tee and teed:
        delivered["teed"] = list(teed)
        hints = ((*slot(tee.destination), str(move.digest), tee.destination.repository),)
    return Change(counts={"downloaded": move.size}, delivered=delivered, hints=hints)
