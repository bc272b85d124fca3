"""What must hold in every state of a ledger, told once for both of them and without their code.

Each sentence is one of the promises of the work graph: every unfinished step has a way to be run, no slot is
held by nobody, no barrier waits for what does not exist, counters agree with records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tests.contracts.ledger_world import SIZE
from tests.explore.records import Records, StepRecord

ROOTS, LAYERS = "mpj", "ud"
TIMED = ("queued", "run", "delay")
NOBODY = "*"
ENDS = ("done", "failed", "unchanged", "cancelled", "superseded")


def check(found: Records) -> None:
    """Assert all of it."""
    for name, step in found.steps.items():
        _has_a_way(name, step, found)
        _is_wanted(name, step, found)
    assert found.draining == {name for name, step in found.steps.items() if step.state == "drain"}
    _ready(found)
    _no_cycle(found.steps)
    _slots(found)
    _jobs(found)


def _has_a_way(name: str, step: StepRecord, found: Records) -> None:
    """Ready, or timed, or draining, or behind a barrier of steps that know whom to tell."""
    assert step.due == (step.state in TIMED), f"{name} is {step.state}, its deadline: {step.due}"
    assert bool(step.barrier) <= (step.state == "wait"), f"{name} is {step.state} before its barrier is empty"
    assert step.state != "wait" or step.barrier, f"{name} waits for nothing"
    for need in step.barrier:
        assert need in found.steps, f"{name} waits for {need}, which does not exist"
        assert name in found.steps[need].subscribers, f"{need} does not know that {name} waits for it"


def _is_wanted(name: str, step: StepRecord, found: Records) -> None:
    """Its subscribers exist and wait for it; a layer has a home among them or goes with its worker."""
    for one in step.subscribers - {NOBODY}:
        assert one in found.steps, f"{name} is for {one}, which does not exist"
        assert name in found.steps[one].barrier, f"{name} is for {one}, which does not wait for it"
    if step.state == "drain":
        assert not step.unwanted
    elif name[0] in LAYERS:
        assert step.unwanted == (not step.subscribers), f"{name} is for {step.subscribers}"
        assert step.unwanted or step.home in step.subscribers, f"{name} has its home at {step.home}"
        assert not step.unwanted or step.state in ("queued", "run"), f"{name} is {step.state} for nobody"


def _ready(found: Records) -> None:
    """What is ready stands once in the one place where a pump or a resumption finds it."""
    names = [name for name, _ in found.ready]
    assert sorted(names) == sorted(name for name, step in found.steps.items() if step.state == "ready")
    for name, place in found.ready:
        assert (place[0], place.split("|")[1]) == (name[0], found.steps[name].job), f"{name} is at {place}"
    parked = [place for places in found.parked.values() for place in places]
    assert sorted([*found.rings, *parked]) == sorted({place for _, place in found.ready})
    assert found.parked.keys() <= found.paused, f"parked: {found.parked}, paused: {found.paused}"


def _no_cycle(steps: Mapping[str, StepRecord]) -> None:
    height: dict[str, int] = {}

    def climb(name: str, path: tuple[str, ...]) -> int:
        assert name not in path, f"they wait for each other: {path}"
        if name not in height:
            below = [climb(need, (*path, name)) for need in steps[name].barrier]
            height[name] = 1 + max(below, default=0)
        return height[name]

    for name in steps:
        climb(name, ())


def _slots(found: Records) -> None:
    """Slots are held by what is queued or runs, and by nothing else."""
    air = {name for name, step in found.steps.items() if step.state in ("queued", "run")}
    assert found.flying == air, f"flying: {found.flying}, in truth {air}"
    held: dict[str, set[str]] = {}
    for name, step in found.steps.items():
        assert not step.held or name in air, f"{name} is {step.state} and holds {step.held}"
        for slot in step.held:
            held.setdefault(slot, set()).add(name)
    assert found.use == held, f"slots: {found.use}, held: {held}"


def _jobs(found: Records) -> None:
    """Records, counters and steps say the same of every image, and an open job has something to do."""
    for name, job in found.jobs.items():
        images = {step[2:] for step, record in found.steps.items() if step[0] == "m" and record.job == name}
        assert job.images == images, f"{name} has {job.images} open, there are {images}"
        closed = [image for image, _ in job.outcomes]
        assert len(closed) == len(set(closed)), f"{name} closed an image twice: {closed}"
        assert not job.images & set(closed)
        ends = Counter(state for _, state in job.outcomes)
        assert {end: job.counters.get(end, 0) for end in ENDS} == {end: ends[end] for end in ENDS}
        running = {s for s, r in found.steps.items() if r.state == "run" and r.job == name}
        assert job.running == running, f"{name} shows {job.running}, in truth {running}"
        roots = {s for s, r in found.steps.items() if s[0] in ROOTS and r.job == name}
        if job.state in ("running", "cancelling"):
            assert roots, f"{name} is open and has nothing to do"
        else:
            assert not roots, f"{name} is {job.state} and has {roots}"
            assert job.state != "done" or len(closed) == job.total


def check_moves(found: Records, moved: int) -> None:
    """Each accepted `done` of a layer was counted once, in one job."""
    total = Counter[str]()
    for job in found.jobs.values():
        total.update(job.counters)
    counted, teed = total["downloaded"] + total["layers"], total["uploaded"] // SIZE
    assert counted - teed == moved, f"{counted} counted, {teed} of them teed, {moved} done"


def check_nothing_left(found: Records) -> None:
    """After the end: no step, slot or message is left."""
    assert (found.steps, found.ready, found.flying, found.use) == ({}, [], set(), {})
    for name, job in found.jobs.items():
        assert job.state not in ("running", "cancelling"), f"{name} is {job.state}"
        assert (job.images, job.running) == (set(), set())
