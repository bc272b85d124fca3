"""The demo's own parts: deterministic sample images, a proof that can fail, a report whose fields are
stable."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from deploy.demo import images, report, run, verify
from deploy.demo.lock import alone
from deploy.demo.oci import Layout
from deploy.demo.processes import clean_environment, talk
from deploy.demo.servers import DockerRegistry
from deploy.demo.swift import SWIFT_VENV

# Read before the environment is cleaned for the tests.
_SWIFT = {SWIFT_VENV: os.environ[SWIFT_VENV]} if os.environ.get(SWIFT_VENV) else {}

JOB = {
    "images": {"total": 6, "done": 4, "unchanged": 1, "failed": 1},
    "moved": {"downloaded": 99_700_000, "uploaded": 90_000_000, "layers": 14},
    "saved": {"present": 0, "mounted": 1_500_000, "stored": 0, "shared": 200_000_000},
}
README = Path(__file__).resolve().parents[2] / "README.md"


def small_layout(folder: Path) -> Path:
    """Two images that share a layer, one of them for two platforms."""
    out = Layout(folder)
    shared = out.layer([("etc/os", b"shared " * 1000), ("bin/sh", "busybox")])
    own = out.layer([("srv/own", bytes(range(256)) * 400)])
    one = out.image("amd64", [shared, own], ["sh"])
    out.tag("one:1", one)
    out.tag("both:1", out.index([one, out.image("arm64", [shared], ["sh"])]))
    out.close()
    return folder


def test_the_same_files_make_the_same_digests(tmp_path: Path) -> None:
    """A second run must find its images in the registries."""
    first, second = small_layout(tmp_path / "a"), small_layout(tmp_path / "b")

    assert (first / "index.json").read_text() == (second / "index.json").read_text()
    assert images.names(first) == ["one:1", "both:1"]


def test_images_that_are_there_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second run needs no network, and says so."""
    monkeypatch.setattr(images, "_make", lambda out, packages, say: small_layout(out.folder))
    said: list[str] = []

    images.ensure(tmp_path, said.append)
    monkeypatch.setattr(images, "_make", lambda out, packages, say: pytest.fail("made again"))
    images.ensure(tmp_path, said.append)

    assert "already here" in said[-1]


def test_images_of_another_recipe_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new release may want other samples."""
    made: list[Path] = []

    def make(out: Layout, packages: Path, say: object) -> None:
        made.append(small_layout(out.folder))

    monkeypatch.setattr(images, "_make", make)
    images.ensure(tmp_path, lambda text: None)
    (tmp_path / "recipe").write_text("old")

    images.ensure(tmp_path, lambda text: None)

    assert len(made) == 2


def test_a_package_that_cannot_be_had_leaves_its_layer_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network is no reason for no demo."""
    monkeypatch.setattr(images, "_fetch", lambda *about: None)
    said: list[str] = []

    assert images._busybox("arm64", tmp_path, said.append) == []
    assert "arm64" in said[0]


def test_the_report_names_everything_that_was_saved_and_by_what() -> None:
    """What saved nothing is not named."""
    text = "\n".join(report.lines(JOB, report.Proof(6, 9, 14), {"migrating": 3.21}))

    assert "6: 4 done, 1 unchanged, 1 failed" in text
    assert "downloaded 99.7 MB, uploaded 90.0 MB (14 layers)" in text
    assert "201.5 MB: 1.5 MB mounted, 200.0 MB shared" in text
    assert "6 images, 9 manifests, 14 blobs, by skopeo at both ends" in text
    assert "3.2 migrating" in text


def test_a_report_without_proof_says_so() -> None:
    """Nobody should take moved bytes for verified ones."""
    lines = report.lines(JOB, None, {})

    assert next(line for line in lines if line.startswith("verified")).split() == ["verified", "FAILED"]


def test_the_readmes_report_has_the_fields_of_a_real_one() -> None:
    """The README shows a real report."""
    text = README.read_text(encoding="utf-8")
    block = text[text.index("<!-- demo report -->") : text.index("<!-- /demo report -->")]
    shown = [line.split()[0] for line in block.split("```")[1].splitlines() if line.strip()]

    assert tuple(shown) == report.FIELDS


@pytest.mark.servers
def test_two_equal_registries_are_proved_and_one_flipped_byte_is_found(tmp_path: Path) -> None:
    """skopeo copies, so that a mistake of ours cannot hide itself."""
    layout = small_layout(tmp_path / "layout")
    scratch = tmp_path / "scratch"
    with DockerRegistry(tmp_path / "source") as source, DockerRegistry(tmp_path / "copy") as copy:
        for host in (source.host, copy.host):
            options = ("--quiet", "--all", "--dest-tls-verify=false")
            verify.skopeo("copy", *options, f"oci:{layout}:both:1", f"docker://{host}/both:1")

        found = verify.compare(f"{source.host}/both:1", f"{copy.host}/both:1", scratch)
        assert found.root == verify.reference_digest(layout, "both:1")
        assert (len(found.manifests), len(found.blobs)) == (3, 4)

        flipped = verify.flip_one_byte(copy.folder / "data", layout)
        with pytest.raises(verify.VerificationFailed):
            verify.compare(f"{source.host}/both:1", f"{copy.host}/both:1", scratch)

        assert verify.flip_one_byte(copy.folder / "data", layout) == flipped
        verify.compare(f"{source.host}/both:1", f"{copy.host}/both:1", scratch)


@pytest.mark.servers
def test_an_image_that_is_not_the_same_at_both_ends_is_found(tmp_path: Path) -> None:
    """Another image under the same tag is whole in itself, and wrong."""
    layout = small_layout(tmp_path / "layout")
    with DockerRegistry(tmp_path / "registry") as registry:
        for name, target in (("one:1", "a:1"), ("both:1", "b:1")):
            options = ("--quiet", "--all", "--dest-tls-verify=false")
            verify.skopeo("copy", *options, f"oci:{layout}:{name}", f"docker://{registry.host}/{target}")

        with pytest.raises(verify.VerificationFailed, match="sha256"):
            verify.compare(f"{registry.host}/a:1", f"{registry.host}/b:1", tmp_path / "scratch")


def test_a_layout_holds_what_its_index_names(tmp_path: Path) -> None:
    """Every digest in it is a file of that content."""
    layout = small_layout(tmp_path)
    for path in (layout / "blobs" / "sha256").iterdir():
        assert verify._hashed(path) == f"sha256:{path.name}"
    index = json.loads((layout / "index.json").read_text())
    assert len(index["manifests"]) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "DISTWORKER_DEMO_DIR"),
        (["-h"], 0, "ONCE=1"),
        (["--once"], 2, "no argument such as '--once'"),
    ],
)
def test_the_demo_explains_itself_and_takes_no_arguments(arguments: list[str], code: int, said: str) -> None:
    """A word that means nothing to it must not start a dozen servers."""
    ran = subprocess.run(
        [sys.executable, "-m", "deploy.demo", *arguments],
        cwd=README.parent,
        env=clean_environment({}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode == code
    assert said in (ran.stderr if code else ran.stdout)
    assert code == 0 or len(ran.stderr.splitlines()) == 1


def test_one_folder_holds_one_demo_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second one ends with a line about the first, and touches nothing; then the folder is free again."""
    folder = tmp_path / "demo"
    with alone(folder):
        assert run.run(folder, once=True, flip=False) == 1
        assert f"demo failed: another demo runs in {folder}" in capsys.readouterr().out
        assert [path.name for path in folder.iterdir()] == ["lock"]
    with alone(folder):
        assert folder.exists()


@pytest.fixture
def demo(tmp_path: Path) -> Callable[..., CompletedProcess[str]]:
    """Runs the demo as `make demo ONCE=1` does, with small images and all its data in a folder of the
    test."""
    folder = tmp_path / "demo"
    small_layout(folder / "images" / "oci")
    (folder / "images" / "recipe").write_text(images.recipe())

    def once(**more: str) -> CompletedProcess[str]:
        own = {"ONCE": "1", "DISTWORKER_DEMO_DIR": str(folder), **_SWIFT, **more}
        return subprocess.run(
            [sys.executable, "-m", "deploy.demo"],
            cwd=README.parent,
            env=clean_environment(own),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return once


def fields(output: str) -> dict[str, str]:
    """The report at the end of a run's output."""
    shown = output[output.index("\nReport\n") :].splitlines()[2:]
    return {
        line.split()[0]: line.strip().partition(" ")[2].strip() for line in shown if line.startswith("  ")
    }


@pytest.mark.servers
def test_the_demo_moves_everything_once_and_a_second_run_nothing(demo: Callable[..., Any]) -> None:
    """Both end by themselves with status 0, and the report tells them apart."""
    first = demo()
    assert first.returncode == 0, first.stdout + first.stderr
    report_of_first = fields(first.stdout)
    assert tuple(report_of_first) == report.FIELDS
    assert report_of_first["images"] == "2: 2 done, 0 unchanged, 0 failed"
    assert report_of_first["verified"].startswith("2 images, 3 manifests, 4 blobs")

    second = demo()
    assert second.returncode == 0, second.stdout + second.stderr
    assert "0 sample images pushed with skopeo, 2 were already there" in second.stdout
    assert fields(second.stdout)["images"] == "2: 0 done, 2 unchanged, 0 failed"
    assert fields(second.stdout)["moved"] == "downloaded 0 B, uploaded 0 B"


@pytest.mark.servers
def test_the_demo_fails_when_one_byte_at_the_destination_is_wrong(demo: Callable[..., Any]) -> None:
    """Its exit status tells the truth."""
    ran = demo(DISTWORKER_DEMO_FLIP="1")

    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert fields(ran.stdout)["verified"] == "FAILED"


@pytest.mark.servers
def test_the_demo_stops_all_it_started_on_ctrl_c(tmp_path: Path) -> None:
    """No server may be left on the machine."""
    folder = tmp_path / "demo"
    small_layout(folder / "images" / "oci")
    (folder / "images" / "recipe").write_text(images.recipe())
    own = {"DISTWORKER_DEMO_DIR": str(folder), **_SWIFT}
    with subprocess.Popen(
        [sys.executable, "-m", "deploy.demo"],
        cwd=README.parent,
        env=clean_environment(own),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        seen = ""
        for line in process.stdout:
            seen += line
            if "Ctrl-C stops everything" in line:
                process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, seen
    ports = [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", seen)]

    assert len(set(ports)) >= 5
    assert [port for port in set(ports) if talk(port, b"\r\n", timeout=0.5)] == []
