"""Digests: the names by which bytes are known, and the only way to prove that bytes match a name.

`Digest` is text that passed the strict grammar (CVE-2024-3727: checked before it is used in a URL, a store
key or a log). `Hasher` hashes while streaming; `Hasher.verify` gives a `Verified`, which nothing else makes
and which a store demands before it lets a blob be seen.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, Protocol

from distworker.errors import DigestMismatch, InvalidReference, SizeMismatch, UnsupportedDigest
from distworker.sha256 import BLOCK, Sha256, available

#: algorithm → length of its hex form. Only what image-spec registers and hashlib computes.
ALGORITHMS: Final[dict[str, int]] = {"sha256": 64, "sha512": 128}

# image-spec descriptor.md "Digests": algorithm components joined by + . _ -, then the encoded part.
_GRAMMAR = re.compile(r"([a-z0-9]+(?:[+._-][a-z0-9]+)*):([a-zA-Z0-9=_-]+)", re.ASCII)
_HEX = re.compile(r"[0-9a-f]+", re.ASCII)


class Digest(str):
    """`algorithm:hex`, checked. Make one with `Digest.parse`; it is a `str`, so it goes into JSON as it
    is."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Digest:
        """The digest that `text` spells.

        Raises:
            InvalidReference: not a digest at all.
            UnsupportedDigest: well formed, but not an algorithm we compute.
        """
        match = _GRAMMAR.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise InvalidReference("not a digest: expected sha256: and 64 lower-case hex digits")
        algorithm, encoded = match.groups()
        length = ALGORITHMS.get(algorithm)
        if length is None:
            raise UnsupportedDigest(f"digest algorithm {algorithm!r} is not supported; use sha256 or sha512")
        if len(encoded) != length or not _HEX.fullmatch(encoded):
            raise InvalidReference(f"a {algorithm} digest has {length} lower-case hex digits")
        return cls(text)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """The digest of `data`."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")

    @property
    def algorithm(self) -> str:
        """`sha256` or `sha512`."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """The encoded part, lower-case hex."""
        return self.partition(":")[2]

    @property
    def short(self) -> str:
        """The first 12 hex digits, as people know them from `docker pull`."""
        return self.hex[:12]


class Verified:
    """Proof that a stream of `size` bytes hashed to `digest`. Only `Hasher.verify` makes one."""

    __slots__ = ("digest", "size")

    def __init__(self, digest: Digest, size: int, _key: object = None) -> None:
        if _key is not _PROOF:
            raise TypeError("a Verified comes from Hasher.verify")
        self.digest = digest
        self.size = size

    def __repr__(self) -> str:
        return f"Verified({self.digest}, {self.size})"


_PROOF: Final = object()


class _Hash(Protocol):
    """What hashlib gives, and Sha256."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


class Hasher:
    """Hashes a stream towards one expected digest and size (bytes)."""

    def __init__(self, expected: Digest, size: int | None) -> None:
        self.expected = expected
        self.size = size
        self.seen = 0
        self._hash: _Hash = hashlib.new(expected.algorithm)

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next chunk; raises SizeMismatch as soon as there are more bytes than expected."""
        self.seen += len(chunk)
        if self.size is not None and self.seen > self.size:
            raise SizeMismatch(f"{self.expected.short}: more than the {self.size} bytes its descriptor says")
        self._hash.update(chunk)

    def verify(self) -> Verified:
        """The proof that all bytes came and are the right ones.

        Raises:
            SizeMismatch: fewer bytes than expected.
            DigestMismatch: the bytes hash to something else.
        """
        if self.size is not None and self.seen != self.size:
            raise SizeMismatch(
                f"{self.expected.short}: {self.seen} bytes instead of the {self.size} its descriptor says"
            )
        actual = self._hash.hexdigest()
        if actual != self.expected.hex:
            raise DigestMismatch(
                f"the bytes hash to {self.expected.algorithm}:{actual[:12]}…, not to {self.expected}"
            )
        return Verified(self.expected, self.seen, _PROOF)


class MarkedHasher(Hasher):
    """A Hasher that remembers its state at every `step` bytes, so that another process can go on from there.

    Only SHA-256 can be taken up again, in steps of whole blocks, and not everywhere: ask `possible` first.
    """

    #: States kept: whoever wants one asks soon after that many bytes were hashed.
    KEPT: Final = 8

    def __init__(self, expected: Digest, size: int | None, step: int, seen: int = 0, state: str = "") -> None:
        """From the start, or from the `state` after `seen` bytes; ValueError for one that cannot be."""
        super().__init__(expected, size)
        self._hash = self._marked = Sha256.restored(state, seen) if seen else Sha256()
        self.seen = seen
        self._step = step
        self._states: dict[int, str] = {}

    @staticmethod
    def possible(digest: Digest, step: int) -> bool:
        """Can a blob of that name be hashed in this way?"""
        return digest.algorithm == "sha256" and step % BLOCK == 0 and available()

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        room = self._step - self.seen % self._step
        while len(chunk) >= room:
            super().update(chunk[:room])
            chunk, room = chunk[room:], self._step
            self._states[self.seen] = self._marked.state()
            if len(self._states) > self.KEPT:
                del self._states[min(self._states)]
        super().update(chunk)

    def state_at(self, seen: int) -> str:
        """The state after exactly `seen` bytes, "" when it was not kept."""
        return self._states.get(seen, "")


def verify_bytes(data: bytes, expected: Digest, size: int | None = None) -> Verified:
    """`Hasher` for bytes that are already whole."""
    hasher = Hasher(expected, size)
    hasher.update(data)
    return hasher.verify()
