"""Reads the fields of a JSON object strictly and names the one that is wrong.

Every reader promises InvalidRequest with a path such as `pairs[2].source.tag` in `field`, for a value of the
wrong kind, too long, missing, or a field nobody knows: a record that is half understood would move the wrong
images.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from distworker.digest import Digest
from distworker.errors import InvalidRequest, NewerVersion, RequestError
from distworker.names import VERSION

T = TypeVar("T")

#: Longest text of any field that has no grammar of its own.
TEXT_MAX: Final = 255


def load_object(data: bytes) -> dict[str, Any]:
    """The JSON object that a record of the store holds; ValueError for anything else."""
    try:
        record = json.loads(data)
    except RecursionError:
        record = None
    if isinstance(record, dict):
        return record
    raise ValueError("not an object")


def numbers(value: Mapping[str, Any]) -> dict[str, Any]:
    """An object of counts; ValueError or TypeError when anything else is in it."""
    if not all(type(count) is int and count >= 0 for count in value.values()):
        raise ValueError("not all of them are counts")
    return dict(value)


class Fields:
    """One object being read. Take every field that is known, then `end()` refuses what is left over."""

    def __init__(self, value: object, path: str = "") -> None:
        self.path = path
        if not isinstance(value, Mapping):
            raise self.wrong("", "expected an object")
        self._rest: dict[Any, Any] = dict(value)

    def wrong(self, name: str, text: str) -> InvalidRequest:
        """The error for field `name` of this object ("": the object itself)."""
        where = f"{self.path}.{name}" if self.path and name else self.path or name or "request"
        return InvalidRequest(f"{where}: {text}", field=where)

    def at(self, name: str) -> str:
        """The full path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def take(self, name: str, default: Any = None) -> Any:
        """The raw value, once."""
        return self._rest.pop(name, default)

    def names(self) -> list[Any]:
        """What was not taken yet."""
        return list(self._rest)

    def version(self) -> None:
        """`v` must be a version this release reads; raises NewerVersion when a later one is needed."""
        found = self.take("v")
        if isinstance(found, bool) or not isinstance(found, int) or found < 1:
            raise self.wrong("v", f"expected {VERSION}")
        if found > VERSION:
            raise newer(self.path or "the record", found)

    def text(self, name: str, pattern: re.Pattern[str] | None = None, *, required: bool = False) -> str:
        """Text of at most 255 characters that `pattern` matches whole; "" when absent and not required."""
        value = self.take(name, "")
        if not isinstance(value, str) or len(value) > TEXT_MAX:
            raise self.wrong(name, f"expected text of at most {TEXT_MAX} characters")
        if required and not value:
            raise self.wrong(name, "missing")
        if value and pattern is not None and not pattern.fullmatch(value):
            raise self.wrong(name, "holds characters that are not allowed here")
        return value

    def spelled(self, name: str, parse: Callable[[str], T], *, required: bool = True) -> T | None:
        """What `parse` makes of a text; its RequestError becomes ours. None when absent and not required."""
        value = self.text(name, required=required)
        if not value:
            return None
        try:
            return parse(value)
        except RequestError as error:
            raise self.wrong(name, error.message) from None

    def digest(self, name: str, *, required: bool = True) -> Digest | None:
        """A digest, checked."""
        return self.spelled(name, Digest.parse, required=required)

    def whole(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number from `low` to `high`."""
        value = self.take(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(name, f"expected a whole number from {low} to {high}")
        return value

    def flag(self, name: str) -> bool:
        """True or false; false when absent."""
        value = self.take(name, False)
        if not isinstance(value, bool):
            raise self.wrong(name, "expected true or false")
        return value

    def items(self, name: str, limit: int, *, least: int = 0) -> list[tuple[str, Any]]:
        """The values of a list with their full paths."""
        value = self.take(name, [])
        if not isinstance(value, list | tuple) or not least <= len(value) <= limit:
            raise self.wrong(name, f"expected a list of {least} to {limit} items")
        return [(f"{self.at(name)}[{number}]", item) for number, item in enumerate(value)]

    def end(self) -> None:
        """Refuse every field that was not taken."""
        for name in self._rest:
            raise self.wrong(str(name)[:64], "unknown field")


def newer(what: str, version: int) -> NewerVersion:
    """The error for a record of a later version than this release reads."""
    return NewerVersion(
        f"{what} was written by a newer release (version {version}, this one reads up to {VERSION}); "
        "a worker of that release takes it"
    )
