"""Archives that are damaged or mean harm: each ends in one typed error, and leaves no ref, no wrong blob."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distworker.blobstore.memory import MemoryStore
from distworker.care import archive as archives
from distworker.care import tarball
from distworker.care.archive import open_archive
from distworker.care.importing import bring_in, read_images
from distworker.care.refs import refs
from distworker.digest import Digest
from distworker.errors import (
    ArchiveInvalid,
    BlobUnknown,
    DigestMismatch,
    DistworkerError,
    InvalidRequest,
    LimitExceeded,
    ManifestInvalid,
    SizeMismatch,
)
from distworker.reference import Reference
from tests.unit.care.pictures import TENANT, Picture, digests_in, group, picture

Files = dict[str, bytes]
WANTED = Reference.parse("r.example/app:1")
ONE = group(picture("one", ["base", "top"]), picture("two", ["base"]))


def layout(image: Picture = ONE) -> Files:
    """An image as a layout."""
    root = image.tree.root
    entry = {"mediaType": root.media_type, "digest": root.digest, "size": root.size}
    blobs = image.blobs | {str(m.digest): m.raw for m in image.tree.manifests}
    return {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode(),
        **{f"blobs/{digest.replace(':', '/')}": data for digest, data in blobs.items()},
    }


def docker(packed: bool = False, **changes: Any) -> Files:
    """An image as `docker save` has it, its two layers the same."""
    content = tar({"etc/passwd": b"root"})
    config = json.dumps({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [Digest.of(content)] * 2}})
    name = f"{Digest.of(config.encode()).hex}.json"
    record = {"Config": name, "RepoTags": ["app:1"], "Layers": ["a/layer.tar", "a/layer.tar"], **changes}
    return {
        "manifest.json": json.dumps([record]).encode(),
        name: config.encode(),
        "a/layer.tar": gzip.compress(content) if packed else content,
    }


def tar(files: Files, *more: tarfile.TarInfo, form: int = tarfile.GNU_FORMAT) -> bytes:
    """Files as a tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as made:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
        for info in more:
            made.addfile(info)
    return out.getvalue()


def entry(name: str, kind: bytes, target: str = "", size: int = 0) -> tarfile.TarInfo:
    """An entry without content."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


class Dock:
    """A store, and a way to bring archives into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = MemoryStore()

    def bring(self, data: bytes | Files, wanted: Reference | None = WANTED) -> list[str]:
        path = self.folder / f"in{len(list(self.folder.iterdir()))}"
        path.write_bytes(tar(data) if isinstance(data, dict) else data)
        archive = open_archive(path)
        try:
            found = bring_in(self.store, TENANT, archive, read_images(archive), wanted)
        finally:
            archive.close()
        return [name for image in found for name in image.names]

    def refused(
        self, data: bytes | Files, error: type[DistworkerError], wanted: Reference | None = WANTED
    ) -> str:
        with pytest.raises(error) as caught:
            self.bring(data, wanted)
        assert list(refs(self.store, TENANT)) == []
        assert self.only_good()
        assert len(str(caught.value)) < 300
        return str(caught.value)

    def only_good(self) -> bool:
        """Is every blob what its name says?"""
        return all(
            str(Digest.of(self.store.get_bytes(f"default/blobs/{d.replace(':', '/')}", 1 << 20) or b"")) == d
            for d in digests_in(self.store)
        )


@pytest.fixture
def dock(tmp_path: Path) -> Dock:
    return Dock(tmp_path)


def test_what_is_right_is_taken(dock: Dock) -> None:
    """The base of all that follows; also padded with zeros, in other formats of tar, and under long names."""
    assert dock.bring(layout()) == [str(WANTED)]
    assert dock.bring(tar(layout(), form=tarfile.PAX_FORMAT) + bytes(50_000)) == [str(WANTED)]
    assert dock.bring(tar({f"./{name}": data for name, data in layout().items()})) == [str(WANTED)]
    long = {"x" * 150 + "/y": b"", **layout()}
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        assert dock.bring(tar({"d/" * 60 + "z": b"", **layout()} if form == 0 else long, form=form))
    assert digests_in(dock.store) == ONE.digests


@pytest.mark.parametrize("packed", [False, True])
def test_a_docker_archive_is_taken_also_with_links_and_packed_layers(dock: Dock, packed: bool) -> None:
    """As older releases wrote them: a layer's file may be a link to another one."""
    files = docker(packed, Layers=["a/layer.tar", "b/layer.tar"])
    data = tar(files, entry("b/layer.tar", tarfile.SYMTYPE, "../a/layer.tar"))
    assert dock.bring(data, None) == ["docker.io/library/app:1"]
    hard = tar(files, entry("b/layer.tar", tarfile.LNKTYPE, "a/layer.tar"))
    assert dock.bring(gzip.compress(hard), None) == ["docker.io/library/app:1"]
    assert len(digests_in(dock.store)) == 3


def changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[], Files]:
    """A layout with one file changed; `name` is its beginning."""

    def make() -> Files:
        files = layout()
        found = next(each for each in files if each.startswith(name) and each != "x")
        return {**files, found: change(files[found])}

    return make


LAYER = f"blobs/{next(d for d, data in ONE.blobs.items() if data.startswith(b'layer top')).replace(':', '/')}"
ROOT = f"blobs/{str(ONE.tree.root.digest).replace(':', '/')}"


@pytest.mark.parametrize(
    ("files", "error"),
    [
        (changed(LAYER, lambda data: data[:-1] + b"X"), DigestMismatch),
        (changed(LAYER, lambda data: data + b"X"), SizeMismatch),
        (changed(ROOT, lambda data: data + b" "), DigestMismatch),
        (changed("index.json", lambda data: b"{" * 10_000), ManifestInvalid),
        (changed("index.json", lambda data: b" " * 9_000_000), LimitExceeded),
        (changed("index.json", lambda data: b'{"schemaVersion":2,"manifests":[]}'), ArchiveInvalid),
        (lambda: {k: v for k, v in layout().items() if k != LAYER}, BlobUnknown),
        (lambda: {k: v for k, v in layout().items() if k != ROOT}, BlobUnknown),
        (lambda: {"readme": b"hello"}, ArchiveInvalid),
        (lambda: {}, ArchiveInvalid),
        (lambda: docker(Config="../../etc/passwd"), ArchiveInvalid),
        (lambda: docker(Config=7), ArchiveInvalid),
        (lambda: docker(Layers=["a/layer.tar"]), ArchiveInvalid),
        (lambda: docker(Layers=["/etc/passwd", "a/layer.tar"]), ArchiveInvalid),
        (lambda: docker(Layers="a/layer.tar"), ArchiveInvalid),
        (lambda: {**docker(), "a/layer.tar": tar({"other": b""})}, DigestMismatch),
        (lambda: {**docker(True), "a/layer.tar": docker(True)["a/layer.tar"][:-5]}, ArchiveInvalid),
        (
            lambda: {**docker(True), "a/layer.tar": docker(True)["a/layer.tar"][:20] + b"x" * 9},
            ArchiveInvalid,
        ),
        (
            lambda: {**docker(), next(k for k in docker() if k.endswith(".json") and k[0] != "m"): b"{}"},
            DigestMismatch,
        ),
        (lambda: {**docker(), "manifest.json": b"{}"}, ArchiveInvalid),
        (lambda: {**docker(), "manifest.json": b"[]}"}, ManifestInvalid),
    ],
)
def test_wrong_content_is_refused(
    dock: Dock, files: Callable[[], Files], error: type[DistworkerError]
) -> None:
    """Wrong digests and sizes, missing blobs, indexes that are none."""
    dock.refused(files(), error)


@pytest.mark.parametrize(
    "data",
    [
        tar({**layout(), "../escape": b"x"}),
        tar({**layout(), "/etc/cron.d/x": b"x"}),
        tar({**layout(), "a/../../x": b"x"}),
        tar(layout(), entry("index.json", tarfile.REGTYPE)),
        tar(layout(), entry("dev", tarfile.CHRTYPE)),
        tar(layout(), entry("pipe", tarfile.FIFOTYPE)),
        tar(layout(), entry("sparse", tarfile.GNUTYPE_SPARSE)),
        tar(layout(), entry("empty", tarfile.SYMTYPE)),
        tar(
            {k: v for k, v in layout().items() if k != "index.json"},
            entry("index.json", tarfile.SYMTYPE, "index.json"),
        ),
        tar(layout())[:1500],
        tar(layout())[:512] + b"\1" * 2000,
        b"not an archive",
        gzip.compress(tar(layout()))[:-20],
        gzip.compress(b"not an archive either"),
        b"\x28\xb5\x2f\xfd" + bytes(100),
        b"BZh9" + bytes(100),
    ],
    ids=lambda data: None,
)
def test_wrong_archives_are_refused(dock: Dock, data: bytes) -> None:
    """Names that lead out, names that come twice, devices, sparse files, circles of links, damage."""
    dock.refused(data, ArchiveInvalid)


def test_headers_that_lie_are_refused(dock: Dock) -> None:
    """Sizes beyond the archive, negative ones, names without end, one size for all files."""

    def with_size(field: bytes) -> bytes:
        block = bytearray(tar({"x": b""})[:512])
        block[124:136] = field
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        return bytes(block) + tar(layout())

    for field in (b"77777777777\0", b"\xff" * 12, b"\x80" + b"\xff" * 11, b"-0000000001\0", b"zzzzzzzzzzz\0"):
        dock.refused(with_size(field), ArchiveInvalid)
    for headers in ({"size": "x"}, {"size": "9" * 30}, {"GNU.sparse.major": "1"}, {"path": "../x"}):
        info = entry("x", tarfile.REGTYPE)
        info.pax_headers = headers
        dock.refused(tar({}, info, form=tarfile.PAX_FORMAT), ArchiveInvalid)
    with tarfile.open(fileobj=(out := io.BytesIO()), mode="w", pax_headers={"path": "oci-layout"}) as made:
        made.addfile(entry("x", tarfile.REGTYPE))
    dock.refused(out.getvalue(), ArchiveInvalid)
    dock.refused(tar({"n" * 100_000: b""}, form=tarfile.GNU_FORMAT), ArchiveInvalid)
    dock.refused(tar({"n" * 100_000: b""}, form=tarfile.PAX_FORMAT), ArchiveInvalid)


def test_an_archive_of_too_many_entries_is_refused(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are kept in memory."""
    monkeypatch.setattr(tarball, "ENTRIES_MAX", 5)
    dock.refused(layout(), ArchiveInvalid)


def test_a_bomb_is_stopped_while_it_expands(
    dock: Dock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And nothing of it is left on the disk."""
    monkeypatch.setattr(archives, "_FREE", 1 << 16)
    monkeypatch.setattr(archives.tempfile, "tempdir", str(tmp_path))
    dock.refused(gzip.compress(bytes(1 << 25), 9), LimitExceeded)
    assert [path.name for path in tmp_path.iterdir()] == ["in0"]


def test_a_folder_gives_nothing_from_outside(dock: Dock, tmp_path: Path) -> None:
    """Neither by a link nor by a name; what is no regular file is not there."""
    root, outside = tmp_path / "layout", tmp_path / "outside"
    for name, data in layout().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    outside.write_bytes((root / LAYER).read_bytes())
    for make in (lambda: (root / LAYER).symlink_to(outside), lambda: os.mkfifo(root / LAYER)):
        (root / LAYER).unlink()
        make()
        archive = open_archive(root)
        with pytest.raises(BlobUnknown):
            bring_in(dock.store, TENANT, archive, read_images(archive), WANTED)
    assert open_archive(root).size("../outside") is None
    assert list(refs(dock.store, TENANT)) == []


def test_names_are_asked_for_where_there_are_none(dock: Dock) -> None:
    """And one name cannot be given to two images."""
    dock.refused(layout(), InvalidRequest, None)
    files = layout() | layout(picture("other", ["z"]))
    both = [
        json.loads(layout(image)["index.json"])["manifests"][0] for image in (ONE, picture("other", ["z"]))
    ]
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": both}).encode()
    dock.refused(files, InvalidRequest)
    with pytest.raises(InvalidRequest):
        open_archive(dock.folder / "nothing here")


SMALL = tar(docker())


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, len(SMALL) - 1), byte=st.integers(0, 255), cut=st.integers(0, len(SMALL)))
def test_a_changed_archive_is_read_right_or_refused(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int, cut: int
) -> None:
    """Any one byte, and any end: never another kind of error, never a wrong blob, never a broken ref."""
    data = bytearray(SMALL)
    data[place] = byte
    for changed_data in (bytes(data), SMALL[:cut]):
        dock = Dock(tmp_path_factory.mktemp("x"))
        try:
            dock.bring(changed_data)
        except DistworkerError:
            assert list(refs(dock.store, TENANT)) == []
        assert dock.only_good()


def test_names_come_from_the_archive_or_are_given(dock: Dock) -> None:
    """A whole name in either annotation, as docker and containerd write it; a tag needs a repository."""
    other = picture("other", ["z"])
    entries = [json.loads(layout(image)["index.json"])["manifests"][0] for image in (ONE, other, ONE)]
    said = (
        {"io.containerd.image.name": "docker.io/library/app:2", "org.opencontainers.image.ref.name": "2"},
        {"org.opencontainers.image.ref.name": "r.example/other:3"},
        {"io.containerd.image.name": "docker.io/library/app:latest"},
    )
    tops = [{**top, "annotations": notes} for top, notes in zip(entries, said, strict=True)]
    files = layout() | layout(other) | {"manifest.json": b"[]"}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": tops}).encode()
    names = ["docker.io/library/app:2", "docker.io/library/app:latest", "r.example/other:3"]
    assert sorted(dock.bring(files, None)) == names
    given = dock.bring(files, Reference.parse("m.example/all"))
    assert sorted(given) == ["m.example/all:2", "m.example/all:3", "m.example/all:latest"]
    assert dock.bring(layout(), Reference.parse("m.example/alone")) == ["m.example/alone:latest"]
