"""The demo's report: what was moved, what was saved and by what, how long it took, what was proved.

`FIELDS` are the names at the beginning of its lines, in their order; the README shows a real one with the
same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distworker.cli.report import SAVED, size

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
    images, moved = job["images"], job["moved"]
    saved = {words: job["saved"].get(name.removeprefix("saved_"), 0) for name, words in SAVED.items()}
    parts = ", ".join(f"{size(count)} {words}" for words, count in saved.items() if count)
    values = {
        "images": f"{images['total']}: {images['done']} copied, {images['unchanged']} already there,"
        f" {images['failed']} failed",
        "moved": f"{size(moved['downloaded'])} down, {size(moved['uploaded'])} up in {moved['layers']} blobs",
        "saved": size(sum(saved.values())) + (f": {parts}" if parts else ""),
        "verified": _proved(proof),
        "seconds": ", ".join(f"{value:.1f} {what}" for what, value in seconds.items()),
    }
    return [f"{name:<10}{values[name]}" for name in FIELDS]


def _proved(proof: Proof | None) -> str:
    if proof is None:
        return "FAILED"
    return f"{proof.images} images, {proof.manifests} manifests, {proof.blobs} blobs, by skopeo at both ends"
