"""What a step is given and what it may answer.

A step is a function `(Context, Claim) -> Answer`. It may be run twice, on two workers at once, and killed
anywhere; so it asks before it acts, and everything it leaves behind is either harmless or finds its owner by
token. Steps know the ports (registry, store) and nothing of Celery, Redis or settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from distworker.blobstore.base import BlobStore
from distworker.registry.base import Registries
from distworker.state.base import Change, Claim, StepSpec
from distworker.state.sessions import KeptSession, MemorySessions


class Watch(Protocol):
    """The step's line to its worker: tells progress, hears of the end."""

    def moved(self, total: int) -> None:
        """Absolute bytes moved so far by this run. Call it for every chunk: it costs a memory write."""
        ...

    def kept(self, total: int) -> None:
        """Absolute bytes of this step's work that outlive the run: whoever takes the step next goes on from
        there. The first call says where this run itself goes on from; a run that fails beyond that is charged
        no attempt. It costs a memory write, too."""
        ...

    def check(self) -> None:
        """Raises Cancelled, Lost or Draining when the run must stop now. Call it before each chunk."""
        ...

    def fence(self) -> None:
        """Asks the ledger now whether this run still holds its step. Call it right before each PUT of a tag:
        a worker that was frozen does not know yet that others went on.

        Raises:
            Cancelled, Lost, Draining: as `check`. StateUnavailable: nobody can say.
        """
        ...


class Knowledge(Protocol):
    """The part of the ledger that steps may ask: hints and tag lanes (see `state.base.Ledger`)."""

    def hints(self, origin: str, credential: str, digests: Sequence[str]) -> Mapping[str, Sequence[str]]: ...

    def lane_begin(self, lane: str, image: str) -> int: ...

    def lane_busy(self, lane: str) -> bool: ...

    def lane_newest(self, lane: str) -> tuple[int, Mapping[str, object]]: ...

    def lane_published(
        self, lane: str, sequence: int, note: Mapping[str, object]
    ) -> tuple[int, Mapping[str, object]]: ...


class Sessions(Protocol):
    """The upload sessions that are open at registries, by step and claim; no method raises. What a run opens
    it keeps here until it is over: the next run of the step, or a sweep, finds what a killed one left.
    """

    def keep(self, session: KeptSession) -> None: ...

    def of(self, step: str) -> Sequence[KeptSession]: ...

    def drop(self, step: str, token: str) -> None: ...

    def oldest(self, limit: int) -> Sequence[KeptSession]: ...


@dataclass(frozen=True, slots=True)
class Context:
    """Everything a step may touch. `window` is how many images of a job are expanded at a time."""

    registries: Registries
    store: BlobStore
    knowledge: Knowledge
    watch: Watch
    window: int = 200
    part_size: int = 8 * 1024 * 1024  #: bytes of one store part
    sessions: Sessions = field(default_factory=MemorySessions)


@dataclass(frozen=True, slots=True)
class Done:
    """The step is finished; `text` is the sentence for the operator ("3.1 MB from hub.example")."""

    text: str
    change: Change = field(default_factory=Change)


@dataclass(frozen=True, slots=True)
class Block:
    """Something this step relied on is missing; it waits until `needs` are done."""

    text: str
    needs: tuple[StepSpec, ...]


Answer: TypeAlias = Done | Block
Step: TypeAlias = Callable[[Context, Claim], Answer]
