"""Digests: strict grammar, and proofs that only matching bytes can get."""

from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distworker import sha256
from distworker.digest import Digest, Hasher, MarkedHasher, Verified, verify_bytes
from distworker.errors import DigestMismatch, InvalidReference, SizeMismatch, UnsupportedDigest

H = "0123456789abcdef" * 4


@pytest.mark.parametrize("text", [f"sha256:{H}", f"sha512:{H * 2}"])
def test_a_digest_gives_its_parts(text: str) -> None:
    """Algorithm, hex and the short form people know."""
    digest = Digest.parse(text)
    assert f"{digest.algorithm}:{digest.hex}" == digest == text
    assert digest.short == H[:12]


@pytest.mark.parametrize(
    "text",
    [
        *("", "sha256", "sha256:", f"sha256:{H[:-1]}", f"sha256:{H}0", f"sha256:{H.upper()}", f"SHA256:{H}"),
        *(f"sha256:{H}\n", f" sha256:{H}", f"sha256:{H[:-1]}/", f"sha256:../../{H}", f"sha256:{H[:-1]}g"),
        *(f"sha256:{H[:-1]}\u0661", None, 5, b"sha256:" + H.encode()),
    ],
)
def test_what_is_not_a_digest_is_refused(text: object) -> None:
    """Anything that could leave its place in a URL, key or path is malformed."""
    with pytest.raises(InvalidReference):
        Digest.parse(text)


@pytest.mark.parametrize("text", [f"blake3:{H}", "md5:" + H[:32], "sha256+b64:abc="])
def test_a_well_formed_digest_of_another_algorithm_is_unsupported(text: str) -> None:
    """image-spec lets others register algorithms; we say that we do not compute them."""
    with pytest.raises(UnsupportedDigest):
        Digest.parse(text)


@given(st.text())
def test_no_text_raises_anything_but_the_typed_errors(text: str) -> None:
    """Parsing is total over text."""
    with contextlib.suppress(InvalidReference, UnsupportedDigest):
        assert Digest.parse(text) == text


@given(st.lists(st.binary(max_size=64)), st.sampled_from(["sha256", "sha512"]))
def test_a_stream_of_the_right_bytes_gets_its_proof(chunks: list[bytes], algorithm: str) -> None:
    """However the bytes are cut, the proof names digest and size."""
    data = b"".join(chunks)
    hasher = Hasher(Digest.of(data, algorithm), len(data))
    for chunk in chunks:
        hasher.update(memoryview(chunk))
    proof = hasher.verify()
    assert (proof.digest, proof.size) == (
        f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}",
        len(data),
    )


def test_a_flipped_byte_gets_no_proof() -> None:
    """The same number of other bytes is a digest mismatch."""
    with pytest.raises(DigestMismatch):
        verify_bytes(b"hallo", Digest.of(b"hello"), 5)


def test_too_many_bytes_are_noticed_before_they_are_hashed() -> None:
    """An endless answer ends at the descriptor's size, not at its own."""
    hasher = Hasher(Digest.of(b"abc"), 3)
    hasher.update(b"abc")
    with pytest.raises(SizeMismatch, match="more than"):
        hasher.update(b"d")


def test_too_few_bytes_get_no_proof() -> None:
    """A cut connection is a size mismatch that says how far it came."""
    with pytest.raises(SizeMismatch, match="2 bytes instead of the 3"):
        verify_bytes(b"ab", Digest.of(b"abc"), 3)


def test_without_a_size_only_the_digest_counts() -> None:
    """Some answers have no length; the hash alone is proof enough."""
    assert verify_bytes(b"abc", Digest.of(b"abc")).size == 3


def test_a_proof_cannot_be_made_by_hand() -> None:
    """Stores trust the type, so nothing but the hasher may make one."""
    with pytest.raises(TypeError):
        Verified(Digest.of(b"abc"), 3)


@given(st.binary(max_size=600), st.integers(1, 5), st.integers(1, 200), st.data())
def test_a_marked_hash_is_gone_on_with_from_any_of_its_marks(
    blob: bytes, blocks: int, cut: int, data: st.DataObject
) -> None:
    """However the bytes are cut, a state taken out at a mark gives the proof another process would get."""
    digest, step = Digest.of(blob), blocks * 64
    first = MarkedHasher(digest, len(blob), step)
    for start in range(0, len(blob), cut):
        first.update(memoryview(blob)[start : start + cut])
    assert first.verify().size == len(blob)
    marks = [seen for seen in range(step, len(blob) + 1, step) if first.state_at(seen)]
    assert marks[-1:] == [len(blob) // step * step][: len(blob) // step]
    if marks:
        seen = data.draw(st.sampled_from(marks))
        other = MarkedHasher(digest, len(blob), step, seen, first.state_at(seen))
        other.update(blob[seen:])
        assert other.verify().digest == digest


@pytest.mark.parametrize(("state", "seen"), [("", 64), ("ab", 64), ("z" * 64, 64), (H, 63), (H, -64)])
def test_what_is_no_state_is_refused(state: str, seen: int) -> None:
    """A damaged record starts the blob again instead of hashing on from nowhere."""
    with pytest.raises(ValueError, match=r"state|hexadecimal"):
        MarkedHasher(Digest.of(b""), 100, 64, seen, state)


def test_only_what_can_be_taken_out_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """SHA-512, steps that end inside a block, and an interpreter that hides its OpenSSL."""
    digest = Digest.of(b"x")
    assert MarkedHasher.possible(digest, 64)
    assert not MarkedHasher.possible(Digest.of(b"x", "sha512"), 64)
    assert not MarkedHasher.possible(digest, 65)
    sha256.available.cache_clear()
    monkeypatch.setattr(sha256, "_library", object)
    assert not MarkedHasher.possible(digest, 64)
    monkeypatch.undo()
    sha256.available.cache_clear()
