"""Write images of the store as an OCI layout, in a folder or a tar archive, or as `docker save` would.

A layout keeps every digest; index images go out whole. A `docker save` archive holds single images with
unpacked layers, so a platform must be chosen. Each blob is checked against its digest while it is written.
An archive appears under its name when it is complete; in a folder `index.json` is written last, and what a
folder held before stays in it.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from distworker import mediatypes, strictjson
from distworker.blobstore.base import BlobStore
from distworker.blobstore.keys import blob_key
from distworker.care import tarball
from distworker.care.importing import DOCKER_FILE, INDEX_FILE, LAYOUT_FILE, NAME, TAG, Unpacking, blob_file
from distworker.care.refs import Ref, below, head_of, kept
from distworker.digest import Digest, Hasher
from distworker.errors import (
    BlobUnknown,
    DigestMismatch,
    DistworkerError,
    InvalidRequest,
    ManifestUnknown,
    StoreUnavailable,
)
from distworker.limits import MANIFEST_MAX_PULL
from distworker.manifest import Descriptor, Manifest
from distworker.plan.ends import in_store
from distworker.plan.model import ImageTree
from distworker.plan.resolve import blobs_of, choose, walk
from distworker.platforms import Platform

_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
#: Hub images are known by their short names.
_HUB: Final = ("docker.io/library/", "docker.io/")


@dataclass(frozen=True, slots=True)
class Picked:
    """A ref and the image that goes out for it."""

    ref: Ref
    tree: ImageTree


@dataclass(frozen=True, slots=True)
class Source:
    """Where images come from; `moved` hears of every chunk read."""

    store: BlobStore
    tenant: str
    moved: Callable[[int], None] = lambda count: None

    def pick(self, ref: Ref, platforms: Sequence[Platform] = ()) -> Picked:
        """The image a ref names, or its one child for a platform; whole, as far as the store can tell.

        Raises:
            ManifestUnknown, BlobUnknown: something is missing in the store.
        """
        head = head_of(self.store, ref)
        root = None if head is None else kept(self.store, self.tenant, head.digest, head.media_type)
        if root is None:
            raise ManifestUnknown(f"the store lacks {ref.name} or its manifest; pull or import it again")
        child = choose(root, tuple(platforms), ref.name)
        if child is not None:
            root = below(self.store, self.tenant, child) or root
        tree = walk(root, lambda entry: below(self.store, self.tenant, entry))
        for blob in blobs_of(tree):
            if not blob.is_foreign and not in_store(self.store, self.tenant, blob.digest, blob.size):
                raise BlobUnknown(
                    f"the store lacks blob {blob.digest} of {ref.name}; pull or import it again"
                )
        return Picked(ref, tree)

    def has(self, blob: Descriptor) -> bool:
        """Is it there? External layers may not be."""
        return in_store(self.store, self.tenant, blob.digest, blob.size)

    def chunks(self, digest: Digest, size: int) -> Iterator[bytes]:
        """A blob's bytes, checked when the last one was given."""
        hasher = Hasher(digest, size)
        try:
            with self.store.open(blob_key(self.tenant, digest)) as chunks:
                for chunk in chunks:
                    hasher.update(chunk)
                    self.moved(len(chunk))
                    yield chunk
        except FileNotFoundError:
            raise BlobUnknown(f"the store lacks blob {digest}") from None
        hasher.verify()


class Target(Protocol):
    """What files are written to."""

    def put(self, name: str, size: int, chunks: Iterator[bytes]) -> None:
        """A file of `size` bytes; the last one is the index."""
        ...


# --- OCI layouts ---------------------
def write_layout(
    source: Source, images: Sequence[Picked], target: Target, entries: Sequence[Any] = ()
) -> None:
    """The images as a layout; `entries` are those the index has already."""
    target.put(LAYOUT_FILE, len(_LAYOUT), iter([_LAYOUT]))
    written: set[Digest] = set()
    for image in images:
        for blob in (*blobs_of(image.tree), *(_self(m) for m in image.tree.manifests)):
            if blob.digest not in written and (not blob.is_foreign or source.has(blob)):
                written.add(blob.digest)
                target.put(blob_file(blob.digest), blob.size, source.chunks(blob.digest, blob.size))
    data = index_of([(image.ref, _self(image.tree.root)) for image in images], entries)
    target.put(INDEX_FILE, len(data), iter([data]))


def index_of(images: Sequence[tuple[Ref, Descriptor]], entries: Sequence[Any] = ()) -> bytes:
    """`index.json` over images and what it listed before, an image of the same name replaced."""
    names = [ref.name for ref, _ in images]
    old = [entry for entry in entries if _said(entry, NAME) not in names]
    tags = [ref.tag for ref, _ in images] + [_said(entry, TAG) for entry in old]
    new = [
        {
            "mediaType": root.media_type,
            "digest": root.digest,
            "size": root.size,
            # Tools that pick by tag need it to be the only one.
            "annotations": {NAME: ref.name, TAG: ref.tag if tags.count(ref.tag) == 1 else ref.name},
        }
        for ref, root in images
    ]
    record = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": [*old, *new]}
    return json.dumps(record, separators=(",", ":")).encode()


def _said(entry: Mapping[str, Any], annotation: str) -> object:
    annotations = entry.get("annotations")
    return annotations.get(annotation) if isinstance(annotations, Mapping) else None


def _self(manifest: Manifest) -> Descriptor:
    return Descriptor(manifest.media_type, manifest.digest, manifest.size)


class LayoutFolder:
    """A layout in a folder: made, or added to. What is there under a blob's name is read again before it
    counts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.entries: Sequence[Any] = ()
        try:
            if root.exists() and any(root.iterdir()):
                self.entries = self._listed()
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidRequest(f"{root}: {error.strerror}", field="path") from None

    def _listed(self) -> Sequence[Any]:
        if not (self.root / LAYOUT_FILE).is_file():
            raise InvalidRequest(f"{self.root} is a folder with other things in it", field="path")
        index = self.root / INDEX_FILE
        if not index.is_file():
            return ()
        if index.stat().st_size > MANIFEST_MAX_PULL:
            raise InvalidRequest(f"{index} is too large to be read", field="path")
        listed = strictjson.load(index.read_bytes()).get("manifests")
        return listed if isinstance(listed, list) and all(isinstance(e, dict) for e in listed) else ()

    def put(self, name: str, size: int, chunks: Iterator[bytes]) -> None:
        """See Target."""
        path = self.root / name
        with _refusals(path):
            if name.startswith("blobs/") and self._there(path, name, size):
                return
            path.parent.mkdir(parents=True, exist_ok=True)
        with _written(path) as out:
            for chunk in chunks:
                out.write(chunk)

    def _there(self, path: Path, name: str, size: int) -> bool:
        if not path.is_file() or path.stat().st_size != size:
            return False
        hasher = Hasher(Digest.parse(name.removeprefix("blobs/").replace("/", ":", 1)), size)
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                hasher.update(chunk)
        try:
            hasher.verify()
        except DistworkerError:
            return False
        return True


class LayoutTar:
    """A layout in a tar archive being written."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._folders: set[str] = set()

    def put(self, name: str, size: int, chunks: Iterator[bytes]) -> None:
        """See Target."""
        parts = name.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth]) + "/"
            if folder not in self._folders:
                self._folders.add(folder)
                self._out.write(tarball.header(folder, 0, folder=True))
        tarball.write_file(self._out, name, size, chunks)


@contextmanager
def new_archive(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when all was written; on any error it leaves nothing behind.

    Raises:
        InvalidRequest: it exists, or cannot be made there.
    """
    with _refusals(path):
        if os.path.lexists(path) or not path.name:
            raise InvalidRequest(f"{path} is there already; remove it or choose another name", field="path")
    with _written(path) as out:
        yield out
        tarball.write_end(out)


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    part = path.with_name(f".{path.name[:50]}.{secrets.token_hex(4)}.part")
    with _refusals(path):
        try:
            with part.open("xb") as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            part.replace(path)
        finally:
            with suppress(OSError):
                part.unlink()


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """What the system says about `path`, as one of our errors."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be written: {error.strerror}") from None


# --- docker save ---------------------
def write_docker(source: Source, images: Sequence[Picked], out: BinaryIO) -> None:
    """The images as `docker save` writes them; several refs of one image share it.

    Raises:
        InvalidRequest: an index of several platforms, or nothing that docker could load.
        DigestMismatch: a layer's content is not what the image's config says.
    """
    written: set[str] = set()
    records: dict[Digest, dict[str, Any]] = {}
    for image in images:
        root = image.tree.root
        if root.is_index:
            raise InvalidRequest(
                f"{image.ref.name} holds several platforms, and this format takes one: add --platform,"
                " such as --platform linux/amd64, or export an OCI layout",
                field="platforms",
            )
        record = records.get(root.digest) or records.setdefault(
            root.digest, _docker_image(source, image, out, written)
        )
        record["RepoTags"].append(_familiar(image.ref.name))
    data = json.dumps(list(records.values()), separators=(",", ":")).encode()
    tarball.write_file(out, DOCKER_FILE, len(data), iter([data]))


def _docker_image(source: Source, image: Picked, out: BinaryIO, written: set[str]) -> dict[str, Any]:
    config = image.tree.root.config
    if config is None or config.size > MANIFEST_MAX_PULL:
        raise InvalidRequest(f"{image.ref.name} is no container image; export it as an OCI layout")
    data = b"".join(source.chunks(config.digest, config.size))
    contents = _diff_ids(data, image)
    name = f"{config.digest.hex}.json"
    if name not in written:
        written.add(name)
        tarball.write_file(out, name, len(data), iter([data]))
    names = []
    for layer, content in zip(image.tree.root.layers, contents, strict=True):
        names.append(f"{content.hex}.tar")
        if names[-1] not in written:
            written.add(names[-1])
            tarball.write_unmeasured(out, names[-1], _unpacked(source, layer, content))
    return {"Config": name, "RepoTags": [], "Layers": names}


def _diff_ids(config: bytes, image: Picked) -> Sequence[Digest]:
    rootfs: Any = None
    try:
        rootfs = strictjson.load(config).get("rootfs")
        found = [Digest.parse(text) for text in rootfs["diff_ids"]]
    except (DistworkerError, KeyError, TypeError):
        found = []
    if not isinstance(rootfs, Mapping) or len(found) != len(image.tree.root.layers):
        raise InvalidRequest(f"{image.ref.name} is no container image; export it as an OCI layout")
    return found


def _unpacked(source: Source, layer: Descriptor, content: Digest) -> Iterator[bytes]:
    """A layer's content, checked against what the config says of it."""
    hasher = Hasher(content, None)
    unpacking: Unpacking | None = None
    first = True
    for chunk in source.chunks(layer.digest, layer.size):
        if first and chunk.startswith(_ZSTD):
            raise InvalidRequest(f"layer {layer.digest.short} is packed with zstd; export an OCI layout")
        if first and chunk.startswith(b"\x1f\x8b"):
            unpacking = Unpacking()
        first = False
        for piece in (chunk,) if unpacking is None else unpacking.feed(chunk):
            hasher.update(piece)
            yield piece
    if unpacking is not None:
        unpacking.end()
    try:
        hasher.verify()
    except DigestMismatch:
        raise DigestMismatch(
            f"layer {layer.digest.short} does not hold what the image's config says"
        ) from None


def _familiar(name: str) -> str:
    for prefix in _HUB:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


# --- the index alone ---------------------
def heads(store: BlobStore, tenant: str, chosen: Sequence[Ref]) -> list[tuple[Ref, Descriptor]]:
    """What refs name, without a look at what is below; those that are gone are left out."""
    found = []
    for ref in chosen:
        head = head_of(store, ref)
        if head is not None:
            found.append((ref, Descriptor(head.media_type, head.digest, head.size)))
    return found


def write_index(root: Path, images: Sequence[tuple[Ref, Descriptor]]) -> None:
    """Make the folder with these images' blobs an OCI layout of them."""
    if not root.is_dir():
        raise InvalidRequest(f"{root} is no folder", field="path")
    for name, data in ((LAYOUT_FILE, _LAYOUT), (INDEX_FILE, index_of(images))):
        with _written(root / name) as out:
            out.write(data)
