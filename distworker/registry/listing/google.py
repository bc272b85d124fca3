"""Google's registries: `tags/list` tells more than the specification asks for (gcr.io and Artifact Registry).

Besides `tags` it holds `manifest`, every digest with its tags, and `child`, the repositories one level below;
so one request compares a whole repository, and walking the children lists them all (crane's google package).
It is the registry's own API, with the registry's own tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from distworker import limits
from distworker.digest import Digest
from distworker.errors import InvalidRequest, LimitExceeded, RepositoryUnknown
from distworker.reference import parse_repository
from distworker.registry import scopes
from distworker.registry.call import Call
from distworker.registry.endpoint import Endpoint
from distworker.registry.faults import Where
from distworker.registry.listing import api, pages
from distworker.registry.listing.pages import Page
from distworker.registry.listing.tags import tags

#: One fact of a page: ("child", name, ""), ("image", digest, "") or ("tag", tag, digest).
Fact = tuple[str, str, str]
_CHILD: Final = "child"
_IMAGE: Final = "image"
_TAG: Final = "tag"


class GoogleListing:
    """gcr.io or Artifact Registry."""

    def __init__(self, at: Endpoint) -> None:
        self._at = at

    def repositories(self, prefix: str = "") -> Iterator[str]:
        """See `Listing.repositories`: below a project, or a project's repository."""
        if not prefix:
            raise InvalidRequest(
                f"{self._at.registry} lists repositories only below a project: begin the pattern with one",
                field="prefix",
            )
        return api.names(self._tree(parse_repository(prefix)), prefix)

    def tags(self, repository: str) -> Iterator[str]:
        """See `Listing.tags`."""
        return tags(self._at, repository, self._at.quirks)

    def digests(self, repository: str) -> Mapping[str, Digest] | None:
        """See `Listing.digests`: one request for up to 10,000 manifests."""
        where = self._at.where("list tags", repository)
        facts = self._facts(repository, where)
        return api.tag_map(((name, digest) for kind, name, digest in facts if kind == _TAG), where)

    def _tree(self, top: str) -> Iterator[str]:
        """Every repository with images in it, from `top` down, each level by its parent's children."""
        waiting, asked = [top], 0
        while waiting:
            name = waiting.pop()
            where = self._at.where("list repositories", name)
            asked += 1
            if asked > limits.PAGES_MAX or len(waiting) > limits.TAGS_MAX:
                raise LimitExceeded(f"{where}: more repositories below it than we follow", **where.fields)
            try:
                facts = list(self._facts(name, where))
            except RepositoryUnknown:
                if name == top:
                    raise
                continue  # deleted since its parent was read
            children = sorted((child for kind, child, _ in facts if kind == _CHILD), reverse=True)
            # A child's name is one part of a path, so every step goes down and no walk is endless.
            waiting += api.names((f"{name}/{child}" for child in children if "/" not in child), name)
            if any(kind == _IMAGE for kind, _, _ in facts):
                yield name

    def _facts(self, repository: str, where: Where) -> Iterator[Fact]:
        at = self._at

        def fetch(url: str) -> Page[Fact]:
            headers = {"Accept": "application/json"}
            call = Call("GET", url, where, scopes=(scopes.pull(repository),), headers=headers)
            with at.http.send(call) as reply:
                if reply.status != 200:
                    raise reply.error()
                document = pages.document(reply, "tags")
                children = pages.listed(reply, document, "child", "tags")
                facts = [(_CHILD, child, "") for child in children if isinstance(child, str)]
                return Page([*facts, *_images(document)], pages.next_page(reply, at.http.origin, "tags"))

        return pages.walk(at.tags(repository, at.quirks.page_size), fetch, where, "tags")


def _images(document: Any) -> Iterator[Fact]:
    manifests = document.get("manifest")
    for digest, entry in manifests.items() if isinstance(manifests, dict) else ():
        yield _IMAGE, digest, ""
        found = entry.get("tag") if isinstance(entry, dict) else None
        for tag in found if isinstance(found, list) else ():
            if isinstance(tag, str):
                yield _TAG, tag, digest
