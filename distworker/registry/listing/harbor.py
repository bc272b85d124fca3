"""Harbor's own API, version 2.0: projects, their repositories, and artifacts with tags and digests.

It answers Basic only: a token of the registry is worth nothing there (goharbor/harbor#9317). The slash in a
repository's name is quoted twice, since Harbor's proxy unquotes once before it looks at the path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from distworker.digest import Digest
from distworker.reference import parse_repository
from distworker.registry.call import Reply
from distworker.registry.endpoint import Endpoint
from distworker.registry.listing import api, pages
from distworker.registry.listing.api import Api
from distworker.registry.listing.pages import Page
from distworker.registry.listing.tags import tags

#: Entries of one page: the most Harbor gives.
_PAGE: Final = f"page=1&page_size={100}"
#: A project may be called by a number; say that the path holds its name.
HEADERS: Final = {"X-Is-Resource-Name": "true"}


class HarborListing:
    """A Harbor."""

    def __init__(self, at: Endpoint, harbor: Api) -> None:
        self._at = at
        self._api = harbor

    def repositories(self, prefix: str = "") -> Iterator[str]:
        """See `Listing.repositories`; without a prefix those of every project the login sees."""
        projects = [parse_repository(prefix).partition("/")[0]] if prefix else self._projects()
        return api.names((name for project in projects for name in self._of(project)), prefix)

    def tags(self, repository: str) -> Iterator[str]:
        """See `Listing.tags`; from the registry, whose list is shorter than that of artifacts."""
        return tags(self._at, repository, self._at.quirks)

    def digests(self, repository: str) -> Mapping[str, Digest] | None:
        """See `Listing.digests`."""
        project, _, rest = parse_repository(repository).partition("/")
        where = self._api.where("list tags", repository)
        path = f"{_project(project)}/repositories/{api.part(api.part(rest))}/artifacts?with_tag=true&{_PAGE}"
        artifacts = self._api.walk(path, where, "artifacts", self._read, lambda one: api.text(one, "digest"))
        return api.tag_map(_tagged(artifacts), where)

    def _projects(self) -> Iterator[str]:
        where = self._api.where("list repositories")
        found = self._api.walk(f"/api/v2.0/projects?{_PAGE}", where, "projects", self._read, _name)
        return (_name(one) for one in found)

    def _of(self, project: str) -> Iterator[str]:
        where = self._api.where("list repositories", project)
        path = f"{_project(project)}/repositories?{_PAGE}"
        return (_name(one) for one in self._api.walk(path, where, "repositories", self._read, _name))

    def _read(self, reply: Reply, document: Any) -> Page[Any]:
        return self._api.linked(reply, pages.plain_list(reply, document, "entries"), "entries")


def _project(name: str) -> str:
    return f"/api/v2.0/projects/{api.part(name)}"


def _name(entry: Any) -> str:
    return api.text(entry, "name")


def _tagged(artifacts: Iterator[Any]) -> Iterator[tuple[str, str]]:
    for artifact in artifacts:
        found = artifact.get("tags") if isinstance(artifact, dict) else None
        for tag in found if isinstance(found, list) else ():
            yield _name(tag), api.text(artifact, "digest")
