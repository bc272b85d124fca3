"""Layers that lie outside any registry: read from the `urls` of their descriptor, only where asked for.

Nothing calls this unless an operator wants external layers brought along; by default `urls` are copied inside
the manifest and never followed. Whoever wrote the manifest chose these hosts, so they get what a stranger
gets: https only, through the same dialer and redirect rules as everything else, no credential, no answer to a
401 (CVE-2020-15157, regclient GHSA-qvqc-4c52-x6qp), and no byte that its digest does not prove.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from distworker import stopping
from distworker.digest import Digest
from distworker.errors import AuthRequired, BlobUnknown, Denied, RedirectRefused, TransferError, Unauthorized
from distworker.limits import EXTERNAL_URLS_MAX
from distworker.registry.blobs import CHUNK, BlobStream
from distworker.registry.call import Call
from distworker.registry.endpoint import Endpoint
from distworker.registry.faults import Where, located
from distworker.registry.urls import origin_of


@contextmanager
def read_external(
    at: Endpoint,
    urls: Sequence[str],
    digest: Digest,
    size: int,
    *,
    chunk: int = CHUNK,
    sleep: Callable[[float], None] = stopping.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[BlobStream]:
    """The layer from the first of `urls` that gives it, hashed and sized like any blob.

    Raises:
        BlobUnknown: there is no url, or none gives it. RedirectRefused: none may be followed. Denied: all
        want a login. Unavailable and others that pass: when waiting may help with one of them.
    """

    def opened(url: str) -> BlobStream:
        call = _call(url, digest)
        return BlobStream(at, call, digest, size, chunk=chunk, sleep=sleep, clock=clock).__enter__()

    stream = _first(urls, opened, at.where("get external layer", "", digest))
    try:
        yield stream
    finally:
        stream.close()


def _first(urls: Sequence[str], opened: Callable[[str], BlobStream], where: Where) -> BlobStream:
    failed: list[TransferError] = []
    for url in urls[:EXTERNAL_URLS_MAX]:
        try:
            return opened(url)
        except TransferError as error:
            failed.append(error)
    raise _verdict(failed, where)


def _call(url: str, digest: Digest) -> Call:
    origin = origin_of(url)
    where = Where("get external layer", origin.netloc, "", digest)
    if origin.scheme != "https":
        raise RedirectRefused(f"{where}: the layer lies at a plain http address; refused", **where.fields)
    return Call("GET", url, where, anonymous=True)


def _verdict(failed: Sequence[TransferError], where: Where) -> TransferError:
    """One error for all that failed: one that passes if there is any, else what they have in common."""
    for error in failed:
        if error.retry:
            return located(error, where)
    if not failed:
        return BlobUnknown(
            f"{where}: the layer lies outside the registry, and nothing says where", **where.fields
        )
    kinds = {type(error) for error in failed}
    reasons = ", ".join(f"{error.fields.get('registry', 'an address')} ({error.code})" for error in failed)
    if kinds <= {Unauthorized, AuthRequired, Denied}:
        return Denied(f"{where}: no login is given to hosts outside the registry: {reasons}", **where.fields)
    kind = kinds.pop() if len(kinds) == 1 else BlobUnknown
    return kind(f"{where}: no address outside the registry gives this layer: {reasons}", **where.fields)
