"""Token scopes: which actions on which repository a request needs (distribution's token scope grammar).

Push is asked before pull of another repository, since some token servers look only at the first scope (ggcr).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """`type:name:action,action`."""

    kind: str
    name: str
    actions: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Scope | None:
        """The scope that a challenge spells; names may hold colons. None for anything else."""
        kind, _, rest = text.partition(":")
        name, _, listed = rest.rpartition(":")
        kind = kind.partition("(")[0]  # repository(plugin) is a repository
        actions = {action for action in listed.split(",") if action}
        return cls(kind, name, tuple(sorted(actions))) if kind and name and actions else None

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}:{','.join(self.actions)}"

    def covers(self, other: Scope) -> bool:
        """Does a token for this scope do for `other`?"""
        same = (self.kind, self.name) == (other.kind, other.name)
        return same and ("*" in self.actions or set(other.actions) <= set(self.actions))


def pull(repository: str) -> Scope:
    """Reading a repository."""
    return Scope("repository", repository, ("pull",))


def push(repository: str) -> Scope:
    """Reading and writing a repository."""
    return Scope("repository", repository, ("pull", "push"))


def catalog() -> Scope:
    """Listing the repositories of a registry."""
    return Scope("registry", "catalog", ("*",))


def delete(repository: str) -> Scope:
    """Deleting from a repository."""
    return Scope("repository", repository, ("delete", "pull"))


def united(needed: tuple[Scope, ...], offered: Iterable[str]) -> tuple[Scope, ...]:
    """`needed`, widened by what a challenge offers for the very same repositories; wider wishes are
    ignored.
    """
    result = list(needed)
    for text in offered:
        scope = Scope.parse(text)
        for index, mine in enumerate(result):
            if scope and (scope.kind, scope.name) == (mine.kind, mine.name):
                result[index] = Scope(mine.kind, mine.name, tuple(sorted({*mine.actions, *scope.actions})))
    return tuple(result)
