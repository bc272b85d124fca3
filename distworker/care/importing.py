"""Bring images from OCI layouts and `docker save` archives into the store.

An OCI layout keeps its digests: index images arrive whole, attestations and artifacts with them. A `docker
save` archive has no manifest; one is made, an OCI image manifest over its config and its layers as they are,
so the same archive always gives the same digest. Everything is checked before the first byte is written:
names, sizes, that each blob is there; and each blob against its digest while it is written. A ref is written
when all images are whole (`landing.py`).
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from distworker import mediatypes, strictjson
from distworker.blobstore.base import BlobStore
from distworker.care.archive import Archive, read_small
from distworker.care.landing import Lander, Landing
from distworker.digest import Digest
from distworker.errors import (
    ArchiveInvalid,
    BlobUnknown,
    DigestMismatch,
    DistworkerError,
    InvalidRequest,
    LimitExceeded,
    SizeMismatch,
)
from distworker.limits import BLOB_MAX, LAYERS_MAX, MANIFEST_MAX_PULL
from distworker.manifest import Descriptor, Manifest, parse_manifest
from distworker.plan.model import ImageTree
from distworker.plan.resolve import blobs_of, walk
from distworker.reference import Reference, parse_tag

LAYOUT_FILE: Final = "oci-layout"
INDEX_FILE: Final = "index.json"
DOCKER_FILE: Final = "manifest.json"
#: Annotations that name an image of a layout: the whole name, and a tag or a whole name.
NAME: Final = "io.containerd.image.name"
TAG: Final = "org.opencontainers.image.ref.name"

LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_TOP_MAX: Final = 10_000
_NAMED_BY_DIGEST = re.compile(r"(?:.*/)?([0-9a-f]{64})(?:\.json)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Found:
    """An image of an archive: what the archive calls it, its tree, and where its blobs are in the archive."""

    names: Sequence[str]
    tree: ImageTree
    files: Mapping[Digest, str]


@dataclass(frozen=True, slots=True)
class Imported:
    """An image that is in the store now."""

    names: Sequence[str]
    digest: Digest
    bytes: int


def blob_file(digest: Digest) -> str:
    """The file of a blob in a layout."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


def read_images(archive: Archive, moved: Callable[[int], None] = lambda count: None) -> list[Found]:
    """What an archive holds; `moved` hears of bytes read to get there.

    Raises:
        ArchiveInvalid, ManifestInvalid, DigestMismatch, LimitExceeded …: it is not what it says.
    """
    if archive.size(LAYOUT_FILE) is not None and archive.size(INDEX_FILE) is not None:
        return list(_layout(archive))
    if archive.size(DOCKER_FILE) is not None:
        return list(_docker(archive, moved))
    raise ArchiveInvalid(
        f"neither an OCI layout ({LAYOUT_FILE} and {INDEX_FILE}) nor an archive of `docker save`"
        f" ({DOCKER_FILE})"
    )


def bring_in(
    store: BlobStore,
    tenant: str,
    archive: Archive,
    images: Sequence[Found],
    wanted: Reference | None = None,
    moved: Callable[[int], None] = lambda count: None,
) -> list[Imported]:
    """Put the images into the store under their own names, or as `wanted`.

    Raises:
        InvalidRequest: an image has no name, or `wanted` cannot be the name of all of them.
        BlobUnknown, SizeMismatch, DigestMismatch: the archive lacks a blob or has a wrong one; no ref is
        written.
    """
    alone = len({image.tree.root.digest for image in images}) == 1
    named = [(_names(image, wanted, alone), image) for image in images]
    _apart(named)
    for image in images:
        _complete(archive, image)
    files: dict[Digest, str] = {}
    for image in images:
        files |= image.files

    def bring(blob: Descriptor) -> Iterable[bytes] | None:
        name = files[blob.digest]
        return None if blob.is_foreign and archive.size(name) is None else archive.chunks(name)

    lander = Lander(store, tenant, bring, moved=moved)
    lander.land([Landing(names, image.tree) for names, image in named])
    return [
        Imported([str(name) for name in names], image.tree.root.digest, _bytes(image.tree))
        for names, image in named
    ]


# --- names ---------------------
def _names(image: Found, wanted: Reference | None, alone: bool) -> list[Reference]:
    if wanted is not None and wanted.tag:
        return [wanted]
    found: dict[str, Reference] = {}
    for text in image.names:
        name = _named(text, wanted)
        if name is not None:
            found[str(name)] = name
    if not found and wanted is not None and alone:
        return [wanted.with_default_tag()]
    if not found:
        what = f"image {image.tree.root.digest.short} of the archive has no {'tag' if wanted else 'name'}"
        raise InvalidRequest(f"{what}; say what to call it: distworker import PATH REF", field="reference")
    return list(found.values())


def _named(text: str, wanted: Reference | None) -> Reference | None:
    """A name of the archive as a reference; with `wanted`, a repository, only its tag counts."""
    try:
        if ":" not in text and "/" not in text:
            return wanted.with_tag(parse_tag(text)) if wanted else None
        name = Reference.parse(text)
    except DistworkerError:
        return None
    if not name.tag:
        return None
    return wanted.with_tag(name.tag) if wanted else name.with_digest(None)


def _apart(named: Sequence[tuple[Sequence[Reference], Found]]) -> None:
    taken: dict[str, Digest] = {}
    for names, image in named:
        for name in names:
            if taken.setdefault(str(name), image.tree.root.digest) != image.tree.root.digest:
                raise InvalidRequest(f"the archive holds several images for {name}; import by its own names")


def _bytes(tree: ImageTree) -> int:
    return sum(m.size for m in tree.manifests) + sum(blob.size for blob in blobs_of(tree))


def _complete(archive: Archive, image: Found) -> None:
    for blob in blobs_of(image.tree):
        size = archive.size(image.files[blob.digest])
        if size is None and not blob.is_foreign:
            raise BlobUnknown(f"the archive lacks blob {blob.digest}")
        if size is not None and size != blob.size:
            raise SizeMismatch(f"blob {blob.digest} of the archive has {size} bytes instead of {blob.size}")


# --- OCI layouts ---------------------
def _layout(archive: Archive) -> Iterator[Found]:
    top = parse_manifest(read_small(archive, INDEX_FILE, MANIFEST_MAX_PULL), mediatypes.OCI_INDEX)
    names: dict[Digest, list[str]] = {}
    tops: dict[Digest, Descriptor] = {}
    for entry in top.children:
        tops.setdefault(entry.digest, entry)
        said = names.setdefault(entry.digest, [])
        name = entry.annotations.get(NAME) or entry.annotations.get(TAG, "")
        if name:
            said.append(name)
    if not tops:
        raise ArchiveInvalid("the layout holds no image")
    for digest, entry in tops.items():
        tree = walk(_manifest(archive, entry), lambda child: _below(archive, child))
        yield Found(names[digest], tree, {blob.digest: blob_file(blob.digest) for blob in blobs_of(tree)})


def _manifest(archive: Archive, entry: Descriptor) -> Manifest:
    name = blob_file(entry.digest)
    if archive.size(name) is None:
        raise BlobUnknown(f"the archive lacks manifest {entry.digest}")
    return parse_manifest(read_small(archive, name, MANIFEST_MAX_PULL), "", entry.digest, entry.media_type)


def _below(archive: Archive, child: Descriptor) -> Manifest | None:
    """As a registry would tell it: of a type nobody knows, an entry that reads as a manifest is one."""
    if child.media_type in mediatypes.ACCEPTED:
        return _manifest(archive, child)
    if child.size > MANIFEST_MAX_PULL:
        return None
    try:
        return _manifest(archive, child)
    except (BlobUnknown, DigestMismatch):
        raise
    except DistworkerError:
        return None


# --- docker save ---------------------
@dataclass(frozen=True, slots=True)
class _Layer:
    digest: Digest
    size: int
    packed: bool
    content: Digest


def _docker(archive: Archive, moved: Callable[[int], None]) -> Iterator[Found]:
    raw = read_small(archive, DOCKER_FILE, MANIFEST_MAX_PULL)
    images = strictjson.load(b'{"images":' + raw + b"}").get("images")
    if not isinstance(images, list) or not images or len(images) > _TOP_MAX:
        raise ArchiveInvalid(f"{DOCKER_FILE} is not a list of images")
    seen: dict[str, _Layer] = {}
    for image in images:
        if not isinstance(image, dict):
            raise ArchiveInvalid(f"{DOCKER_FILE} is not a list of images")
        yield _docker_image(archive, image, seen, moved)


def _docker_image(
    archive: Archive, image: Mapping[str, Any], seen: dict[str, _Layer], moved: Callable[[int], None]
) -> Found:
    config_file, tags = image.get("Config"), image.get("RepoTags") or []
    layer_files = image.get("Layers") or []
    if not isinstance(config_file, str) or not _texts(tags) or not _texts(layer_files):
        raise ArchiveInvalid(f"an image of {DOCKER_FILE} lacks its config, its layers or its names")
    config = read_small(archive, config_file, MANIFEST_MAX_PULL)
    match = _NAMED_BY_DIGEST.fullmatch(config_file)
    if match and match[1] != Digest.of(config).hex:
        raise DigestMismatch(f"the config of the archive does not hash to its name {match[1][:12]}…")
    wanted = _diff_ids(config)
    if len(layer_files) > LAYERS_MAX or len(wanted) != len(layer_files):
        raise ArchiveInvalid(f"the archive has {len(layer_files)} layers, its config names {len(wanted)}")
    layers = []
    for name, content in zip(layer_files, wanted, strict=True):
        layer = seen.get(name) or seen.setdefault(name, _measure(archive, name, moved))
        if layer.content != content:
            raise DigestMismatch(f"layer {content.short} of the archive hashes to {layer.content.short}")
        layers.append(layer)
    manifest = parse_manifest(_made(config, layers))
    files = {Digest.of(config): config_file}
    files |= {layer.digest: name for layer, name in zip(layers, layer_files, strict=True)}
    return Found(tags, ImageTree(manifest, (manifest,)), files)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _diff_ids(config: bytes) -> list[Digest]:
    rootfs = strictjson.load(config).get("rootfs")
    listed = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(listed, list):
        raise ArchiveInvalid("the config of the archive names no layers")
    try:
        return [Digest.parse(text) for text in listed]
    except DistworkerError:
        raise ArchiveInvalid("the config of the archive names a layer by no digest") from None


def _measure(archive: Archive, name: str, moved: Callable[[int], None]) -> _Layer:
    """A layer's digest and that of its unpacked content, by reading it once."""
    whole, content = hashlib.sha256(), hashlib.sha256()
    size, unpacking, packed = 0, None, False
    for chunk in archive.chunks(name):
        if not size and chunk.startswith(b"\x1f\x8b"):
            packed, unpacking = True, Unpacking()
        size += len(chunk)
        moved(len(chunk))
        whole.update(chunk)
        if unpacking is None:
            content.update(chunk)
        else:
            for piece in unpacking.feed(chunk):
                content.update(piece)
    if unpacking is not None:
        unpacking.end()
    found = [Digest.parse(f"sha256:{hasher.hexdigest()}") for hasher in (whole, content)]
    return _Layer(found[0], size, packed, found[1])


class Unpacking:
    """gzip, a bounded piece at a time. ArchiveInvalid when it is damaged or ends early."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(31)
        self._total = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The next bytes of the packed form."""
        while chunk:
            if self._inflate.eof:
                # Several packed files one after the other are one, and zeros may fill up the last block.
                if not chunk.strip(b"\0"):
                    return
                self._inflate = zlib.decompressobj(31)
            try:
                piece = self._inflate.decompress(chunk, 1 << 20)
            except zlib.error:
                raise ArchiveInvalid("a layer's compressed bytes are damaged") from None
            self._total += len(piece)
            if self._total > BLOB_MAX:
                raise LimitExceeded(f"a layer expands to more than {BLOB_MAX} bytes")
            if piece:
                yield piece
            chunk = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail

    def end(self) -> None:
        """There are no more."""
        if not self._inflate.eof:
            raise ArchiveInvalid("a layer's compressed bytes end early")


def _made(config: bytes, layers: Sequence[_Layer]) -> bytes:
    """The manifest that the archive does not have."""
    record = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": {
            "mediaType": mediatypes.OCI_CONFIG,
            "size": len(config),
            "digest": Digest.of(config),
        },
        "layers": [
            {
                "mediaType": LAYER + ("+gzip" if layer.packed else ""),
                "size": layer.size,
                "digest": layer.digest,
            }
            for layer in layers
        ],
    }
    return json.dumps(record, separators=(",", ":")).encode()
