"""Writes an OCI image layout: layers from real file trees, image configs, manifests and indexes.

Deterministic: the same files give the same digests, whoever owns them and whenever they were made (order by
name, fixed times, owner 0). Image layout and media types as in the OCI image specification 1.1.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
REF_NAME = "org.opencontainers.image.ref.name"
#: Every file is as old as this (Unix seconds), so that a layer's digest follows from its content alone.
EPOCH = 1_700_000_000
#: Level 4 packs at twice the speed of the default and a few percent larger.
GZIP_LEVEL = 4


@dataclass(frozen=True)
class Layer:
    """A layer in the layout: its descriptor and the digest of its unpacked tar."""

    descriptor: dict[str, Any]
    diff_id: str


class _Hashing(io.RawIOBase):
    """Writes through to a file and hashes what passes."""

    def __init__(self, target: BinaryIO) -> None:
        self.target, self.sha256, self.size = target, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        self.size += len(data)
        return self.target.write(data)

    @property
    def digest(self) -> str:
        return "sha256:" + self.sha256.hexdigest()


class Layout:
    """An OCI layout folder being written; `close` makes it complete."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = folder / "blobs" / "sha256"
        self.blobs.mkdir(parents=True, exist_ok=True)
        self.refs: list[dict[str, Any]] = []

    def layer(self, files: Iterable[tuple[str, Path | str | bytes]], level: int = GZIP_LEVEL) -> Layer:
        """Pack `(name in the image, content)`: a path is that file, a text a symbolic link to it, bytes a
        file."""
        part = self.blobs / f".layer-{id(files):x}"
        with part.open("wb") as raw:
            outer = _Hashing(raw)
            with gzip.GzipFile("", "wb", level, outer, mtime=0) as packed:  # type: ignore[arg-type]
                inner = _Hashing(packed)  # type: ignore[arg-type]
                with tarfile.open(fileobj=inner, mode="w|", format=tarfile.GNU_FORMAT) as tar:
                    for name, content in sorted(files, key=lambda item: item[0]):
                        _add(tar, name, content)
        part.rename(self.blobs / outer.digest.removeprefix("sha256:"))
        return Layer({"mediaType": LAYER, "digest": outer.digest, "size": outer.size}, inner.digest)

    def image(self, architecture: str, layers: Sequence[Layer], command: Sequence[str]) -> dict[str, Any]:
        """An image of these layers; returns its descriptor with platform."""
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": list(command), "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._json(config, CONFIG),
            "layers": [layer.descriptor for layer in layers],
        }
        platform = {"architecture": architecture, "os": "linux"}
        return {**self._json(manifest, MANIFEST), "platform": platform}

    def index(self, images: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A multi-platform index of these images; returns its descriptor."""
        return self._json({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(images)}, INDEX)

    def tag(self, name: str, descriptor: dict[str, Any]) -> None:
        """Give a manifest a name in the layout."""
        plain = {key: value for key, value in descriptor.items() if key != "platform"}
        self.refs.append({**plain, "annotations": {REF_NAME: name}})

    def close(self) -> None:
        """Write the files that make the folder a layout; `index.json` last."""
        (self.folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}', encoding="utf-8")
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": self.refs}
        (self.folder / "index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")

    def _json(self, value: Any, media_type: str) -> dict[str, Any]:
        raw = json.dumps(value, separators=(",", ":")).encode()
        name = hashlib.sha256(raw).hexdigest()
        (self.blobs / name).write_bytes(raw)
        return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(raw)}


def _add(tar: tarfile.TarFile, name: str, content: Path | str | bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.mtime, entry.mode = EPOCH, 0o644
    if isinstance(content, str):
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, content, 0o777
        tar.addfile(entry)
    elif isinstance(content, bytes):
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    else:
        status = content.stat()
        entry.size = status.st_size
        entry.mode = 0o755 if status.st_mode & 0o100 else 0o644
        with content.open("rb") as stream:
            tar.addfile(entry, stream)


def fresh(folder: Path) -> Layout:
    """An empty layout at `folder`, whatever was there."""
    if folder.exists():
        shutil.rmtree(folder)
    return Layout(folder)
