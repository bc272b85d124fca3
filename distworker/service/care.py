"""The store for years, as commands and sweeps use it: collect, scrub, retire, add up, forget, export, import.

What the parts in `care/` need from elsewhere comes together here: the ledger's open steps, which a collection
spares, and jobs that bring again what scrub found damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from distworker import names
from distworker.blobstore.base import BlobStore
from distworker.care.gc import GRACE, Collector
from distworker.care.refs import Ref, head_of
from distworker.care.retention import retire
from distworker.care.roots import KINDS, Roots, Steps, no_steps
from distworker.care.scrub import Damaged, Scrubber
from distworker.digest import Digest
from distworker.errors import ManifestInvalid
from distworker.plan.codec import PAIRS_MAX
from distworker.plan.refguard import forget_dead
from distworker.service.upkeep import Bite, Sweep

if TYPE_CHECKING:
    from distworker.service.jobs import Jobs
    from distworker.state.base import Ledger

_DAY = 86_400.0
#: Makes a job of a request's fields and gives its id.
Submit = Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True, slots=True)
class Keeping:
    """For how long: `grace` in seconds, the others in days (0: for ever). `scrub_rate` is bytes a second."""

    grace: float = GRACE
    jobs: int = 90
    quarantine: int = 30
    scrub_rate: int = 50_000_000


class Care:
    """One tenant's part of one store; a context that closes what it opened. Without `submit` nothing can be
    brought again, and without `steps` nobody else may work on the store."""

    def __init__(
        self,
        store: BlobStore,
        tenant: str = names.TENANT,
        *,
        steps: Steps = no_steps,
        submit: Submit | None = None,
        keeping: Keeping | None = None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.store = store
        self.tenant = tenant
        self.keeping = keeping or Keeping()
        self._steps = steps
        self._submit = submit
        self._close = close

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def collector(self, grace: float | None = None, alive: Callable[[], None] = lambda: None) -> Collector:
        """Collects what nothing needs."""
        grace = self.keeping.grace if grace is None else grace
        return Collector(self.store, self.tenant, steps=self._steps, grace=grace, alive=alive)

    def scrubber(self, rate: int | None = None, alive: Callable[[], None] = lambda: None) -> Scrubber:
        """Reads everything again."""
        rate = self.keeping.scrub_rate if rate is None else rate
        return Scrubber(self.store, self.tenant, rate=rate, alive=alive)

    def mend(self, damaged: Sequence[Damaged]) -> list[str]:
        """Jobs that bring the images again from where their names say, each the very digest it had; their
        ids. None where that is not possible here, or a ref no longer tells what it named, and none for a
        ref that names something else by now: its tag would be moved back."""
        pairs = [
            {"source": f"{each.ref.name}@{each.digest}", "destination": each.ref.name}
            for each in damaged
            if each.digest is not None and self._names(each.ref, each.digest)
        ]
        if self._submit is None:
            return []
        made = []
        for start in range(0, len(pairs), PAIRS_MAX):
            fields = {"v": names.VERSION, "kind": "pull", "pairs": pairs[start : start + PAIRS_MAX]}
            made.append(self._submit({**fields, "labels": {"reason": "scrub"}}))
        return made

    def _names(self, ref: Ref, digest: Digest) -> bool:
        try:
            head = head_of(self.store, ref)
        except ManifestInvalid:
            return False
        return head is not None and head.digest == digest

    # --- sweeps ---------------------
    def sweeps(self) -> Mapping[str, Sweep]:
        """By the names of `[upkeep]`; whatever was counted by this bite is told."""
        return {"gc": self._gc, "scrub": self._scrub, "retention": self._retention}

    def _gc(self, bite: Bite) -> tuple[Mapping[str, int], bool]:
        told = self.collector(alive=bite.alive).bite(bite.left)
        if not told.finished:
            return {}, True
        return {"deleted": told.deleted, "freed_bytes": told.freed, "marked": told.marked}, False

    def _scrub(self, bite: Bite) -> tuple[Mapping[str, int], bool]:
        done = self.scrubber(alive=bite.alive).bite(bite.left)
        self.mend(done.damaged)
        if not done.finished:
            return {}, True
        return {"blobs": done.blobs, "bad": done.bad, "refs_damaged": done.refs_damaged}, False

    def _retention(self, bite: Bite) -> tuple[Mapping[str, int], bool]:
        now = Roots(self.store, self.tenant).now()
        dead = forget_dead(self.store, self.tenant, now)
        counts, more = retire(
            self.store,
            self.tenant,
            now=now,
            keep_jobs=self.keeping.jobs * _DAY,
            keep_quarantine=self.keeping.quarantine * _DAY,
            seconds=bite.left,
            alive=bite.alive,
        )
        return {**counts, "dead_intents": dead}, more


def fleet_care(store: BlobStore, ledger: Ledger, jobs: Jobs, keeping: Keeping, **options: Any) -> Care:
    """The care of a fleet's store: running jobs are spared, and what is damaged is brought by new ones."""
    return Care(store, steps=lambda: ledger.open_steps(KINDS), submit=jobs.submit, keeping=keeping, **options)
