"""The registry client alone, in a process of its own: one blob up or down, nothing kept.

    python -m bench.client HOST REPOSITORY MIB up MODE
    python -m bench.client HOST REPOSITORY MIB down

The bytes are a function of their place, so nothing needs to be stored; a worker's ledger, store and steps are
not loaded, so what its memory shows is the client's.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from bench.measure import Cost, child
from deploy.demo.servers import DockerRegistry
from distworker.digest import Digest
from distworker.registry.base import Chunk, Registry
from distworker.registry.pool import RegistryPool
from distworker.registry.profiles import HostProfile, UploadMode

PIECE = 1 << 20
REPOSITORY = "bench/blob"
#: What is measured: by the words after the size.
WAYS: Mapping[str, tuple[str, ...]] = {
    "up, one PUT": ("up", "monolithic"),
    "up, streamed PATCH": ("up", "patch"),
    "up, chunked": ("up", "chunked"),
    "down": ("down",),
}


@dataclass(frozen=True)
class Made:
    """What follows `offset` in a blob of `size` bytes that exists only while it is sent."""

    size: int
    offset: int = 0

    def __len__(self) -> int:
        return self.size - self.offset

    def __iter__(self) -> Iterator[Chunk]:
        for start in range(self.offset - self.offset % PIECE, self.size, PIECE):
            piece = start.to_bytes(8, "big") * (PIECE // 8)
            yield piece[max(self.offset - start, 0) : min(PIECE, self.size - start)]

    @property
    def digest(self) -> Digest:
        """Its sha256."""
        made = hashlib.sha256()
        for piece in self:
            made.update(piece)
        return Digest.parse(f"sha256:{made.hexdigest()}")


def measure(folder: Path, mib: int) -> dict[str, Cost]:
    """Each way once, over an empty registry."""
    with DockerRegistry(folder / "client") as registry:
        return {
            name: child([sys.executable, "-m", "bench.client", registry.host, REPOSITORY, str(mib), *words])
            for name, words in WAYS.items()
        }


def main(host: str, repository: str, mib: str, way: str, mode: str = "auto") -> None:
    """Move one blob; an error ends the process."""
    blob = Made(int(mib) << 20)
    profile = HostProfile(plain_http=True, private=True, upload_mode=cast(UploadMode, mode))
    pool = RegistryPool({host: profile})
    _WAYS[way](pool.client(host), repository, blob)
    pool.close()


def _up(registry: Registry, repository: str, blob: Made) -> None:
    registry.upload_blob(repository, blob.digest, blob.size, lambda offset: Made(blob.size, offset))


def _down(registry: Registry, repository: str, blob: Made) -> None:
    with registry.read_blob(repository, blob.digest, blob.size) as stream:
        for _ in stream:
            pass


_WAYS: Mapping[str, Callable[[Registry, str, Made], None]] = {"up": _up, "down": _down}


if __name__ == "__main__":
    main(*sys.argv[1:])
