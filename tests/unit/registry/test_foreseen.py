"""What a registry is known to refuse is said before anything is sent."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from distworker.digest import Digest
from distworker.errors import Denied, RepositoryUnknown
from distworker.manifest import Manifest, parse_manifest
from distworker.registry.quirks import Quirks
from tests.fakes.registry import error
from tests.unit.registry.conftest import Rig, Sent, fails

RigMaker = Callable[..., Rig]
DIGEST = Digest.of(b"x")
body = Sent(b"x").at


def manifest() -> Manifest:
    """Any manifest."""
    media_type = "application/vnd.oci.image.index.v1+json"
    return parse_manifest(
        b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % media_type.encode(), media_type
    )


@pytest.mark.parametrize(
    "write",
    [
        lambda client: client.upload_blob("a/b/c", DIGEST, 1, body),
        lambda client: client.start_upload("a/b/c"),
        lambda client: client.mount_blob("a/b/c", DIGEST, ["a/b"]),
        lambda client: client.put_manifest("a/b/c", "v1", manifest()),
    ],
    ids=["upload", "start", "mount", "manifest"],
)
def test_a_name_with_too_many_parts_is_refused_unasked(
    rig: RigMaker, write: Callable[[object], None]
) -> None:
    """Docker Hub has two; reading asks, for the registry may know better."""
    r = rig(quirks=Quirks(path_parts_max=2))
    with fails(Denied, repository="a/b/c"):
        write(r.client)
    assert r.fake.seen == []
    assert r.client.head_manifest("a/b/c", "v1") is None


def test_names_of_so_many_parts_pass(rig: RigMaker) -> None:
    """The limit itself is allowed."""
    r = rig(quirks=Quirks(path_parts_max=2))
    r.client.upload_blob("a/b", DIGEST, 1, body)
    assert r.client.has_blob("a/b", DIGEST)


@pytest.mark.parametrize("what", ["repository", "project"])
def test_what_must_be_created_first_is_told(rig: RigMaker, what: str) -> None:
    """Where it is known to be the reason."""
    r = rig(quirks=Quirks(create_first=what))
    r.fake.on("POST", "/uploads/", error(404, "NAME_UNKNOWN"))
    with fails(RepositoryUnknown, status=404) as caught:
        r.client.start_upload("a/b")
    assert caught[0].message.endswith(f"on {r.fake.host} create the {what} first")


def test_a_manifest_is_not_deleted_where_that_is_not_offered(rig: RigMaker) -> None:
    """Nothing is asked."""
    r = rig(quirks=Quirks(manifest_deletes=False))
    with fails(Denied, repository="a/b", phase="delete manifest"):
        r.client.delete_manifest("a/b", DIGEST)  # type: ignore[attr-defined]
    assert r.fake.seen == []
