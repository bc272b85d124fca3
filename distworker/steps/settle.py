"""Settle the blobs of an image at its destination, so that its manifests may be put.

What a step delivered to this very repository is taken as there; anything else is asked for by HEAD. What
another image delivered to the same origin is mounted; blobs up to 64 KiB are sent from here; for the rest
the publish step asks for an upload of its own. Nothing larger ever moves inside a publish step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from distworker.errors import BlobUnknown
from distworker.limits import SMALL_BLOB
from distworker.manifest import Descriptor
from distworker.names import download_id, upload_id
from distworker.plan.build import blob_move, download_spec, repository_upload, slot
from distworker.plan.ends import End, in_store
from distworker.plan.model import MOVE, REGISTRY, STORE, BlobMove, BlobRoute, ImageTransfer
from distworker.registry.base import Registry, UploadSession
from distworker.state.base import Claim, StepSpec
from distworker.steps.base import Context
from distworker.steps.rights import prove_readable
from distworker.steps.upload import StoredBody, candidates


class Settlement:
    """One run's work on the blobs of one image. `counts` and `hints` go into the ledger when it is done."""

    def __init__(
        self, context: Context, claim: Claim, transfer: ImageTransfer, source: End, end: End
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.hints: list[tuple[str, str, str, str]] = []
        self._context = context
        self._claim = claim
        self._transfer = transfer
        self._place = transfer.destination
        self._source = source
        self._end = end

    def settle(self, blobs: Sequence[Descriptor], *, trust: bool = True) -> tuple[StepSpec, ...]:
        """The steps to wait for until every blob is there; none when all are. With `trust` off nothing
        counts as there but what a HEAD shows."""
        lacking = []
        for blob in blobs:
            self._context.watch.check()
            if trust and self._delivered(blob) == self._place.repository:
                continue
            if not self._present(blob):
                lacking.append(blob)
        if self._place.kind == STORE:
            return tuple(download_spec(self._move(blob)) for blob in lacking if not self._stays(blob))
        hinted = self._hinted(lacking)
        needs = [self._bring(blob, hinted.get(str(blob.digest), ())) for blob in lacking]
        return tuple(need for need in needs if need is not None)

    def _present(self, blob: Descriptor) -> bool:
        """In the destination; in the store also: ours to use."""
        if not self._end.has_blob(blob.digest, blob.size):
            return False
        if (
            self._place.kind == STORE
            and download_id(self._transfer.tenant, blob.digest) in self._claim.delivered
        ):
            prove_readable(self._context, self._move(blob), self._claim.delivered)
        return True

    def _bring(self, blob: Descriptor, hinted: Sequence[str]) -> StepSpec | None:
        """Mount it or send it; else the step that does."""
        move = self._move(blob)
        registry = self._context.registries.client(self._place.host, self._place.credential)
        session = None
        near = candidates(self._delivered(blob, ours=True), hinted, self._place, blob.size)
        if near:
            session = registry.mount_blob(self._place.repository, blob.digest, near)
            if session is None:
                self._arrived(blob)
                return None
        if blob.size <= SMALL_BLOB and self._send(registry, move, session):
            self.counts.update({"uploaded": blob.size, "layers": 1})
            self._arrived(blob)
            return None
        if session:
            registry.cancel_upload(session)
        if self._stays(blob):
            return None
        return repository_upload(move, self._place, stored=self._stored(blob))

    def _send(self, registry: Registry, move: BlobMove, session: UploadSession | None) -> bool:
        """Send a small blob from the store; False when the store cannot give it."""
        if not in_store(self._context.store, move.tenant, move.digest, move.size):
            return False
        try:
            prove_readable(self._context, move, self._claim.delivered)
            registry.upload_blob(
                self._place.repository,
                move.digest,
                move.size,
                lambda offset: StoredBody(self._context, move, offset),
                session,
            )
        except BlobUnknown:
            return False
        return True

    def _move(self, blob: Descriptor) -> BlobMove:
        """What an upload or download step of this image's own would do. Planning saw to it that each blob is
        counted, whatever became of it since."""
        source = self._transfer.source
        near = source.repository if source.kind == REGISTRY and source.host == self._place.host else ""
        route = BlobRoute(blob.digest, blob.size, blob.media_type, MOVE, near)
        return replace(blob_move(self._transfer, route), counted=True)

    def _delivered(self, blob: Descriptor, *, ours: bool = False) -> str:
        """The repository to which a step this one waited for brought the blob: its own first. `ours`: only
        with this image's credential, which may then read it there."""
        for repository in (self._place.repository, ""):
            said = self._claim.delivered.get(upload_id(blob.digest, self._place.host, repository), {})
            if said.get("repository") and not (ours and said.get("credential", "") != self._place.credential):
                return str(said["repository"])
        return ""

    def _hinted(self, blobs: Sequence[Descriptor]) -> Mapping[str, Sequence[str]]:
        if not blobs:
            return {}
        return self._context.knowledge.hints(*slot(self._place), [str(blob.digest) for blob in blobs])

    def _stored(self, blob: Descriptor) -> bool:
        return in_store(self._context.store, self._transfer.tenant, blob.digest, blob.size)

    def _stays(self, blob: Descriptor) -> bool:
        return blob.is_foreign and not self._source.has_blob(blob.digest, blob.size)

    def _arrived(self, blob: Descriptor) -> None:
        self.hints.append((*slot(self._place), str(blob.digest), self._place.repository))
