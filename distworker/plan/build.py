"""A plan → the change it makes in the ledger. Every edge of the work graph is drawn here and nowhere else.

    j:job ─spawns→ p:image ─→ m:image          for each image of the window
    p:image adds to m:image's barrier    u:blob@origin     for each blob the destination lacks
    u:blob@origin waits for              d:tenant/blob     unless the store has it or a mount is promised
    a publish that cannot mount what another image of its origin delivered asks for u:blob@origin/repository

Pure functions of plain values. `via` tells two ways of doing one step apart (see `StepSpec`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from distworker import names
from distworker.digest import Digest
from distworker.plan.codec import dump_blob, dump_image, dump_pinned
from distworker.plan.model import (
    MOVE,
    PRESENT,
    REGISTRY,
    STORE,
    STORED,
    BlobMove,
    BlobRoute,
    ImageTransfer,
    ImageTree,
    Place,
    PublishOrder,
)
from distworker.plan.resolve import blobs_of
from distworker.state.base import UNCHANGED, Change, Claim, Closing, StepSpec
from distworker.state.texts import ends_of


def slot(place: Place) -> tuple[str, str]:
    """(origin, credential) that work at `place` is counted under; the store has none."""
    return (place.host, place.credential) if place.kind == REGISTRY else ("", "")


def paced_by(claim: Claim) -> str:
    """The origin whose slot a step holds, from its body; "" when it holds none."""
    kind, body = names.kind_of(claim.id), claim.body
    ends = body.get("transfer", body)
    found = [ends.get("source"), ends.get("destination")]
    for end in found if kind in {names.PLAN, names.DOWNLOAD} else reversed(found):
        if end and end["kind"] == REGISTRY:
            return str(end["host"])
    return ""


def via(place: Place) -> str:
    """The way a blob is read: same way, same rights and same failures."""
    return f"{place.kind}:{place.host}/{place.repository}#{place.credential}"


def image_steps(transfer: ImageTransfer) -> tuple[StepSpec, StepSpec]:
    """The plan and the publish step of an image; the second waits for the first."""
    body = dump_image(transfer)
    asked = transfer.source if transfer.source.kind == REGISTRY else transfer.destination
    written = transfer.destination if transfer.destination.kind == REGISTRY else transfer.source
    plan = StepSpec(
        names.plan_id(transfer.id),
        transfer.job,
        body,
        transfer.priority,
        *slot(asked),
        via=via(transfer.source),
    )
    publish = StepSpec(
        names.publish_id(transfer.id),
        transfer.job,
        body,
        transfer.priority,
        *slot(written),
        via=via(transfer.destination),
        needs=(plan,),
    )
    return plan, publish


def expand_change(transfers: Sequence[ImageTransfer], total: int, cursor: int) -> Change:
    """The next images of a job; `cursor` is how many of `total` are expanded with them."""
    spawn = tuple(spec for transfer in transfers for spec in image_steps(transfer))
    return Change(spawn=spawn, total=total, cursor=cursor)


def blob_move(transfer: ImageTransfer, route: BlobRoute) -> BlobMove:
    """The work that a route means for this image."""
    return BlobMove(
        job=transfer.job,
        tenant=transfer.tenant,
        source=_repository(transfer.source),
        digest=route.digest,
        size=route.size,
        media_type=route.media_type,
        priority=transfer.priority,
        destination=_repository(transfer.destination) if transfer.destination.kind == REGISTRY else None,
        mount_from=route.mount_from,
        proven=route.route == STORED and transfer.source.kind == REGISTRY,
    )


def download_spec(move: BlobMove) -> StepSpec:
    """Bring the blob into the store."""
    body = dump_blob(replace(move, destination=None, mount_from="", proven=False))
    step = names.download_id(move.tenant, move.digest)
    return StepSpec(step, move.job, body, move.priority, *slot(move.source), via=via(move.source))


def upload_spec(move: BlobMove, destination: Place, *, download: bool, own: bool = False) -> StepSpec:
    """Bring the blob to `destination`, after its download if asked. `own`: to that very repository, because
    what another image of the origin delivers cannot be mounted there."""
    step = names.upload_id(move.digest, destination.host, destination.repository if own else "")
    # The repository too: what it refuses is no reason for the other images that share this step to fail.
    way = f"{via(move.source)}→{destination.host}/{destination.repository}#{destination.credential}"
    return StepSpec(
        step,
        move.job,
        dump_blob(replace(move, destination=destination)),
        move.priority,
        *slot(destination),
        via=way,
        needs=(download_spec(move),) if download else (),
    )


def repository_upload(move: BlobMove, destination: Place, *, stored: bool) -> StepSpec:
    """The upload step for one repository only (see `upload_spec`)."""
    wants = not stored and move.source.kind == REGISTRY
    return upload_spec(move, _repository(destination), download=wants, own=True)


def plan_change(order: PublishOrder, tree: ImageTree, routes: Sequence[BlobRoute]) -> Change:
    """What a planned image adds to the graph: its publish step learns the digest and waits for its blobs."""
    transfer = order.transfer
    specs = tuple(_blob_step(transfer, route) for route in routes if route.route != PRESENT)
    present = sum(route.size for route in routes if route.route == PRESENT)
    pinned = replace(order, loose=tuple(blob.digest for blob in tree.loose))
    publish = names.publish_id(transfer.id)
    return Change(
        wait=((publish, specs),) if specs else (),
        patch=((publish, dump_pinned(pinned)),),
        counts={"saved_present": present} if present else {},
    )


def unchanged_change(transfer: ImageTransfer, digest: Digest) -> Change:
    """The destination has it already."""
    record = outcome(transfer, digest, previous=digest)
    return Change(closing=Closing(transfer.id, UNCHANGED, record))


def outcome(
    transfer: ImageTransfer, digest: Digest, *, previous: Digest | None, tree: ImageTree | None = None
) -> dict[str, object]:
    """The record of a closed image.

    `{v, image, source, destination, digest, previous, manifests, blobs, bytes}`: both ends as text, the
    pinned digest, the digest the tag had before ("" when none), and, unless the image was unchanged, its
    whole size: the number of manifests and of unique blobs, and the bytes of both. A failed image has
    `error` instead.
    """
    record: dict[str, object] = {
        "v": names.VERSION,
        "image": transfer.id,
        **ends_of(dump_image(transfer)),
        "digest": str(digest),
        "previous": str(previous) if previous else "",
    }
    if tree is not None:
        blobs = blobs_of(tree)
        record["manifests"] = len(tree.manifests)
        record["blobs"] = len(blobs)
        record["bytes"] = sum(m.size for m in tree.manifests) + sum(b.size for b in blobs)
    return record


def _blob_step(transfer: ImageTransfer, route: BlobRoute) -> StepSpec:
    move = blob_move(transfer, route)
    if transfer.destination.kind == STORE:
        return download_spec(move)
    wants = route.route == MOVE and transfer.source.kind == REGISTRY
    return upload_spec(move, _repository(transfer.destination), download=wants)


def _repository(place: Place) -> Place:
    """A layer belongs to a repository, not to a tag."""
    return replace(place, tag="", digest=None)
