"""What whole jobs over the ledger in memory are made of: two registries, a few layers, pairs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from distworker.plan.model import Pair, Place
from tests.fakes.content import Image, image, index, layer
from tests.fakes.ports import Run, Site, registry_place

BASE, APP, TOOL = layer("base"), layer("app"), layer("tool")
AT_SOURCE = registry_place("src.example", "team/app", "1")


def pair(source: Place, destination: Place, **more: Any) -> Pair:
    return Pair(source, destination, **more)


def copy(tag: str = "1", repository: str = "team/app", **more: Any) -> Pair:
    return pair(
        registry_place("src.example", repository, tag),
        registry_place("dst.example", repository),
        **more,
    )


def sites(run: Run) -> tuple[Site, Site]:
    return run.sites["src.example"], run.sites["dst.example"]


def wait_until(holds: Callable[[], bool]) -> None:
    """The tee's other side ends on its own time; a generous guard against a hang."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def multi_arch() -> Image:
    """Two platforms that share a layer, and an attestation."""
    return index(
        (image(BASE, APP, config=b'{"a":1}'), "linux/amd64"),
        (image(BASE, TOOL, config=b'{"a":2}'), "linux/arm64"),
        (image(layer("sbom", 300), config=b'{"a":3}'), "unknown/unknown"),
    )
