"""What is moved: images of random bytes in a source registry, made once per run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from deploy.demo import verify
from deploy.demo.oci import fresh

MIB = 1024 * 1024
#: Of each worker.
SLOTS = 4


@dataclass(frozen=True)
class Case:
    """One image: `layers` layers of `size` bytes each. `name` is its repository in the source registry."""

    name: str
    text: str
    layers: int
    size: int
    busy: bool = False  #: for memory: every slot of a worker moves a large layer at once

    @property
    def reference(self) -> str:
        """Repository and tag."""
        return f"bench/{self.name}:1"


#: Not an image: one blob, moved by the registry client alone.
CLIENT_MIB = int(os.environ.get("BENCH_CLIENT_MIB") or 2048)
CLIENT = Case("client", f"the client alone, one blob of {CLIENT_MIB} MiB", 1, CLIENT_MIB * MIB)


def cases() -> list[Case]:
    """The two of the goal, and one for memory, which does not depend on size; the variables change sizes."""
    image = int(os.environ.get("BENCH_IMAGE_MIB") or 1024)
    blobs = int(os.environ.get("BENCH_BLOBS") or 200)
    kib = int(os.environ.get("BENCH_BLOB_KIB") or 1024)
    busy = int(os.environ.get("BENCH_BUSY_MIB") or 256)
    return [
        Case("big", f"1 layer of {image} MiB", 1, image * MIB),
        Case("many", f"{blobs} layers of {kib} KiB", blobs, kib * 1024),
        Case("busy", f"{SLOTS} layers of {busy} MiB, for {SLOTS} slots", SLOTS, busy * MIB, busy=True),
    ]


def push(case: Case, host: str, scratch: Path) -> None:
    """Make the image and push it with skopeo.

    Layers are gzip streams of stored blocks: skopeo compresses what is not compressed, which would be
    compared with a tool that copies.
    """
    out = fresh(scratch / "layout")
    layers = []
    for _ in range(case.layers):
        content = scratch / "content"
        with content.open("wb") as file:
            for start in range(0, case.size, MIB):
                file.write(os.urandom(min(MIB, case.size - start)))
        layers.append(out.layer([("data", content)], level=0))
        content.unlink()
    out.tag(case.name, out.image("amd64", layers, ["data"]))
    out.close()
    source, target = f"oci:{out.folder}:{case.name}", f"docker://{host}/{case.reference}"
    verify.skopeo("copy", "--quiet", "--dest-tls-verify=false", source, target)
    fresh(scratch / "layout")
