"""Rules → image transfers, with ids that number them.

A live tag cursor skips and repeats while tags come and go, so what `select` gives is written down once
(`frozen.py`) and read from there. A repository whose tags cannot be listed becomes one image without a
version: it fails by itself with that reason, and the rest of the job goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from distworker.errors import ManifestUnknown, TransferError
from distworker.plan.ends import End
from distworker.plan.model import STORE, ImageTransfer, JobRequest, Pair, Place

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


def is_listed(request: JobRequest) -> bool:
    """Whether a registry is asked for the list: then it may be another one each time."""
    return any(pair.all_tags for pair in request.pairs)


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
