"""The frozen list of a job's images in the store: written once, the same for every later look.

Shards of 1,000 lines, then `list.json`, the index, whose presence says that the list is complete. What a
request names without asking a registry is the same list whoever writes it, so its shards have plain names. A
list that was drawn from a live repository is another one each time: its shards carry the claim token of the
run that drew it, that run ends by handing the token to the ledger, and only when the ledger has taken it is
the index written and an image released. So two runs at once, a frozen one that wakes up, or one from before a
loss of Redis never mix their lists, and without an index nothing was ever released.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from distworker.blobstore.base import BlobStore
from distworker.blobstore.keys import job_key
from distworker.errors import InvalidRequest
from distworker.limits import MIB
from distworker.names import VERSION
from distworker.plan.codec import dump_line, load_line
from distworker.plan.fields import Fields, load_object
from distworker.plan.folder import LIST_FILE, SHARD, Folder
from distworker.plan.model import ImageTransfer

#: Lines of one shard: a few hundred kB, read whole once for each window of images.
SHARD_LINES: Final = 1_000
_SHARD_MAX: Final = 4 * MIB
_INDEX_MAX: Final = 4096
_TOTAL_MAX: Final = 2**53
_NAME: Final = re.compile(r"[A-Za-z0-9-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class FrozenList:
    """A complete list: how many images, and the token in the names of its shards ("": plain names)."""

    total: int
    name: str = ""


def write_shards(
    store: BlobStore,
    tenant: str,
    job: str,
    transfers: Iterable[ImageTransfer],
    name: str = "",
    check: Callable[[], None] = lambda: None,
) -> FrozenList:
    """Write a list under `name`, without its index; `check` is called before each shard."""
    total = 0
    for shard, lines in enumerate(_chunks(transfers)):
        check()
        store.put_bytes(_shard_key(tenant, job, name, shard), b"".join(map(dump_line, lines)))
        total += len(lines)
    return FrozenList(total, name)


def write_index(store: BlobStore, tenant: str, job: str, frozen: FrozenList) -> None:
    """Say that this list is complete and the job's."""
    record: dict[str, Any] = {"v": VERSION, "total": frozen.total, "shard": SHARD_LINES}
    if frozen.name:
        record["name"] = frozen.name
    store.put_bytes(job_key(tenant, job, LIST_FILE), json.dumps(record).encode())


def read_index(store: BlobStore, tenant: str, job: str) -> FrozenList | None:
    """The job's list; None when there is no complete one yet. Raises InvalidRequest when it is damaged."""
    data = store.get_bytes(job_key(tenant, job, LIST_FILE), _INDEX_MAX)
    if data is None:
        return None
    try:
        fields = Fields(load_object(data), f"job {job}: {LIST_FILE}")
        fields.version()
        fields.whole("shard", SHARD_LINES, SHARD_LINES)
        return FrozenList(fields.whole("total", 0, _TOTAL_MAX), fields.text("name", _NAME))
    except (ValueError, InvalidRequest):
        raise InvalidRequest(f"job {job}: {LIST_FILE} is damaged or of another release") from None


def read_frozen(
    store: BlobStore, tenant: str, job: str, frozen: FrozenList, start: int, count: int
) -> Sequence[ImageTransfer]:
    """Up to `count` transfers of the list from number `start` on.

    Raises:
        InvalidRequest: a shard that the index promises is missing or damaged.
    """
    found: list[ImageTransfer] = []
    count = min(count, frozen.total - start)
    shard, skip = divmod(start, SHARD_LINES)
    while len(found) < count:
        key = _shard_key(tenant, job, frozen.name, shard)
        data = store.get_bytes(key, _SHARD_MAX)
        lines = (data or b"").splitlines()[skip : skip + count - len(found)]
        if not lines:
            number = start + len(found)
            raise InvalidRequest(
                f"job {job}: image {number} of {frozen.total} is missing from its frozen list"
            )
        found += [load_line(line, f"{key} line {skip + i + 1}") for i, line in enumerate(lines)]
        shard, skip = shard + 1, 0
    return found


def every_frozen(store: BlobStore, tenant: str, job: str, frozen: FrozenList) -> Iterator[ImageTransfer]:
    """The whole list, a shard at a time."""
    for start in range(0, frozen.total, SHARD_LINES):
        yield from read_frozen(store, tenant, job, frozen, start, SHARD_LINES)


def abandoned(folder: Folder, frozen: FrozenList | None) -> Sequence[str]:
    """Names of shards in a closed job's folder that belong to no list or to one that was not taken."""
    ours = f"{SHARD}{frozen.name}-" if frozen and frozen.name else SHARD
    return sorted(
        name
        for name in folder.names
        if name.startswith(SHARD) and not (frozen and name.startswith(ours) and "-" not in name[len(ours) :])
    )


def _chunks(transfers: Iterable[ImageTransfer]) -> Iterator[list[ImageTransfer]]:
    remaining = iter(transfers)
    while chunk := list(islice(remaining, SHARD_LINES)):
        yield chunk


def _shard_key(tenant: str, job: str, name: str, shard: int) -> str:
    return job_key(tenant, job, f"{SHARD}{name}-{shard:05d}.jsonl" if name else f"{SHARD}{shard:05d}.jsonl")
