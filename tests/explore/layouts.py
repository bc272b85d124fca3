"""The worlds that are explored, each about one thing that sharing, priorities or windows can get wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.explore.world import Layout

LAYOUTS: Final[Mapping[str, Layout]] = {
    "one image": Layout({"J1": {"J1-0": ["a"]}}),
    "one layer of two jobs": Layout({"J1": {"J1-0": ["a"]}, "J2": {"J2-0": ["a"]}}),
    "a later job comes first": Layout(
        {"J1": {"J1-0": ["a"]}, "J2": {"J2-0": ["a"]}},
        priorities={"J1": 3, "J2": 8},
        caps={"src": 1, "dst": 1},
    ),
    "image by image": Layout({"J1": {"J1-0": ["a"], "J1-1": ["b"], "J1-2=": []}}, window=1),
    "three images of three layers": Layout(
        {"J1": {"J1-0": ["a", "b"], "J1-1": ["a"]}, "J2": {"J2-0": ["a", "c"]}}, caps={"dst": 2}
    ),
}
