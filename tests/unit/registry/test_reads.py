"""Reading manifests and blobs from registries that mean well; the others are in `cases/`."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest

from distworker.digest import Digest
from distworker.errors import (
    BlobUnknown,
    DigestMismatch,
    InternalError,
    ManifestUnknown,
)
from distworker.mediatypes import OCI_MANIFEST
from tests.fakes.registry_server import Twist
from tests.unit.registry.conftest import Rig, fails

RigMaker = Callable[..., Rig]
DATA = random.Random(7).randbytes(50_000)
DIGEST = Digest.of(DATA)
RAW = (
    json.dumps(
        {
            "schemaVersion": 2,
            "config": {"mediaType": "a/b", "digest": Digest.of(b"{}"), "size": 2},
            "layers": [],
            "unknown": "\u00e4 kept",
        },
        indent=3,
    ).encode()
    + b"\n"
)


def holding(make: RigMaker, **options: object) -> Rig:
    """A rig whose registry has one blob and one tagged manifest."""
    r = make(**options)
    r.fake.put_blob("a/b", DATA)
    r.fake.put_manifest("a/b", RAW, OCI_MANIFEST, "v1")
    return r


def read(r: Rig, size: int = len(DATA), digest: Digest = DIGEST) -> bytes:
    """The whole blob, its proof checked."""
    with r.client.read_blob("a/b", digest, size) as blob:
        got = b"".join(bytes(chunk) for chunk in blob)
        assert (blob.verified.digest, blob.verified.size) == (digest, len(got))
    return got


def test_a_manifest_mangled_once_heals(rig: RigMaker) -> None:
    """A proxy's hiccup costs one more request."""
    r = holding(rig)
    r.fake.on("GET", "/manifests/", Twist(corrupt=3))
    assert r.client.get_manifest("a/b", Digest.of(RAW)).raw == RAW


def test_a_missing_manifest_is_none_for_head_and_typed_for_get(rig: RigMaker) -> None:
    """404 is an answer, not a fault."""
    r = holding(rig)
    assert r.client.head_manifest("a/b", "gone") is None
    with fails(
        ManifestUnknown, repository="a/b", reference="gone", status=404, registry_code="MANIFEST_UNKNOWN"
    ):
        r.client.get_manifest("a/b", "gone")


def test_a_blob_is_read_and_proven(rig: RigMaker) -> None:
    """In chunks of the asked size, uncompressed, in one request."""
    r = holding(rig)
    assert read(r) == DATA
    assert r.fake.lines() == ["GET /v2/a/b/blobs/" + DIGEST]
    assert r.fake.seen[0].headers.get("Accept-Encoding") == "identity"


def test_the_last_chunk_waits_for_the_proof(rig: RigMaker) -> None:
    """Whoever forwards the chunks never has all of a blob that turns out wrong."""
    r = holding(rig)
    r.fake.always("GET", "/blobs/", Twist(corrupt=10))
    got = bytearray()
    with fails(DigestMismatch), r.client.read_blob("a/b", DIGEST, len(DATA)) as blob:
        for chunk in blob:
            got += chunk
    assert len(got) < len(DATA)
    with pytest.raises(InternalError):
        _ = blob.verified


def test_a_missing_blob_is_known_before_anything_is_prepared(rig: RigMaker) -> None:
    """Entering the context already tells."""
    r = holding(rig)
    with fails(BlobUnknown, status=404), r.client.read_blob("a/b", Digest.of(b"gone"), 4):
        pytest.fail("the context was entered")
