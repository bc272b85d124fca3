"""Walking the pages of any list: tags, repositories, referrers, and what the products' own APIs list.

`walk` is the loop and its limits; what a page looks like is the caller's. A `Link` is followed as it is
written, for registries put cursors of their own into it (rebuilding `last=` gives 405 on ECR Public), but
only within the origin that was asked. A page seen before, a page that adds nothing and any limit end the
walk with a typed error: a list that is cut short without a word would pass for a whole one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from distworker import limits
from distworker.errors import LimitExceeded, NotARegistry, ProtocolError, RedirectRefused
from distworker.registry.call import Reply
from distworker.registry.faults import Where
from distworker.registry.urls import Origin, origin_of, resolve

T = TypeVar("T")
#: An address, its angle brackets optional, and the parameters behind it (RFC 8288, "Link Serialisation").
_LINK: Final = re.compile(
    r'<?([^<>,;\s]+(?:,[^<>,;\s]+)*)>?((?:\s*;\s*[\w*-]+\s*=\s*(?:"[^"]*"|[^",;\s]+))*)'
)
_REL: Final = re.compile(r';\s*rel\s*=\s*(?:"([^"]*)"|([^",;\s]+))', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """What one answer lists, and where it says that more stands.

    `guessed`: the next address is our own (`last=…`), so that a next page without news is the end.
    """

    items: list[T]
    next: str = ""
    guessed: bool = False


def walk(
    first: str,
    fetch: Callable[[str], Page[T]],
    where: Where,
    what: str,
    key: Callable[[T], Hashable] = lambda item: item,
) -> Iterator[T]:
    """Each item once, in the order of the pages. `what` names the items, `key` tells them apart.

    Raises:
        LimitExceeded: more pages or items than we follow. ProtocolError: the pages go in a circle.
    """
    url, guessed = first, False
    walked: set[str] = set()
    seen: set[Hashable] = set()
    held = 0
    while url:
        if len(walked) >= limits.PAGES_MAX:
            raise LimitExceeded(f"{where}: more than {limits.PAGES_MAX} pages of {what}", **where.fields)
        walked.add(url)
        page = fetch(url)
        fresh = {name: item for item in page.items if (name := key(item)) not in seen}
        seen.update(fresh)
        held += sum(len(name) for name in fresh if isinstance(name, str))
        if held > limits.NAMES_BYTES_MAX:
            raise LimitExceeded(f"{where}: {what} with names too long to be any", **where.fields)
        if len(seen) > limits.TAGS_MAX:
            raise LimitExceeded(f"{where}: more than {limits.TAGS_MAX} {what}", **where.fields)
        yield from fresh.values()
        if guessed and not fresh:
            return
        if page.next in walked or (page.next and not fresh):
            raise ProtocolError(f"{where}: the registry's pages of {what} go in a circle", **where.fields)
        url, guessed = page.next, page.guessed


def next_page(reply: Reply, home: Origin, what: str) -> str:
    """The address of the next page, "" on the last one.

    Raises:
        RedirectRefused: it is on another host, port or scheme than `home`. ProtocolError: no usable address.
    """
    where = reply.where
    try:
        target = next_link(reply.header_values("Link"))
    except ProtocolError as error:
        raise ProtocolError(f"{where}: {error.message}", **where.fields) from None
    return same_origin(reply, target, home, what) if target else ""


def same_origin(reply: Reply, target: str, home: Origin, what: str) -> str:
    """`target`, as the server wrote it, made absolute; RedirectRefused when that is not on `home`.

    Plain http to the same host is refused too: unlike a Location, a list can be asked for again.
    """
    try:
        url = resolve(reply.url, target)
        same = origin_of(url) == home and not (home.scheme == "https" and target.lower().startswith("http:"))
    except (ProtocolError, RedirectRefused):
        same = False
    if not same:
        raise RedirectRefused(
            f"{reply.where}: the next page of {what} is on another host or scheme; refused",
            **reply.where.fields,
        )
    return url


def next_link(values: list[str]) -> str:
    """The target of `rel="next"` in Link headers, "" when there is none; missing `<>` is tolerated.

    Raises:
        ProtocolError: a header too long to be one; leaving it out would cut the list.
    """
    for value in values:
        if len(value) > limits.HEADER_VALUE_MAX:
            raise ProtocolError("a Link header longer than any address")
        for match in _LINK.finditer(value):
            rel = _REL.search(match.group(2) or "")
            names = (rel.group(1) or rel.group(2) or "").lower().split() if rel else []
            if "next" in names:
                return match.group(1)
    return ""


def document(reply: Reply, what: str) -> Any:
    """The JSON of one page.

    Raises:
        LimitExceeded: larger than any page. NotARegistry: a web page. ProtocolError: not JSON.
    """
    where = reply.where
    body = reply.read(limits.PAGE_BODY_MAX + 1)
    if len(body) > limits.PAGE_BODY_MAX:
        raise LimitExceeded(f"{where}: a page of {what} above {limits.PAGE_BODY_MAX} bytes", **where.fields)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        pass
    # Raised out here: the parser's own error holds the text.
    if body.lstrip()[:1] == b"<":
        raise NotARegistry(
            f"{where}: {reply.origin.netloc} answers with a web page instead of a list of {what}; "
            "check the host name",
            **where.fields,
            status=reply.status,
        )
    raise no_list(reply, what)


def listed(reply: Reply, page: Any, name: str, what: str) -> list[Any]:
    """The list `name` of a page that is an object; null and missing are how several registries say "empty".

    Raises:
        ProtocolError: no object, or something else under that name.
    """
    if not isinstance(page, dict):
        raise no_list(reply, what)
    return plain_list(reply, page.get(name), what)


def no_list(reply: Reply, what: str) -> ProtocolError:
    """The answer is something else."""
    return ProtocolError(f"{reply.where}: the answer is no list of {what}", **reply.where.fields)


def plain_list(reply: Reply, page: Any, what: str) -> list[Any]:
    """A page that is the list itself; null is an empty one."""
    if page is not None and not isinstance(page, list):
        raise no_list(reply, what)
    return page or []
