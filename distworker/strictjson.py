"""JSON of strangers, read in one way only: what two readers could understand differently is refused.

Duplicate keys, keys in another letter case, constants outside JSON and endless nesting are how one document
is made to say two things (CVE-2021-41190) or to kill a parser. The text is only looked at: nothing here
writes JSON, and nothing of the foreign text gets into an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from distworker.errors import ManifestInvalid
from distworker.limits import JSON_DEPTH_MAX

# A string (closed or not, so that each byte is looked at once) or a bracket.
_TOKENS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def load(raw: bytes) -> Mapping[str, Any]:
    """The one JSON object that `raw` spells; ManifestInvalid for anything else."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ManifestInvalid("the manifest is not UTF-8") from None
    _check_depth(text)
    try:
        document = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except ValueError:
        # JSONDecodeError, and integers longer than Python converts; neither message helps, and both quote
        # foreign text.
        raise ManifestInvalid("the manifest is not JSON") from None
    if not isinstance(document, dict):
        raise ManifestInvalid("the manifest is not a JSON object")
    return document


def exact_keys(document: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Go's decoder ignores letter case, so `Layers` is a second `layers` to some readers and nothing to
    others: ManifestInvalid for such a key."""
    folded = {name.casefold(): name for name in known}
    for key in document:
        name = folded.get(key.casefold())
        if name is not None and name != key:
            raise ManifestInvalid(f"{where} spells the key {name!r} in another letter case")


def _check_depth(text: str) -> None:
    depth = 0
    for match in _TOKENS.finditer(text):
        first = match.group()[0]
        if first in "[{":
            depth += 1
            if depth > JSON_DEPTH_MAX:
                raise ManifestInvalid(f"the manifest nests deeper than {JSON_DEPTH_MAX} levels")
        elif first in "]}":
            depth -= 1


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ManifestInvalid("the manifest has the same key twice in one object")
    return document


def _no_constant(name: str) -> Any:
    raise ManifestInvalid(f"the manifest holds {name}, which is not JSON")
