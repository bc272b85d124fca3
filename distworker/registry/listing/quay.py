"""Quay's own API: repositories of a namespace, and active tags with their digests (Red Hat Quay API guide).

Only OAuth access tokens are good there, given as the password of the user `$oauthtoken`; with a robot's or a
person's login the API is asked anonymously and tells what is public.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from distworker.digest import Digest
from distworker.errors import ProtocolError
from distworker.limits import HEADER_VALUE_MAX
from distworker.reference import parse_repository
from distworker.registry.call import Reply
from distworker.registry.endpoint import Endpoint
from distworker.registry.listing import api, pages
from distworker.registry.listing.api import Api
from distworker.registry.listing.pages import Page
from distworker.registry.listing.tags import tags

#: The name that stands for "the password is an OAuth token".
TOKEN_USER: Final = "$oauthtoken"  # noqa: S105 - a user name
_PAGE: Final = 100


class QuayListing:
    """quay.io or another Quay."""

    def __init__(self, at: Endpoint, quay: Api) -> None:
        self._at = at
        self._api = quay

    def repositories(self, prefix: str = "") -> Iterator[str]:
        """See `Listing.repositories`: of one namespace."""
        owner = api.namespace(prefix, self._at.registry, "a namespace")
        where = self._api.where("list repositories", owner)
        path = f"/api/v1/repository?namespace={api.part(owner)}&public=true"

        def read(reply: Reply, document: Any) -> Page[Any]:
            found = pages.listed(reply, document, "repositories", "repositories")
            cursor = api.text(document, "next_page")
            if len(cursor) > HEADER_VALUE_MAX:
                raise ProtocolError(f"{where}: a cursor longer than any address", **where.fields)
            return Page(found, self._api.url(f"{path}&next_page={api.part(cursor)}") if cursor else "")

        found = self._api.walk(path, where, "repositories", read, _full_name)
        return api.names((_full_name(one) for one in found), prefix)

    def tags(self, repository: str) -> Iterator[str]:
        """See `Listing.tags`."""
        return tags(self._at, repository, self._at.quirks)

    def digests(self, repository: str) -> Mapping[str, Digest] | None:
        """See `Listing.digests`."""
        where = self._api.where("list tags", repository)
        path = f"/api/v1/repository/{parse_repository(repository)}/tag/?onlyActiveTags=true&limit={_PAGE}"
        number = 1

        def read(reply: Reply, document: Any) -> Page[tuple[str, str]]:
            nonlocal number
            number += 1
            listed = pages.listed(reply, document, "tags", "tags")
            found = [(api.text(one, "name"), api.text(one, "manifest_digest")) for one in listed]
            more = document.get("has_additional") is True
            return Page(found, self._api.url(f"{path}&page={number}") if more else "")

        return api.tag_map(self._api.walk(f"{path}&page=1", where, "tags", read), where)


def _full_name(entry: Any) -> str:
    return f"{api.text(entry, 'namespace')}/{api.text(entry, 'name')}"
