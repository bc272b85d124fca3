"""A download that is broken off: what the next run reads, what is kept for it, and what is not."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

from distworker.blobstore.keys import blob_key
from distworker.digest import Digest
from distworker.errors import (
    Cancelled,
    Denied,
    DigestMismatch,
    DistworkerError,
    Draining,
    Lost,
    StoreFull,
    StoreUnavailable,
    Throttled,
    Unavailable,
)
from distworker.plan.model import Pair
from distworker.state.base import Claim
from distworker.steps.base import Done
from distworker.steps.download import download
from tests.crash.wire import Killed
from tests.fakes.content import complete, image, put
from tests.fakes.ports import Run, Site, registry_place

BLOB = random.Random(3).randbytes(2_000_000)
DIGEST = Digest.of(BLOB)
KEY = blob_key("default", DIGEST)
BREAK = 1_200_000


@pytest.fixture
def run() -> Run:
    """A source that has an image of one layer, and a destination."""
    run = Run(Site("src.example"), Site("dst.example"))
    put(run.sites["src.example"], "team/app", "1", image(BLOB))
    return run


def claim(token: str, tee: tuple[str, Mapping[str, Any]] | None = None) -> Claim:
    """A run of the layer's download, as the ledger gives it."""
    place = {"kind": "registry", "host": "src.example", "repository": "team/app"}
    body = {"v": 1, "tenant": "default", "digest": str(DIGEST), "size": len(BLOB), "source": place}
    return Claim(f"d:default/{DIGEST}", token, "j1", body, 1, tee=tee)


def broken(run: Run, error: BaseException, at: int = BREAK) -> None:
    """One run whose source breaks off with `error`."""
    run.sites["src.example"].breaks[DIGEST] = (at, error)
    with pytest.raises(type(error)):
        download(run.context, claim("first"))


@pytest.mark.parametrize(
    "error",
    [
        *(Unavailable("it broke"), Throttled("slowly"), Lost("other"), Draining("bye")),
        *(StoreUnavailable("away"), StoreFull("no room")),
    ],
    ids=lambda error: error.code,
)
def test_the_next_run_reads_only_the_rest(run: Run, error: DistworkerError) -> None:
    """What passes leaves the bytes: the source is read once in all, progress goes on where it was."""
    source = run.sites["src.example"]
    broken(run, error)
    kept = run.watch.durable
    read = source.served[DIGEST]
    assert BREAK - 2 * source.chunk <= kept <= read

    seen: list[int] = []
    run.watch.moved = seen.append  # type: ignore[method-assign]
    answer = download(run.context, claim("second"))

    assert isinstance(answer, Done)
    assert "by an earlier run" in answer.text
    assert answer.change.counts == {"downloaded": len(BLOB)}
    assert source.served[DIGEST] - read == len(BLOB) - kept
    assert (seen[0], seen[-1]) == (kept, len(BLOB))
    assert run.store.get_bytes(KEY, len(BLOB)) == BLOB
    assert not list(run.store.unfinished())


@pytest.mark.parametrize(
    "error",
    [Denied("no"), Cancelled("nobody wants it"), ZeroDivisionError(), Killed()],
    ids=lambda error: type(error).__name__,
)
def test_what_does_not_pass_leaves_nothing(run: Run, error: BaseException) -> None:
    """Nobody will go on with it, or must not."""
    broken(run, error)
    assert not list(run.store.unfinished())
    assert run.store.stat(KEY) is None


def test_a_stop_decides_whatever_the_connection_said(run: Run) -> None:
    """A cancelled run's sockets are hung up: that the source then seems away keeps nothing."""
    run.sites["src.example"].breaks[DIGEST] = (BREAK, Unavailable("hung up"))

    def stop(total: int) -> None:
        if total > BREAK - 100_000:
            run.watch.stop = Cancelled("nobody wants it")

    run.watch.moved = stop  # type: ignore[method-assign]
    with pytest.raises((Unavailable, Cancelled)):
        download(run.context, claim("first"))
    assert not list(run.store.unfinished())


def test_a_beginning_that_proves_wrong_is_read_once_more_from_the_start(run: Run) -> None:
    """The first run got other bytes than the second: one full reading mends it."""
    source = run.sites["src.example"]
    source.corrupt_once.add(DIGEST)
    broken(run, Unavailable("it broke"))
    source.served.clear()

    download(run.context, claim("second"))

    assert source.served[DIGEST] > len(BLOB)
    assert run.store.get_bytes(KEY, len(BLOB)) == BLOB
    assert not list(run.store.unfinished())


def test_wrong_for_good_is_one_typed_error_and_leaves_nothing(run: Run) -> None:
    """After the rest and one whole reading."""
    source = run.sites["src.example"]
    source.corrupt.add(DIGEST)
    broken(run, Unavailable("it broke"))
    source.served.clear()
    with pytest.raises(DigestMismatch):
        download(run.context, claim("second"))
    assert source.count("read_blob") == 3
    assert run.store.stat(KEY) is None
    assert not list(run.store.unfinished())


def test_a_whole_job_goes_on_and_sends_the_blob_from_the_store(run: Run) -> None:
    """The tee of the broken run is dropped, none is opened for the rest, and the image arrives."""
    source, target = run.sites["src.example"], run.sites["dst.example"]
    source.breaks[DIGEST] = (BREAK, Unavailable("it broke"))
    copied = Pair(registry_place("src.example", "team/app", "1"), registry_place("dst.example", "team/app"))

    outcomes = run.job("j1", copied)

    assert [outcome["state"] for outcome in outcomes] == ["done"]
    assert complete(target, "team/app", image(BLOB))
    assert source.served[DIGEST] <= len(BLOB) + source.chunk
    assert [step for step in run.ran if step.startswith("u:")] == [f"u:{DIGEST}@dst.example"]
    assert run.counters("j1")["downloaded"] == len(BLOB + b"{}")
