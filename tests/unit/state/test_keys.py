"""The key table and the scripts that use it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import distworker.state.keys as keys
from distworker.state.connection import HEADS, rules_json, script_text
from distworker.state.rules import Rules, admission_window, layer_window

SCRIPTS = sorted((Path(keys.__file__).parent / "scripts").glob("*.lua"))


def heads_of(*names: str) -> str:
    """The comments that open these scripts."""
    texts = [path.read_text("utf-8").split("\nlocal ", 1)[0] for path in SCRIPTS if path.stem in names]
    return "\n".join(texts)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_opens_with_the_keys_it_touches_and_names_no_other(path: Path) -> None:
    """Keys are spelled in keys.py only; each file says which rows it uses."""
    text = path.read_text("utf-8")
    head = heads_of(path.stem)
    assert re.search(r"^-- keys     ", head, re.MULTILINE)
    used = set(re.findall(r"key\('(\w+)'", text))
    assert used <= set(keys.TABLE)
    shared = "" if path.stem == "_common" else heads_of(*HEADS)
    assert [name for name in used if not re.search(rf"\b{name}\b", head + shared)] == []
    assert not re.search(r"redis\.call\('\w+', '", text), "no key is spelled in Lua"


def test_every_row_of_the_table_is_its_own_key() -> None:
    """No key of one row can be a key of another."""
    rows = sorted(keys.TABLE.values())
    assert len(set(rows)) == len(rows)
    prefixes = [row for row in rows if row.endswith(":")]
    assert not [(a, b) for a in prefixes for b in rows if a != b and b.startswith(a)]


def test_the_prefix_is_the_operator_s() -> None:
    """Two installations can share a server."""
    assert keys.key("team:", "job", "J") == "team:job:J"


def test_a_script_is_the_table_the_heads_and_itself() -> None:
    """In that order."""
    text = script_text("pump")
    marks = [
        text.index("local KEY"),
        *(text.index(f"-- {word}") for word in ("Shared head", "The moves", "pump(")),
    ]
    assert marks == sorted(marks)
    assert len(HEADS) == 6


def test_rules_travel_in_milliseconds() -> None:
    """Lua counts in whole ones."""
    text = rules_json(Rules(lease=0.2, attempts=3), None)
    assert '"lease": 200' in text
    assert '"attempts": 3' in text
    assert '"clock"' not in text


@pytest.mark.parametrize(("slots", "window", "layers"), [(0, 2, 1), (4, 5, 4), (8, 10, 9), (100, 125, 110)])
def test_windows(slots: int, window: int, layers: int) -> None:
    """A quarter more than can run, an eighth of it kept from layers."""
    assert admission_window(slots) == window
    assert layer_window(window) == layers


def test_the_resend_deadline_doubles_up_to_its_cap() -> None:
    """10, 20, 40 … 300 s."""
    assert [Rules().resend_after(n) for n in (0, 1, 2, 5, 60)] == [10, 20, 40, 300, 300]
