"""Media types of manifests, configs and layers: the few words a faithful copier must know.

A copier needs to tell a list of manifests from an image-shaped manifest, and a layer that its registry may
lack from one it must have (image-spec). Everything else is opaque and copied as it is, so there is
no list of "allowed" types here and there never will be: the spec forbids refusing unknown ones.
"""

from __future__ import annotations

from typing import Final

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
#: Withdrawn before OCI 1.1, still stored in places: `blobs` instead of `layers`, no config.
OCI_ARTIFACT: Final = "application/vnd.oci.artifact.manifest.v1+json"
#: Type and content (`{}`) of the config of an artifact without one.
EMPTY_JSON: Final = "application/vnd.oci.empty.v1+json"

DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"

#: Types whose `manifests` are descended.
INDEX_TYPES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
#: Types that name a config and layers.
MANIFEST_TYPES: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
SCHEMA1_TYPES: Final = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})
#: What web servers and CDNs say when they do not know: such an answer decides nothing.
GENERIC_TYPES: Final = frozenset(
    {"", "text/plain", "application/json", "application/octet-stream", "binary/octet-stream"}
)

#: Every type a manifest may have. A shorter list makes distribution answer 404, Docker Hub rewrite a list to
#: linux/amd64 and Quay convert to schema 1, so the types we refuse are in it too.
ACCEPTED: Final = (
    OCI_INDEX,
    OCI_MANIFEST,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA1_SIGNED,
    DOCKER_SCHEMA1,
    OCI_ARTIFACT,
)
#: The one Accept line for manifests.
ACCEPT: Final = ", ".join(ACCEPTED)

_FOREIGN: Final = (
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
)


def bare(content_type: str) -> str:
    """A Content-Type without its parameters, in lower case: `Text/Plain; charset=utf-8` is `text/plain`."""
    return content_type.partition(";")[0].strip().lower()


def is_index(media_type: str) -> bool:
    """Does this type name a list of manifests?"""
    return media_type in INDEX_TYPES


def is_foreign_layer(media_type: str) -> bool:
    """A layer that registries may lack because its licence forbids distributing it (`urls` say where it
    is)."""
    return any(media_type == base or media_type.startswith((base + ".", base + "+")) for base in _FOREIGN)
