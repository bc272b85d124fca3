"""Docker schema 1 manifests: known by sight, so that they are refused by their name and not as damaged bytes.

A signed one (`…v1+prettyjws`) goes by the digest of its *payload*: the body without the signatures that were
put into it, which each signature's protected header describes (`formatLength`, `formatTail`; libtrust's
pretty signatures). Its name and tag are inside and signed and its layers have no sizes, so it cannot be
copied faithfully; docker and containerd dropped it too. Nothing here verifies a signature.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from distworker import mediatypes, strictjson
from distworker.digest import Digest
from distworker.errors import ManifestInvalid, Schema1Unsupported


def is_schema1(document: Mapping[str, Any]) -> bool:
    """Does this document have the marks of schema 1, whatever type was announced?"""
    written = document.get("mediaType")
    return (
        document.get("schemaVersion") == 1
        or "fsLayers" in document
        or (isinstance(written, str) and written in mediatypes.SCHEMA1_TYPES)
    )


def refusal() -> Schema1Unsupported:
    """What is said of every one of them."""
    return Schema1Unsupported(
        "this is a Docker schema 1 manifest (from before 2017), which is not copied; pull and push it once "
        "with a current client to convert it"
    )


def goes_by(raw: bytes, digest: Digest) -> bool:
    """Is `raw` a signed schema 1 manifest whose payload has this digest?"""
    if b'"fsLayers"' not in raw:
        return False
    try:
        document = strictjson.load(raw)
        signed = is_schema1(document) and Digest.of(payload(raw, document), digest.algorithm) == digest
    except ManifestInvalid:
        return False
    return signed


def payload(raw: bytes, document: Mapping[str, Any]) -> bytes:
    """What the digest of a signed manifest is over; all of `raw` when nothing in it is signed.

    Raises:
        ManifestInvalid: signatures that contradict each other or point outside the manifest.
    """
    signatures = document.get("signatures")
    if not signatures:
        return raw
    if not isinstance(signatures, list):
        raise ManifestInvalid("the manifest's signatures are not a list")
    found = {_format(signature) for signature in signatures}
    length, tail = found.pop()
    if found or length > len(raw):
        raise ManifestInvalid("the manifest's signatures do not fit it")
    return raw[:length] + tail


def _format(signature: Any) -> tuple[int, bytes]:
    """(bytes of the body, bytes after them) that this signature says it is over."""
    protected = signature.get("protected") if isinstance(signature, dict) else None
    header = strictjson.load(_unpacked(protected))
    length = header.get("formatLength")
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        raise ManifestInvalid("a signature of the manifest does not say what it is over")
    return length, _unpacked(header.get("formatTail"))


def _unpacked(text: Any) -> bytes:
    """base64url without padding, as JOSE writes it."""
    if not isinstance(text, str):
        raise ManifestInvalid("a signature of the manifest is incomplete")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)
    except (ValueError, binascii.Error):
        raise ManifestInvalid("a signature of the manifest is not base64url") from None
