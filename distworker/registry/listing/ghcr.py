"""GitHub's packages API behind ghcr.io: container packages of an owner, and their versions with tags.

It lives at api.github.com and answers nobody without a token that may read packages (GitHub REST API,
"Packages"). An owner is an organisation or a person; the API tells them apart only by 404.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from distworker.digest import Digest
from distworker.errors import RepositoryUnknown
from distworker.reference import parse_repository
from distworker.registry.call import Reply
from distworker.registry.endpoint import Endpoint
from distworker.registry.listing import api, pages
from distworker.registry.listing.api import Api
from distworker.registry.listing.pages import Page
from distworker.registry.listing.tags import tags

_PAGE: Final = 100
_KINDS: Final = ("orgs", "users")
#: The version of the API these lines were written for.
HEADERS: Final = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}


class GHCRListing:
    """GitHub's container registry."""

    def __init__(self, at: Endpoint, github: Api) -> None:
        self._at = at
        self._api = github

    def repositories(self, prefix: str = "") -> Iterator[str]:
        """See `Listing.repositories`: of one owner."""
        owner = api.namespace(prefix, self._at.registry, "an owner")
        found = self._owned("list repositories", owner, "", f"?package_type=container&per_page={_PAGE}")
        return api.names((f"{owner}/{api.text(one, 'name')}".lower() for one in found), prefix)

    def tags(self, repository: str) -> Iterator[str]:
        """See `Listing.tags`."""
        return tags(self._at, repository, self._at.quirks)

    def digests(self, repository: str) -> Mapping[str, Digest] | None:
        """See `Listing.digests`."""
        owner, _, package = parse_repository(repository).partition("/")
        path = f"/container/{api.part(package)}/versions?state=active&per_page={_PAGE}"
        where = self._api.where("list tags", repository)
        return api.tag_map(_tagged(self._owned("list tags", owner, package, path)), where)

    def _owned(self, phase: str, owner: str, package: str, path: str) -> Iterator[Any]:
        """The entries of an organisation, or of the person of that name."""
        where = self._api.where(phase, f"{owner}/{package}".rstrip("/"))
        for kind in _KINDS:
            begun = False
            try:
                for one in self._api.walk(
                    f"/{kind}/{owner}/packages{path}", where, "packages", self._read, _id
                ):
                    begun = True
                    yield one
            except RepositoryUnknown:
                # Once pages came, a 404 is the list breaking off and no sign of another kind of owner.
                if begun or kind == _KINDS[-1]:
                    raise
            else:
                return

    def _read(self, reply: Reply, document: Any) -> Page[Any]:
        return self._api.linked(reply, pages.plain_list(reply, document, "packages"), "packages")


def _id(entry: Any) -> tuple[str, str]:
    number = entry.get("id") if isinstance(entry, dict) else None
    return api.text(entry, "name"), str(number)


def _tagged(versions: Iterator[Any]) -> Iterator[tuple[str, str]]:
    """A version is a manifest: its name is the digest, and its tags stand in its metadata."""
    for version in versions:
        box: Any = version
        for name in ("metadata", "container", "tags"):
            box = box.get(name) if isinstance(box, dict) else None
        for tag in box if isinstance(box, list) else ():
            if isinstance(tag, str):
                yield tag, api.text(version, "name")
