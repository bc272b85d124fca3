"""All tags of a repository, page by page (distribution-spec, "Listing Tags").

`Link` is followed as it is written (Quay, ECR Public and others put their own cursors in it) but only within
the registry's own origin. A page that adds nothing, a page seen before and any limit ends the walk with an
error rather than for ever. Names that are not tags are left out.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any, Final

from distworker.errors import InvalidReference, LimitExceeded, ProtocolError, RedirectRefused
from distworker.limits import HEADER_VALUE_MAX, PAGE_BODY_MAX, PAGES_MAX, TAGS_MAX
from distworker.reference import parse_tag
from distworker.registry import scopes
from distworker.registry.call import Call, Reply
from distworker.registry.endpoint import Endpoint
from distworker.registry.faults import Where
from distworker.registry.urls import origin_of, resolve

_LOG = logging.getLogger(__name__)
#: Tags asked for at once; ECR refuses more.
PAGE: Final = 1000
_LINK: Final = re.compile(
    r'<?([^<>,;\s]+(?:,[^<>,;\s]+)*)>?((?:\s*;\s*[\w*-]+\s*=\s*(?:"[^"]*"|[^",;\s]+))*)'
)
_REL: Final = re.compile(r';\s*rel\s*=\s*(?:"([^"]*)"|([^",;\s]+))', re.IGNORECASE)


def tags(at: Endpoint, repository: str) -> Iterator[str]:
    """Each tag once, in the registry's order.

    Raises:
        RepositoryUnknown: 404. LimitExceeded: more pages or tags than we follow. ProtocolError: pages that
        loop or are no tag list. RedirectRefused: the next page is on another origin.
    """
    where = at.where("list tags", repository)
    url = at.tags(repository, PAGE)
    walked: set[str] = set()
    seen: set[str] = set()
    while url:
        if len(walked) >= PAGES_MAX:
            raise LimitExceeded(f"{where}: more than {PAGES_MAX} pages of tags", **where.fields)
        walked.add(url)
        call = Call(
            "GET", url, where, scopes=(scopes.pull(repository),), headers={"Accept": "application/json"}
        )
        with at.http.send(call) as reply:
            if reply.status != 200:
                raise reply.error()
            fresh = [tag for tag in dict.fromkeys(_names(reply)) if tag not in seen]
            url = _next(at, reply)
        seen.update(fresh)
        if len(seen) > TAGS_MAX:
            raise LimitExceeded(f"{where}: more than {TAGS_MAX} tags", **where.fields)
        yield from (tag for tag in fresh if _is_tag(tag, where))
        if url in walked or (url and not fresh):
            raise ProtocolError(f"{where}: the registry's pages of tags go in a circle", **where.fields)


def next_link(values: list[str]) -> str:
    """The target of `rel="next"` in Link headers, "" when there is none; missing `<>` is tolerated."""
    for value in values:
        if len(value) > HEADER_VALUE_MAX:
            continue
        for match in _LINK.finditer(value):
            rel = _REL.search(match.group(2) or "")
            names = (rel.group(1) or rel.group(2) or "").lower().split() if rel else []
            if "next" in names:
                return match.group(1)
    return ""


def _next(at: Endpoint, reply: Reply) -> str:
    target = next_link(reply.header_values("Link"))
    if not target:
        return ""
    try:
        url = resolve(reply.url, target)
        same = origin_of(url) == at.http.origin
    except (ProtocolError, RedirectRefused):
        same = False
    if not same:
        raise RedirectRefused(
            f"{reply.where}: the next page of tags is on another host or scheme; refused",
            **reply.where.fields,
        )
    return url


def _names(reply: Reply) -> list[str]:
    body = reply.read(PAGE_BODY_MAX + 1)
    if len(body) > PAGE_BODY_MAX:
        raise LimitExceeded(
            f"{reply.where}: a page of tags above {PAGE_BODY_MAX} bytes", **reply.where.fields
        )
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    listed = document.get("tags", []) if isinstance(document, dict) else None
    if listed is None and isinstance(document, dict):
        return []  # `"tags": null` is how several registries say "empty"
    if not isinstance(listed, list):
        raise ProtocolError(f"{reply.where}: the answer is no list of tags", **reply.where.fields)
    return [name for name in listed if isinstance(name, str)]


def _is_tag(name: str, where: Where) -> bool:
    try:
        parse_tag(name)
    except InvalidReference:
        _LOG.warning("a name that is no tag is left out of the list of %s", where)
        return False
    return True
