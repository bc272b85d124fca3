"""Download one blob into the store: registry → hash → store, once for everybody who wants it.

Nothing is visible in the store before digest and size agree. When exactly one upload waits for the blob, the
same pass also feeds it (`tee.py`); whatever happens on that side, the download goes on. What it hands on:
`via`, the way by which this run really read the blob ("" when the store had it already), and `teed`, the
upload step it finished on the way.
"""

from __future__ import annotations

from typing import Any

from distworker.blobstore.keys import blob_key
from distworker.plan.build import slot, via
from distworker.plan.codec import load_blob
from distworker.plan.ends import in_store
from distworker.plan.model import BlobMove
from distworker.registry.base import BlobRead
from distworker.state.base import Change, Claim
from distworker.state.texts import size_text
from distworker.steps.base import Answer, Context, Done
from distworker.steps.tee import Tee


def download(context: Context, claim: Claim) -> Answer:
    """See the module text.

    Raises:
        BlobUnknown, DigestMismatch, SizeMismatch and whatever else the source answers; StoreFull,
        StoreUnavailable.
    """
    move = load_blob(claim.body, claim.job)
    if in_store(context.store, move.tenant, move.digest, move.size):
        return Done("already in the store", Change(delivered={"via": ""}))
    tee = Tee.open(context, claim, move)
    try:
        registry = context.registries.client(move.source.host, move.source.credential)
        with registry.read_blob(move.source.repository, move.digest, move.size) as blob:
            _pour(context, claim, move, blob, tee)
        teed = tee.finish() if tee else None
    finally:
        if tee:
            tee.cut("the download ended")
    text = f"{size_text(move.size)} from {move.source.host}/{move.source.repository}"
    return Done(text + (f", also to {teed[1]}" if teed else ""), _change(move, tee, teed))


def _pour(context: Context, claim: Claim, move: BlobMove, blob: BlobRead, tee: Tee | None) -> None:
    total = 0
    key = blob_key(move.tenant, move.digest)
    with context.store.writer(key, move.digest, move.size, claim.token) as writer:
        for chunk in blob:
            context.watch.check()
            writer.write(chunk)
            if tee:
                tee.feed(chunk)
            total += len(chunk)
            context.watch.moved(total)
        writer.commit(blob.verified)


def _change(move: BlobMove, tee: Tee | None, teed: tuple[str, str] | None) -> Change:
    delivered: dict[str, Any] = {"via": via(move.source)}
    hints: tuple[tuple[str, str, str, str], ...] = ()
    if tee and teed:
        delivered["teed"] = list(teed)
        hints = ((*slot(tee.destination), str(move.digest), tee.destination.repository),)
    return Change(counts={"downloaded": move.size}, delivered=delivered, hints=hints)
