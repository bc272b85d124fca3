"""The pool of part buffers: bounded, used again, and whole again after use."""

from __future__ import annotations

from distworker.blobstore.buffers import PartBuffers

MIB = 1024 * 1024
PART = 5 * MIB


def test_every_writer_gets_a_first_buffer_and_a_spare_only_below_the_bound() -> None:
    """A bound of three parts keeps the third for the next writer and lets no later one wait."""
    pool = PartBuffers(PART, 3)
    first = pool.take(PART)
    second = pool.spare(PART)
    assert second is not None
    assert pool.spare(PART) is None
    others = [pool.take(PART) for _ in range(2)]
    assert [len(buffer) for buffer in others] == [PART, PART]
    for buffer in (first, second, *others):
        pool.give(buffer)
    assert pool.spare(PART) is not None


def test_a_buffer_is_used_again_in_its_full_length() -> None:
    """The last part of a blob shortens its buffer; the next writer gets all of it."""
    pool = PartBuffers(PART, 2)
    buffer = pool.take(PART)
    del buffer[3:]
    pool.give(buffer)
    again = pool.take(2 * MIB)
    assert again is buffer
    assert len(again) == PART


def test_a_buffer_that_somebody_may_still_read_is_not_used_again() -> None:
    """After a failure the bytes belong to whoever still sends them; only the count goes back."""
    pool = PartBuffers(PART, 2)
    buffer = pool.take(PART)
    pool.give(buffer, again=False)
    assert pool.take(PART) is not buffer
    assert pool.spare(PART) is None


def test_small_blobs_and_oversized_parts_stay_out_of_the_pool() -> None:
    """A small blob takes a buffer of its own size, a part larger than usual is not kept."""
    pool = PartBuffers(PART, 1)
    small = pool.take(10)
    assert len(small) == 10
    pool.give(small)
    large = pool.take(PART + 1)
    assert len(large) == PART + 1
    pool.give(large)
    assert len(pool.take(PART)) == PART
