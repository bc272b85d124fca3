"""Retry: a new job made of those images of a job that did not make it, exactly as its frozen list has them.

Its id follows from the job's (`<job>-retry1`, then `-retry2`), so two who ask at once make one job, and
asking again while it runs leads to that one. The source is looked at anew: a tag that moved since gives what
it names now.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Final

from distworker.blobstore.base import BlobStore
from distworker.errors import InvalidRequest
from distworker.plan.codec import PAIRS_MAX
from distworker.plan.folder import folder
from distworker.plan.model import ImageTransfer, JobRequest, Pair
from distworker.state.base import CANCELLED, FAILED, JobView, Ledger

#: Longest id that a suffix is put on: with it and the number of an image it stays under 64 characters.
_BASE_MAX: Final = 40
_SUFFIX = re.compile(r"-retry[1-9][0-9]*\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Retried:
    """What a retry came to: the new job ("" when there was nothing to do), how many images it has, how many
    cancelled ones were left out, and whether it was running already."""

    job: str
    images: int
    left_out: int
    joined: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be done again: images by number in the frozen list, and with `rest` every image that has
    no outcome, because the job ended before it came to them. `left_out`: cancelled ones nobody asked for."""

    numbers: frozenset[int]
    ended: frozenset[int]
    rest: bool
    left_out: int

    def __contains__(self, number: int) -> bool:
        return number in self.numbers or (self.rest and number not in self.ended)

    @property
    def nothing(self) -> bool:
        """No image at all."""
        return not self.numbers and not self.rest


def wanted(view: JobView, outcomes: Iterable[Mapping[str, Any]], cancelled: bool) -> Wanted:
    """What of this closed job is run again; `cancelled`: also what was cancelled."""
    again, ended, left_out = set(), set(), 0
    for outcome in outcomes:
        state, number = outcome.get("state"), int(str(outcome["image"]).rpartition("-")[2])
        ended.add(number)
        if state == FAILED or (cancelled and state == CANCELLED):
            again.add(number)
        left_out += state == CANCELLED and not cancelled
    stopped = view.state == CANCELLED
    # Before there is a list, the rules are the best guess of its length.
    total = view.counters.get("total", 0) or int(view.record.get("pairs", 1))
    unreached = max(0, total - len(ended))
    rest = unreached > 0 and (bool(view.error) or (cancelled and stopped))
    if stopped and not rest:
        left_out += unreached
    return Wanted(frozenset(again), frozenset(ended), rest, left_out)


def pairs_again(transfers: Iterable[ImageTransfer], what: Wanted) -> tuple[Pair, ...]:
    """The images wanted, as rules of a new request.

    Raises:
        InvalidRequest: more than one request holds.
    """
    pairs: list[Pair] = []
    for number, transfer in enumerate(transfers):
        if number not in what:
            continue
        if len(pairs) == PAIRS_MAX:
            raise InvalidRequest(
                f"more than {PAIRS_MAX} images to retry: start the whole job again instead;"
                " what has arrived ends unchanged",
                field="pairs",
            )
        listed = not (transfer.source.tag or transfer.source.digest)
        to = replace(transfer.destination, digest=None)
        pairs.append(Pair(transfer.source, to, all_tags=listed, platforms=transfer.platforms))
    return tuple(pairs)


def again(
    request: JobRequest, pairs: tuple[Pair, ...], job: str, created: float, priority: int | None
) -> JobRequest:
    """The request of the retry `job`."""
    return replace(
        request,
        id=job,
        pairs=pairs,
        created=created,
        priority=request.priority if priority is None else priority,
        retry_of=request.id,
    )


def ids(job: str) -> Iterator[str]:
    """The ids of retries of a job, of a retry of it too, in order."""
    base = _SUFFIX.sub("", job)
    if len(base) > _BASE_MAX:
        mark = hashlib.sha256(base.encode()).hexdigest()[:8]
        base = f"{base[: _BASE_MAX - 9]}-{mark}"
    return (f"{base}-retry{number}" for number in count(1))


def next_id(ledger: Ledger, store: BlobStore, tenant: str, job: str) -> tuple[str, bool]:
    """The next free id of a retry; or the one that is running, and True. One that is only in the store and
    not over is free: its sender died before the ledger heard of it, or the ledger lost it."""
    for candidate in ids(job):
        view = ledger.job(candidate)
        if view is not None and view.closed is None:
            return candidate, True
        if view is None and not folder(store, tenant, candidate).ended:
            return candidate, False
    raise AssertionError("ids of retries have no end")
