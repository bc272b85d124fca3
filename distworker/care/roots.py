"""Which blobs are needed: everything below a ref, what running jobs work on, and what a writer announced.

`look` may be called again and again: it reads only the refs that are new or changed since, so that the
collector can ask right before each deletion. Refs that cannot be read, or whose manifests cannot, are
`unreadable`: what they need is not known, so nothing may be deleted while there is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from distworker.blobstore.base import BlobStore
from distworker.blobstore.keys import care_key
from distworker.care.digestset import DigestSet
from distworker.care.refs import Ref, below, head_of, kept, refs
from distworker.digest import Digest
from distworker.errors import (
    DistworkerError,
    InfrastructureError,
    InvalidReference,
    ManifestUnknown,
    UnsupportedDigest,
)
from distworker.manifest import Manifest
from distworker.plan.refguard import intended

#: The steps of running jobs that name blobs: download, upload, publish.
KINDS: Final = "dum"
#: A ref younger than this, in seconds, is read at each look: stores tell whole seconds only.
_YOUNG: Final = 10.0

#: Ids and bodies of unfinished steps.
Steps = Callable[[], Iterable[tuple[str, Mapping[str, Any]]]]


def no_steps() -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Nobody else works on this store."""
    return ()


class Roots:
    """What is needed, as far as it was looked at. `kept` are digests, `read` manifests whose content was
    followed, `known` refs that were; all three can be kept in pieces (see `DigestSet`)."""

    def __init__(self, store: BlobStore, tenant: str, steps: Steps = no_steps) -> None:
        self.needed = DigestSet()
        self.read = DigestSet()
        self.known = DigestSet()
        self.refs = 0
        self.broken: list[str] = []  #: refs below which something is missing
        self.unreadable: list[str] = []
        self._store = store
        self._tenant = tenant
        self._steps = steps

    def now(self) -> float:
        """The store's clock."""
        key = care_key(self._tenant, "clock")
        self._store.put_bytes(key, b"")
        found = self._store.stat(key)
        return found.modified if found is not None else 0.0

    def look(self, go_on: Callable[[], bool] = lambda: True) -> bool:
        """Take in everything that is needed now; False when `go_on` said no before the end."""
        now = self.now()
        # The order of refguard: who took its intent back has written its ref.
        for digest in intended(self._store, self._tenant, now):
            self._digest(digest)
        for step, body in self._steps():
            self._step(step, body)
        self.refs, self.broken, self.unreadable = 0, [], []
        for ref in refs(self._store, self._tenant):
            self.refs += 1
            mark = hashlib.sha256(f"{ref.key} {ref.modified!r} {ref.size}".encode()).hexdigest()
            if mark in self.known:
                continue
            if not go_on():
                return False
            if self._whole(ref) and ref.modified < now - _YOUNG:
                self.known.add(mark)
        return True

    def _whole(self, ref: Ref) -> bool:
        try:
            head = head_of(self._store, ref)
            if head is None or self._walk(head.digest, head.media_type):
                return True
            self.broken.append(ref.name)
        except InfrastructureError:
            raise
        except DistworkerError as error:
            self.unreadable.append(f"{ref.name}: {error.message}")
        return False

    def _step(self, step: str, body: Mapping[str, Any]) -> None:
        digest = self._digest(body.get("digest"))
        for loose in body.get("loose", ()):
            self._digest(loose)
        if digest is not None and step.startswith("m:"):
            try:
                self._walk(digest, str(body.get("media_type", "")))
            except InfrastructureError:
                raise
            except DistworkerError as error:
                self.unreadable.append(f"{step}: {error.message}")

    def _digest(self, text: object) -> Digest | None:
        try:
            digest = Digest.parse(text)
        except (InvalidReference, UnsupportedDigest):
            return None
        self.needed.add(digest.hex)
        return digest

    def _walk(self, digest: Digest, media_type: str) -> bool:
        """Take in a manifest and everything below it; False when a manifest is missing."""
        self.needed.add(digest.hex)
        if digest.hex in self.read:
            return True
        root = kept(self._store, self._tenant, digest, media_type)
        if root is None:
            return False
        whole, stack, seen = True, [root], set()
        while stack:
            manifest = stack.pop()
            if manifest.digest in seen:
                continue
            seen.add(manifest.digest)
            for blob in manifest.blobs:
                self.needed.add(blob.digest.hex)
            for child in self._children(manifest):
                if child is None:
                    whole = False
                else:
                    stack.append(child)
        if whole:  # else what is missing may come back, and more with it
            for found in seen:
                self.read.add(found.hex)
        return whole

    def _children(self, manifest: Manifest) -> Iterable[Manifest | None]:
        """The manifests below; None for one that is missing. What the manifest is about (its subject) is kept
        too if it is there."""
        for entry in (*manifest.children, *((manifest.subject,) if manifest.subject else ())):
            self.needed.add(entry.digest.hex)
            if entry.digest.hex in self.read:
                continue
            try:
                found = below(self._store, self._tenant, entry)
            except ManifestUnknown:
                if entry is not manifest.subject:
                    yield None
                continue
            if found is not None:
                yield found
