"""SHA-256 whose state can be taken out and put back, so that another process goes on hashing where one died.

`hashlib` keeps its state to itself; the library below it, OpenSSL, does not. Where its plain functions are
not to be had (a Python that hides them, a build without them) or do not agree with `hashlib`, `available`
says so and whoever wanted to go on starts again. As fast as `hashlib`, and it lets go of the GIL as well.
"""

from __future__ import annotations

import ctypes
import hashlib
import struct
from functools import cache
from typing import Any, Final

#: Bytes that are hashed at a time: a state is only taken out between two of these.
BLOCK: Final = 64
#: OpenSSL's SHA256_CTX (openssl/sha.h): eight words of state, the count of bits as two words, one block of
#: input, how much of it is filled, and the digest's length. What follows is room that it never touches.
_CONTEXT: Final = struct.Struct("=8I2I64s2I")
_ROOM: Final = 128
_STATE: Final = struct.Struct(">8I")


class Sha256:
    """As `hashlib.sha256()`, and `state` gives what `restored` takes. Use it only where `available()`."""

    def __init__(self) -> None:
        self._library = _library()
        self._context = ctypes.create_string_buffer(_ROOM)
        self._library.SHA256_Init(self._context)

    @classmethod
    def restored(cls, state: str, seen: int) -> Sha256:
        """The hash after `seen` bytes, from what `state` said of it. ValueError when that cannot be."""
        words = bytes.fromhex(state)
        if len(words) != _STATE.size or seen < 0 or seen % BLOCK:
            raise ValueError("not the state of a hash between two blocks")
        found, bits = cls(), seen * 8
        low, high, length = bits & 0xFFFFFFFF, bits >> 32, 32
        packed = _CONTEXT.pack(*_STATE.unpack(words), low, high, bytes(BLOCK), 0, length)
        ctypes.memmove(found._context, packed, len(packed))
        return found

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next chunk."""
        data = chunk if isinstance(chunk, bytes) else bytes(chunk)
        self._library.SHA256_Update(self._context, data, len(data))

    def hexdigest(self) -> str:
        """The digest of all that came so far."""
        copy = ctypes.create_string_buffer(self._context.raw, _ROOM)
        digest = ctypes.create_string_buffer(32)
        self._library.SHA256_Final(digest, copy)
        return digest.raw.hex()

    def state(self) -> str:
        """The state as text. ValueError between the beginning and the end of a block."""
        fields = _CONTEXT.unpack_from(self._context.raw)
        if fields[11]:
            raise ValueError("the hash is in the middle of a block")
        return _STATE.pack(*fields[:8]).hex()


@cache
def available() -> bool:
    """Can states be taken out and put back here? Tried once, against `hashlib`."""
    try:
        data = bytes(range(256)) * 41
        for cut in (0, BLOCK, 100 * BLOCK):
            begun = Sha256()
            begun.update(data[:cut])
            going_on = Sha256.restored(begun.state(), cut)
            going_on.update(memoryview(data)[cut:])
            if going_on.hexdigest() != hashlib.sha256(data).hexdigest():
                return False
    except (OSError, AttributeError, ImportError, ValueError):
        return False
    return True


@cache
def _library() -> Any:
    import _hashlib  # noqa: PLC0415 - a Python without OpenSSL has none

    # Whatever OpenSSL the interpreter itself is linked with: its symbols are found through the module's file.
    library = ctypes.CDLL(_hashlib.__file__)
    library.SHA256_Init.argtypes = [ctypes.c_void_p]
    library.SHA256_Update.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    library.SHA256_Final.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    return library
