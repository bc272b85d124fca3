"""How ledger values travel to the Lua scripts and back: JSON with one-letter fields, absent when default.

Bodies, outcomes, errors and notes are opaque text to Lua: its JSON library turns empty lists into objects and
large integers into floats, so whatever a script has to read is put beside the body instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from distworker import names
from distworker.state.base import Change, StepSpec
from distworker.state.packing import packed, short_via
from distworker.state.rules import NO_TOTAL

#: Longest JSON of an error that is kept whole.
ERROR_MAX: Final = 2000


def text(value: object) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def spec(step: StepSpec) -> dict[str, Any]:
    """A spec as `_common.lua` describes it."""
    body = dict(step.body)
    record: dict[str, Any] = {
        "i": step.id,
        "j": step.job,
        "b": packed(text(body), step.id),
        "p": step.priority,
        "o": step.origin,
        "c": step.credential,
        "a": short_via(step.via),
        "z": int(body.get("size", 0)),
        "y": int(bool(body.get("counted"))),
        "n": [spec(need) for need in step.needs],
    }
    version = int(body.get("v", names.VERSION))
    if version > names.VERSION:
        record["v"] = version
    return {name: value for name, value in record.items() if value or name in ("i", "j", "b", "p")}


def shortened(error: Mapping[str, Any]) -> dict[str, Any]:
    """An error as a record keeps it: whole when it is short, else its words alone, cut."""
    record = dict(error)
    if len(text(record)) <= ERROR_MAX:
        return record
    kept: dict[str, Any] = {name: record[name] for name in ("code", "retry") if name in record}
    return {**kept, "message": str(record.get("message", ""))[: ERROR_MAX // 2]}


def specs(steps: Iterable[StepSpec]) -> list[dict[str, Any]]:
    """Specs in order."""
    return [spec(step) for step in steps]


def change(value: Change) -> str:
    """A Change as `done.lua` reads it."""
    record: dict[str, Any] = {
        "spawn": specs(value.spawn),
        "wait": [(waiter, specs(needs)) for waiter, needs in value.wait],
        "patch": [(step, packed(text(dict(fields)), step)) for step, fields in value.patch],
        "counts": dict(value.counts),
        "delivered": text(dict(value.delivered)),
        "hints": [
            (f"{origin}|{credential}|{digest}", repo) for origin, credential, digest, repo in value.hints
        ],
    }
    if value.closing:
        record["closing"] = (value.closing.image, value.closing.state, text(dict(value.closing.outcome)))
    if value.delivered.get("teed"):
        record["teed"] = list(value.delivered["teed"])
    if value.total is not None:
        record["total"] = value.total
    else:
        record["no_total"] = text(NO_TOTAL)
    if value.cursor is not None:
        record["cursor"] = value.cursor
    return text(record)


def loads(answer: str) -> Any:
    """A script's JSON answer."""
    return json.loads(answer)
