"""Proves a copy with tools that are not ours: skopeo reads each image at both ends, and every byte is hashed
again.
 `skopeo copy --all … dir:` downloads the index, every platform's manifest, every config and layer, and
refuses a blob that does not hash to its digest; here the files it wrote are hashed once more and the two ends
compared by name.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.demo.processes import clean_environment


class VerificationFailed(Exception):
    """The two ends differ, or one of them is damaged; the text says which image and how."""


@dataclass(frozen=True)
class Content:
    """What one registry serves under one reference: its root digest, and all digests below with their
    sizes."""

    root: str
    manifests: Mapping[str, int]
    blobs: Mapping[str, int]


def skopeo(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run skopeo; returns its stdout, raises VerificationFailed with its last line of complaint."""
    done = subprocess.run(
        ["skopeo", "--insecure-policy", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=clean_environment(environment),
    )
    if done.returncode:
        said = re.findall(r'msg="(.*)"$', done.stderr.strip()) or [f"ended with status {done.returncode}"]
        raise VerificationFailed(f"skopeo: {said[-1][:400]}")
    return done.stdout


def read(reference: str, scratch: Path, login: Mapping[str, str] | None = None) -> Content:
    """Download everything below `host/repository:tag` and hash it. `login` is environment for skopeo.

    Raises:
        VerificationFailed: something is missing or does not hash to its digest.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        options = ("--quiet", "--all", "--src-tls-verify=false")
        try:
            skopeo("copy", *options, f"docker://{reference}", f"dir:{scratch}", environment=login)
        except VerificationFailed as error:
            raise VerificationFailed(f"{reference}: {error}") from None
        root = _hashed(scratch / "manifest.json")
        manifests = {root: (scratch / "manifest.json").stat().st_size}
        blobs: dict[str, int] = {}
        for path in scratch.iterdir():
            if path.name in ("manifest.json", "version"):
                continue
            found = _hashed(path)
            if found != "sha256:" + path.name.partition(".")[0]:
                raise VerificationFailed(f"{reference}: {path.name} hashes to {found}")
            (manifests if path.name.endswith(".manifest.json") else blobs)[found] = path.stat().st_size
        return Content(root, manifests, blobs)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def compare(source: str, destination: str, scratch: Path, login: Mapping[str, str] | None = None) -> Content:
    """Both ends of one transfer; returns what they agree on. `login` is for the destination."""
    ours, theirs = read(source, scratch), read(destination, scratch, login)
    if ours.root != theirs.root:
        raise VerificationFailed(f"{destination} is {theirs.root}, {source} is {ours.root}")
    missing = (set(ours.manifests) | set(ours.blobs)) ^ (set(theirs.manifests) | set(theirs.blobs))
    if missing:
        raise VerificationFailed(f"{destination} and {source} differ in {', '.join(sorted(missing))}")
    return theirs


def flip_one_byte(data: Path, layout: Path) -> Path:
    """Change one byte of the largest blob of `layout` in a registry's data folder; returns the file.

    Flipping it again heals it.
    """
    digest = max((layout / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size).name
    path = next(data.glob(f"**/blobs/sha256/{digest[:2]}/{digest}/data"))
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    return path


def _hashed(path: Path) -> str:
    with path.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def reference_digest(layout: Path, name: str) -> str:
    """The digest that the layout has under a name."""
    index = json.loads((layout / "index.json").read_text(encoding="utf-8"))
    for entry in index["manifests"]:
        if name in entry["annotations"].values():
            return str(entry["digest"])
    raise KeyError(name)
