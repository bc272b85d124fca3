"""What the specification offers for listing: tags, and `_catalog`, which many registries keep closed.

A catalogue that is closed (Docker Hub, GHCR and others answer 401, 403, 404 or 405) is an error of its own
and never an empty list: it says nothing about what the registry holds. It needs its own token scope,
`registry:catalog:*` (distribution's token scope documentation).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from distworker.digest import Digest
from distworker.errors import Denied, NotARegistry
from distworker.reference import parse_repository
from distworker.registry import scopes
from distworker.registry.call import Call, Reply
from distworker.registry.endpoint import Endpoint
from distworker.registry.listing import pages
from distworker.registry.listing.api import names
from distworker.registry.listing.pages import Page
from distworker.registry.listing.tags import tags
from distworker.registry.ping import explained

_CLOSED: Final = frozenset({400, 401, 403, 404, 405, 501})


class SpecListing:
    """A registry that offers nothing but the specification."""

    def __init__(self, at: Endpoint) -> None:
        self._at = at

    def repositories(self, prefix: str = "") -> Iterator[str]:
        """See `Listing.repositories`; the whole catalogue is read, since it has no filter. Where the table of
        registries knows it closed, nothing is asked.
        """
        if prefix:
            parse_repository(prefix)
        at, where, size = self._at, self._at.where("list repositories"), self._at.quirks.page_size
        if not at.quirks.catalog:
            raise Denied(f"{where}: {_ADVICE}", **where.fields)

        def fetch(url: str) -> Page[str]:
            call = Call("GET", url, where, scopes=(scopes.catalog(),), headers={"Accept": "application/json"})
            try:
                reply = at.http.send(call)
            except Denied as error:
                # A token server grants less instead of saying no, so this is how most say it.
                raise Denied(f"{where}: {_ADVICE}", **error.fields) from None
            with reply:
                if reply.status != 200:
                    raise self._refused(reply)
                found = pages.listed(
                    reply, pages.document(reply, "repositories"), "repositories", "repositories"
                )
                listed = [name for name in found if isinstance(name, str)]
                link = pages.next_page(reply, at.http.origin, "repositories")
            guess = at.quirks.last_pagination and not link and len(listed) >= size
            return Page(listed, at.catalog(size, listed[-1]) if guess else link, guess)

        return names(pages.walk(at.catalog(size), fetch, where, "repositories"), prefix)

    def tags(self, repository: str) -> Iterator[str]:
        """See `Listing.tags`."""
        return tags(self._at, repository, self._at.quirks)

    def digests(self, repository: str) -> Mapping[str, Digest] | None:
        """None: the specification has no such list."""
        return None

    def _refused(self, reply: Reply) -> Exception:
        error = reply.error()
        better = explained(self._at, error)
        if isinstance(better, NotARegistry) or reply.status not in _CLOSED:
            return better
        return Denied(f"{reply.where}: {_ADVICE}", **{**error.fields, "status": reply.status})


_ADVICE: Final = (
    "the registry does not list its repositories to this login, which says nothing about what it holds; "
    "name the repositories instead"
)
