"""The words and figures of a job, for people and for machines: sizes, lines, events, exit codes.

Pure functions over the state port's views, so that the bars, the plain lines, `status` and `--json` can never
tell different stories. The words are those of the whole product: images are done, unchanged, failed,
cancelled or superseded; bytes are moved (downloaded, uploaded) or saved (already there, mounted, from store,
shared).
Never prints, never asks a server.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from distworker.errors import CODES, InfrastructureError, clean
from distworker.names import DOWNLOAD, UPLOAD, VERBS, VERSION, kind_of
from distworker.state.base import CANCELLED, DONE, FAILED, SUPERSEDED, UNCHANGED, JobView

#: Exit codes of the command line (docs/operations.md).
OK, SOME_FAILED, USAGE, INFRASTRUCTURE, INTERRUPTED = 0, 1, 2, 3, 130

#: Image end states in the order in which every report names them.
STATES: Final = (DONE, UNCHANGED, FAILED, CANCELLED, SUPERSEDED)
#: Those that are named even when there are none.
ALWAYS: Final = (DONE, UNCHANGED, FAILED)
#: Counter → what a person calls it. "Shared": an image joined a step that another one had started already.
SAVED: Final = {
    "saved_present": "already there",
    "saved_mounted": "mounted",
    "saved_stored": "from store",
    "saved_shared": "shared",
}
#: Running steps named in one line of plain output; more would wrap in any terminal or CI log.
NAMED_STEPS: Final = 4


def size(count: float) -> str:
    """Bytes as people say them: `0 B`, `812 B`, `3.1 MB` (powers of 1000, as registries bill them)."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if value < 999.95 or unit == "PB":
            break
        value /= 1000
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 20 s`, `2 h 5 min`."""
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def moment(unix: float) -> str:
    """A time in UTC, as logs write it: `2025-03-01 12:00:05Z`."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def elapsed(view: JobView, now: float | None = None) -> float:
    """Seconds from the job's opening to its end, or to now."""
    end = view.closed if view.closed is not None else (time.time() if now is None else now)
    return max(0.0, end - view.created)


def is_over(view: JobView) -> bool:
    """No image of this job will change any more."""
    return view.closed is not None


def state_text(view: JobView) -> str:
    """The job's state; `paused` while an operator holds it."""
    return "paused" if view.paused and not is_over(view) else view.state


def closed_images(view: JobView) -> int:
    """Images that have reached an end state."""
    return sum(view.counters.get(state, 0) for state in STATES)


def images_text(view: JobView) -> str:
    """`10 done, 2 unchanged, 0 failed`; states that are rare are named only when there are some."""
    parts = [
        f"{view.counters.get(state, 0)} {state}"
        for state in STATES
        if state in ALWAYS or view.counters.get(state, 0)
    ]
    return ", ".join(parts)


def labels_text(view: JobView) -> str:
    """`team=web, ticket=42`: what the sender called the job; "" when it has no labels."""
    labels = view.record.get("labels") or {}
    return ", ".join(clean(f"{name}={value}", 200) for name, value in sorted(labels.items()))


def moved_text(view: JobView) -> str:
    """`downloaded 3.1 MB, uploaded 3.1 MB (4 layers)`; the layers are those that were uploaded."""
    count = view.counters
    layers = count.get("layers", 0)
    number = f" ({layers} layer{'' if layers == 1 else 's'})" if layers else ""
    return f"downloaded {size(count.get('downloaded', 0))}, uploaded {size(count.get('uploaded', 0))}{number}"


def moved_total(view: JobView) -> int:
    """Bytes moved so far, running steps included, each once: what is downloaded is uploaded then or later."""
    under_way = {DOWNLOAD: 0, UPLOAD: 0}
    for step, record in view.running.items():
        if kind_of(step) in under_way:
            under_way[kind_of(step)] += int(record.get("moved", 0))
    return max(
        view.counters.get("downloaded", 0) + under_way[DOWNLOAD],
        view.counters.get("uploaded", 0) + under_way[UPLOAD],
    )


def saved_total(view: JobView) -> int:
    """Bytes that did not have to be moved."""
    return sum(view.counters.get(name, 0) for name in SAVED)


def saved_text(view: JobView) -> str:
    """`1.2 GB: 900.0 MB already there, 300.0 MB mounted`, naming only what saved something."""
    parts = [
        f"{size(view.counters[name])} {words}" for name, words in SAVED.items() if view.counters.get(name)
    ]
    return size(saved_total(view)) + (": " + ", ".join(parts) if parts else "")


def failure_text(error: Mapping[str, Any] | None) -> str:
    """`code: message` of an error record, in one line."""
    if not error:
        return "internal: no reason was recorded"
    return clean(f"{error.get('code', 'internal')}: {error.get('message', '')}", 600)


def image_name(outcome: Mapping[str, Any]) -> str:
    """`source → destination` of an outcome; its id when it carries no names."""
    source, destination = str(outcome.get("source", "")), str(outcome.get("destination", ""))
    names = " → ".join(name for name in (source, destination) if name)
    return clean(names or str(outcome.get("image", "image")), 600)


def image_line(outcome: Mapping[str, Any], *, brief: bool = False) -> str:
    """One line for one closed image; `brief` has its digest short, for a terminal that would wrap it."""
    state = str(outcome.get("state", ""))
    line = f"{state:<10} {image_name(outcome)}"
    if outcome.get("error"):
        return f"{line}: {failure_text(outcome['error'])}"
    digest = str(outcome.get("digest", ""))
    return f"{line}  {short(digest) if brief else digest}" if digest else line


def short(digest: str) -> str:
    """The first 12 hex digits: enough to find a layer in a log."""
    return digest.rpartition(":")[2][:12]


def step_name(step: str, record: Mapping[str, Any]) -> str:
    """What a running step is, in few words: verb and short digest of a layer, else the ledger's sentence."""
    for part in step[2:].replace("@", "/").split("/"):
        if part.startswith("sha256:"):
            return f"{VERBS.get(kind_of(step), 'step')} {short(part)}"
    return step_sentence(step, record)


def step_sentence(step: str, record: Mapping[str, Any]) -> str:
    """What a running step is, in full."""
    return clean(str(record.get("text") or f"{VERBS.get(kind_of(step), 'step')} {step[2:]}"), 300)


def heartbeat_line(view: JobView) -> str:
    """The line that tells a CI log that the job lives."""
    total = view.counters.get("total", 0)
    line = f"{closed_images(view)} of {total or '?'} images closed; {moved_text(view)}"
    if not view.running:
        return f"{line}; nothing runs just now"
    named = [
        f"{step_name(step, record)} {size(record.get('moved', 0))} of {size(record.get('size', 0))}"
        if record.get("size")
        else step_name(step, record)
        for step, record in list(view.running.items())[:NAMED_STEPS]
    ]
    more = len(view.running) - len(named)
    return f"{line}; running: {', '.join(named)}" + (f" and {more} more" if more > 0 else "")


def running_lines(view: JobView) -> list[str]:
    """One line for each running step: what, how far, and who does it."""
    lines = []
    for step, record in view.running.items():
        parts = [step_sentence(step, record)]
        if record.get("size"):
            parts.append(f"{size(record.get('moved', 0))} of {size(record['size'])}")
        if record.get("worker"):
            parts.append(f"by {clean(str(record['worker']), 80)}")
        lines.append("running " + "  ".join(parts))
    return lines


def final_lines(view: JobView, failures: Sequence[Mapping[str, Any]]) -> list[str]:
    """The report at the end of a job."""
    total = view.counters.get("total", 0)
    lines = [
        f"job     {view.id} {state_text(view)} {'in' if is_over(view) else 'for'} {duration(elapsed(view))}",
        *([f"retry   of {clean(str(of), 100)}"] if (of := view.record.get("retry_of")) else []),
        *(["labels  " + labels] if (labels := labels_text(view)) else []),
        f"images  {total}: {images_text(view)}",
        f"moved   {moved_text(view)}",
        f"saved   {saved_text(view)}",
    ]
    if view.error:
        lines.append(f"failed  job {view.id}: {failure_text(view.error)}")
    lines += [f"failed  {image_name(each)}: {failure_text(each.get('error'))}" for each in failures]
    return lines


def exit_code(view: JobView, failures: Sequence[Mapping[str, Any]]) -> int:
    """0 all well; 3 when our own servers let the whole job fail; 1 for any other failure or a cancel."""
    errors = [each.get("error") for each in failures] + ([view.error] if view.error else [])
    failed = max(view.counters.get(FAILED, 0), len(failures))
    well = sum(view.counters.get(state, 0) for state in (DONE, UNCHANGED, SUPERSEDED))
    if errors and not well and len(errors) >= failed and all(_is_infrastructure(error) for error in errors):
        return INFRASTRUCTURE
    if failed or errors or view.counters.get(CANCELLED, 0) or view.state in (FAILED, CANCELLED):
        return SOME_FAILED
    return OK


def _is_infrastructure(error: Mapping[str, Any] | None) -> bool:
    return issubclass(CODES.get(str((error or {}).get("code")), Exception), InfrastructureError)


# --- for machines ---------------------------------------------------------------


def job_record(view: JobView) -> dict[str, Any]:
    """A job for machines; documented in docs/enqueue.md, fields are only ever added."""
    count = view.counters
    return {
        "v": VERSION,
        "job": view.id,
        "kind": view.record.get("kind", ""),
        "state": view.state,
        "paused": view.paused,
        "retry_of": view.record.get("retry_of") or None,
        "created": view.created,
        "closed": view.closed,
        "seconds": round(elapsed(view), 3),
        "labels": dict(view.record.get("labels") or {}),
        "images": {name: count.get(name, 0) for name in ("total", *STATES)},
        "moved": {name: count.get(name, 0) for name in ("downloaded", "uploaded", "layers")},
        "saved": {name.removeprefix("saved_"): count.get(name, 0) for name in SAVED},
        "error": view.error,
    }


def running_records(view: JobView) -> list[dict[str, Any]]:
    """The running steps of a job for machines."""
    return [
        {
            "step": step,
            "verb": VERBS.get(kind_of(step), "step"),
            "moved": record.get("moved", 0),
            "size": record.get("size", 0),
            "worker": record.get("worker", ""),
            "text": record.get("text", ""),
        }
        for step, record in view.running.items()
    ]


def image_record(job: str, outcome: Mapping[str, Any]) -> dict[str, Any]:
    """A closed image for machines."""
    return {"v": VERSION, "job": job, **outcome}


class Rates:
    """Bytes per second of running steps, smoothed; workers report every few seconds only."""

    #: Weight of the newest reading: high enough that a stalled layer shows within three readings.
    WEIGHT: Final = 0.5

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, int, float]] = {}

    def seen(self, step: str, moved: int, now: float) -> float:
        """Tell a reading, get the rate so far (0.0 until the second different reading)."""
        then, before, rate = self._last.get(step, (now, moved, 0.0))
        if moved > before and now > then:
            fresh = (moved - before) / (now - then)
            rate = fresh if rate == 0.0 else self.WEIGHT * fresh + (1 - self.WEIGHT) * rate
            then, before = now, moved
        self._last[step] = (then, before, rate)
        return rate

    def forget(self, living: Mapping[str, Any]) -> None:
        """Drop the steps that no longer run."""
        self._last = {step: reading for step, reading in self._last.items() if step in living}
