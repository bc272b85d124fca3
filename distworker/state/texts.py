"""Sentences about steps for operators: Flower's argument column, `status`, the report.

They are made from the step id and the body its spec carries, here and nowhere else, so that every face says
the same.
Never a secret: bodies hold none, and a credential's id is not shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distworker import names

SHORT_DIGEST = 19  #: "sha256:" and twelve digits: enough to find a layer, short enough for a table


def place_text(place: object) -> str:
    """`host/repository:tag@digest` of a place's JSON (or the text itself), "" when there is none."""
    if isinstance(place, str):
        return place
    if not isinstance(place, Mapping):
        return ""
    text = "/".join(str(place[part]) for part in ("host", "repository") if place.get(part))
    if place.get("tag"):
        text += f":{place['tag']}"
    elif place.get("digest"):
        text += f"@{place['digest']}"
    return f"store {text}".strip() if place.get("kind") == "store" else text


def ends_of(body: Mapping[str, Any]) -> dict[str, str]:
    """`{"source": text, "destination": text}`, as far as the body, or the transfer inside it, names them."""
    for holder in (body, body.get("transfer"), body.get("image")):
        if isinstance(holder, Mapping) and (holder.get("source") or holder.get("destination")):
            ends = {end: place_text(holder.get(end)) for end in ("source", "destination")}
            return {end: text for end, text in ends.items() if text}
    return {}


def size_text(size: int) -> str:
    """Bytes for people: `912 B`, `3.1 MB`, `10.0 GB`."""
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 1000:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def step_text(step: str, body: Mapping[str, Any]) -> str:
    """What the step does: `download sha256:0123456789ab (3.1 MB) from hub.example/library/nginx`."""
    kind = names.kind_of(step)
    verb = names.VERBS.get(kind, "run")
    ends = ends_of(body)
    if kind in (names.PUBLISH, names.PLAN) and ends:
        return f"{verb} " + " to ".join(ends.values())
    if kind not in (names.UPLOAD, names.DOWNLOAD) or not body.get("digest"):
        return f"{verb} {step[2:]}"
    text = f"{verb} {str(body['digest'])[:SHORT_DIGEST]}"
    if isinstance(body.get("size"), int):
        text += f" ({size_text(body['size'])})"
    if kind == names.DOWNLOAD and "source" in ends:
        return f"{text} from {_repository(body['source'], ends['source'])}"
    if kind == names.UPLOAD and "destination" in ends:
        return f"{text} to {_repository(body['destination'], ends['destination'])}"
    return text


def _repository(place: object, text: str) -> str:
    """A layer belongs to a repository, not to a tag."""
    if isinstance(place, Mapping):
        return place_text(
            {"kind": place.get("kind"), "host": place.get("host"), "repository": place.get("repository")}
        )
    return text
