"""What a registry's answer to a piece of an upload means for the upload as a whole.

Besides "taken" and a plain refusal there are two answers that an upload can act on: the registry does not
take blobs in this way (`WayRefused`), or nobody knows what became of the blob (`Unclear`).
"""

from __future__ import annotations

from typing import Final

from distworker.errors import DigestMismatch, Quota, RepositoryUnknown, TransferError
from distworker.registry.call import Reply
from distworker.registry.sessions import LOST, lost

_WRONG_BYTES: Final = frozenset({"DIGEST_INVALID", "SIZE_INVALID"})
#: Refusals of one way to send a blob that another way may pass. 404 without a session's code: a server that
#: has no such route (old pulp); 411 and 501: one that cannot count; 415: one that wants another type.
_OTHER_WAY: Final = frozenset({405, 411, 415, 416, 501})


class Unclear(Exception):
    """The outcome is unknown, or the session is gone. `stored`: may a commit be under way nevertheless?"""

    def __init__(self, error: TransferError, *, stored: bool = True) -> None:
        super().__init__(type(error).__name__)
        self.error = error
        self.stored = stored


class WayRefused(Exception):
    """The registry does not take blobs in this way; `size`: because one request was too long."""

    def __init__(self, error: TransferError, *, size: bool = False) -> None:
        super().__init__(type(error).__name__)
        self.error = error
        self.size = size


def too_long(reply: Reply) -> bool:
    """Is it the length of one request that was refused, and not the room for the blob?"""
    return reply.status == 413 and not isinstance(reply.error(), Quota)


def another_way(reply: Reply) -> WayRefused | None:
    """The refusal as one of this way only, None when it is something else."""
    if too_long(reply):
        return WayRefused(reply.error(), size=True)
    code = reply.problem.code
    unrouted = reply.status == 404 and code not in LOST and code != "NAME_UNKNOWN"
    if reply.status in _OTHER_WAY or unrouted or code == "UNSUPPORTED":
        return WayRefused(reply.error())
    return None


def refused(reply: Reply) -> Exception:
    """What to do about a refusal: an error to give up with, or a reason for another turn."""
    code = reply.problem.code
    if code in _WRONG_BYTES:
        error = DigestMismatch(
            f"{reply.where}: the registry got other bytes ({code}); "
            "the source or the way there corrupts them",
            **reply.where.fields,
            status=reply.status,
            registry_code=code,
        )
        return Unclear(error, stored=False)
    fault = reply.error()
    if isinstance(fault, RepositoryUnknown):
        return fault
    # 416 on a closing PUT and RANGE_INVALID: it holds another part of the blob than we believe (ACR).
    if code in LOST or code == "RANGE_INVALID" or reply.status in {404, 416}:
        return Unclear(lost(reply))
    return fault
