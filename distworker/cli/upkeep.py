"""How `status` shows the sweeps: when each ran last, what it swept, when it is due."""

from __future__ import annotations

from typing import Any, Final

from distworker.cli import report
from distworker.errors import clean
from distworker.state.turns import TurnView, counted

HEADINGS: Final = ("SWEEP", "LAST ROUND", "TOOK", "SWEPT", "NEXT")


def row(turn: TurnView) -> tuple[str, ...]:
    """One line of the table."""
    swept = counted(turn.swept) if turn.ended else ""
    if turn.error:
        swept = f"failed: {clean(turn.error)}"
    elif turn.so_far:
        swept = f"so far {counted(turn.so_far)}"
    return (
        turn.name.replace("_", " "),
        report.moment(turn.ended) if turn.ended else "never",
        report.duration(turn.took) if turn.ended else "",
        swept,
        "running" if turn.owner else report.moment(turn.due) if turn.due else "now",
    )


def record(turn: TurnView) -> dict[str, Any]:
    """The same for machines; times are Unix seconds or null."""
    return {
        "sweep": turn.name,
        "ended": turn.ended or None,
        "took": turn.took if turn.ended else None,
        "swept": dict(turn.swept),
        "so_far": dict(turn.so_far),
        "due": turn.due or None,
        "worker": turn.owner or None,
        "error": turn.error or None,
    }
