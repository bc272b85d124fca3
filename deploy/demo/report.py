"""The demo's report: what was moved, what was saved and by what, how long it took, what was proved.

`FIELDS` are the names at the beginning of its lines, in their order; the README shows a real one with the
same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distworker.cli.report import images_text, moved_text, saved_text
from distworker.state.base import JobView

FIELDS = ("images", "moved", "saved", "verified", "seconds")


@dataclass(frozen=True)
class Proof:
    """What skopeo confirmed at both ends: images, and unique manifests and blobs below them."""

    images: int
    manifests: int
    blobs: int


def lines(job: Mapping[str, Any], proof: Proof | None, seconds: Mapping[str, float]) -> list[str]:
    """The report of one finished job, as `distworker status --json` gives it; `proof` is None when it
    failed."""
    view = _view(job)
    values = {
        "images": f"{job['images']['total']}: {images_text(view)}",
        "moved": moved_text(view),
        "saved": saved_text(view),
        "verified": _proved(proof),
        "seconds": ", ".join(f"{value:.1f} {what}" for what, value in seconds.items()),
    }
    return [f"{name:<10}{values[name]}" for name in FIELDS]


def _view(job: Mapping[str, Any]) -> JobView:
    """The record as the command line's own words take it, so that both say the same of the same job."""
    saved = {f"saved_{name}": count for name, count in job["saved"].items()}
    counters = {**job["images"], **job["moved"], **saved}
    return JobView("", "", created=0.0, closed=None, record={}, counters=counters, running={})


def _proved(proof: Proof | None) -> str:
    if proof is None:
        return "FAILED"
    return f"{proof.images} images, {proof.manifests} manifests, {proof.blobs} blobs, by skopeo at both ends"
