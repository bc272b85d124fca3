"""How whoever writes a ref into the store and the collector of unused blobs keep out of each other's way.

A ref may come to need a blob that nobody needed a moment ago and that is about to be deleted. So both say
what they mean to do before they look, each in a record of its own:

    the writer      1. its intent: every digest of the image
                    2. looks for sentences that name one of them, and waits until these are over
                    3. looks whether all is there    4. writes the ref    5. takes the intent back
    the collector   1. its sentence: the digests of one batch
                    2. reads intents, then refs, and spares what they need
                    3. deletes the rest, within half the life of a sentence    4. takes the sentence back

Whichever came first: either the collector reads the intent, or the ref that followed it, or the writer sees
the sentence and looks only after it was carried out. So a ref never names a blob that is being deleted.
What remains: a collector that is frozen for half the life of a sentence just between its look at the clock
and one deletion. `scrub` finds what such a deletion took, and brings it again.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from types import TracebackType
from typing import Final, Self

from distworker.blobstore.base import BlobStore, StoredObject
from distworker.blobstore.keys import care_key
from distworker.digest import Digest
from distworker.limits import MIB, TREE_BLOBS_MAX, TREE_MANIFESTS_MAX
from distworker.names import VERSION
from distworker.plan.fields import load_object

#: Seconds after which a sentence is not carried out any more, whatever became of its collector.
LIFE: Final = 30.0
#: Seconds after which an intent is a dead writer's; sentences are read no more long before.
INTENT_LIFE: Final = 24 * 3600.0
#: Digests of one sentence.
BATCH: Final = 200

_POLL_SECONDS: Final = 0.5
#: An intent names each digest of the largest image, none longer than sha512.
_RECORD_MAX: Final = (TREE_BLOBS_MAX + TREE_MANIFESTS_MAX) * 160 + MIB


class Intent:
    """A writer's side, as a context around everything from its look at the blobs to the ref.

    `check` is called while it waits; it may raise to end the waiting.
    """

    def __init__(
        self,
        store: BlobStore,
        tenant: str,
        digests: Collection[Digest],
        check: Callable[[], None] = lambda: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._tenant = tenant
        self._digests = frozenset(digests)
        self._check = check
        self._pause = pause
        self._key = care_key(tenant, f"intents/{secrets.token_hex(8)}")

    def __enter__(self) -> Self:
        self._store.put_bytes(self._key, _dump(sorted(self._digests)))
        try:
            self._wait()
        except BaseException:
            self._store.delete(self._key)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._store.delete(self._key)

    def _wait(self) -> None:
        """Until no sentence that stands names a blob of ours."""
        for sentence in list(self._store.list(_prefix(self._tenant, "sentences"))):
            ours = self._store.stat(self._key)
            waited = ours.modified - sentence.modified if ours else 0.0  # both by the store's clock
            while waited < LIFE and self._concerns(sentence):
                self._check()
                self._pause(_POLL_SECONDS)
                waited += _POLL_SECONDS

    def _concerns(self, sentence: StoredObject) -> bool:
        data = self._store.get_bytes(sentence.key, _RECORD_MAX)
        return data is not None and not self._digests.isdisjoint(_load(data))


class Sentence:
    """The collector's side: what it is about to delete, until it leaves the context.

    `in_time` says whether it may still be carried out; ask right before each deletion.
    """

    def __init__(
        self,
        store: BlobStore,
        tenant: str,
        digests: Sequence[Digest],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._clock = clock
        self._digests = digests
        self._key = care_key(tenant, f"sentences/{secrets.token_hex(8)}")
        self._end = 0.0

    def __enter__(self) -> Self:
        # From before it can be read, so that its readers never stop waiting earlier than we stop deleting.
        self._end = self._clock() + LIFE / 2
        self._store.put_bytes(self._key, _dump(self._digests))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._store.delete(self._key)

    def in_time(self) -> bool:
        """False when this took so long that writers no longer wait for it."""
        return self._clock() < self._end


def intended(store: BlobStore, tenant: str, now: float) -> Iterator[str]:
    """Every digest that a living writer is about to need; `now` is the store's clock."""
    for found in store.list(_prefix(tenant, "intents")):
        if found.modified > now - INTENT_LIFE:
            yield from _load(store.get_bytes(found.key, _RECORD_MAX) or b"[]")


def forget_dead(store: BlobStore, tenant: str, now: float) -> int:
    """Remove the records of writers and collectors that died long ago; returns how many."""
    count = 0
    for kind, life in (("intents", INTENT_LIFE), ("sentences", 10 * LIFE)):
        for found in list(store.list(_prefix(tenant, kind))):
            if found.modified <= now - life:
                store.delete(found.key)
                count += 1
    return count


def _prefix(tenant: str, kind: str) -> str:
    return care_key(tenant, kind) + "/"


def _dump(digests: Sequence[str]) -> bytes:
    return json.dumps({"v": VERSION, "digests": list(digests)}).encode()


def _load(data: bytes) -> Sequence[str]:
    try:
        record = load_object(data)
        return [str(digest) for digest in record["digests"]]
    except (ValueError, KeyError, TypeError):
        return ()
