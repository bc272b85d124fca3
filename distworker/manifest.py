"""Manifests: raw bytes in, a checked view out. The bytes are the manifest; the view is only for deciding.

Parsing is strict, because two readers that understand the same bytes differently are an attack
(CVE-2021-41190): duplicate keys, keys in another letter case, a list that is also an
image, conflicting types and wrong kinds are refused. Unknown fields and unknown media types are fine and
survive, because the bytes do. Nothing here ever writes a manifest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from distworker import mediatypes, schema1, strictjson
from distworker.digest import Digest, verify_bytes
from distworker.errors import (
    DigestMismatch,
    InvalidReference,
    LimitExceeded,
    ManifestInvalid,
    ManifestTooLarge,
)
from distworker.limits import (
    BLOB_MAX,
    INDEX_ENTRIES_MAX,
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
#: Types whose shape we know.
_KNOWN: Final = mediatypes.INDEX_TYPES | mediatypes.MANIFEST_TYPES | {mediatypes.OCI_ARTIFACT}

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


def parse_manifest(
    raw: bytes, content_type: str = "", digest: Digest | None = None, expected: str = ""
) -> Manifest:
    """The manifest that `raw` spells.

    `content_type` is the response's header or the type of the descriptor that led here; `digest`, when given,
    is what the bytes must hash to, else their sha256 becomes the manifest's digest. `expected` is the type
    that the descriptor with this digest states: it settles what header and body leave open or dispute, since
    the digest proves that these are the bytes it speaks of (image-spec, CVE-2021-41190).

    Raises:
        ManifestTooLarge, LimitExceeded: above a limit of `limits.py`.
        DigestMismatch: the bytes are not the ones asked for.
        Schema1Unsupported: a Docker schema 1 manifest.
        ManifestInvalid: malformed, or readable in two ways.
        UnsupportedDigest: a descriptor uses a digest algorithm we do not compute.
    """
    if len(raw) > MANIFEST_MAX_PULL:
        raise ManifestTooLarge(f"the manifest has {len(raw)} bytes; the limit is {MANIFEST_MAX_PULL}")
    if digest is not None:
        verify_manifest(raw, digest)
    stated = mediatypes.bare(content_type)
    expected = mediatypes.bare(expected) if digest is not None else ""
    if stated in mediatypes.SCHEMA1_TYPES and expected not in _KNOWN:
        raise schema1.refusal()
    document = strictjson.load(raw)
    media_type = _media_type(document, stated, expected)
    view = _view(document, media_type, proven=digest is not None)
    _check_sizes(view)
    return Manifest(raw=raw, digest=digest or Digest.of(raw), **view)


def verify_manifest(raw: bytes, digest: Digest) -> None:
    """Return if `raw` hashes to `digest`.

    Raises:
        Schema1Unsupported: it is a signed schema 1 manifest, and its payload does. Such bytes never pass as
        proven: what else stands in them is not covered by the digest.
        DigestMismatch: it does not.
    """
    try:
        verify_bytes(raw, digest)
    except DigestMismatch:
        if schema1.goes_by(raw, digest):
            raise schema1.refusal() from None
        raise


# --- what kind of manifest ----------------------------------------------------------------------------------
def _media_type(document: Mapping[str, Any], stated: str, expected: str) -> str:
    """The manifest's type: header and body must agree, and both with the shape."""
    strictjson.exact_keys(document, _MANIFEST_KEYS, "the manifest")
    if "manifests" in document and any(key in document for key in ("layers", "config", "fsLayers", "blobs")):
        raise ManifestInvalid("the manifest is both a list of manifests and an image")
    written = _string(document, "mediaType", "the manifest", MEDIA_TYPE_MAX)
    if schema1.is_schema1(document):
        raise schema1.refusal()
    version = document.get("schemaVersion", 2)
    if isinstance(version, bool) or version != 2:
        raise ManifestInvalid("the manifest's schemaVersion is not 2")
    header = "" if stated in mediatypes.GENERIC_TYPES else stated
    if header and written and written.lower() not in {header, expected}:
        raise ManifestInvalid(f"the manifest says it is {written}, but was announced as {header}")
    media_type = (
        written
        or (expected if expected in _KNOWN else "")
        or _printable(header, "the manifest's type")
        or _type_of_shape(document)
        or _printable(expected, "the manifest's type")
    )
    if not media_type:
        raise ManifestInvalid("neither header, mediaType nor shape says what kind of manifest this is")
    if mediatypes.is_index(media_type) != ("manifests" in document) and media_type in _KNOWN:
        what = "holds" if "manifests" in document else "lacks"
        raise ManifestInvalid(f"the manifest of type {media_type} {what} 'manifests'")
    return media_type


def _type_of_shape(document: Mapping[str, Any]) -> str:
    """What such a document is when nobody says; "" when its shape does not tell."""
    if "manifests" in document:
        return mediatypes.OCI_INDEX
    config = document.get("config")
    if isinstance(config, dict):
        docker = config.get("mediaType") == mediatypes.DOCKER_CONFIG
        return mediatypes.DOCKER_MANIFEST if docker else mediatypes.OCI_MANIFEST
    return ""


# --- the view -----------------------------------------------------------------------------------------------
def _view(document: Mapping[str, Any], media_type: str, proven: bool) -> dict[str, Any]:
    view: dict[str, Any] = {
        "media_type": media_type,
        "annotations": _annotations(document, "the manifest"),
        "artifact_type": _string(document, "artifactType", "the manifest", MEDIA_TYPE_MAX),
        "subject": _optional(document, "subject"),
    }
    if "manifests" in document:
        children = _descriptors(document, "manifests", INDEX_ENTRIES_MAX)
        return view | {"children": children, "is_index": True}
    config, layers = _optional(document, "config"), _descriptors(document, "layers", LAYERS_MAX)
    if media_type not in mediatypes.MANIFEST_TYPES:
        # Of a type that nobody here knows, whatever it names is copied: the spec forbids refusing it.
        layers += _descriptors(document, "blobs", LAYERS_MAX)
    named = layers or proven or media_type == mediatypes.OCI_ARTIFACT
    if config is None and (media_type in mediatypes.MANIFEST_TYPES or not named):
        # Only a digest shows that an object of no known type which names nothing is what somebody meant to
        # keep.
        raise ManifestInvalid("the manifest has no config")
    return view | {"config": config, "layers": layers}


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
    strictjson.exact_keys(value, _DESCRIPTOR_KEYS, where)
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
    strictjson.exact_keys(value, _PLATFORM_KEYS, f"{where}: the platform")
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
