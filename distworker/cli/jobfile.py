"""Reads the job file of `distworker migrate`: YAML, `version: 1`, a list of source → destination pairs.

Strict, because a migration that silently skips a misspelt line is worse than one that does not start: unknown
and repeated keys, wrong types and bad references are refused, each with file, line, path of the field and
remedy, and one reading finds all of them. What a pair may say is decided by `service/payload.py`, the same
for every way into distworker; this file only knows YAML.
Never makes objects of YAML tags and never expands a small file into a big one.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from distworker.errors import InvalidRequest, RequestError
from distworker.names import VERSION
from distworker.plan.codec import PAIRS_MAX
from distworker.service import payload

#: Bytes of a job file; 100,000 pairs, the most one job takes, need about a third of it.
FILE_MAX: Final = 32 * 1024 * 1024
#: YAML nodes visited; aliases can make a small file expand without end.
NODES_MAX: Final = 2_000_000
#: Levels of nesting; a right file has four.
DEPTH_MAX: Final = 20
#: Faults found before reading stops: a file of another tool is wrong on every line.
FAULTS_MAX: Final = 20

#: What the sender of a message may say and a file may not: these come from the command line.
_NOT_IN_FILES: Final = ("v", "id", "kind", "source", "destination")
TOP: Final = ("version", "pairs", *(name for name in payload.FIELDS if name not in (*_NOT_IN_FILES, "pairs")))
PAIR: Final = payload.PAIR_FIELDS

#: libyaml's loader is ten times faster; both give line numbers.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class JobFile:
    """A job file as read. `fields` are those of a request without `v`, to be used only without `faults`."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)  #: path of a field → its line
    faults: list[RequestError] = field(default_factory=list)

    def fault(self, path: str, text: str, line: int | None = None) -> None:
        """Note what is wrong at `path`; without `line`, that of the nearest field around it is named."""
        line = line or self._line(path)
        where = self.name + (f", line {line}" if line else "") + (f", {path}" if path else "")
        self.faults.append(InvalidRequest(f"{where}: {text}", field=path or None))

    def _line(self, path: str) -> int | None:
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path)


class _Stop(Exception):
    """The file is so wrong that reading on tells nothing new."""


def read(path: Path) -> JobFile:
    """Read and check the file. Faults are collected, none is raised."""
    found = JobFile(str(path))
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX + 1)
        if len(data) > FILE_MAX:
            raise _Stop(f"larger than {FILE_MAX // 1024 // 1024} MiB; split it into several files")
        text = data.decode("utf-8")
        _check_depth(text)
        _Reader(found).document(yaml.compose(text, Loader=_LOADER))
    except _Stop as stop:
        found.fault("", str(stop))
    except OSError as error:
        found.fault("", f"cannot be read ({error.strerror}); check the path and its permissions")
    except UnicodeDecodeError:
        found.fault("", "not UTF-8 text; save it as UTF-8")
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        found.fault("", f"not valid YAML ({error.problem}); check indentation, colons and quotes there", line)
    except yaml.YAMLError as error:
        found.fault("", f"not valid YAML ({str(error).partition(chr(10))[0]}); save it as plain UTF-8 text")
    return found


def _check_depth(text: str) -> None:
    """libyaml's composer is recursive C without a limit: 200,000 brackets end the process by a signal."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH_MAX:
            raise _Stop(f"nested deeper than {DEPTH_MAX} levels; a job file is `pairs:` with a flat list")


class _Reader:
    """Turns YAML nodes into plain values once, remembering the line of every field."""

    def __init__(self, found: JobFile) -> None:
        self._found = found
        self._nodes = 0

    def document(self, root: yaml.Node | None) -> None:
        if not isinstance(root, yaml.MappingNode):
            raise _Stop(f"begin it with `version: {VERSION}` and `pairs:`")
        fields = self._value(root, "")
        version = fields.pop("version", None)
        if version is None:
            self._fault("version", f"missing; begin the file with `version: {VERSION}`")
        elif isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= VERSION:
            self._fault("version", f"must be {VERSION}; this release knows no other")
        self._known(fields, TOP, "")
        pairs = fields.get("pairs")
        if not isinstance(pairs, list) or not pairs:
            self._fault("pairs", "must be a list with at least one `- source: …` and `destination: …`")
            return
        if len(pairs) > PAIRS_MAX:
            self._fault("pairs", f"are {len(pairs)}, one job takes {PAIRS_MAX}; split the file")
            return
        shared = {name: value for name, value in fields.items() if name != "pairs" and name in TOP}
        for number, pair in enumerate(pairs):
            self._pair(pair, f"pairs[{number}]", shared if number == 0 else {})
        self._found.fields = {"kind": "migrate", **fields}
        if not self._found.faults:
            self._together()

    def _together(self) -> None:
        """What only all pairs together show: two images for one tag."""
        try:
            payload.parse_request({"v": VERSION, **self._found.fields}, new_id="check", created=0.0)
        except RequestError as error:
            name = str(error.fields.get("field", ""))
            self._fault(name, error.message.removeprefix(f"{name}: "))

    def _pair(self, pair: Any, path: str, shared: dict[str, Any]) -> None:
        """Check one pair as if it were a request of its own; with the first go the fields shared by all."""
        if not isinstance(pair, dict):
            self._fault(path, "must have `source:` and `destination:`")
            return
        self._known(pair, PAIR, path)
        request = {name: value for name, value in (shared | pair).items() if name in (*TOP, *PAIR)}
        try:
            payload.parse_request({"v": VERSION, "kind": "migrate", **request}, new_id="check", created=0.0)
        except RequestError as error:
            name = str(error.fields.get("field", ""))
            head = name.partition("[")[0]
            where = f"{path}.{name}" if head in (*pair, "source", "destination") else name
            self._fault(where, error.message.removeprefix(f"{name}: "))

    def _known(self, fields: dict[str, Any], known: tuple[str, ...], path: str) -> None:
        for name in fields:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known here are {', '.join(known)}"
                self._fault(f"{path}.{name}" if path else name, f"unknown key; {hint}")

    def _value(self, node: yaml.Node, path: str) -> Any:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise _Stop("expands to too many values; write the pairs without aliases")
        if path.count("[") > DEPTH_MAX:
            raise _Stop("a list that holds itself; write the pairs without aliases")
        if path:
            self._found.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(each, f"{path}[{number}]") for number, each in enumerate(node.value)]
        return _scalar(str(node.tag), str(node.value))

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            here, line = (f"{path}.{name}" if path else name), key.start_mark.line + 1
            if name in fields:
                first = self._found.lines.get(here)
                self._fault(here, f"is there twice, first on line {first}; keep one", line)
                continue
            self._found.lines[here] = line
            fields[name] = self._value(value, here)
        return fields

    def _fault(self, path: str, text: str, line: int | None = None) -> None:
        self._found.fault(path, text, line)
        if len(self._found.faults) >= FAULTS_MAX:
            raise _Stop(f"{FAULTS_MAX} faults found, reading stopped; is this a job file of distworker?")


def _scalar(tag: str, text: str) -> Any:
    """YAML's plain types as far as a job file needs them; the rest stays text for the field's own check."""
    kind = tag.rpartition(":")[2]
    if kind == "bool":
        return text.lower() in {"true", "yes", "on"}
    if kind == "int" and text.isdecimal():
        return int(text)
    return None if kind == "null" else text
