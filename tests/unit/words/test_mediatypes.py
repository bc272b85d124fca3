"""Media types: the Accept line and the few questions a copier asks."""

from __future__ import annotations

import pytest

from distworker import mediatypes


def test_the_accept_line_names_every_manifest_type_once() -> None:
    """A type left out is a 404 or a silent conversion at some registry."""
    listed = mediatypes.ACCEPT.split(", ")
    assert len(listed) == len(set(listed)) == 7
    assert set(listed) == mediatypes.INDEX_TYPES | mediatypes.MANIFEST_TYPES | mediatypes.SCHEMA1_TYPES | {
        mediatypes.OCI_ARTIFACT
    }


@pytest.mark.parametrize(
    ("media_type", "foreign"),
    [
        ("application/vnd.docker.image.rootfs.foreign.diff.tar", True),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", True),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", True),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", True),
        ("application/vnd.oci.image.layer.v1.tar+gzip", False),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", False),
        ("application/vnd.docker.image.rootfs.foreign.diff.tarball", False),
        ("", False),
    ],
)
def test_foreign_layers_are_known_by_their_type(media_type: str, foreign: bool) -> None:
    """Docker's and OCI's names, with any compression."""
    assert mediatypes.is_foreign_layer(media_type) is foreign


def test_an_index_is_one_of_two_types() -> None:
    """Only these are descended."""
    assert mediatypes.is_index(mediatypes.OCI_INDEX)
    assert mediatypes.is_index(mediatypes.DOCKER_LIST)
    assert not mediatypes.is_index(mediatypes.OCI_MANIFEST)


def test_parameters_and_case_of_a_content_type_do_not_count() -> None:
    """RFC 9110: types are case-insensitive and may carry a charset."""
    assert mediatypes.bare(" Text/PLAIN ; charset=utf-8") == "text/plain"
    assert mediatypes.bare("") == ""
