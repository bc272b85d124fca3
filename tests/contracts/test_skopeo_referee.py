"""What skopeo pushes our client reads, what our client writes skopeo reads: byte for byte, for every kind.

Each kind of image is pushed to one registry by skopeo, copied to another by the port's verbs alone, and
judged there: `skopeo inspect --raw` gives the manifest's bytes, `skopeo copy` fetches everything below it and
checks each digest, and `sha256sum` reads the blobs in the registry's own folder. skopeo 1.9 copies no nested
index, so those are judged manifest by manifest.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.demo import verify
from deploy.demo.servers import DockerRegistry
from distworker.digest import Digest
from distworker.manifest import parse_manifest
from distworker.mediatypes import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from distworker.registry.base import Registry
from distworker.service.wiring import build_local
from distworker.settings import load
from tests.contracts.registry_kit import Running, copy_tree, pool_for, send
from tests.images import Descriptor, Layout, copy_out, manifest_at, skopeo

pytestmark = pytest.mark.servers

HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
HELM_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
#: Two frames of zstd (RFC 8878): a skippable one, and one whose only block is raw; as a layer it is opaque.
ZSTD_FRAMES = bytes.fromhex("5a2a4d18 04000000 00000000 28b52ffd 2005 290000") + b"hello"


def oci(layout: Layout) -> Descriptor:
    """An OCI image, a layer of it twice."""
    layer = layout.layer("base")
    return layout.image([layer, layout.layer("app"), layer], label="oci")


def platforms(layout: Layout) -> Descriptor:
    """Two platforms that share a layer."""
    return layout.index(_two(layout))


def index(layout: Layout) -> Descriptor:
    """The same with an attestation, which Docker's list cannot hold."""
    first, second = _two(layout)
    return layout.index([first, second, layout.attestation(first)], annotations={"a": "b"})


def _two(layout: Layout) -> tuple[Descriptor, Descriptor]:
    shared = layout.layer("shared")
    first = layout.image([shared, layout.layer("amd64")], architecture="amd64")
    return first, layout.image([shared], architecture="arm64", variant="v8")


def zstd(layout: Layout) -> Descriptor:
    """A layer packed with zstd."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": layout.json(
            {"architecture": "amd64", "os": "linux"}, "application/vnd.oci.image.config.v1+json"
        ),
        "layers": [layout.blob(ZSTD_FRAMES, ZSTD)],
    }
    return layout.json(manifest, OCI_MANIFEST)


def artifact(layout: Layout) -> Descriptor:
    """The empty config, an artifactType."""
    return layout.artifact(b"report", "application/vnd.example.report")


def helm(layout: Layout) -> Descriptor:
    """A chart, as helm pushes it."""
    manifest = {
        "schemaVersion": 2,
        "config": layout.json({"name": "chart", "version": "1.0.0+build"}, HELM_CONFIG),
        "layers": [layout.blob(b"a chart's archive", HELM_CHART)],
        "annotations": {"org.opencontainers.image.title": "chart"},
    }
    return layout.json(manifest, OCI_MANIFEST)


def bare(layout: Layout) -> Descriptor:
    """An image without layers."""
    return layout.image([], label="bare")


@dataclass(frozen=True)
class Kind:
    """How to make one, and by which of skopeo's formats it is pushed ("" keeps it as it is)."""

    make: Callable[[Layout], Descriptor]
    media_type: str = OCI_MANIFEST
    form: str = ""


KINDS = {
    "oci": Kind(oci),
    "schema2": Kind(oci, DOCKER_MANIFEST, "v2s2"),
    "index": Kind(index, OCI_INDEX),
    "list": Kind(platforms, DOCKER_LIST, "v2s2"),
    "zstd": Kind(zstd),
    "artifact": Kind(artifact),
    "helm": Kind(helm),
    "no-layers": Kind(bare),
}


class Court:
    """Two open registries and a client on each."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self.here = stack.enter_context(DockerRegistry(folder / "here"))
        self.there = stack.enter_context(DockerRegistry(folder / "there"))
        pools = [pool_for(Running(server.host)) for server in (self.here, self.there)]
        for pool in pools:
            stack.callback(pool.close)
        self.source: Registry = pools[0].client(self.here.host)
        self.destination: Registry = pools[1].client(self.there.host)

    def push(self, name: str) -> str:
        """skopeo brings one of this kind to the source; its reference."""
        kind = KINDS[name]
        layout = Layout(self.folder / "layouts" / name)
        layout.tag("it", kind.make(layout))
        keep = ["--format", kind.form] if kind.form else ["--preserve-digests"]
        reference = f"{self.here.host}/kinds/{name}:1"
        skopeo(
            *("copy", "--all", "--dest-tls-verify=false", *keep),
            *(f"oci:{layout.folder}:it", f"docker://{reference}"),
        )
        return reference


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Court]:
    """One for all kinds."""
    with contextlib.ExitStack() as stack:
        yield Court(tmp_path_factory.mktemp("court"), stack)


def sha256sum(server: DockerRegistry, digest: str) -> str:
    """What the tool says of the bytes that the registry keeps under this digest."""
    name = digest.removeprefix("sha256:")
    path = server.folder / "data/docker/registry/v2/blobs/sha256" / name[:2] / name / "data"
    said = subprocess.run(["sha256sum", path], check=True, capture_output=True, text=True).stdout
    return f"sha256:{said.split()[0]}"


@pytest.mark.parametrize("name", KINDS)
def test_what_skopeo_pushed_arrives_by_our_client_as_skopeo_sees_it(court: Court, name: str) -> None:
    """Raw manifests agree at both ends and in our hands; every blob hashes to its name."""
    # Given an image of this kind, pushed by skopeo
    reference = court.push(name)
    repository = f"kinds/{name}"
    # When our client copies it
    copied = copy_tree((court.source, repository), (court.destination, f"copies/{name}"), "1", "1")
    # Then the root is what skopeo read before and reads now, in the type it was made in
    target = f"{court.there.host}/copies/{name}"
    root = court.source.get_manifest(repository, "1")
    assert root.media_type == KINDS[name].media_type
    assert root.raw == manifest_at(reference) == manifest_at(f"{target}:1")
    # And so is every manifest below it, and every blob is there
    for digest, manifest in copied.items():
        assert manifest_at(f"{target}@{digest}") == manifest.raw
        for blob in manifest.blobs:
            assert sha256sum(court.there, blob.digest) == blob.digest


@pytest.mark.parametrize("name", KINDS)
def test_skopeo_can_copy_on_what_our_client_wrote(court: Court, name: str, tmp_path: Path) -> None:
    """It fetches all of it, from both ends, and the ends agree."""
    reference = court.push(name)
    copy_tree((court.source, f"kinds/{name}"), (court.destination, f"onward/{name}"), "1", "1")
    verify.compare(reference, f"{court.there.host}/onward/{name}:1", tmp_path)


@pytest.mark.parametrize("name", [name for name in KINDS if not KINDS[name].form])
def test_what_our_client_wrote_is_what_skopeo_would_have_pushed(
    court: Court, name: str, tmp_path: Path
) -> None:
    """From a layout's files, no registry in between."""
    layout = Layout(tmp_path / "layout")
    top = KINDS[name].make(layout)
    repository = f"ours/{name}"
    # Given that our client puts every blob and manifest of the layout
    put(court.destination, repository, layout, top["digest"], top["mediaType"], "1")
    # Then skopeo sees the same manifest
    assert manifest_at(f"{court.there.host}/{repository}:1") == layout.read(top["digest"])
    assert court.destination.get_manifest(repository, "1").raw == layout.read(top["digest"])


def test_a_layout_comes_back_whole(court: Court, tmp_path: Path) -> None:
    """Our client writes an index, skopeo takes it out again: no file differs, none is missing."""
    layout = Layout(tmp_path / "layout")
    top = index(layout)
    put(court.destination, "whole/index", layout, top["digest"], top["mediaType"], "1")
    back = copy_out(f"{court.there.host}/whole/index:1", tmp_path / "back")
    files = {path.name: path.read_bytes() for path in (back / "blobs/sha256").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (layout.folder / "blobs/sha256").iterdir()}


def put(registry: Registry, repository: str, layout: Layout, digest: str, media_type: str, to: str) -> None:
    """Everything below `digest`, by our client."""
    manifest = parse_manifest(layout.read(digest), media_type, Digest.parse(digest))
    for child in manifest.children:
        put(registry, repository, layout, child.digest, child.media_type, child.digest)
    for blob in manifest.blobs:
        send(registry, repository, layout.read(blob.digest))
    registry.put_manifest(repository, to, manifest)


def test_an_index_in_an_index_is_judged_manifest_by_manifest(court: Court, tmp_path: Path) -> None:
    """Three levels, written and copied by our client; skopeo reads each level, sha256sum the blobs."""
    # Given an index whose entry is an index whose entry is an image
    layout = Layout(tmp_path / "layout")
    inner = layout.index([layout.image([layout.layer("deep")], architecture="amd64")])
    top = layout.index([inner, layout.image([layout.layer("flat")], architecture="arm64")])
    put(court.source, "nested/app", layout, top["digest"], top["mediaType"], "1")
    # When our client copies it
    copied = copy_tree((court.source, "nested/app"), (court.destination, "nested/copy"), "1", "1")
    # Then each level is, to skopeo, what the layout holds
    assert len(copied) == 4
    for server, repository in ((court.here, "nested/app"), (court.there, "nested/copy")):
        for digest in copied:
            assert manifest_at(f"{server.host}/{repository}@{digest}") == layout.read(digest)
        assert manifest_at(f"{server.host}/{repository}:1") == layout.read(top["digest"])
        for blob in (blob for manifest in copied.values() for blob in manifest.blobs):
            assert sha256sum(server, blob.digest) == blob.digest


def test_the_whole_pipeline_carries_every_kind(court: Court, tmp_path: Path) -> None:
    """One job in one process: plan, store, upload, publish, verify; skopeo and sha256sum judge."""
    # Given every kind at the source, the nested one too
    references = {name: court.push(name) for name in KINDS}
    layout = Layout(tmp_path / "layout")
    top = layout.index([layout.index([layout.image([layout.layer("deeper")])])])
    put(court.source, "kinds/nested", layout, top["digest"], top["mediaType"], "1")
    references["nested"] = f"{court.here.host}/kinds/nested:1"
    # When one job copies them
    table = "".join(
        f'["{server.host}"]\nplain_http = true\nprivate = true\n' for server in (court.here, court.there)
    )
    (tmp_path / "registries.toml").write_text(table)
    (tmp_path / "distworker.toml").write_text("")
    pairs = [
        {"source": reference, "destination": f"{court.there.host}/piped/{name}:1"}
        for name, reference in references.items()
    ]
    with build_local(load(tmp_path), tmp_path / "store") as service:
        *_, view = service.run(service.jobs.parse({"v": 1, "pairs": pairs}))
        outcomes = list(service.jobs.outcomes(view.id))
    # Then all are there
    assert [outcome.get("error") for outcome in outcomes] == [None] * len(pairs)
    assert view.state == "done"
    for pair in pairs:
        assert manifest_at(pair["source"]) == manifest_at(pair["destination"])
        judge(court.destination, court.there, pair["destination"].partition("/")[2].removesuffix(":1"), "1")


def judge(registry: Registry, server: DockerRegistry, repository: str, reference: str) -> None:
    """Every manifest below by skopeo, every blob by sha256sum."""
    manifest = registry.get_manifest(repository, reference)
    assert manifest_at(f"{server.host}/{repository}@{manifest.digest}") == manifest.raw
    for child in manifest.children:
        judge(registry, server, repository, child.digest)
    for blob in manifest.blobs:
        assert sha256sum(server, blob.digest) == blob.digest
