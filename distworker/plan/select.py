"""Rules → the frozen list of image transfers.

A live tag cursor skips and repeats while tags come and go, so a job's list is written down once, before any
work starts: shards of 1,000 lines in the store, then `list.json`, whose presence says that the list is
complete. An existing `list.json` always wins, so every later look sees the same images under the same ids. A
repository whose tags cannot be listed becomes one image without a version: it fails by itself with that
reason, and the rest of the job goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from distworker.blobstore.base import BlobStore
from distworker.blobstore.keys import job_key
from distworker.errors import InvalidRequest, ManifestUnknown, TransferError
from distworker.limits import MIB
from distworker.names import VERSION
from distworker.plan.codec import dump_line, load_line
from distworker.plan.ends import End
from distworker.plan.model import STORE, ImageTransfer, JobRequest, Pair, Place

#: Lines of one shard: a few hundred kB, read whole once for each window of images.
SHARD_LINES: Final = 1_000
_SHARD_MAX: Final = 4 * MIB
_INDEX_MAX: Final = 4096
LIST_FILE: Final = "list.json"

#: Opens an end of a pair.
Open = Callable[[Place], End]


def select(request: JobRequest, open_place: Open) -> Iterator[ImageTransfer]:
    """The transfers that the request's rules name now, in the order of the rules.

    Raises:
        TransferError: a listing failed for a reason that may pass; nothing should be frozen then.
    """
    number = 0
    for pair in request.pairs:
        for source, destination in _versions(pair, open_place):
            yield ImageTransfer(
                id=f"{request.id}-{number}",
                job=request.id,
                source=source,
                destination=destination,
                platforms=pair.platforms,
                priority=request.priority,
                tenant=request.tenant,
            )
            number += 1


def destination_of(source: Place, destination: Place) -> Place:
    """A destination without a tag takes the source's; without that too, it is named by digest alone."""
    if destination.tag or source.tag:
        return replace(destination, tag=destination.tag or source.tag, digest=None)
    return replace(destination, digest=source.digest)


def require_version(place: Place, end: End) -> None:
    """Raises the reason why a frozen place names no version (see the module text)."""
    if place.tag or place.digest:
        return
    for _ in end.tags():
        break
    name = f"{place.host}/{place.repository}"
    if place.kind == STORE:
        raise ManifestUnknown(f"the store holds no tag of {name}; pull it first")
    raise ManifestUnknown(f"{name} had no tags to copy when the job's list was made; start the job again")


def freeze(
    store: BlobStore, request: JobRequest, open_place: Open, check: Callable[[], None] = lambda: None
) -> int:
    """Write the job's list unless it exists; returns its length. `check` is called before each shard."""
    known = frozen_total(store, request.tenant, request.id)
    if known is not None:
        return known
    total = 0
    for shard, transfers in enumerate(_chunks(select(request, open_place))):
        check()
        data = b"".join(dump_line(transfer) for transfer in transfers)
        store.put_bytes(_shard_key(request.tenant, request.id, shard), data)
        total += len(transfers)
    record = {"v": VERSION, "total": total, "shard": SHARD_LINES}
    store.put_bytes(job_key(request.tenant, request.id, LIST_FILE), json.dumps(record).encode())
    return total


def frozen_total(store: BlobStore, tenant: str, job: str) -> int | None:
    """How many images the frozen list has; None when it is not complete yet."""
    data = store.get_bytes(job_key(tenant, job, LIST_FILE), _INDEX_MAX)
    if data is None:
        return None
    try:
        record = json.loads(data)
        if record["v"] != VERSION or record["shard"] != SHARD_LINES:
            raise ValueError
        return int(record["total"])
    except (ValueError, KeyError, TypeError):
        raise InvalidRequest(f"job {job}: {LIST_FILE} is damaged or of another release") from None


def thaw(store: BlobStore, tenant: str, job: str) -> None:
    """Forget the list that an earlier job of that id left, so that this one makes its own."""
    store.delete(job_key(tenant, job, LIST_FILE))


def read_frozen(store: BlobStore, tenant: str, job: str, start: int, count: int) -> Sequence[ImageTransfer]:
    """Up to `count` transfers of the frozen list from number `start` on."""
    found: list[ImageTransfer] = []
    shard, skip = divmod(start, SHARD_LINES)
    while len(found) < count:
        key = _shard_key(tenant, job, shard)
        data = store.get_bytes(key, _SHARD_MAX)
        if data is None:
            break
        lines = data.splitlines()[skip : skip + count - len(found)]
        found += [load_line(line, f"{key} line {skip + i + 1}") for i, line in enumerate(lines)]
        shard, skip = shard + 1, 0
    return found


def _versions(pair: Pair, open_place: Open) -> Iterator[tuple[Place, Place]]:
    if not pair.all_tags:
        yield pair.source, destination_of(pair.source, pair.destination)
        return
    seen: set[str] = set()
    try:
        for tag in open_place(pair.source).tags():
            if tag not in seen:
                seen.add(tag)
                yield replace(pair.source, tag=tag), replace(pair.destination, tag=tag)
    except TransferError as error:
        if error.retry or seen:
            raise
    if not seen:
        yield pair.source, pair.destination


def _chunks(transfers: Iterable[ImageTransfer]) -> Iterator[list[ImageTransfer]]:
    remaining = iter(transfers)
    while chunk := list(islice(remaining, SHARD_LINES)):
        yield chunk


def _shard_key(tenant: str, job: str, shard: int) -> str:
    return job_key(tenant, job, f"list-{shard:05d}.jsonl")
