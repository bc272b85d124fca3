"""Plan one image: HEAD both sides, pin, resolve the tree, ask the destination what it has, draw the graph.

An image whose destination has the pinned digest already ends here. A tag that moves while its image is read,
so that part of it is gone, is resolved once more. Nothing is written to any registry; what is written to the
store (manifests under their digests) is harmless when this run is repeated or lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distworker.digest import Digest
from distworker.errors import ManifestUnknown
from distworker.plan.build import plan_change, slot, unchanged_change
from distworker.plan.codec import load_image
from distworker.plan.compare import Comparison
from distworker.plan.ends import End, open_end
from distworker.plan.model import REGISTRY, ImageTransfer, ImageTree, Place, PublishOrder
from distworker.plan.resolve import Source, blobs_of, choose, kept_whole, walk
from distworker.plan.select import require_version
from distworker.state.base import Claim
from distworker.steps.base import Answer, Context, Done


def plan(context: Context, claim: Claim) -> Answer:
    """See the module text."""
    transfer = load_image(claim.body)
    source = _open(context, transfer, transfer.source, claim)
    destination = _open(context, transfer, transfer.destination, claim)
    require_version(transfer.source, source)
    manifests = Source(source, context.store, transfer.tenant, claim.token)
    pinned = manifests.pin(transfer.source)
    if not transfer.platforms and _unchanged(context, destination, transfer, pinned):
        return Done(f"unchanged at {pinned}", unchanged_change(transfer, pinned))
    try:
        tree = _resolve(transfer, manifests, pinned)
    except ManifestUnknown:
        moved = manifests.moved(transfer.source, pinned)
        if moved is None:
            raise
        pinned = moved
        tree = _resolve(transfer, manifests, pinned)
    root = tree.root
    asked = root.digest == pinned and not transfer.platforms
    if not asked and _unchanged(context, destination, transfer, root.digest):
        return Done(f"unchanged at {root.digest}", unchanged_change(transfer, root.digest))
    order = PublishOrder(transfer, root.digest, root.media_type, sequence=_sequence(context, transfer))
    comparison = Comparison(
        transfer,
        source=source,
        destination=destination,
        store=context.store,
        hints=lambda digests: _hints(context, transfer, digests),
        check=context.watch.check,
    )
    routes = comparison.routes(blobs_of(tree))
    return Done(
        _text(len(tree.manifests), [route.route for route in routes]), plan_change(order, tree, routes)
    )


def _resolve(transfer: ImageTransfer, manifests: Source, pinned: Digest) -> ImageTree:
    """What is to be copied, with everything below it."""
    root = manifests.root(transfer.source, pinned)
    where = f"{transfer.source.host}/{transfer.source.repository}"
    child = choose(root, transfer.platforms, where)
    if child is not None:
        root = manifests.fetch(child) or root
    return walk(root, manifests.fetch)


def lane_of(transfer: ImageTransfer) -> str:
    """The lane of the destination's tag; "" when the destination is named by digest alone."""
    place = transfer.destination
    if not place.tag:
        return ""
    origin = place.host if place.kind == REGISTRY else f"store/{transfer.tenant}/{place.host}"
    return f"{origin}/{place.repository}:{place.tag}"


def _open(context: Context, transfer: ImageTransfer, place: Place, claim: Claim) -> End:
    source = place is transfer.source
    return open_end(context.registries, context.store, transfer.tenant, place, claim.token, source=source)


def _unchanged(context: Context, destination: End, transfer: ImageTransfer, digest: Digest) -> bool:
    """The tag leads there already, and no older image will take it elsewhere after this one has ended.

    One that drew a number in the tag's lane may be about to. Then this image takes part: what is there counts
    as its publish, and the tag is read again. An older PUT before that is seen, a later one sees us.
    """
    if not _has(context, destination, transfer, digest):
        return False
    lane = lane_of(transfer)
    if not lane or not context.knowledge.lane_busy(lane):
        return True
    note = {"image": transfer.id, "digest": str(digest)}
    context.knowledge.lane_published(lane, _sequence(context, transfer), note)
    return _has(context, destination, transfer, digest)


def _has(context: Context, destination: End, transfer: ImageTransfer, digest: Digest) -> bool:
    head = destination.head(transfer.destination.tag or str(digest))
    if head is None or head.digest != digest:
        return False
    # A registry keeps what its manifests name; the store's blobs come and go on their own.
    return transfer.destination.kind == REGISTRY or kept_whole(context.store, transfer.tenant, digest)


def _sequence(context: Context, transfer: ImageTransfer) -> int:
    """Taken right after the tag was read: who read it later holds the newer content and wins the lane."""
    lane = lane_of(transfer)
    return context.knowledge.lane_begin(lane, transfer.id) if lane else 0


def _hints(context: Context, transfer: ImageTransfer, digests: Sequence[str]) -> Mapping[str, Sequence[str]]:
    return context.knowledge.hints(*slot(transfer.destination), digests)


def _text(manifests: int, routes: list[str]) -> str:
    shares = [
        f"{routes.count(name)} {name}" for name in ("present", "mount", "stored", "move") if name in routes
    ]
    return f"{manifests} manifests, {len(routes)} blobs: {', '.join(shares) or 'none'}"
