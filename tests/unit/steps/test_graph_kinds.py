"""Whole jobs of every kind of image and reference."""

from __future__ import annotations

import json

import pytest

from distworker import mediatypes
from distworker.digest import Digest
from distworker.manifest import parse_manifest
from distworker.platforms import Platform
from tests.fakes.content import LAYER, Image, complete, descriptor, image, index, layer, put
from tests.fakes.ports import Run, registry_place
from tests.unit.steps.graph_kit import APP, BASE, TOOL, copy, multi_arch, pair, sites


@pytest.mark.parametrize(
    "content",
    [
        image(BASE, BASE, layer("x", 0), APP),
        image(media_type=mediatypes.DOCKER_MANIFEST),
        image(artifactType="application/x-thing"),
        index((index((image(BASE), "linux/amd64")), ""), (image(APP), "linux/arm64")),
        index(),
        index((image(BASE), "linux/amd64"), media_type=mediatypes.DOCKER_LIST),
    ],
    ids=["duplicate and empty layers", "no layers", "artifact", "nested index", "empty index", "docker list"],
)
def test_every_shape_of_image_is_copied_as_it_is(run: Run, content: Image) -> None:
    """Bytes survive, whatever they say."""
    source, target = sites(run)
    put(source, "team/app", "1", content)
    outcomes = run.job("j1", copy())
    assert outcomes[0]["state"] == "done", outcomes
    assert complete(target, "team/app", content)
    assert target.repositories["team/app"].tags == {"1": content.digest}


def test_one_wanted_platform_copies_that_child_as_the_image(run: Run) -> None:
    """As `docker pull` does; the digest is the child's and nothing of the other platform moves."""
    source, target = sites(run)
    content = put(source, "team/app", "1", multi_arch())
    child = content.children[1]
    outcomes = run.job("j1", copy(platforms=(Platform.parse("linux/arm64"),)))
    assert outcomes[0]["digest"] == child.digest
    assert complete(target, "team/app", child)
    assert Digest.of(APP) not in target.repositories["team/app"].blobs
    again = run.job("j2", copy(platforms=(Platform.parse("linux/arm64"),)))
    assert again[0]["state"] == "unchanged"


def test_a_platform_that_is_not_there_is_named_with_what_is(run: Run) -> None:
    """The sentence lists the platforms of the index."""
    source, _ = sites(run)
    put(source, "team/app", "1", multi_arch())
    outcomes = run.job("j1", copy(platforms=(Platform.parse("linux/s390x"),)))
    assert outcomes[0]["error"]["code"] == "manifest_unknown"
    assert (
        "no matching manifest for linux/s390x; there are linux/amd64, linux/arm64"
        in outcomes[0]["error"]["message"]
    )


def test_a_digest_without_a_tag_arrives_without_a_tag(run: Run) -> None:
    """The root is put once, by digest."""
    source, target = sites(run)
    content = put(source, "team/app", "1", image(BASE))
    place = registry_place("src.example", "team/app", digest=content.digest)
    outcomes = run.job("j1", pair(place, registry_place("dst.example", "a")))
    assert outcomes[0]["state"] == "done"
    assert complete(target, "a", content)
    assert not target.repositories["a"].tags
    assert target.count("put_manifest") == 1


def test_an_external_layer_that_nobody_has_stays_where_it_is(run: Run) -> None:
    """The manifest is copied with its `urls`; they are not followed."""
    source, target = sites(run)
    kind = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    foreign = descriptor(APP, kind, urls=["https://elsewhere.example/layer"])
    content = image(BASE, layers=[descriptor(BASE, LAYER), foreign])
    put(source, "team/app", "1", content)
    outcomes = run.job("j1", copy())
    assert outcomes[0]["state"] == "done"
    assert complete(target, "team/app", content)
    assert Digest.of(APP) not in target.repositories["team/app"].blobs


def test_an_external_layer_that_the_registry_keeps_is_copied(run: Run) -> None:
    """The registry's own blob endpoint is tried first."""
    source, target = sites(run)
    kind = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    content = image(layers=[descriptor(APP, kind, urls=["https://elsewhere.example/layer"])])
    put(source, "team/app", "1", content)
    source.repositories["team/app"].blobs[Digest.of(APP)] = APP
    outcomes = run.job("j1", copy())
    assert outcomes[0]["state"] == "done"
    assert target.repositories["team/app"].blobs[Digest.of(APP)] == APP


def test_an_index_entry_that_is_a_blob_is_copied_as_a_blob(run: Run) -> None:
    """Nothing of an index is dropped because its type is unknown."""
    source, target = sites(run)
    listed = [descriptor(TOOL, "application/x-thing")]
    raw = json.dumps({"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": listed}).encode()
    content = Image(parse_manifest(raw), (TOOL,))
    put(source, "team/app", "1", content)
    outcomes = run.job("j1", copy())
    assert outcomes[0]["state"] == "done", outcomes
    assert complete(target, "team/app", content)
