"""The sweep of leftovers: what killed runs began and nobody will end, at registries and in the store.

Three things outlive a run so that the next one can go on with them: unfinished writes, the records beside
them, and upload sessions. Each belongs to a step; while that step is open, whatever its state, they are left
to it. What is older than `GRACE` and belongs to no open step is taken back. Its writer may only be asleep: so
whether somebody went on with it is looked up again right before, and a writer whose ground is taken away
fails with one typed error and shows nothing.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from distworker.blobstore.base import BlobStore, Unfinished
from distworker.blobstore.keys import partial_key, staged_prefix
from distworker.errors import DistworkerError
from distworker.names import download_id
from distworker.registry.base import Registries, UploadSession
from distworker.state.sessions import KeptSession
from distworker.steps.base import Sessions

log = logging.getLogger(__name__)

#: Seconds in which every live writer and every session shows a sign of life, and clocks may differ.
GRACE: Final = 3600.0
#: Things looked at together: the steps that are open are listed once for them.
BATCH: Final = 500

#: What a sweep asks of the ledger: the ids of all open upload and download steps, now.
OpenSteps = Callable[[], Iterable[str]]


def sweep_leftovers(
    store: BlobStore,
    sessions: Sessions,
    registries: Registries,
    open_steps: OpenSteps,
    *,
    tenants: Sequence[str],
    alive: Callable[[], None] = lambda: None,
    grace: float = GRACE,
    now: Callable[[], float] = time.time,
) -> Mapping[str, int]:
    """Take back what nobody will end; how many of each was. `alive` is called between two pieces of work and
    may raise to stop. Running it again, or twice at once, is harmless.

    Raises:
        StoreUnavailable, StateUnavailable: somebody could not be asked; the next sweep goes on.
    """
    old, swept = now() - grace, Counter(unfinished=0, staged=0, sessions=0)
    found = itertools.chain(
        _writes(store, old), _staged(store, tenants, old), _sessions(sessions, registries, old)
    )
    while batch := list(itertools.islice(found, BATCH)):
        alive()
        wanted = {leftover.step for leftover in batch}
        wanted.intersection_update(open_steps())
        for leftover in batch:
            alive()
            if leftover.step not in wanted and leftover.take_back():
                swept[leftover.kind] += 1
    return swept


@dataclass(frozen=True, slots=True)
class _Leftover:
    """Something old of the step `step`. `take_back` says whether it still was to be."""

    kind: str
    step: str
    take_back: Callable[[], bool]


def _writes(store: BlobStore, old: float) -> Iterator[_Leftover]:
    for write in store.unfinished():
        if write.started < old:
            yield _Leftover("unfinished", _download(write.key), partial(_discard, store, write, old))


def _discard(store: BlobStore, write: Unfinished, old: float) -> bool:
    # Whoever goes on with an upload writes that down first.
    record = store.stat(partial_key(write.key))
    if record is not None and record.modified >= old:
        return False
    store.discard(write)
    return True


def _staged(store: BlobStore, tenants: Sequence[str], old: float) -> Iterator[_Leftover]:
    for tenant in tenants:
        for staged in store.list(staged_prefix(tenant)):
            if staged.modified < old:
                yield _Leftover("staged", _download(staged.key), partial(_delete, store, staged.key, old))


def _delete(store: BlobStore, key: str, old: float) -> bool:
    staged = store.stat(key)
    if staged is None or staged.modified >= old:
        return False
    store.delete(key)
    return True


def _sessions(sessions: Sessions, registries: Registries, old: float) -> Iterator[_Leftover]:
    for kept in sessions.oldest(BATCH):
        if kept.started < old:
            yield _Leftover("sessions", kept.step, partial(_cancel, sessions, registries, kept))


def _cancel(sessions: Sessions, registries: Registries, kept: KeptSession) -> bool:
    session = UploadSession(kept.repository, kept.location, kept.min_chunk, begun=True)
    try:
        if not registries.client(kept.host, kept.credential).cancel_upload(session):
            return False  # its registry is not there just now
    except DistworkerError as error:
        log.info("an upload session at %s is left to itself: %s", kept.host, error)
    sessions.drop(kept.step, kept.token)
    return True


def _download(key: str) -> str:
    """The step that writes the blob of this key, or of this record's; one that is never open for others."""
    tenant, _, rest = key.partition("/")
    algorithm, _, encoded = rest.removeprefix("staging/partial/").removeprefix("blobs/").partition("/")
    return download_id(tenant, f"{algorithm}:{encoded}")
