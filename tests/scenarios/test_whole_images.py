"""Whole images through two workers: right, once, tag last, and nothing the second time."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.servers import DockerRegistry, ThrottlingProxy
from tests.images import Layout, Pushed, copy_out, digest_at, push_image, push_index
from tests.scenarios.fleet import GUARD, Fleet
from tests.scenarios.traffic import blob_bytes, uploads, writes

pytestmark = pytest.mark.servers

LAYER = 300_000


def test_a_multi_arch_image_arrives_whole_and_each_blob_is_read_once(
    s3_fleet: Fleet, ends: tuple[DockerRegistry, DockerRegistry], tmp_path: Path
) -> None:
    """Index, attestation, shared layers; two workers of one slot, at a slow source; a real S3 store."""
    source, destination = ends
    image = push_index(tmp_path, f"{source.host}/team/app:1", LAYER)
    s3_fleet.know(destination.host)
    with ThrottlingProxy(("127.0.0.1", source.port), rate=1_000_000) as slow:
        s3_fleet.know(slow.host)
        s3_fleet.start_workers(2, slots=1)
        ran = s3_fleet.run("copy", f"{slow.host}/team/app:1", f"{destination.host}/mirror/app:1", "--json")

    assert ran.code == 0, ran.text
    assert digest_at(f"{destination.host}/mirror/app:1") == image.digest
    copy_out(f"{destination.host}/mirror/app:1", tmp_path / "back")  # skopeo checks every digest below
    assert blob_bytes(source) == image.blobs
    written = writes(destination)
    assert written[-1] == "PUT /v2/mirror/app/manifests/1", "the tag is the last thing written"
    assert written.count(written[-1]) == 1
    for worker in s3_fleet.workers:
        assert re.search(r"step=[ud]:sha256|step=d:default/sha256", worker.text()), "both moved layers"


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
    """Two jobs at the same time, ten images each over the same three base layers, at a slow source."""
    source, destination = ends
    pushed: list[Pushed] = []
    layout = Layout(tmp_path / "layout")
    base = [layout.layer(f"base{n}", 10 * LAYER) for n in range(3)]
    for n in range(20):
        layout.tag(f"i{n}", layout.image([*base, layout.layer(f"own{n}", 5000)], label=str(n)))
        pushed.append(layout.push(f"i{n}", f"{source.host}/apps/a{n}:1"))
    with ThrottlingProxy(("127.0.0.1", source.port), rate=3_000_000) as slow:
        done = _two_halves(fleet, pushed, slow.host, destination.host)

    assert max(job["created"] for job in done) < min(job["closed"] for job in done), "they ran side by side"
    for image in pushed:
        assert digest_at(f"{destination.host}/mirror/{name(image)}") == image.digest
    expected = {digest: size for image in pushed for digest, size in image.blobs.items()}
    assert blob_bytes(source) == expected, "every blob was read once, also those that both jobs want"
    assert uploads(destination) == len(expected), "and uploaded once; the rest was mounted"


def _two_halves(fleet: Fleet, images: list[Pushed], source: str, destination: str) -> list[dict[str, Any]]:
    """Migrate every other image by one job and the rest by another; returns both as they ended."""
    fleet.know(source)
    fleet.know(destination)
    fleet.start_workers(2)
    jobs: list[subprocess.Popen[str]] = []
    for half in (images[::2], images[1::2]):
        pairs = [
            {"source": f"{source}/apps/{name(image)}", "destination": f"{destination}/mirror/{name(image)}"}
            for image in half
        ]
        path = fleet.folder / f"job{len(jobs)}.yaml"
        path.write_text(json.dumps({"version": 1, "pairs": pairs}))
        jobs.append(fleet.spawn("migrate", str(path), "--json"))
    ended = []
    for job in jobs:
        out, err = job.communicate(timeout=GUARD)
        assert job.returncode == 0, out + err
        ended.append(json.loads(out.splitlines()[-1]))
    return ended


def name(image: Pushed) -> str:
    """The last part of its reference."""
    return image.reference.rpartition("/")[2]
