"""Reads the job file of `distworker migrate`: YAML, `version: 1`, a list of source → destination pairs.

Strict, because a migration that silently skips a misspelt line is worse than one that does not start: unknown and
repeated keys, wrong types and bad references are all refused, each with file, line, path of the field and remedy, and
all faults are found in one reading. The result is the same mapping that other systems send (docs/enqueue.md).
Never resolves YAML tags into objects and never expands more nodes than a file of its size can hold.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from distworker.errors import DistworkerError, InvalidRequest
from distworker.names import VERSION
from distworker.platforms import Platform
from distworker.reference import Reference

#: Bytes of a job file: about 100,000 pairs. More belongs into several jobs.
FILE_MAX: Final = 32 * 1024 * 1024
#: YAML nodes visited; aliases can make a small file expand without end.
NODES_MAX: Final = 2_000_000
#: Faults named in one go; more are counted.
FAULTS_MAX: Final = 20

TOP: Final = ("version", "priority", "platforms", "pairs")
PAIR: Final = ("source", "destination", "all_tags", "platforms")

#: libyaml's loader is ten times faster; both give line numbers.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class JobFile:
    """A job file as read. `fields` is usable only when `faults` is empty; `lines`: field path → line number."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    faults: list[InvalidRequest] = field(default_factory=list)

    def fault(self, path: str, text: str, line: int | None = None) -> None:
        """Note what is wrong at `path`."""
        self.faults.append(InvalidRequest(self._where(path, line) + text, field=path or None))

    def located(self, error: DistworkerError) -> DistworkerError:
        """`error`, with file and line put before it when its field is one of this file's."""
        path = str(error.fields.get("field", ""))
        fields = {name: value for name, value in error.fields.items()}
        return type(error)(self._where(path) + error.message, **fields)

    def _where(self, path: str, line: int | None = None) -> str:
        line = line or self._line(path)
        return f"{self.name}" + (f", line {line}" if line else "") + (f", {path}" if path else "") + ": "

    def _line(self, path: str) -> int | None:
        while path and path not in self.lines:
            cut = max(path.rfind("."), path.rfind("["))
            path = path[:cut] if cut > 0 else ""
        return self.lines.get(path)


def read(path: Path) -> JobFile:
    """Read and check the file; faults are collected, none is raised."""
    found = JobFile(str(path))
    try:
        data = path.read_bytes()
    except OSError as error:
        found.fault("", f"cannot be read ({error.strerror}); check the path and its permissions")
        return found
    if len(data) > FILE_MAX:
        found.fault("", f"larger than {FILE_MAX // 1024 // 1024} MiB; split it into several files")
        return found
    try:
        root = yaml.compose(data.decode("utf-8"), Loader=_Loader)
    except UnicodeDecodeError:
        found.fault("", "not UTF-8 text; save it as UTF-8")
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        found.fault("", f"not valid YAML ({error.problem}); check indentation, colons and quotes there", line)
    except (yaml.YAMLError, RecursionError) as error:
        found.fault("", f"not valid YAML ({str(error).splitlines()[0] if str(error) else 'too deep'})")
    else:
        _Reader(found).document(root)
    return found


class _Reader:
    """Walks the YAML nodes once, filling a JobFile."""

    def __init__(self, found: JobFile) -> None:
        self._found = found
        self._nodes = 0

    def document(self, root: yaml.Node | None) -> None:
        found = self._found
        if not isinstance(root, yaml.MappingNode):
            found.fault("", "empty or not a mapping; begin with `version: 1` and `pairs:`")
            return
        top = self._mapping(root, "", TOP)
        if "version" not in top:
            found.fault("version", f"missing; begin the file with `version: {VERSION}`")
        elif self._plain(top["version"]) != VERSION:
            found.fault("version", f"must be {VERSION}; this release knows no other")
        found.fields = {"kind": "migrate"}
        if "priority" in top:
            priority = self._plain(top["priority"])
            if type(priority) is not int or not 0 <= priority <= 9:
                found.fault("priority", "must be a whole number from 0 (last) to 9 (first)")
            found.fields["priority"] = priority
        platforms = self._platforms(top.get("platforms"), "platforms")
        found.fields["pairs"] = self._pairs(top.get("pairs"), platforms)

    def _pairs(self, node: yaml.Node | None, platforms: list[str]) -> list[dict[str, Any]]:
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self._found.fault("pairs", "must be a list with at least one `- source: …` and `destination: …`")
            return []
        return [self._pair(each, f"pairs[{number}]", platforms) for number, each in enumerate(node.value)]

    def _pair(self, node: yaml.Node, path: str, platforms: list[str]) -> dict[str, Any]:
        self._found.lines.setdefault(path, node.start_mark.line + 1)
        if not isinstance(node, yaml.MappingNode):
            self._found.fault(path, "must have `source:` and `destination:`")
            return {}
        fields = self._mapping(node, path, PAIR)
        all_tags = self._plain(fields["all_tags"]) if "all_tags" in fields else False
        if not isinstance(all_tags, bool):
            self._found.fault(f"{path}.all_tags", "must be true or false")
        pair: dict[str, Any] = {
            end: self._reference(fields.get(end), f"{path}.{end}", all_tags is True)
            for end in ("source", "destination")
        }
        if all_tags is True:
            pair["all_tags"] = True
        own = self._platforms(fields["platforms"], f"{path}.platforms") if "platforms" in fields else platforms
        if own:
            pair["platforms"] = own
        return pair

    def _reference(self, node: yaml.Node | None, path: str, all_tags: bool) -> str:
        if node is None:
            self._found.fault(path, "missing; write a reference such as registry.example.com/team/app:1.4")
            return ""
        text = self._plain(node)
        if not isinstance(text, str) or not text:
            self._found.fault(path, "must be a reference such as registry.example.com/team/app:1.4")
            return ""
        try:
            reference = parse_reference(text)
        except DistworkerError as error:
            self._found.fault(path, error.message)
            return text
        if all_tags and reference.version:
            self._found.fault(path, f"names {reference.version} although all_tags is true; drop one of the two")
        return text

    def _platforms(self, node: yaml.Node | None, path: str) -> list[str]:
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self._found.fault(path, "must be a list such as [linux/amd64, linux/arm64]")
            return []
        found = []
        for number, each in enumerate(node.value):
            text = self._plain(each)
            try:
                found.append(str(Platform.parse(text if isinstance(text, str) else "")))
            except DistworkerError as error:
                self._found.fault(f"{path}[{number}]", f"{error.message}; write os/architecture[/variant]")
        return found

    def _mapping(self, node: yaml.MappingNode, path: str, known: tuple[str, ...]) -> dict[str, yaml.Node]:
        fields: dict[str, yaml.Node] = {}
        for key, value in node.value:
            self._count()
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            here = f"{path}.{name}" if path else name
            line = key.start_mark.line + 1
            if name not in known:
                self._found.fault(here, _unknown(name, known), line)
            elif name in fields:
                self._found.fault(here, f"is there twice (first on line {self._found.lines[here]}); keep one", line)
            else:
                fields[name] = value
                self._found.lines[here] = line
        return fields

    def _plain(self, node: yaml.Node) -> Any:
        """A scalar as YAML's core types read it; None for anything else."""
        self._count()
        if not isinstance(node, yaml.ScalarNode):
            return None
        convert = _SCALARS.get(node.tag, lambda text: text if node.tag.endswith(":str") else None)
        try:
            return convert(node.value)
        except ValueError:
            return None

    def _count(self) -> None:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise InvalidRequest(f"{self._found.name}: expands to too many values; write the pairs without aliases")


_SCALARS: Mapping[str, Callable[[str], Any]] = {
    "tag:yaml.org,2002:int": lambda text: int(text, 10),
    "tag:yaml.org,2002:bool": lambda text: text.lower() in {"true", "yes", "on"},
}


def _unknown(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return "unknown key; " + (f"did you mean {close[0]}?" if close else f"known here are {', '.join(known)}")


def parse_reference(text: str) -> Reference:
    """A reference as people type it; the transport prefixes of other tools get a hint of their own."""
    scheme, mark, rest = text.partition("://")
    if mark:
        raise InvalidRequest(f"write {rest} without {scheme}://; whether a host speaks plain http is set in registries.toml")
    return Reference.parse(text)
