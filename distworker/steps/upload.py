"""Upload one blob: does the destination have it? can it be mounted? else store → destination.

The body is opened anew from the store for each try. When the store lacks the blob, or turns out to keep
damaged bytes, the step gives itself back until a download brought it. A copy that others left in the store
is used only with a right to it (`rights.py`). What it hands on: the repository it delivered to, a candidate
for mounts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from distworker.blobstore.keys import blob_key
from distworker.digest import Hasher
from distworker.errors import (
    BlobUnknown,
    DigestMismatch,
    DistworkerError,
    Draining,
    InvalidRequest,
    Lost,
    SizeMismatch,
)
from distworker.limits import SMALL_BLOB
from distworker.names import download_id
from distworker.plan.build import download_spec, slot
from distworker.plan.codec import load_blob
from distworker.plan.compare import likeness
from distworker.plan.ends import in_store
from distworker.plan.model import REGISTRY, BlobMove, Place
from distworker.registry.base import Chunk, Registry, UploadSession
from distworker.state.base import Change, Claim
from distworker.state.texts import size_text
from distworker.steps.base import Answer, Block, Context, Done
from distworker.steps.opensessions import OpenSessions
from distworker.steps.rights import prove_readable

#: Repositories that a large blob is tried to be mounted from.
MOUNTS: Final = 4


def upload(context: Context, claim: Claim) -> Answer:
    """See the module text.

    Raises:
        BlobUnknown: neither the store nor a registry source has it; whatever the destination answers.
    """
    move = load_blob(claim.body, claim.job)
    if move.destination is None:
        raise InvalidRequest("body.destination: missing", field="body.destination")
    place = move.destination
    opened = OpenSessions(context, claim.id, claim.token, move, place)
    try:
        answer = _upload(context, claim, move, place, opened)
    except (Lost, Draining):
        raise  # what it left open is for the next run
    except Exception:
        opened.end(context.registries.client(place.host, place.credential))
        raise
    opened.over()
    return answer


def _upload(context: Context, claim: Claim, move: BlobMove, place: Place, opened: OpenSessions) -> Answer:
    registry = context.registries.client(place.host, place.credential)
    session = opened.left(registry)
    if registry.has_blob(place.repository, move.digest):
        if session:
            registry.cancel_upload(session)
        return _done(move, place, "already there", _saved(claim, move, "saved_present"))
    # A session that an earlier run left was opened after the mounts were tried.
    near = _near(context, claim, move, place) if session is None else []
    if near:
        session = registry.mount_blob(place.repository, move.digest, near)
        if session is None:
            text = f"mounted from {' or '.join(near)}"
            return _done(move, place, text, _saved(claim, move, "saved_mounted"))
        opened.note(session, 0)
    if not in_store(context.store, move.tenant, move.digest, move.size):
        return _without(registry, session, move)
    return _send(context, claim, move, registry, session, opened)


def _near(context: Context, claim: Claim, move: BlobMove, place: Place) -> list[str]:
    """The repositories to mount from. Hints are asked now, not only when the image was planned: another
    image's upload may have ended in between, and the blob would be sent a second time."""
    hinted = context.knowledge.hints(*slot(place), [str(move.digest)]).get(str(move.digest), ())
    # Once a download was waited for, the planned mount had been refused.
    planned = "" if _downloaded(claim, move) else move.mount_from
    return candidates(planned, [name for name in hinted if name != move.mount_from], place, move.size)


def candidates(first: str, others: Iterable[str], place: Place, size: int) -> list[str]:
    """Repositories to mount a blob of `size` bytes from, the likeliest first: `first` if there is one, then
    those most like the destination. A small blob is sent sooner than a second one is asked."""
    ordered = sorted(others, key=lambda name: -likeness(name, place.repository))
    names = [name for name in dict.fromkeys([first, *ordered]) if name and name != place.repository]
    return names[: MOUNTS if size > SMALL_BLOB else 1]


def _downloaded(claim: Claim, move: BlobMove) -> bool:
    return download_id(move.tenant, move.digest) in claim.delivered


def _saved(claim: Claim, move: BlobMove, name: str) -> dict[str, int]:
    """What this blob saved, unless its download was counted already (the rule of `JobView`)."""
    return {} if move.counted or _downloaded(claim, move) else {name: move.size}


class StoredBody:
    """A body read from the store, from `offset` on; raises BlobUnknown when the object is gone."""

    def __init__(self, context: Context, move: BlobMove, offset: int = 0) -> None:
        self._context = context
        self._move = move
        self._offset = offset

    def __len__(self) -> int:
        return self._move.size - self._offset

    def __iter__(self) -> Iterator[Chunk]:
        total, key = self._offset, blob_key(self._move.tenant, self._move.digest)
        try:
            with self._context.store.open(key, self._offset) as chunks:
                for chunk in chunks:
                    self._context.watch.check()
                    yield chunk
                    total += len(chunk)
                    self._context.watch.moved(total)
        except FileNotFoundError:
            raise BlobUnknown(
                f"blob {self._move.digest} left the store while it was being sent", phase="read store"
            ) from None


def _send(
    context: Context,
    claim: Claim,
    move: BlobMove,
    registry: Registry,
    session: UploadSession | None,
    opened: OpenSessions,
) -> Answer:
    place = move.destination or move.source
    try:
        prove_readable(context, move, claim.delivered)
    except DistworkerError:
        if session:
            registry.cancel_upload(session)
        raise
    try:
        registry.upload_blob(
            place.repository,
            move.digest,
            move.size,
            lambda offset: StoredBody(context, move, offset),
            session,
            opened.note,
        )
    except (BlobUnknown, DigestMismatch, SizeMismatch):
        if _usable(context, move):
            raise
        return _without(registry, None, move)
    stored = _saved(claim, move, "saved_stored") if move.source.kind == REGISTRY else {}
    counts = {"uploaded": move.size, "layers": 1, **stored}
    return _done(move, place, f"{size_text(move.size)} to {place.host}/{place.repository}", counts)


def _usable(context: Context, move: BlobMove) -> bool:
    """Reread the store's copy after the destination refused it; a damaged one is removed."""
    hasher = Hasher(move.digest, move.size)
    try:
        for chunk in StoredBody(context, move):
            hasher.update(chunk)
        hasher.verify()
    except BlobUnknown:
        return False
    except (DigestMismatch, SizeMismatch):
        context.store.delete(blob_key(move.tenant, move.digest))
        return False
    return True


def _without(registry: Registry, session: UploadSession | None, move: BlobMove) -> Answer:
    """The store lacks it: wait for a download."""
    if session:
        registry.cancel_upload(session)
    if move.source.kind != REGISTRY:
        raise BlobUnknown(f"the store lacks blob {move.digest} of this image; pull the image again")
    return Block("waits for its download", (download_spec(replace(move, mount_from="")),))


def _done(move: BlobMove, place: Place, text: str, counts: dict[str, int]) -> Done:
    return Done(
        text,
        Change(
            counts=counts,
            delivered={"repository": place.repository, "credential": place.credential},
            hints=((*slot(place), str(move.digest), place.repository),),
        ),
    )
