"""Reading from real registries; nothing is written."""

from __future__ import annotations

import itertools
import os

import pytest

from distworker.digest import Digest
from distworker.manifest import Manifest
from distworker.reference import Reference
from distworker.registry.base import Registry
from distworker.registry.pool import RegistryPool
from tests.live.__main__ import IMAGES

images = pytest.mark.parametrize(
    "image",
    [Reference.parse(text).with_default_tag() for text in os.environ.get(IMAGES, "").split()],
    ids=str,
)


def first_image(client: Registry, image: Reference) -> Manifest:
    """The manifest, or the first one below an index."""
    found = client.get_manifest(image.repository, image.version)
    while found.is_index:
        found = client.get_manifest(image.repository, found.children[0].digest)
    return found


@images
def test_it_answers_and_takes_our_login(pool: RegistryPool, image: Reference) -> None:
    """Ping."""
    pool.client(image.host).ping()


@images
def test_head_and_get_agree(pool: RegistryPool, image: Reference) -> None:
    """HEAD is a hint that may be missing, and when it is there it is right."""
    client = pool.client(image.host)
    head = client.head_manifest(image.repository, image.version)
    found = client.get_manifest(image.repository, image.version)
    assert found.digest == Digest.of(found.raw)
    assert head is None or head.digest == found.digest


@images
def test_tags_are_listed(pool: RegistryPool, image: Reference) -> None:
    """The first few of them."""
    tags = list(itertools.islice(pool.client(image.host).tags(image.repository), 5))
    assert tags


@images
def test_the_smallest_blob_is_read(pool: RegistryPool, image: Reference) -> None:
    """Through whatever redirects the registry has, and verified."""
    client = pool.client(image.host)
    blob = min(first_image(client, image).blobs, key=lambda one: one.size)
    with client.read_blob(image.repository, blob.digest, blob.size) as reading:
        assert sum(len(chunk) for chunk in reading) == blob.size
        assert reading.verified.digest == blob.digest
