"""What a registry is known to refuse, said before a byte is sent and in words that help.

The table of registries and the operator know these limits; where they know nothing, nothing is checked and
the registry itself answers.
"""

from __future__ import annotations

from distworker.errors import Denied, RepositoryUnknown, TransferError
from distworker.registry.endpoint import Endpoint


def check_name(at: Endpoint, repository: str, phase: str) -> None:
    """Raise Denied for a name with more parts than the registry takes (Docker Hub: two)."""
    most = at.quirks.path_parts_max
    if most and repository.count("/") >= most:
        where = at.where(phase, repository)
        raise Denied(
            f"{where}: {at.registry} takes names of at most {most} parts; choose a shorter one",
            **where.fields,
        )


def advised(at: Endpoint, error: TransferError) -> TransferError:
    """`error`, with what must be created first where that is known to be the reason."""
    what = at.quirks.create_first
    if not isinstance(error, RepositoryUnknown) or what == "nothing":
        return error
    return RepositoryUnknown(f"{error.message}; on {at.registry} create the {what} first", **error.fields)
