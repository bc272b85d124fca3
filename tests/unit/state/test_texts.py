"""The sentences operators read."""

from __future__ import annotations

from typing import Any

import pytest

from distworker.state.texts import ends_of, place_text, size_text, step_text

DIGEST = "sha256:" + "0123456789abcdef" * 4
HUB = {
    "kind": "registry",
    "host": "hub.example",
    "repository": "library/nginx",
    "tag": "1",
    "credential": "c",
}
STORE = {"kind": "store", "host": "hub.example", "repository": "library/nginx", "tag": "1"}


@pytest.mark.parametrize(
    ("step", "body", "text"),
    [
        (f"d:t/{DIGEST}", {"digest": DIGEST, "size": 3_100_000, "source": HUB},
         "download sha256:0123456789ab (3.1 MB) from hub.example/library/nginx"),
        (f"u:{DIGEST}@dst", {"digest": DIGEST, "size": 912, "destination": {"host": "d", "repository": "a"}},
         "upload sha256:0123456789ab (912 B) to d/a"),
        ("m:J-1", {"source": HUB, "destination": STORE},
         "publish hub.example/library/nginx:1 to store hub.example/library/nginx:1"),
        ("p:J-1", {"transfer": {"source": HUB, "destination": STORE}},
         "plan hub.example/library/nginx:1 to store hub.example/library/nginx:1"),
        ("j:J", {"window": 3}, "expand J"),
        ("u:odd", {}, "upload odd"),
        ("x:odd", {}, "run odd"),
    ],
)  # fmt: skip
def test_a_step_says_what_it_does(step: str, body: dict[str, Any], text: str) -> None:
    """Short digest, size, place."""
    assert step_text(step, body) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (3_140_000, "3.1 MB"),
        (10**10, "10.0 GB"),
        (2 * 10**12, "2.0 TB"),
    ],
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    """Decimal units, one digit."""
    assert size_text(size) == text


def test_a_place_without_a_tag_shows_its_digest() -> None:
    """An untagged transfer is named by what it moves."""
    assert place_text({"host": "h", "repository": "r", "digest": DIGEST}) == f"h/r@{DIGEST}"
    assert place_text("h/r:1") == "h/r:1"
    assert place_text(None) == ""


def test_a_body_without_places_has_no_ends() -> None:
    """Then the outcome names none."""
    assert ends_of({"source": "", "image": "J-1"}) == {}
