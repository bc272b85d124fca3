"""The state port: the ledger of steps, jobs and slots. Truth is here; a message only says "look at step S".

A job is opened with one `expand` step. Steps form a graph: a step waits behind a **barrier** of step ids and
becomes ready in the same instant in which the last of them is done. Steps are shared: whoever needs a step
that exists already **subscribes** to it instead of making another (this is the layer-dedup lock). Each
subscriber brings its own `StepSpec`, its own way to do that work; the step runs the **home** subscriber's
spec, and when the home fails or leaves it moves to the best remaining one.

`publish` steps (`m:<image>`) are the images: they exist from expansion until the image closes.

Every operation is atomic and idempotent, uses the server's time, and is fenced by the token that `claim`
gave: a late caller gets `False`/nothing and changes nothing. Unknown ids and finished steps are never an
error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

#: Image and job end states.
DONE, FAILED, UNCHANGED, CANCELLED, SUPERSEDED = "done", "failed", "unchanged", "cancelled", "superseded"
#: States of a job that is not over yet, and of one that is.
RUNNING, CANCELLING = "running", "cancelling"
#: What is counted for every job, see `JobView`.
COUNTERS = (
    *("total", "open", DONE, FAILED, UNCHANGED, CANCELLED, SUPERSEDED),
    *("downloaded", "uploaded", "layers", "saved_present", "saved_mounted", "saved_stored", "saved_shared"),
)


@dataclass(frozen=True, slots=True)
class StepSpec:
    """One way to do one step, as its subscriber wants it done.

    `origin` and `credential` name the slot it takes while queued or running (empty origin: none).
    `via` tells two ways apart: a failure reaches exactly the subscribers whose spec has the `via` that
    failed. `body` is a small JSON object the step itself understands; no secret is ever in it.
    `needs` are the steps that must be done first, each with the spec this subscriber wants them done by.
    """

    id: str
    job: str
    body: Mapping[str, Any]
    priority: int = 5  #: 0 lowest … 9 highest
    origin: str = ""
    credential: str = ""
    via: str = ""
    needs: tuple[StepSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Admitted:
    """A step that got its slot and now waits for a worker: send its message. `text` is what an operator
    reads."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A step this worker now runs.

    `delivered` maps the ids of the needs that were done to what they said about it (see `done`).
    `tee`: for a download with exactly one waiting upload, that upload's step id and spec body, else None.
    """

    id: str
    token: str
    job: str
    body: Mapping[str, Any]
    attempt: int  #: 1 for the first charged run
    delivered: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tee: tuple[str, Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message was not worth running: `superseded`, `unknown`, `cancelled`, `newer` (a record of a newer
    `v`)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Beat:
    """A running step's sign of life. `moved` and `size` are absolute bytes, never increments."""

    id: str
    token: str
    moved: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Closing:
    """An image's end: its state and the outcome record that `status` and the report show."""

    image: str
    state: str
    outcome: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """What a finished step changes besides itself. All of it happens with `done` in one script, or not at
    all.

    spawn:      new steps (an id that exists is subscribed to, not made again).
    wait:       `(waiter id, specs)`: more needs for a step that is still waiting.
    patch:      `(step id, fields)`: merged into that unshared step's body.
    counts:     job counters to add (see `JobView.counters`).
    delivered:  handed on to each subscriber as `Claim.delivered[this step]`.
    hints:      `(origin, credential, digest, repository)`: places where a blob now is, candidates for mounts.
    closing:    the image that ends here.
    total:      for `expand`: the frozen number of images; `cursor`: how many of them are expanded now.
                The next expand claim finds both in its body; without a total the job fails.
    """

    spawn: tuple[StepSpec, ...] = ()
    wait: tuple[tuple[str, tuple[StepSpec, ...]], ...] = ()
    patch: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    delivered: Mapping[str, Any] = field(default_factory=dict)
    hints: tuple[tuple[str, str, str, str], ...] = ()
    closing: Closing | None = None
    total: int | None = None
    cursor: int | None = None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as `status` shows it.

    `counters` has every name of `COUNTERS`, also those that are 0: images `total`, `open` and by end state;
    bytes `downloaded`, `uploaded`, `saved_present`, `saved_mounted`, `saved_stored`, `saved_shared`; and
    `layers` (blobs uploaded). `running` maps step ids to `{"moved", "size", "worker", "text"}`. Times are
    Unix seconds.

    The rule of the bytes: every unique blob of every image that was copied from a registry is counted in
    exactly one of `downloaded` (read from the source for this image), `saved_present` (its destination had
    it), `saved_mounted`, `saved_stored` (the store had it), `saved_shared` (read, or found, for another image
    whose step this one joined). So `downloaded` and the four `saved_*` add up to the sizes of the images
    done; `uploaded` is what was sent, whatever it came from. From the store to a registry `uploaded` takes
    the place of `downloaded`. More than the sum is counted only where work was lost: an image that failed, or
    a blob that had to be brought again.
    """

    id: str
    state: str
    created: float
    closed: float | None
    record: Mapping[str, Any]
    counters: Mapping[str, int]
    running: Mapping[str, Mapping[str, Any]]
    error: Mapping[str, Any] | None = None
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Overdue:
    """An unfinished step that is late or held up, and why.

    `state` is ready, queued, running, delayed, waiting or draining, since `since`; `deadline` is when the
    ledger acts on it by itself, None when it waits for somebody else. `reason` and `text` (what the step
    does) are sentences for operators.
    """

    id: str
    job: str
    state: str
    since: float
    deadline: float | None
    worker: str
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A live worker: `info` is what it said of itself (host, version, fingerprints), `slots` what it can
    run."""

    owner: str
    slots: int
    seen: float
    info: Mapping[str, Any]


class Ledger(Protocol):
    """The operations; see the module text for what all of them promise."""

    # jobs
    def open_job(self, job: str, record: Mapping[str, Any], first: StepSpec, *, paused: bool = False) -> bool:
        """Record a job and its expand step, held from the start when `paused`; False when that id is known
        already (nothing is changed)."""
        ...

    def job(self, job: str) -> JobView | None:
        """The job with its counters and running steps, or None."""
        ...

    def jobs(self, limit: int = 50) -> Sequence[JobView]:
        """The newest jobs first."""
        ...

    def outcomes(self, job: str, start: int = 0, count: int = 1000) -> Sequence[Mapping[str, Any]]:
        """Closed images in the order in which they closed."""
        ...

    def unreported(self, limit: int = 100) -> Sequence[str]:
        """Closed jobs whose report is not kept in the store yet, the first to close first; a job's own record
        may be gone by then."""
        ...

    def reported(self, job: str) -> None:
        """The closed job's report is kept: it is not `unreported` any more."""
        ...

    def cancel(self, job: str) -> bool:
        """Stop a job: its images leave, steps nobody else wants are dropped, running ones hear of it at their
        next beat. False when there is no such open job."""
        ...

    def pause_job(self, job: str) -> bool:
        """Admit no step of this job until it is resumed; what runs goes on, and what another job shares is
        done for that one. False when there is no such open job."""
        ...

    def resume_job(self, job: str) -> bool:
        """Admit its steps again. False when there is no such open job."""
        ...

    # steps
    def pump(self, limit: int = 64) -> Sequence[Admitted]:
        """Admit ready steps into free slots, round robin over jobs, publish first."""
        ...

    def claim(self, step: str, token: str, owner: str) -> Claim | Refusal:
        """Take a queued step under `token` (random, made by the caller); again with the same token succeeds
        again."""
        ...

    def beat(self, owner: str, slots: int, info: Mapping[str, Any], running: Sequence[Beat]) -> Sequence[str]:
        """One call per process every few seconds: extends the leases of `running`, records progress and the
        worker's presence; returns the ids that are lost or cancelled."""
        ...

    def known(self, step: str) -> bool:
        """Is there such an unfinished step? Whoever lost one asks whether anybody still wants it."""
        ...

    def farewell(self, owner: str) -> None:
        """The worker leaves: it no longer counts as live."""
        ...

    def done(self, step: str, token: str, change: Change) -> bool:
        """Finish the step: free its slots, empty the barriers it stood in, apply `change`."""
        ...

    def block(self, step: str, token: str, needs: Sequence[StepSpec]) -> bool:
        """Give the step back until `needs` are done (created or subscribed to); no attempt is charged.
        After three rounds it fails instead."""
        ...

    def release(
        self,
        step: str,
        token: str,
        delay: float = 0.0,
        pause: str = "",
        error: Mapping[str, Any] | None = None,
    ) -> bool:
        """Give the step back uncharged, to be ready again after `delay` seconds. `pause` = "kind" stops
        admitting this kind on this (origin, credential) for that time, "origin" everything on the origin.
        `error` is why: a step that does nothing else for `Rules.patience` than being given back with an
        error fails with the last one."""
        ...

    def fail(
        self,
        step: str,
        token: str,
        error: Mapping[str, Any],
        retry: bool,
        delay: float,
        progressed: bool = False,
    ) -> str:
        """Charge an attempt, unless the run `progressed`: it reached a new durable high-water mark. Returns
        `retry` when the step will run again after `delay` seconds, `failed` when it is over (its subscribers
        of the same `via` have failed with it, the others run a new round their way), `lost` when the token
        no longer holds."""
        ...

    def reap(self, owner: str) -> int:
        """Return overdue steps to ready, and go on with a cancel whose caller died; does something only for
        the one caller elected each second."""
        ...

    # shared knowledge
    def hints(self, origin: str, credential: str, digests: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """digest → repositories of that origin seen to hold it under that credential: candidates, never
        evidence."""
        ...

    def lane_begin(self, lane: str, image: str) -> int:
        """The sequence number of this image's publish in a tag's lane; the same image gets the same number.
        Higher than all before, also after Redis lost everything."""
        ...

    def lane_busy(self, lane: str) -> bool:
        """Has an image a number there that is newer than the newest publish? It may publish at any moment."""
        ...

    def lane_newest(self, lane: str) -> tuple[int, Mapping[str, Any]]:
        """The highest sequence published so far in the lane and its note; (0, {}) when none."""
        ...

    def lane_published(
        self, lane: str, sequence: int, note: Mapping[str, Any]
    ) -> tuple[int, Mapping[str, Any]]:
        """Record a publish; returns the lane's newest as `lane_newest` does."""
        ...

    def set_caps(self, caps: Mapping[str, int]) -> None:
        """Slots per origin, from the operator's settings."""
        ...

    def pause_origin(self, origin: str) -> None:
        """Admit nothing that has this origin until it is resumed by an operator; what runs goes on."""
        ...

    def resume_origin(self, origin: str) -> bool:
        """End an operator's pause; False when there was none."""
        ...

    def paused_origins(self) -> Sequence[str]:
        """Origins that an operator paused, sorted."""
        ...

    # what an operator asks
    def overdue(self, limit: int = 100) -> Sequence[Overdue]:
        """Steps that are late or held up, and why; those that wait for one of these come last."""
        ...

    def open_steps(self, kinds: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Ids and bodies of all unfinished steps of these kinds (letters of `names.KINDS`). One may come
        twice; one that was made meanwhile may be missing."""
        ...

    # health
    def workers(self) -> Sequence[WorkerView]:
        """Workers whose last beat is younger than a lease and a half."""
        ...

    def check(self) -> Mapping[str, Any]:
        """Version, persistence and eviction policy of the server; raises StateRefused for one that the
        ledger must not run on, StateUnavailable for one that is away."""
        ...

    def settle(self) -> bool:
        """Wait until all that was recorded before would outlive a crash of the server; False when that did
        not come in time. For acknowledgements to people, not for steps."""
        ...
