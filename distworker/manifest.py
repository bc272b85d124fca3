"""Manifests: raw bytes in, a checked view out. The bytes are the manifest; the view is only for deciding.

Parsing is strict, because two readers that understand the same bytes differently are an attack
(CVE-2021-41190): duplicate keys, keys in another letter case, a list that is also an
image, conflicting types and wrong kinds are refused. Unknown fields and unknown media types are fine and
survive, because the bytes do. Nothing here ever writes a manifest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from distworker import mediatypes
from distworker.digest import Digest, verify_bytes
from distworker.errors import (
    DigestMismatch,
    InvalidReference,
    LimitExceeded,
    ManifestInvalid,
    ManifestTooLarge,
    Schema1Unsupported,
)
from distworker.limits import (
    BLOB_MAX,
    INDEX_ENTRIES_MAX,
    JSON_DEPTH_MAX,
    LAYERS_MAX,
    MANIFEST_MAX_PULL,
    MEDIA_TYPE_MAX,
)
from distworker.platforms import Platform

_MANIFEST_KEYS: Final = (
    *("schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "blobs", "fsLayers"),
    *("subject", "annotations"),
)
_DESCRIPTOR_KEYS: Final = (
    *("mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType"),
)
_PLATFORM_KEYS: Final = ("os", "architecture", "variant", "os.version", "os.features")

# A string (closed or not, so that each byte is looked at once) or a bracket.
_TOKENS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_PRINTABLE = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest says of something else: its type, digest and size in bytes. `media_type` may be empty:
    old clients pushed configs without one."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    artifact_type: str = ""
    urls: tuple[str, ...] = ()

    @property
    def is_foreign(self) -> bool:
        """A layer that its registry may lack; `urls` may say where else it is. They are never followed."""
        return bool(self.urls) or mediatypes.is_foreign_layer(self.media_type)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as received (`raw`) and what it says. `layers` keeps duplicates and order: both mean
    something."""

    raw: bytes = field(repr=False)
    media_type: str
    digest: Digest
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    children: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    artifact_type: str = ""
    is_index: bool = False

    @property
    def size(self) -> int:
        """Bytes of the manifest itself."""
        return len(self.raw)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """The blobs it needs, each digest once, config first, in order. Empty for an index."""
        unique: dict[Digest, Descriptor] = {}
        for descriptor in (*((self.config,) if self.config else ()), *self.layers):
            unique.setdefault(descriptor.digest, descriptor)
        return tuple(unique.values())


def parse_manifest(raw: bytes, content_type: str = "", digest: Digest | None = None) -> Manifest:
    """The manifest that `raw` spells.

    `content_type` is the response's header or the type of the descriptor that led here; `digest`, when given,
    is what the bytes must hash to, else their sha256 becomes the manifest's digest.

    Raises:
        ManifestTooLarge, LimitExceeded: above a limit of `limits.py`.
        DigestMismatch: the bytes are not the ones asked for.
        Schema1Unsupported: a Docker schema 1 manifest.
        ManifestInvalid: malformed, or readable in two ways.
        UnsupportedDigest: a descriptor uses a digest algorithm we do not compute.
    """
    if len(raw) > MANIFEST_MAX_PULL:
        raise ManifestTooLarge(f"the manifest has {len(raw)} bytes; the limit is {MANIFEST_MAX_PULL}")
    stated = mediatypes.bare(content_type)
    if stated in mediatypes.SCHEMA1_TYPES:
        raise _schema1()
    if digest is None:
        digest = Digest.of(raw)
    else:
        _verify(raw, digest)
    document = _load(raw)
    media_type = _media_type(document, stated)
    view = _view(document, media_type)
    _check_sizes(view)
    return Manifest(raw=raw, digest=digest, **view)


def _verify(raw: bytes, digest: Digest) -> None:
    try:
        verify_bytes(raw, digest)
    except DigestMismatch:
        # A signed schema 1 manifest hashes over its payload only; "wrong bytes" would send people the wrong
        # way.
        if b'"fsLayers"' in raw and _is_schema1(_load(raw)):
            raise _schema1() from None
        raise


def _schema1() -> Schema1Unsupported:
    return Schema1Unsupported(
        "this is a Docker schema 1 manifest (from before 2017), which is not copied; pull and push it once "
        "with a current client to convert it"
    )


# --- JSON, strictly -----------------------------------------------------------------------------------------
def _load(raw: bytes) -> Mapping[str, Any]:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ManifestInvalid("the manifest is not UTF-8") from None
    _check_depth(text)
    try:
        document = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except ValueError:
        # JSONDecodeError, and integers longer than Python converts; neither message helps, and both quote
        # foreign text.
        raise ManifestInvalid("the manifest is not JSON") from None
    if not isinstance(document, dict):
        raise ManifestInvalid("the manifest is not a JSON object")
    return document


def _check_depth(text: str) -> None:
    depth = 0
    for match in _TOKENS.finditer(text):
        first = match.group()[0]
        if first in "[{":
            depth += 1
            if depth > JSON_DEPTH_MAX:
                raise LimitExceeded(f"the manifest nests deeper than {JSON_DEPTH_MAX} levels")
        elif first in "]}":
            depth -= 1


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ManifestInvalid("the manifest has the same key twice in one object")
    return document


def _no_constant(name: str) -> Any:
    raise ManifestInvalid(f"the manifest holds {name}, which is not JSON")


def _exact_keys(document: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Go's decoder ignores letter case, so `Layers` is a second `layers` to some readers and nothing to
    others."""
    folded = {name.casefold(): name for name in known}
    for key in document:
        name = folded.get(key.casefold())
        if name is not None and name != key:
            raise ManifestInvalid(f"{where} spells the key {name!r} in another letter case")


# --- what kind of manifest ----------------------------------------------------------------------------------
def _is_schema1(document: Mapping[str, Any]) -> bool:
    return document.get("schemaVersion") == 1 or "fsLayers" in document


def _media_type(document: Mapping[str, Any], stated: str) -> str:
    """The manifest's type: header and body must agree, and both with the shape."""
    _exact_keys(document, _MANIFEST_KEYS, "the manifest")
    if "manifests" in document and any(key in document for key in ("layers", "config", "fsLayers", "blobs")):
        raise ManifestInvalid("the manifest is both a list of manifests and an image")
    written = _string(document, "mediaType", "the manifest", MEDIA_TYPE_MAX)
    if _is_schema1(document) or written in mediatypes.SCHEMA1_TYPES:
        raise _schema1()
    version = document.get("schemaVersion", 2)
    if isinstance(version, bool) or version != 2:
        raise ManifestInvalid("the manifest's schemaVersion is not 2")
    header = "" if stated in mediatypes.GENERIC_TYPES else stated
    if header and written and header != written.lower():
        raise ManifestInvalid(f"the manifest says it is {written}, but was announced as {header}")
    media_type = written or _printable(header, "the manifest's type") or _type_of_shape(document)
    if mediatypes.is_index(media_type) != ("manifests" in document):
        _refuse_shape(media_type, document)
    return media_type


def _refuse_shape(media_type: str, document: Mapping[str, Any]) -> None:
    known = mediatypes.INDEX_TYPES | mediatypes.MANIFEST_TYPES | {mediatypes.OCI_ARTIFACT}
    if media_type in known:
        what = "holds" if "manifests" in document else "lacks"
        raise ManifestInvalid(f"the manifest of type {media_type} {what} 'manifests'")


def _type_of_shape(document: Mapping[str, Any]) -> str:
    if "manifests" in document:
        return mediatypes.OCI_INDEX
    config = document.get("config")
    if isinstance(config, dict):
        docker = config.get("mediaType") == mediatypes.DOCKER_CONFIG
        return mediatypes.DOCKER_MANIFEST if docker else mediatypes.OCI_MANIFEST
    raise ManifestInvalid("neither header, mediaType nor shape says what kind of manifest this is")


# --- the view -----------------------------------------------------------------------------------------------
def _view(document: Mapping[str, Any], media_type: str) -> dict[str, Any]:
    view: dict[str, Any] = {
        "media_type": media_type,
        "annotations": _annotations(document, "the manifest"),
        "artifact_type": _string(document, "artifactType", "the manifest", MEDIA_TYPE_MAX),
        "subject": _optional(document, "subject"),
    }
    if "manifests" in document:
        children = _descriptors(document, "manifests", INDEX_ENTRIES_MAX)
        return view | {"children": children, "is_index": True}
    unknown = media_type not in mediatypes.MANIFEST_TYPES
    if unknown and "blobs" in document and "config" not in document:
        return view | {"layers": _descriptors(document, "blobs", LAYERS_MAX)}
    config = _optional(document, "config")
    if config is None:
        raise ManifestInvalid("the manifest has no config")
    return view | {"config": config, "layers": _descriptors(document, "layers", LAYERS_MAX)}


def _optional(document: Mapping[str, Any], key: str) -> Descriptor | None:
    value = document.get(key)
    return None if value is None else _descriptor(value, key)


def _descriptors(document: Mapping[str, Any], key: str, limit: int) -> tuple[Descriptor, ...]:
    """The descriptors under `key`; null counts as empty, as some clients write it for artifacts."""
    values = document.get(key)
    if values is None:
        return ()
    if not isinstance(values, list):
        raise ManifestInvalid(f"the manifest's {key!r} is not a list")
    if len(values) > limit:
        raise LimitExceeded(f"the manifest has {len(values)} {key}; the limit is {limit}")
    return tuple(_descriptor(value, f"{key}[{index}]") for index, value in enumerate(values))


def _descriptor(value: Any, where: str) -> Descriptor:
    if not isinstance(value, dict):
        raise ManifestInvalid(f"{where} is not a descriptor")
    _exact_keys(value, _DESCRIPTOR_KEYS, where)
    try:
        digest = Digest.parse(value.get("digest"))
    except InvalidReference as error:
        raise ManifestInvalid(f"{where}: {error.message}") from None
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ManifestInvalid(f"{where}: the size is not a whole number of bytes")
    if size > BLOB_MAX:
        raise LimitExceeded(f"{where}: a size above the limit of {BLOB_MAX} bytes")
    return Descriptor(
        media_type=_string(value, "mediaType", where, MEDIA_TYPE_MAX),
        digest=digest,
        size=size,
        platform=_platform(value.get("platform"), where),
        annotations=_annotations(value, where),
        artifact_type=_string(value, "artifactType", where, MEDIA_TYPE_MAX),
        urls=_urls(value.get("urls"), where),
    )


def _platform(value: Any, where: str) -> Platform | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ManifestInvalid(f"{where}: the platform is not an object")
    _exact_keys(value, _PLATFORM_KEYS, f"{where}: the platform")
    parts = [_string(value, key, f"{where}: the platform", MEDIA_TYPE_MAX) for key in _PLATFORM_KEYS[:4]]
    return Platform(*parts)


def _urls(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(url, str) for url in value):
        raise ManifestInvalid(f"{where}: the urls are not a list of strings")
    return tuple(_text(url) for url in value)


def _annotations(document: Mapping[str, Any], where: str) -> Mapping[str, str]:
    value = document.get("annotations")
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ManifestInvalid(f"{where}: the annotations are not an object of strings")
    return {_text(key): _text(text) for key, text in value.items()}


def _string(document: Mapping[str, Any], key: str, where: str, limit: int) -> str:
    value = document.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > limit:
        raise ManifestInvalid(f"{where}: {key} is not a string of at most {limit} characters")
    return _printable(value, f"{where}: {key}")


def _printable(value: str, where: str) -> str:
    if not _PRINTABLE.fullmatch(value):
        raise ManifestInvalid(f"{where} is not printable ASCII")
    return value


def _text(value: str) -> str:
    """Free text that can be written out: JSON escapes can spell half a surrogate pair, which UTF-8 cannot."""
    return value.encode("utf-8", "replace").decode("utf-8")


def _check_sizes(view: Mapping[str, Any]) -> None:
    """One digest cannot have two sizes; a reader that trusted the wrong one would cut or wait for
    ever."""
    sizes: dict[Digest, int] = {}
    for descriptor in _all_descriptors(view):
        if sizes.setdefault(descriptor.digest, descriptor.size) != descriptor.size:
            raise ManifestInvalid(f"{descriptor.digest.short} stands there with two different sizes")


def _all_descriptors(view: Mapping[str, Any]) -> Iterator[Descriptor]:
    for key in ("config", "subject"):
        if view.get(key) is not None:
            yield view[key]
    for key in ("layers", "children"):
        yield from view.get(key, ())
