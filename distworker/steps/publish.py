"""Publish one image: blobs settled, children by digest, root by digest, tag last, read back.

Until the tag's own PUT nothing that anybody uses has changed, so a failure or a kill anywhere before it
leaves the old tag as it was, and after it the new image is complete. Every action is asked for first or
harmless when repeated. What a registry turns out to lack when it is given the manifest is brought again, a
few times.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from distworker.digest import Digest
from distworker.errors import BlobUnknown
from distworker.manifest import Descriptor, Manifest
from distworker.plan.build import outcome
from distworker.plan.codec import load_order
from distworker.plan.ends import End, kept_manifest, open_end
from distworker.plan.model import REGISTRY, ImageTree, Place, PublishOrder
from distworker.plan.refguard import Intent
from distworker.plan.resolve import Source, blobs_of, walk
from distworker.state.base import DONE, SUPERSEDED, Change, Claim, Closing, StepSpec
from distworker.state.texts import size_text
from distworker.steps.base import Answer, Block, Context, Done
from distworker.steps.lane import Lane
from distworker.steps.plan import lane_of
from distworker.steps.settle import Settlement

#: Times that what a manifest turned out to lack is brought within one run.
ROUNDS: Final = 2


def publish(context: Context, claim: Claim) -> Answer:
    """See the module text.

    Raises:
        TagImmutable, TypeRefused, Denied and whatever else either end answers; the old tag stands.
    """
    return _Publishing(context, claim, load_order(claim.body)).run()


class _Missing(Exception):
    def __init__(self, needs: tuple[StepSpec, ...]) -> None:
        super().__init__(f"{len(needs)} blobs")
        self.needs = needs


class _Publishing:
    def __init__(self, context: Context, claim: Claim, order: PublishOrder) -> None:
        transfer = order.transfer
        self._context = context
        self._order = order
        self._transfer = transfer
        self._token = claim.token
        self._source = self._open(transfer.source, source=True)
        self._end = self._open(transfer.destination)
        self._reference = transfer.destination.tag or str(order.digest)
        self._settlement = Settlement(context, claim, transfer, self._source, self._end)

    def run(self) -> Answer:
        head = self._end.head(self._reference)
        previous = head.digest if head else None
        tree = self._tree()
        lane = Lane(
            self._context, lane_of(self._transfer), self._transfer.id, self._order.sequence, self._end
        )
        if lane.overtaken(self._reference, tree.root):
            return self._close(tree, previous, SUPERSEDED)
        if previous == tree.root.digest and self._transfer.destination.kind == REGISTRY:
            kept = lane.published(self._reference, tree.root)
            return self._close(tree, previous, DONE if kept else SUPERSEDED)
        try:
            with self._undisturbed(tree):
                self._contents(tree)
                kept = lane.put(self._reference, tree.root, self._put)
        except _Missing as missing:
            return Block(f"waits for {len(missing.needs)} blobs", missing.needs)
        return self._close(tree, previous, DONE if kept else SUPERSEDED)

    def _undisturbed(self, tree: ImageTree) -> AbstractContextManager[object]:
        """A registry keeps what its manifests name; of the store's blobs some may just be collected."""
        if self._transfer.destination.kind == REGISTRY:
            return nullcontext()
        digests = [*(manifest.digest for manifest in tree.manifests), *(b.digest for b in blobs_of(tree))]
        context = self._context
        return Intent(context.store, self._transfer.tenant, digests, context.watch.check)

    def _contents(self, tree: ImageTree) -> None:
        """Everything but the tag: blobs, then manifests from the leaves up."""
        needs = self._settlement.settle(blobs_of(tree))
        if needs:
            raise _Missing(needs)
        for manifest in tree.manifests:
            self._context.watch.check()
            if self._transfer.destination.tag or manifest is not tree.root:
                self._put(str(manifest.digest), manifest)

    def _put(self, reference: str, manifest: Manifest) -> None:
        for left in range(ROUNDS, -1, -1):
            try:
                self._end.put(reference, manifest)
            except BlobUnknown as error:
                if not left:
                    raise
                self._bring(manifest, error)
            else:
                return

    def _bring(self, manifest: Manifest, error: BlobUnknown) -> None:
        """Bring what is missing. External layers that nobody has leave only the registry's refusal."""
        absent = [blob for blob in manifest.blobs if not self._end.has_blob(blob.digest, blob.size)]
        needs = self._settlement.settle(absent, trust=False)
        if needs:
            raise _Missing(needs)
        if any(not self._end.has_blob(blob.digest, blob.size) for blob in absent):
            raise error
        for child in manifest.children:
            if child.digest not in self._order.loose and self._end.head(str(child.digest)) is None:
                self._end.put(str(child.digest), self._manifest(child))

    # --- the tree ---------------------
    def _tree(self) -> ImageTree:
        """As planned, from the store; what was collected there meanwhile comes from the source again."""
        root = self._stored(self._order.digest, self._order.media_type)
        return walk(root, self._below)

    def _below(self, child: Descriptor) -> Manifest | None:
        return None if child.digest in self._order.loose else self._manifest(child)

    def _manifest(self, child: Descriptor) -> Manifest:
        return self._stored(child.digest, child.media_type)

    def _stored(self, digest: Digest, media_type: str) -> Manifest:
        tenant = self._transfer.tenant
        kept = kept_manifest(self._context.store, tenant, digest, media_type)
        return kept or Source(self._source, self._context.store, tenant, self._token).refetch(
            digest, media_type
        )

    # --- the end ---------------------
    def _close(self, tree: ImageTree, previous: Digest | None, state: str) -> Done:
        record = outcome(self._transfer, tree.root.digest, previous=previous, tree=tree)
        change = Change(
            counts=dict(self._settlement.counts),
            hints=tuple(self._settlement.hints),
            closing=Closing(self._transfer.id, state, record),
        )
        return Done(_text(tree, self._reference, state), change)

    def _open(self, place: Place, source: bool = False) -> End:
        context, tenant = self._context, self._transfer.tenant
        return open_end(context.registries, context.store, tenant, place, self._token, source=source)


def _text(tree: ImageTree, reference: str, state: str) -> str:
    if state == SUPERSEDED:
        return f"superseded: a later image has {reference}"
    return f"{reference} is {tree.root.digest}, {_parts(tree.manifests)}"


def _parts(manifests: Sequence[Manifest]) -> str:
    size = sum(manifest.size for manifest in manifests)
    return f"{len(manifests)} manifests, {size_text(size)}"
