"""Part sizes and proofs: the arithmetic of uploads and the only way to show a blob."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distworker.blobstore.parts import (
    MIB,
    PART_MAX,
    PART_MIN,
    PART_SIZE,
    PARTS_MAX,
    part_size,
    require_proof,
    require_room,
)
from distworker.digest import Digest, Verified, verify_bytes
from distworker.errors import DigestMismatch, LimitExceeded, SizeMismatch


@given(st.integers(0, PART_MAX * PARTS_MAX), st.integers(1, 64 * MIB))
def test_every_blob_fits_in_the_parts_allowed(total: int, preferred: int) -> None:
    """Whatever the size, the parts are large enough, few enough and whole MiB beyond the preferred size."""
    size = part_size(total, preferred)
    assert PART_MIN <= size <= max(PART_MAX, preferred)
    assert -(-total // size) <= PARTS_MAX
    assert size == max(preferred, PART_MIN) or size % MIB == 0


@pytest.mark.parametrize(
    ("total", "size"),
    [
        (0, PART_SIZE),
        (1, PART_SIZE),
        (PART_SIZE * PARTS_MAX, PART_SIZE),
        (PART_SIZE * PARTS_MAX + 1, 9 * MIB),
        (PART_MAX * PARTS_MAX, PART_MAX),
    ],
)
def test_parts_grow_only_when_they_must(total: int, size: int) -> None:
    """Memory follows the part size, so the default stays up to 80 GiB."""
    assert part_size(total) == size


def test_a_blob_beyond_all_parts_is_refused() -> None:
    """One byte above the largest object."""
    with pytest.raises(LimitExceeded):
        part_size(PART_MAX * PARTS_MAX + 1)


def proof(data: bytes) -> Verified:
    """A real proof."""
    return verify_bytes(data, Digest.of(data))


def test_the_right_proof_passes() -> None:
    """Same digest, same size, same number of bytes written."""
    require_proof(proof(b"abc"), Digest.of(b"abc"), 3, 3)


@pytest.mark.parametrize(("size", "written"), [(3, 2), (4, 4), (4, 3), (3, 4)])
def test_a_proof_for_another_number_of_bytes_fails(size: int, written: int) -> None:
    """Proof, announcement and bytes written must be the same number."""
    with pytest.raises(SizeMismatch):
        require_proof(proof(b"abc"), Digest.of(b"abc"), size, written)


def test_a_proof_for_another_digest_fails() -> None:
    """Even of the same size."""
    with pytest.raises(DigestMismatch):
        require_proof(proof(b"abc"), Digest.of(b"abd"), 3, 3)


def test_there_is_room_up_to_the_announced_size() -> None:
    """The byte after it is too many."""
    require_room(Digest.of(b""), 3, 3)
    with pytest.raises(SizeMismatch):
        require_room(Digest.of(b""), 3, 4)
