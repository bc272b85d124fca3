"""All tags of a repository, page by page (distribution-spec, "Listing Tags").

Names that are not tags are left out with a warning: they would end up in addresses. A registry that is known
to leave out `Link` is asked on with `last`; for the others a page without `Link` is the last.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

from distworker.errors import InvalidReference
from distworker.reference import parse_tag
from distworker.registry import scopes
from distworker.registry.call import Call
from distworker.registry.endpoint import Endpoint
from distworker.registry.faults import Where
from distworker.registry.listing import pages
from distworker.registry.listing.pages import Page
from distworker.registry.quirks import Quirks

_LOG = logging.getLogger(__name__)
_HEADERS: Final = {"Accept": "application/json"}


def tags(at: Endpoint, repository: str, quirks: Quirks | None = None) -> Iterator[str]:
    """Each tag once, in the registry's order.

    Raises:
        RepositoryUnknown: 404. LimitExceeded: more pages or tags than we follow. ProtocolError: pages that
        loop or are no tag list. RedirectRefused: the next page is on another origin.
    """
    where = at.where("list tags", repository)
    rules = quirks or Quirks()

    def fetch(url: str) -> Page[str]:
        call = Call("GET", url, where, scopes=(scopes.pull(repository),), headers=_HEADERS)
        with at.http.send(call) as reply:
            if reply.status != 200:
                raise reply.error()
            found = pages.listed(reply, pages.document(reply, "tags"), "tags", "tags")
            names = [name for name in found if isinstance(name, str)]
            link = pages.next_page(reply, at.http.origin, "tags")
        guess = rules.last_pagination and not link and len(names) >= rules.page_size
        last = next((name for name in reversed(names) if is_tag(name)), "") if guess else ""
        return Page(names, at.tags(repository, rules.page_size, last) if last else link, bool(last))

    for name in pages.walk(at.tags(repository, rules.page_size), fetch, where, "tags"):
        if is_tag(name):
            yield name
        else:
            warn(where)


def is_tag(name: str) -> bool:
    """Does the grammar allow this tag?"""
    try:
        parse_tag(name)
    except InvalidReference:
        return False
    return True


def warn(where: Where) -> None:
    """Say that a name was left out, without repeating it."""
    _LOG.warning("a name that is no tag is left out of the list of %s", where)
