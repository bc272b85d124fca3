"""The listing port: what a registry holds, whichever API tells it.

The specification lists tags only. Repositories, and the digests behind all tags of a repository at once, come
from `_catalog` or from the products' own APIs; each is a `Listing`. Names are as in references. An answer is
complete or an error: what is missing from a list may be hidden from this login, but never cut off silently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from distworker.digest import Digest


class Listing(Protocol):
    """What one registry holds, seen with one credential."""

    def repositories(self, prefix: str = "") -> Iterator[str]:
        """Each repository that is `prefix` or lies below it, once. `prefix` is whole parts of a name, such as
        `team` or `team/apps`, "" for everything.

        Raises:
            InvalidRequest: this API lists below a prefix only, and none was given.
            Denied: the registry does not list its repositories; that says nothing about what it holds.
            AuthRequired, Unauthorized, RepositoryUnknown, …: why not.
        """
        ...

    def tags(self, repository: str) -> Iterator[str]:
        """All tags, each once, in the registry's order; RepositoryUnknown when it is not there."""
        ...

    def digests(self, repository: str) -> Mapping[str, Digest] | None:
        """Tag → digest of its manifest, in as few requests as pages; None when the API cannot tell.

        Digests are hints, as those of HEAD are. A tag without one in the answer is left out.
        """
        ...


def below(name: str, prefix: str) -> bool:
    """Is `name` the repository `prefix` or one below it?"""
    return not prefix or name == prefix or name.startswith(f"{prefix}/")
