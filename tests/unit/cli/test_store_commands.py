"""The commands about the store, as a person or script calls them, on the store of local runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from distworker.blobstore.keys import blob_key
from distworker.blobstore.local import LocalStore
from distworker.cli import main
from distworker.digest import Digest
from tests.unit.care.pictures import TENANT, broken_refs, digests_in, hang, picture, spoil
from tests.unit.cli.calls import Ran

ONE = picture("one", ["shared", "own"])
TWO = picture("two", ["shared", "other"])


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    found = LocalStore(tmp_path / "store", durable=False)
    hang(found, "r.example/a:1", ONE)
    hang(found, "docker.io/library/b:latest", TWO)
    return found


Run = Callable[..., Ran]


@pytest.fixture
def run(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> Ran:
        code = main.run([*map(str, words), "--local", "--store", str(store.root)])
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return call


def test_usage_shows_each_repository_and_the_sums(run: Run) -> None:
    """In words and as events."""
    shown = run("usage")
    assert shown.code == 0
    assert [line.split()[:2] for line in shown.out.splitlines()[1:3]] == [
        ["docker.io/library/b", "1"],
        ["r.example/a", "1"],
    ]
    assert "for 2 images" in shown.out
    *repositories, total = run("usage", "--json").events
    assert {r["repository"] for r in repositories} == {"library/b", "a"}
    assert total["blobs"] == total["referenced"]
    assert total["unreferenced"] == {"count": 0, "bytes": 0}


def test_forget_and_gc_free_the_room(run: Run, store: LocalStore) -> None:
    """Forgotten, marked, listed, deleted: each said in one line."""
    assert run("forget", "r.example/a:1").out == "forgotten: r.example/a:1\n"
    assert run("forget", "r.example/a:1").err.startswith("manifest_unknown: ")
    first = run("gc", "--grace", "0")
    assert (first.code, first.out.splitlines()[0]) == (0, "deleted 0 blobs, 0 B")
    assert "marked 3 blobs" in first.out
    listed = run("gc", "--grace", "0", "--dry-run")
    assert {line.split()[0] for line in listed.out.splitlines()[:3]} == ONE.digests - TWO.digests
    assert "would delete 3 blobs" in listed.out
    assert run("gc", "--dry-run", "--json").events[-1]["waiting"] == 3
    assert run("gc", "--grace", "0", "--json").events[-1]["deleted"] == 3
    assert digests_in(store) == TWO.digests


def test_gc_says_which_image_it_cannot_read(run: Run, store: LocalStore) -> None:
    """And deletes nothing then."""
    spoil(store, str(ONE.tree.root.digest))
    ran = run("gc", "--grace", "0")
    assert ran.code == 1
    assert "cannot be read: r.example/a:1" in ran.err
    assert run("gc", "--dry-run", "--json").events[-1]["unreadable"]


def test_scrub_tells_what_is_damaged(run: Run, store: LocalStore) -> None:
    """Exit code 1 until it is mended."""
    assert run("scrub", "--rate", "0").code == 0
    spoil(store, max(ONE.blobs, key=lambda d: (d not in TWO.blobs, ONE.blobs[d].startswith(b"layer"))))
    ran = run("scrub", "--all", "--rate", "1G")
    assert ran.code == 1
    assert "1 damaged one put into the quarantine" in ran.out
    assert "not whole: r.example/a:1: blob" in ran.out
    assert "pull or import what is not whole again" in ran.out
    assert run("scrub", "--json").events[-1]["refs_damaged"] == 1
    hang(store, "r.example/a:1", ONE)
    assert run("scrub", "--json").events[-1]["refs_damaged"] == 0
    assert run("scrub", "--rate", "fast").code == 2


def test_export_and_import_take_an_image_elsewhere(run: Run, store: LocalStore, tmp_path: Path) -> None:
    """Several images in one layout; what is there already is not overwritten."""
    target = tmp_path / "out.tar"
    ran = run("export", "r.example/a:1", "b", target)
    assert (ran.code, ran.out.splitlines()[0]) == (0, f"r.example/a:1  {ONE.tree.root.digest}")
    again = run("export", "b", target)
    assert (again.code, "already" in again.err) == (2, True)
    for name in ("r.example/a:1", "b"):
        run("forget", name)
    back = run("import", target, "--json").events
    assert {e["ref"]: e["digest"] for e in back} == {
        "r.example/a:1": ONE.tree.root.digest,
        "docker.io/library/b:latest": TWO.tree.root.digest,
    }
    assert broken_refs(store) == []


def test_export_refuses_what_it_cannot_do(run: Run, store: LocalStore, tmp_path: Path) -> None:
    """And leaves no file behind."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full/of").write_text("things")
    made = set(tmp_path.iterdir())
    digest = ONE.tree.root.digest
    for words, code in (
        ((tmp_path / "x.tar",), 2),
        (("r.example/none:1", tmp_path / "x.tar"), 1),
        ((f"r.example/a@{digest}", tmp_path / "x.tar"), 2),
        (("r.example/a:1", tmp_path / "full"), 2),
        (("--format", "docker", "r.example/a:1", tmp_path / "x.tar"), 2),
        (("--index", "--format", "docker", tmp_path), 2),
        (("r.example/a:1", tmp_path / "none/x.tar"), 3),
    ):
        ran = run("export", *words)
        assert (ran.code, len(ran.err.splitlines()) <= 2) == (code, True), ran.err
    spoil(store, max(ONE.blobs))
    assert run("export", "r.example/a:1", tmp_path / "x.tar").code == 1
    store.delete(blob_key(TENANT, Digest.parse(max(ONE.blobs))))
    assert run("export", "r.example/a:1", tmp_path / "x.tar").err.startswith("blob_unknown: ")
    assert set(tmp_path.iterdir()) == made


def test_store_goes_with_local(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A fleet's store is a setting."""
    assert main.run(["usage", "--store", "x"]) == 2
    assert "--local" in capsys.readouterr().err


def test_places_that_cannot_be_written_are_one_line_each(run: Run, tmp_path: Path) -> None:
    """Below a file, under an endless name, behind a link, in a layout that somebody spoiled."""
    (tmp_path / "file").write_text("")
    (tmp_path / "link.tar").symlink_to(tmp_path / "elsewhere")
    layout = tmp_path / "layout"
    layout.mkdir()
    (layout / "oci-layout").write_text("{}")
    (layout / "blobs").write_text("")
    for path in ("file/x.tar", f"{'x' * 300}.tar", "link.tar", "layout", "no/x.tar"):
        ran = run("export", "r.example/a:1", tmp_path / path)
        assert ran.code in (2, 3), ran
        assert ran.err.partition(":")[0] in ("invalid_request", "store_unavailable"), ran
    assert not (tmp_path / "elsewhere").exists()
    (layout / "blobs").unlink()
    (layout / "index.json").write_text('{"manifests":[{"annotations":{"io.containerd.image.name":[]}}]}')
    assert run("export", "r.example/a:1", layout).code == 0


def test_an_import_waits_for_no_pipe(run: Run, tmp_path: Path) -> None:
    """Nobody may ever write to it."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / ("x" * 300)):
        ran = run("import", path)
        assert (ran.code, ran.err.partition(":")[0]) == (2, "invalid_request")
