"""GitLab's own API: registry repositories of a group or a project (GitLab, "Container registry API").

It lives at GitLab's host, which is seldom the registry's; for installations of one's own `api_host` names it.
A personal, group or project access token goes as a bearer token. Digests are told for one tag at a time only,
which is no cheaper than HEAD, so there is no map of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from distworker.digest import Digest
from distworker.errors import InvalidRequest, RepositoryUnknown
from distworker.reference import parse_repository
from distworker.registry.call import Reply
from distworker.registry.endpoint import Endpoint
from distworker.registry.listing import api, pages
from distworker.registry.listing.api import Api
from distworker.registry.listing.pages import Page
from distworker.registry.listing.tags import tags

_PAGE: Final = 100


class GitLabListing:
    """gitlab.com or another GitLab."""

    def __init__(self, at: Endpoint, gitlab: Api) -> None:
        self._at = at
        self._api = gitlab

    def repositories(self, prefix: str = "") -> Iterator[str]:
        """See `Listing.repositories`: of one group or project."""
        if not prefix:
            raise InvalidRequest(
                f"{self._at.registry} lists repositories only below a group or project: "
                "begin the pattern with one",
                field="prefix",
            )
        return api.names(self._found(parse_repository(prefix)), prefix)

    def tags(self, repository: str) -> Iterator[str]:
        """See `Listing.tags`."""
        return tags(self._at, repository, self._at.quirks)

    def digests(self, repository: str) -> Mapping[str, Digest] | None:
        """None: see the module text."""
        return None

    def _found(self, prefix: str) -> Iterator[str]:
        """A prefix may be a group, a project, or a repository inside a project; only asking tells which."""
        parts = prefix.split("/")
        asked = [("groups", prefix)]
        asked += [("projects", "/".join(parts[:count])) for count in range(len(parts), 1, -1)]
        where = self._api.where("list repositories", prefix)
        for number, (kind, path) in enumerate(asked, 1):
            begun = False
            target = f"/api/v4/{kind}/{api.part(path)}/registry/repositories?per_page={_PAGE}"
            try:
                for one in self._api.walk(target, where, "repositories", self._read, _path):
                    begun = True
                    yield _path(one)
            except RepositoryUnknown:
                if begun or number == len(asked):
                    raise
            else:
                return

    def _read(self, reply: Reply, document: Any) -> Page[Any]:
        return self._api.linked(reply, pages.plain_list(reply, document, "repositories"), "repositories")


def _path(entry: Any) -> str:
    return api.text(entry, "path")
