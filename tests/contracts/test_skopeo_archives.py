"""skopeo and we read each other's archives: OCI layouts as folder and tar, and those of `docker save`.

No server is needed: the store is a folder, the images are made here.
"""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distworker.cli import main
from tests.images import Layout, skopeo

Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """`distworker …` on a store in a folder; gives its events."""

    def call(*words: object, code: int = 0) -> list[dict[str, Any]]:
        arguments = [*map(str, words), "--json", "--local", "--store", str(tmp_path / "store")]
        found = main.run(arguments)
        said = capsys.readouterr()
        assert found == code, said.out + said.err
        return [json.loads(line) for line in said.out.splitlines()]

    return call


def tarred(folder: Path, path: Path) -> Path:
    """A folder as a tar archive."""
    with tarfile.open(path, "w") as tar:
        for each in sorted(folder.iterdir()):
            tar.add(each, each.name)
    return path


@pytest.fixture
def single(tmp_path: Path) -> tuple[Path, str]:
    """A layout with one image, and its digest."""
    layout = Layout(tmp_path / "single")
    shared = layout.layer("base")
    image = layout.image([shared, layout.layer("app"), layout.layer("plain", packed=False), shared])
    return written(layout, image), str(image["digest"])


@pytest.fixture
def multi(tmp_path: Path) -> tuple[Path, str]:
    """A layout with an index over two platforms and an attestation."""
    layout = Layout(tmp_path / "multi")
    base = layout.layer("base")
    first = layout.image([base, layout.layer("amd64")], architecture="amd64")
    second = layout.image([base], architecture="arm64", variant="v8")
    index = layout.index([first, second, layout.attestation(first)])
    return written(layout, index), str(index["digest"])


def written(layout: Layout, top: dict[str, Any]) -> Path:
    """Finish a layout as skopeo does, with a tag."""
    annotations = {"org.opencontainers.image.ref.name": "1.0"}
    record = {"schemaVersion": 2, "manifests": [{**top, "annotations": annotations}]}
    (layout.folder / "index.json").write_text(json.dumps(record))
    (layout.folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return layout.folder


def blobs(folder: Path) -> dict[str, bytes]:
    """The blobs of a layout."""
    return {path.name: path.read_bytes() for path in (folder / "blobs/sha256").iterdir()}


@pytest.mark.parametrize("packed", ["folder", "tar", "gzip"])
@pytest.mark.parametrize("kind", ["single", "multi"])
def test_a_layout_comes_out_as_it_went_in(
    run: Run, tmp_path: Path, kind: str, packed: str, request: pytest.FixtureRequest
) -> None:
    """Byte for byte, whichever way it is packed; skopeo reads what we wrote."""
    folder, digest = request.getfixturevalue(kind)
    source = folder if packed == "folder" else tarred(folder, tmp_path / "in.tar")
    if packed == "gzip":
        source = tmp_path / "in.tar.gz"
        source.write_bytes(gzip.compress((tmp_path / "in.tar").read_bytes()))

    imported = run("import", source, "r.example/team/app")
    assert [(e["ref"], e["digest"]) for e in imported] == [("r.example/team/app:1.0", digest)]
    run("export", "r.example/team/app:1.0", tmp_path / "out")
    run("export", "r.example/team/app:1.0", tmp_path / "out.tar")

    assert blobs(tmp_path / "out") == blobs(folder)
    with tarfile.open(tmp_path / "out.tar") as tar:
        tar.extractall(tmp_path / "untarred", filter="data")
    assert blobs(tmp_path / "untarred") == blobs(folder)
    for name in (f"oci:{tmp_path / 'out'}:1.0", f"oci-archive:{tmp_path / 'out.tar'}:1.0"):
        skopeo("copy", "--all", "--preserve-digests", name, f"oci:{tmp_path / 'judged'}:1.0")
        assert blobs(tmp_path / "judged") == blobs(folder)
        shutil.rmtree(tmp_path / "judged")


def test_we_read_what_skopeo_writes(run: Run, tmp_path: Path, single: tuple[Path, str]) -> None:
    """A layout, its archive, and a docker archive, whose image has the same content."""
    folder, digest = single
    source = f"oci:{folder}:1.0"
    skopeo("copy", "--preserve-digests", source, f"oci:{tmp_path / 'layout'}:2.0")
    skopeo("copy", "--preserve-digests", source, f"oci-archive:{tmp_path / 'layout.tar'}:3.0")
    skopeo("copy", source, f"docker-archive:{tmp_path / 'docker.tar'}:r.example/app:4.0")

    assert run("import", tmp_path / "layout", "r.example/app")[0]["digest"] == digest
    assert run("import", tmp_path / "layout.tar", "r.example/app")[0]["digest"] == digest
    [docker] = run("import", tmp_path / "docker.tar")
    assert docker["ref"] == "r.example/app:4.0"

    run("export", "r.example/app:4.0", tmp_path / "back")
    skopeo("copy", f"oci:{tmp_path / 'back'}:4.0", f"dir:{tmp_path / 'unpacked'}")
    [usage] = [e for e in run("usage") if e["event"] == "usage"]
    assert (usage["refs"], usage["unreferenced"]["count"]) == (3, 0)


def test_skopeo_reads_our_docker_archive(run: Run, tmp_path: Path, multi: tuple[Path, str]) -> None:
    """One platform of an index; its config, and so its image id, is unchanged. We read it back too."""
    folder, _ = multi
    run("import", folder, "docker.io/library/app")
    target = tmp_path / "out.tar"
    run("export", "--format", "docker", "app:1.0", target, code=2)
    assert not target.exists()
    run("export", "--format", "docker", "--platform", "linux/amd64", "app:1.0", target)

    with tarfile.open(target) as tar:
        [record] = json.loads((tar.extractfile("manifest.json") or tar).read())
    assert record["RepoTags"] == ["app:1.0"]
    skopeo("copy", f"docker-archive:{target}:app:1.0", f"oci:{tmp_path / 'judged'}:x")
    manifest = json.loads(skopeo("inspect", "--raw", f"oci:{tmp_path / 'judged'}:x"))
    assert manifest["config"]["digest"].removeprefix("sha256:") + ".json" == record["Config"]
    [back] = run("import", target, "r.example/back:1")
    assert run("import", target, "r.example/again:1")[0]["digest"] == back["digest"]


def test_the_folder_of_a_store_becomes_a_layout_by_its_index(
    run: Run, tmp_path: Path, multi: tuple[Path, str], single: tuple[Path, str]
) -> None:
    """Only two small files are written; skopeo then finds each image in it."""
    run("import", multi[0], "r.example/multi")
    run("import", single[0], "r.example/single")
    run("import", single[0], "r.example/single:other")
    tenant = tmp_path / "store/default"
    run("export", "--index", tenant)
    skopeo(
        "copy",
        "--all",
        "--preserve-digests",
        f"oci:{tenant}:r.example/multi:1.0",
        f"oci:{tmp_path / 'judged'}:1.0",
    )
    skopeo("copy", "--preserve-digests", f"oci:{tenant}:other", f"oci:{tmp_path / 'judged'}:2.0")
    assert blobs(tmp_path / "judged") == blobs(multi[0]) | blobs(single[0])


def test_a_layout_is_added_to(
    run: Run, tmp_path: Path, multi: tuple[Path, str], single: tuple[Path, str]
) -> None:
    """Images that were there stay, one of the same name is replaced, a damaged blob is written anew."""
    run("import", multi[0], "r.example/a:1")
    run("import", single[0], "r.example/b:2")
    out = tmp_path / "out"
    run("export", "r.example/a:1", out)
    victim = max((out / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    victim.write_bytes(bytes(victim.stat().st_size))
    run("export", "r.example/a:1", "r.example/b:2", out)
    assert blobs(out) == blobs(multi[0]) | blobs(single[0])
    names = [
        e["annotations"]["io.containerd.image.name"]
        for e in json.loads((out / "index.json").read_text())["manifests"]
    ]
    assert names == ["r.example/a:1", "r.example/b:2"]
