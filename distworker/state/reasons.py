"""Why a step is late or held up, in one sentence for operators; the same from both ledgers.

A ledger says it as a short list, a word and what belongs to it; here it becomes `Overdue.reason`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from distworker.state.base import Overdue
from distworker.state.texts import step_text

#: State letters of the records → the words people read.
STATES: Final = {
    "wait": "waiting",
    "ready": "ready",
    "queued": "queued",
    "run": "running",
    "delay": "delayed",
    "drain": "draining",
}

#: The words of a reason.
SENTENCES: Final = {
    "lease": "its lease ran out at {moment}: its worker died or stalled",
    "unclaimed": "no worker has taken its message since {since}; messages sent: {about}",
    "delayed": "runs again at {moment}",
    "j": "job {about} is paused by an operator",
    "o": "origin {about} is paused by an operator",
    "paused": "origin {about} asked for a pause until {moment}",
    "memory": "memory of Redis is above the ceiling: no more images are planned until others are done",
    "nobody": "no worker is alive",
    "waits": "waits for {about}",
    "drain": "it is over, and those who wait for it are being told",
    "newer": "it was written by a newer version: only a worker of that version can run it",
}


def clock_text(seconds: float) -> str:
    """A moment, to the second, in UTC."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def reason_text(why: Sequence[Any], since: float, deadline: float | None, error: Mapping[str, Any]) -> str:
    """The sentence for `why`: a word, then a name, a number or a moment."""
    word, about = why[0], why[-1]
    moment = clock_text(about if word == "paused" else deadline or 0.0)
    sentence = SENTENCES[word].format(
        about=why[1] if word == "paused" else about, moment=moment, since=clock_text(since)
    )
    last = str(error.get("message", ""))
    return f"{sentence}; last error: {last}" if last else sentence


def overdue_of(
    step: str,
    job: str,
    state: str,
    since: float,
    deadline: float | None,
    worker: str,
    why: Sequence[Any],
    error: Mapping[str, Any],
    body: Mapping[str, Any],
) -> Overdue:
    """The row of one step; `state` is the record's word."""
    return Overdue(
        id=step,
        job=job,
        state=STATES[state],
        since=since,
        deadline=deadline,
        worker=worker,
        reason=reason_text(why, since, deadline, error),
        text=step_text(step, body),
    )
