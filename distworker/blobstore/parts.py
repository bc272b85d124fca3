"""Sizes in which bytes go to the store, and the proof that a writer asks for before it shows a blob.

Pure arithmetic, shared by the adapters. The S3 limits are those of the S3 user guide, "Multipart upload
limits".
"""

from __future__ import annotations

from typing import Final

from distworker.digest import Digest, Verified
from distworker.errors import DigestMismatch, LimitExceeded, SizeMismatch

MIB: Final = 1024 * 1024

#: Part size unless the blob is very large: 4 slots with 2 buffers each hold 64 MiB, and larger is not faster.
PART_SIZE: Final = 8 * MIB
#: Every part but the last must have this many bytes.
PART_MIN: Final = 5 * MIB
#: No part may have more. A part is also kept in memory, so only blobs above 80 GiB leave the default at all.
PART_MAX: Final = 5 * 1024 * MIB
#: Parts of one upload, by the S3 limits; some servers allow fewer unless configured.
PARTS_MAX: Final = 10_000
#: Bytes per read: system calls and copies cost little from 1 MiB on, and each open stream holds one chunk.
READ_CHUNK: Final = MIB


def part_size(total: int, preferred: int = PART_SIZE) -> int:
    """Bytes per part for a blob of `total` bytes: `preferred`, or whole MiB enough for 10 000 parts.

    Raises LimitExceeded when no allowed part size is large enough (48.8 TiB).
    """
    smallest = -(-total // PARTS_MAX)
    size = max(preferred, PART_MIN, -(-smallest // MIB) * MIB)
    if size > PART_MAX:
        raise LimitExceeded(f"{total} bytes do not fit into {PARTS_MAX} parts of at most {PART_MAX} bytes")
    return size


def require_proof(proof: Verified, digest: str, size: int, written: int) -> None:
    """Raises unless `proof` is for `digest` and for exactly the bytes written, which must be `size`."""
    if not isinstance(proof, Verified):
        raise TypeError("commit takes the Verified that Hasher.verify returned")
    if proof.digest != digest:
        raise DigestMismatch(f"the proof is for {proof.digest}, the writer was opened for {digest}")
    if not proof.size == size == written:
        raise SizeMismatch(
            f"{Digest(digest).short}: {written} bytes written and {proof.size} proved instead of {size}"
        )


def require_room(digest: str, size: int, written: int) -> None:
    """Raises SizeMismatch as soon as more than `size` bytes were written."""
    if written > size:
        raise SizeMismatch(f"{Digest(digest).short}: more than the {size} bytes that were announced")
