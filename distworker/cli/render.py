"""What a person or a program sees while a job runs: bars in a terminal, plain lines in a pipe, or JSON lines.

The only importer of rich. Each display is told the same three things (an image closed, a tick, the end) and
owns stdout; notices go to stderr. Text from outside is never read as markup.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from distworker.cli import report
from distworker.errors import clean
from distworker.state.base import FAILED, JobView

#: Seconds between two heartbeat lines of a piped run.
HEARTBEAT: Final = 10.0
#: Rows left for the prompt, the job's bar and the last lines above the bars.
ROWS_KEPT: Final = 6


class Display(Protocol):
    """What `follow` talks to. Used as a context manager, so that a terminal is always given back clean."""

    def __enter__(self) -> Display: ...

    def __exit__(self, *exc: object) -> None: ...

    def begin(self, view: JobView) -> None:
        """The job is recorded; it may have been running for a while."""
        ...

    def image(self, outcome: Mapping[str, Any]) -> None:
        """An image closed."""
        ...

    def tick(self, view: JobView) -> None:
        """The job as it is now; called several times a second at most."""
        ...

    def notice(self, text: str) -> None:
        """Something the reader should know that is not part of the result."""
        ...

    def end(self, view: JobView, failures: Sequence[Mapping[str, Any]], code: int) -> None:
        """The job is over."""
        ...


def choose(as_json: bool, out: TextIO | None = None) -> Display:
    """The display for where stdout goes."""
    out = sys.stdout if out is None else out
    if as_json:
        return JsonLines(out)
    return Bars(out) if out.isatty() else Lines(out)


class _Quiet:
    """The context manager of displays that hold nothing open."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __exit__(self, *exc: object) -> None:
        return None

    def notice(self, text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def _say(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()


class Lines(_Quiet):
    """One line per closed image, and a heartbeat line when nothing else was said for a while."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self._spoke = time.monotonic()

    def __enter__(self) -> Lines:
        return self

    def begin(self, view: JobView) -> None:
        self._say(f"job {view.id} {view.state}")

    def image(self, outcome: Mapping[str, Any]) -> None:
        self._say(report.image_line(outcome))
        self._spoke = time.monotonic()

    def tick(self, view: JobView) -> None:
        if time.monotonic() - self._spoke >= HEARTBEAT:
            self._say(report.heartbeat_line(view))
            self._spoke = time.monotonic()

    def end(self, view: JobView, failures: Sequence[Mapping[str, Any]], code: int) -> None:
        for line in report.final_lines(view, failures):
            self._say(line)


class JsonLines(_Quiet):
    """`job` at the start and every few seconds, `image` for each closed image, `done` at the end."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self._spoke = time.monotonic()
        self._job = ""

    def __enter__(self) -> JsonLines:
        return self

    def begin(self, view: JobView) -> None:
        self._job = view.id
        self._event("job", {**report.job_record(view), "running": report.running_records(view)})

    def image(self, outcome: Mapping[str, Any]) -> None:
        self._event("image", report.image_record(self._job, outcome))

    def tick(self, view: JobView) -> None:
        if time.monotonic() - self._spoke >= HEARTBEAT:
            self._spoke = time.monotonic()
            self._event("job", {**report.job_record(view), "running": report.running_records(view)})

    def end(self, view: JobView, failures: Sequence[Mapping[str, Any]], code: int) -> None:
        self._event("done", {**report.job_record(view), "exit": code})

    def _event(self, name: str, record: Mapping[str, Any]) -> None:
        self._say(json.dumps({"event": name, **record}, ensure_ascii=False))


class Bars:
    """A bar for the job (images) and one for each running step (bytes, rate, worker)."""

    def __init__(self, out: TextIO) -> None:
        self._console = Console(file=out, markup=False, highlight=False, emoji=False)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20 if self._console.width >= 100 else 10),
            TextColumn("{task.fields[detail]}", markup=False),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            # Log lines go above the bars, unless they go to a file.
            redirect_stderr=sys.stderr.isatty(),
            refresh_per_second=4,
        )
        #: What is left of a line for the name of a step: the bar and the longest detail come first.
        self._name_width = max(16, self._console.width - 58)
        self._job: TaskID | None = None
        self._steps: dict[str, TaskID] = {}
        self._rates = report.Rates()

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def begin(self, view: JobView) -> None:
        self._job = self._progress.add_task(f"job {view.id}", total=None, detail="planning")
        self.tick(view)

    def image(self, outcome: Mapping[str, Any]) -> None:
        style = "red" if outcome.get("state") == FAILED else "dim"
        self._console.print(Text(report.image_line(outcome, brief=True), style=style), soft_wrap=True)

    def notice(self, text: str) -> None:
        self._console.print(Text(text, style="yellow"), soft_wrap=True)

    def tick(self, view: JobView) -> None:
        if self._job is None:
            return
        total = view.counters.get("total", 0)
        closed = report.closed_images(view)
        detail = f"{closed} of {total or '?'} images · moved {report.size(report.moved_total(view))}"
        saved = report.saved_total(view)
        if saved:
            detail += f" · saved {report.size(saved)}"
        self._progress.update(self._job, total=total or None, completed=closed, detail=detail)
        self._tick_steps(view)
        self._progress.refresh()  # a job of one second is seen too

    def _tick_steps(self, view: JobView) -> None:
        rows = max(1, self._console.height - ROWS_KEPT)
        shown = dict(list(view.running.items())[:rows])
        for step in [step for step in self._steps if step not in shown]:
            self._progress.remove_task(self._steps.pop(step))
        now = time.monotonic()
        for step, record in shown.items():
            moved, size = int(record.get("moved", 0)), int(record.get("size", 0))
            rate = self._rates.seen(step, moved, now)
            parts = [f"{report.size(moved)} of {report.size(size)}"] if size else []
            parts += [f"{report.size(rate)}/s"] if rate else []
            parts += [clean(str(record["worker"]), 40)] if record.get("worker") else []
            now_at: dict[str, Any] = {"total": size or None, "completed": moved, "detail": "  ".join(parts)}
            if step in self._steps:
                self._progress.update(self._steps[step], **now_at)
            else:
                name = "  " + clean(report.step_name(step, record), self._name_width)
                self._steps[step] = self._progress.add_task(name, **now_at)
        self._rates.forget(view.running)

    def end(self, view: JobView, failures: Sequence[Mapping[str, Any]], code: int) -> None:
        self._progress.stop()
        for line in report.final_lines(view, failures):
            style = "red" if line.startswith("failed") else ""
            self._console.print(Text(line, style=style), soft_wrap=True)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO | None = None) -> None:
    """Aligned columns without a frame, so that they can be cut and grepped; clipped in a terminal only."""
    out = sys.stdout if out is None else out
    lines = [tuple(headings), *(tuple(clean(cell) for cell in row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    limit = Console(file=out).width if out.isatty() else None
    for line in lines:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        clipped = text[: limit - 1] + "…" if limit is not None and len(text) > limit else text
        out.write(clipped + "\n")
