"""A process of its own that moves one blob by the real steps and tells the traced peak of each way.

Run as `python -m tests.scenarios.memory_probe`; the errand comes as JSON on stdin, the peaks (bytes) go to
stdout. Only what is between the two ends is in this process: the ends are servers elsewhere.
"""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from distworker.blobstore.base import BlobStore
from distworker.blobstore.keys import blob_key
from distworker.blobstore.local import LocalStore
from distworker.blobstore.s3 import S3Options, S3Store
from distworker.digest import Digest
from distworker.names import download_id, upload_id
from distworker.plan.codec import dump_blob
from distworker.plan.model import BlobMove, Place
from distworker.registry.pool import RegistryPool
from distworker.registry.profiles import HostProfile
from distworker.state.base import Claim
from distworker.state.memory import MemoryLedger
from distworker.steps.base import Context, Done
from distworker.steps.download import download
from distworker.steps.upload import upload


class Watching:
    """A run that nobody stops."""

    def moved(self, total: int) -> None:
        """Nobody looks."""

    def kept(self, total: int) -> None:
        """Nobody looks."""

    def check(self) -> None:
        """Go on."""

    def fence(self) -> None:
        """Go on."""


def main(errand: dict[str, Any]) -> dict[str, int]:
    """Tee first; then, into an empty store again, store and forward to another registry."""
    digest, size, source = Digest.parse(errand["digest"]), int(errand["size"]), errand["source"]
    hosts = [source, *errand["sinks"]]
    store = make_store(errand)
    registries = RegistryPool(profiles={host: HostProfile(plain_http=True, private=True) for host in hosts})
    context = Context(registries, store, MemoryLedger(), Watching())
    moves = [
        BlobMove(
            "j",
            "default",
            Place("registry", source, "app"),
            digest,
            size,
            destination=Place("registry", sink, "mirror/app"),
            proven=True,
        )
        for sink in errand["sinks"]
    ]
    try:
        return {
            "tee": peak(lambda: run_tee(context, moves[0])),
            "store": peak(lambda: run_in_turn(context, moves[1])),
        }
    finally:
        registries.close()


def run_tee(context: Context, move: BlobMove) -> None:
    """Source → store and first sink in one pass."""
    step = upload_id(str(move.digest), "sink")
    answer = download(context, claim(move, tee=(step, dump_blob(move))))
    assert isinstance(answer, Done)
    assert answer.change.delivered["teed"] == [step, "mirror/app"], answer.text
    context.store.delete(blob_key(move.tenant, move.digest))


def run_in_turn(context: Context, move: BlobMove) -> None:
    """Source → store, then store → second sink."""
    came = download(context, claim(move))
    assert isinstance(came, Done)
    assert came.change.counts == {"downloaded": move.size}
    went = upload(context, claim(move, delivered=came.change.delivered))
    assert isinstance(went, Done)
    assert went.change.counts == {"uploaded": move.size, "layers": 1}


def claim(
    move: BlobMove,
    tee: tuple[str, dict[str, Any]] | None = None,
    delivered: Mapping[str, Any] | None = None,
) -> Claim:
    """As the ledger would hand it out: of a download, or of the upload that a download `delivered` to."""
    came = download_id(move.tenant, str(move.digest))
    if delivered is None:
        return Claim(came, "token", move.job, dump_blob(move), 1, {}, tee)
    went = upload_id(str(move.digest), "sink")
    return Claim(went, "token", move.job, dump_blob(move), 1, {came: delivered})


def make_store(errand: dict[str, Any]) -> BlobStore:
    """A folder, or a bucket."""
    if "folder" in errand:
        return LocalStore(Path(errand["folder"]))
    return S3Store(S3Options(**errand["s3"]))


def peak(work: Callable[[], None]) -> int:
    """The most bytes that Python had allocated at any moment of `work`, on top of nothing."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))
