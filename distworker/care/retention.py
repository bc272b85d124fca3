"""Remove what is kept for a while only: records of jobs that are over, and what scrub put aside.

A job's request goes first and the note that it is over goes last, so that a half-removed folder is never
taken for a job that was lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from distworker.blobstore.base import BlobStore
from distworker.blobstore.keys import job_key, quarantine_prefix
from distworker.care.scrub import NOTE
from distworker.plan.folder import CLOSED_FILE, REQUEST_FILE, Folder, folders


def retire(
    store: BlobStore,
    tenant: str,
    *,
    now: float,
    keep_jobs: float,
    keep_quarantine: float,
    seconds: float = 60.0,
    alive: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Mapping[str, int], bool]:
    """A bite of about `seconds`: what was removed, and whether there is more. `now` is the store's clock;
    `keep_jobs` and `keep_quarantine` are seconds since the last writing, 0 for ever."""
    end = clock() + seconds
    counts = {"jobs": 0, "quarantined": 0}
    for folder in folders(store, tenant) if keep_jobs else ():
        alive()
        if clock() >= end:
            return counts, True
        if (folder.over or folder.local) and folder.modified < now - keep_jobs:
            _remove(store, tenant, folder)
            counts["jobs"] += 1
    for found in store.list(quarantine_prefix(tenant)) if keep_quarantine else ():
        alive()
        if clock() >= end:
            return counts, True
        # Moving a blob need not make it young; its note was written at that moment.
        if found.key.endswith(NOTE) and found.modified < now - keep_quarantine:
            store.delete(found.key.removesuffix(NOTE))
            store.delete(found.key)
            counts["quarantined"] += 1
    return counts, False


def _remove(store: BlobStore, tenant: str, folder: Folder) -> None:
    order = {REQUEST_FILE: 0, CLOSED_FILE: 2}
    for name in sorted(folder.names, key=lambda each: (order.get(each, 1), each)):
        store.delete(job_key(tenant, folder.job, name))
