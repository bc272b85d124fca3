"""What a registry is known to refuse, said before a byte is sent and in words that help.

The table of registries and the operator know these limits; where they know nothing, nothing is checked and
the registry itself answers.
"""

from __future__ import annotations

from distworker.digest import Digest
from distworker.errors import Denied, LimitExceeded, RepositoryUnknown, TransferError
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


def check_size(at: Endpoint, repository: str, digest: Digest, size: int) -> None:
    """Raise LimitExceeded for a blob (bytes) larger than the registry stores."""
    most = at.quirks.blob_max
    if most and size > most:
        where = at.where("start upload", repository, digest)
        raise LimitExceeded(
            f"{where}: a blob of {size} bytes, and {at.registry} stores none above {most}", **where.fields
        )


def advised(at: Endpoint, error: TransferError) -> TransferError:
    """`error`, with what must be created first where that is known to be the reason."""
    what = at.quirks.create_first
    if not isinstance(error, RepositoryUnknown) or what == "nothing":
        return error
    return RepositoryUnknown(f"{error.message}; on {at.registry} create the {what} first", **error.fields)
