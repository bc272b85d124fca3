"""Reading the TOML files of other tools: faults name file, line and key; what is unknown is told once.

These files belong to somebody else and grow with their tools, so an unknown key is a line in the log and
never a failure; a value that cannot mean what it says is one, because guessing would send requests elsewhere
than an operator believes. Nothing here knows which keys there are.
"""

from __future__ import annotations

import difflib
import logging
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from distworker.errors import ConfigInvalid

log = logging.getLogger(__name__)
_TOLD: set[tuple[str, str]] = set()


def read_toml(path: Path) -> dict[str, Any]:
    """The file's tables.

    Raises:
        ConfigInvalid: it cannot be read, or is no TOML; names the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        reason = f"not valid TOML: {error}"
    except UnicodeDecodeError:
        reason = "not UTF-8 text"
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    raise ConfigInvalid(f"{path}: {reason}")


class Table:
    """One table of a file; `place` is how it is called in messages, such as `[host."https://…"]`."""

    def __init__(self, path: Path, values: Mapping[str, Any], place: str = "") -> None:
        self.path = path
        self.values = values
        self.place = place

    def wrong(self, key: str, remedy: str) -> ConfigInvalid:
        """The error for a key whose value cannot be used."""
        place = f"{self.place} {key}".strip()
        return ConfigInvalid(f"{self.path}: {place}: {remedy}", field=key)

    def text(self, key: str, default: str = "") -> str:
        """A string."""
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, "expected text in quotes")
        return value

    def flag(self, key: str) -> bool:
        """True or false; false when missing."""
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, "expected true or false")
        return value

    def texts(self, key: str, default: Collection[str] = ()) -> tuple[str, ...]:
        """A string, or a list of strings."""
        value = self.values.get(key, list(default))
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise self.wrong(key, "expected a list of texts")
        return tuple(found)

    def tables(self, key: str) -> list[Table]:
        """The tables of an array such as `[[registry]]`."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise self.wrong(key, f"expected tables, each under [[{key}]]")
        place = f"{self.place} {key}".strip()
        return [Table(self.path, one, f"{place} {number}:") for number, one in enumerate(value, 1)]

    def ignore_others(self, known: Collection[str], guards: Collection[str] = ()) -> None:
        """Tell once of each key that is not `known`. One that looks like a misspelt guard (`blockd`) is a
        failure: leaving it alone would open what somebody closed.
        """
        for key in self.values:
            meant = [] if key in known else difflib.get_close_matches(key.lower(), guards, n=1, cutoff=0.8)
            if meant:
                raise self.wrong(key, f"unknown key; did you mean {meant[0]}?")
            if key not in known and (str(self.path), key) not in _TOLD:
                _TOLD.add((str(self.path), key))
                log.warning("%s: %s: this key means nothing here and is left alone", self.path, key)
