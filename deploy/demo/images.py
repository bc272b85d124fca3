"""The sample images of the demo: real files, several layers, many shared, some for two architectures.

Made once from this machine's own files (the Python library, installed packages, system libraries) and from
Debian's static busybox, then kept as an OCI layout: later runs need neither network nor time. What cannot be
had (no network, no package list for the other architecture) is left out and said.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.demo.oci import REF_NAME, Layer, Layout, fresh

Files = list[tuple[str, Path | str | bytes]]
Say = Callable[[str], None]

MIB = 1024 * 1024
#: Most that one layer takes of a big folder, unpacked.
FOLDER_MAX = 110 * MIB
APPLETS = ("cat", "cp", "echo", "grep", "ls", "mkdir", "mv", "ps", "rm", "sed", "sh", "sleep", "tar", "wget")
UNWANTED = {"__pycache__", "test", "tests", "site-packages", "dist-packages", "idlelib"}


def names(layout: Path) -> list[str]:
    """The references in a layout, such as `python:3.11`."""
    index = json.loads((layout / "index.json").read_text(encoding="utf-8"))
    return [entry["annotations"][REF_NAME] for entry in index["manifests"]]


def ensure(folder: Path, say: Say) -> Path:
    """The layout with the sample images, made if this folder does not hold it yet. Returns its path."""
    layout = folder / "oci"
    mark = folder / "recipe"
    if (layout / "index.json").exists() and mark.exists() and mark.read_text() == recipe():
        say(f"sample images were already here ({_size(layout)})")
        return layout
    say("making sample images from this machine's own files")
    folder.mkdir(parents=True, exist_ok=True)
    _make(fresh(layout), folder / "packages", say)
    mark.write_text(recipe())
    say(f"made {len(names(layout))} sample images ({_size(layout)})")
    return layout


def recipe() -> str:
    """A mark of how samples are made here: those of another release are made anew."""
    sources = (Path(__file__), Path(__file__).with_name("oci.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _make(out: Layout, packages: Path, say: Say) -> None:
    """All layers side by side, then the images on top of them."""
    native = _output("dpkg", "--print-architecture") or "amd64"
    foreign = "arm64" if native == "amd64" else "amd64"
    trees: dict[str, Files] = {
        "base": _busybox(native, packages, say),
        "foreign": _busybox(foreign, packages, say),
        "common": _common(),
        "library": list(_tree(Path(sysconfig.get_path("stdlib")), "usr/lib/python3", ".py")),
        "interpreter": _interpreter(),
        "packages": list(_tree(Path(sysconfig.get_path("purelib")), "usr/lib/python3/site-packages")),
        "system": list(_tree(_system_libraries(), "usr/lib/system")),
        "tools": [
            (f"usr/bin/{name}", Path(path))
            for name in ("skopeo", "docker-registry")
            if (path := shutil.which(name))
        ],
        "release": [("srv/release.txt", b"1.1: the same application, one small layer more\n")],
    }
    with ThreadPoolExecutor(2) as pool:  # zlib lets go of the interpreter lock
        futures = {name: pool.submit(out.layer, files) for name, files in trees.items() if files}
        made = {name: future.result() for name, future in futures.items()}
    _images(out, made, native, foreign)
    out.close()


def _images(out: Layout, made: dict[str, Layer], native: str, foreign: str) -> None:
    def image(architecture: str, *wanted: str, command: str = "sh") -> dict[str, object]:
        return out.image(architecture, [made[name] for name in wanted if name in made], [command])

    python = ("base", "common", "library", "interpreter")
    out.tag("busybox:1", out.index([image(native, "base", "common"), image(foreign, "foreign", "common")]))
    out.tag(
        "python:3",
        out.index(
            [image(native, *python, command="python3"), image(foreign, "foreign", "common", "library")]
        ),
    )
    out.tag("app:1.0", image(native, *python, "packages", command="python3"))
    out.tag("app:1.1", image(native, *python, "packages", "release", command="python3"))
    out.tag("tools:1", image(native, "base", "common", "system", "tools"))
    out.tag("worker:1", image(native, *python, "system", "packages", command="python3"))


# --- the files of each layer --------------------------------------------------------------------------------


def _tree(folder: Path, target: str, suffix: str = "") -> Iterator[tuple[str, Path]]:
    """Files below `folder` in the order of their names, up to `FOLDER_MAX`; no caches, no tests, no links."""
    total = 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in UNWANTED)
        for name in sorted(files):
            path = Path(place, name)
            if (
                not name.endswith(suffix)
                or name.endswith(".pyc")
                or path.is_symlink()
                or not os.access(path, os.R_OK)
            ):
                continue
            total += path.stat().st_size
            if total > FOLDER_MAX:
                return
            yield f"{target}/{path.relative_to(folder)}", path


def _common() -> Files:
    """Files that are the same for every architecture."""
    return [
        ("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"),
        ("etc/group", b"root:x:0:\n"),
        *_tree(Path("/usr/share/common-licenses"), "usr/share/common-licenses"),
        *_tree(Path("/usr/share/zoneinfo"), "usr/share/zoneinfo"),
    ]


def _interpreter() -> Files:
    binary = Path(sysconfig.get_path("scripts"), "python3").resolve()
    modules = Path(sysconfig.get_path("platstdlib"), "lib-dynload")
    return [("usr/bin/python3", binary), *_tree(modules, "usr/lib/python3/lib-dynload")]


def _system_libraries() -> Path:
    return Path(
        "/usr/lib", _output("dpkg-architecture", "-qDEB_HOST_MULTIARCH") or f"{os.uname().machine}-linux-gnu"
    )


def _busybox(architecture: str, packages: Path, say: Say) -> Files:
    """A root file system of one static binary and its names; empty when the package cannot be had."""
    tree = packages / architecture
    binary = tree / "bin" / "busybox"
    if not binary.exists():
        binary = tree / "usr" / "bin" / "busybox"
    if not binary.exists():
        found = _fetch("busybox-static", architecture, packages)
        if found is None:
            say(f"no busybox-static for {architecture}: its images have one layer less")
            return []
        subprocess.run(["dpkg-deb", "-x", found, tree], check=True)
        binary = next(tree.glob("**/bin/busybox"))
    return [("bin/busybox", binary), *((f"bin/{name}", "busybox") for name in APPLETS)]


def _fetch(package: str, architecture: str, folder: Path) -> Path | None:
    """Download one Debian package of any architecture with package lists of its own, touching nothing of the
    system's; None when that is not possible."""
    state = folder / f"apt-{architecture}"
    for name in ("lists/partial", "archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    options = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
        "Dir::State::Lists": str(state / "lists"),
        "Dir::State::status": str(state / "status"),
        "Dir::Cache": str(state),
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    for command in (["update"], ["download", package]):
        done = subprocess.run([*apt, *command], cwd=folder, check=False, capture_output=True)
        if done.returncode:
            return None
    shutil.rmtree(state)
    return next(iter(folder.glob(f"{package}_*_{architecture}.deb")), None)


def _output(*command: str) -> str:
    if not shutil.which(command[0]):
        return ""
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def _size(layout: Path) -> str:
    total = sum(path.stat().st_size for path in layout.glob("blobs/sha256/*"))
    return f"{total / 1e6:.0f} MB"
