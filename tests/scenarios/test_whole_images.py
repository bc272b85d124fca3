"""Whole images through two workers: right, once, tag last, and nothing the second time."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from deploy.demo.servers import DockerRegistry
from tests.images import Layout, Pushed, copy_out, digest_at, push_image, push_index
from tests.scenarios.fleet import Fleet
from tests.scenarios.traffic import blob_bytes, uploads, writes

pytestmark = pytest.mark.servers

LAYER = 300_000


def test_a_multi_arch_image_arrives_whole_and_each_blob_is_read_once(
    s3_fleet: Fleet, ends: tuple[DockerRegistry, DockerRegistry], tmp_path: Path
) -> None:
    """Index, attestation, shared layers; two workers; a real S3 store."""
    source, destination = ends
    image = push_index(tmp_path, f"{source.host}/team/app:1", LAYER)
    s3_fleet.know(source.host)
    s3_fleet.know(destination.host)
    s3_fleet.start_workers(2)

    ran = s3_fleet.run("copy", image.reference, f"{destination.host}/mirror/app:1", "--json")

    assert ran.code == 0, ran.text
    assert digest_at(f"{destination.host}/mirror/app:1") == image.digest
    copy_out(f"{destination.host}/mirror/app:1", tmp_path / "back")  # skopeo checks every digest below
    assert blob_bytes(source) == image.blobs
    written = writes(destination)
    assert written[-1] == "PUT /v2/mirror/app/manifests/1", "the tag is the last thing written"
    assert written.count(written[-1]) == 1


def test_the_same_job_again_moves_nothing(
    fleet: Fleet, ends: tuple[DockerRegistry, DockerRegistry], tmp_path: Path
) -> None:
    """The second run asks and goes home."""
    source, destination = ends
    image = push_image(tmp_path, f"{source.host}/app:1", size=LAYER)
    fleet.know(source.host)
    fleet.know(destination.host)
    fleet.start_workers(1)
    words = ("copy", image.reference, f"{destination.host}/app:1", "--json")
    first = fleet.run(*words)
    before = blob_bytes(source), uploads(destination)

    second = fleet.run(*words)

    assert (first.code, second.code) == (0, 0), first.text + second.text
    assert (blob_bytes(source), uploads(destination)) == before
    assert "unchanged" in second.out


def test_overlapping_jobs_move_each_shared_layer_once(
    fleet: Fleet, ends: tuple[DockerRegistry, DockerRegistry], tmp_path: Path
) -> None:
    """Two jobs at the same time, ten images each over the same three base layers."""
    source, destination = ends
    pushed: list[Pushed] = []
    layout = Layout(tmp_path / "layout")
    base = [layout.layer(f"base{n}", LAYER) for n in range(3)]
    for n in range(20):
        layout.tag(f"i{n}", layout.image([*base, layout.layer(f"own{n}", 5000)], label=str(n)))
        pushed.append(layout.push(f"i{n}", f"{source.host}/apps/a{n}:1"))
    fleet.know(source.host)
    fleet.know(destination.host)
    fleet.start_workers(2)
    jobs: list[subprocess.Popen[str]] = []
    for half in (pushed[::2], pushed[1::2]):
        pairs = [
            {"source": image.reference, "destination": f"{destination.host}/mirror/{name(image)}"}
            for image in half
        ]
        path = fleet.folder / f"job{len(jobs)}.yaml"
        path.write_text(json.dumps({"version": 1, "pairs": pairs}))
        jobs.append(fleet.spawn("migrate", str(path)))

    results = [(job.communicate(timeout=120), job.returncode) for job in jobs]

    assert [code for _, code in results] == [0, 0], results
    for image in pushed:
        assert digest_at(f"{destination.host}/mirror/{name(image)}") == image.digest
    expected = {digest: size for image in pushed for digest, size in image.blobs.items()}
    assert blob_bytes(source) == expected, "every blob was read once, also those that both jobs want"
    assert uploads(destination) == len(expected), "and uploaded once; the rest was mounted"


def name(image: Pushed) -> str:
    """The last part of its reference."""
    return image.reference.rpartition("/")[2]
