"""Small real images for tests: written as an OCI layout, pushed by skopeo, read back by skopeo.

Deterministic (the same arguments give the same digests) and incompressible (a layer is as large as it says).
A `Layout` makes layers, images, indexes, attestations and artifacts; `push` brings a reference to a registry
with everything below it; `digest_at` asks what a registry really has.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.demo.servers import clean_environment, find_program

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY = "application/vnd.oci.empty.v1+json"
ATTESTATION = {"vnd.docker.reference.type": "attestation-manifest"}

Descriptor = dict[str, Any]


@dataclass(frozen=True)
class Pushed:
    """What was pushed: the reference, its digest, and every blob and manifest below it as digest → size."""

    reference: str
    digest: str
    blobs: Mapping[str, int]
    manifests: Mapping[str, int]

    @property
    def total(self) -> int:
        """Bytes of all blobs, each counted once."""
        return sum(self.blobs.values())


@dataclass
class Layout:
    """An OCI layout folder being written."""

    folder: Path
    _tops: list[Descriptor] = field(default_factory=list)

    def blob(self, data: bytes, media_type: str) -> Descriptor:
        """Keep bytes; returns their descriptor."""
        name = hashlib.sha256(data).hexdigest()
        path = self.folder / "blobs" / "sha256" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(data)}

    def json(self, value: Any, media_type: str) -> Descriptor:
        """Keep a JSON document; returns its descriptor."""
        return self.blob(json.dumps(value, separators=(",", ":")).encode(), media_type)

    def layer(self, seed: str, size: int = 2000, *, packed: bool = True) -> Descriptor:
        """A layer with one file of `size` random bytes that follow from `seed`; the same seed is the same
        blob."""
        content = random.Random(seed).randbytes(size)
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
            entry = tarfile.TarInfo(f"data/{seed}")
            entry.size, entry.mtime = size, 1_700_000_000
            tar.addfile(entry, io.BytesIO(content))
        data = out.getvalue()
        if packed:
            return self.blob(gzip.compress(data, 1, mtime=0), LAYER_GZIP)
        return self.blob(data, LAYER)

    def image(
        self,
        layers: Sequence[Descriptor],
        *,
        architecture: str = "amd64",
        variant: str = "",
        label: str = "",
        **fields: Any,
    ) -> Descriptor:
        """A manifest with config over `layers`; `label` makes the config differ, `fields` go into the
        manifest."""
        platform = {"architecture": architecture, "os": "linux"} | ({"variant": variant} if variant else {})
        config = {
            **platform,
            "config": {"Labels": {"test": label}},
            "rootfs": {"type": "layers", "diff_ids": [self._unpacked(layer) for layer in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.json(config, CONFIG),
            "layers": list(layers),
            **fields,
        }
        return {**self.json(manifest, MANIFEST), "platform": platform}

    def index(self, children: Iterable[Descriptor], **fields: Any) -> Descriptor:
        """An index over images (or other indexes)."""
        body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(children), **fields}
        return self.json(body, INDEX)

    def attestation(self, subject: Descriptor, seed: str = "provenance") -> Descriptor:
        """What BuildKit puts beside an image in its index: platform unknown, layers of in-toto JSON."""
        statement = self.json(
            {"predicateType": "https://slsa.dev/provenance/v1", "seed": seed}, "application/vnd.in-toto+json"
        )
        config = {
            "architecture": "unknown",
            "os": "unknown",
            "rootfs": {"type": "layers", "diff_ids": [statement["digest"]]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.json(config, CONFIG),
            "layers": [statement],
        }
        return {
            **self.json(manifest, MANIFEST),
            "platform": {"architecture": "unknown", "os": "unknown"},
            "annotations": {**ATTESTATION, "vnd.docker.reference.digest": subject["digest"]},
        }

    def artifact(self, data: bytes, artifact_type: str, subject: Descriptor | None = None) -> Descriptor:
        """An OCI artifact: the empty config, one blob, an artifactType and perhaps a subject."""
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": artifact_type,
            "config": self.blob(b"{}", EMPTY),
            "layers": [self.blob(data, artifact_type)],
        }
        if subject is not None:
            manifest["subject"] = {k: subject[k] for k in ("mediaType", "digest", "size")}
        return self.json(manifest, MANIFEST)

    def tag(self, name: str, descriptor: Descriptor) -> None:
        """Name a manifest, so that it can be pushed."""
        top = {key: descriptor[key] for key in ("mediaType", "digest", "size")}
        self._tops.append({**top, "annotations": {"org.opencontainers.image.ref.name": name}})
        (self.folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": self._tops}
        (self.folder / "index.json").write_text(json.dumps(body))

    def push(self, name: str, reference: str, *, login: str = "") -> Pushed:
        """Copies the tagged `name` with all below it to `host/repository:tag`; `login` is user:password."""
        credentials = ["--dest-creds", login] if login else []
        skopeo(
            *("copy", "--all", "--preserve-digests", "--dest-tls-verify=false", *credentials),
            *(f"oci:{self.folder}:{name}", f"docker://{reference}"),
        )
        digest = next(t["digest"] for t in self._tops if name in t["annotations"].values())
        blobs: dict[str, int] = {}
        manifests: dict[str, int] = {}
        self._collect(digest, blobs, manifests)
        return Pushed(reference, digest, blobs, manifests)

    def read(self, digest: str) -> bytes:
        """The bytes of a blob or manifest."""
        return (self.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()

    def _unpacked(self, layer: Descriptor) -> str:
        data = self.read(layer["digest"])
        if layer["mediaType"] == LAYER_GZIP:
            data = gzip.decompress(data)
        return f"sha256:{hashlib.sha256(data).hexdigest()}"

    def _collect(self, digest: str, blobs: dict[str, int], manifests: dict[str, int]) -> None:
        raw = self.read(digest)
        manifests[digest] = len(raw)
        body = json.loads(raw)
        for child in body.get("manifests", ()):
            self._collect(child["digest"], blobs, manifests)
        for blob in [*body.get("layers", ()), *filter(None, [body.get("config")])]:
            blobs[blob["digest"]] = blob["size"]


def push_image(
    folder: Path, reference: str, seeds: Sequence[str] = ("base", "app"), size: int = 2000, login: str = ""
) -> Pushed:
    """A one-platform image with a layer per seed, pushed to `reference`. Same seeds and size, same blobs."""
    layout = Layout(folder / hashlib.sha256(reference.encode()).hexdigest()[:12])
    layout.tag("it", layout.image([layout.layer(seed, size) for seed in seeds], label=reference))
    return layout.push("it", reference, login=login)


def push_index(folder: Path, reference: str, size: int = 2000, login: str = "") -> Pushed:
    """A two-platform index whose images share a layer, with an attestation beside the first, pushed."""
    layout = Layout(folder / hashlib.sha256(reference.encode()).hexdigest()[:12])
    shared = layout.layer("shared", size)
    first = layout.image([shared, layout.layer("amd64", size)], architecture="amd64")
    second = layout.image([shared, layout.layer("arm64", size)], architecture="arm64", variant="v8")
    layout.tag("it", layout.index([first, second, layout.attestation(first)]))
    return layout.push("it", reference, login=login)


def digest_at(reference: str, login: str = "") -> str:
    """The digest of the manifest bytes that `reference` names at its registry, hashed here."""
    return f"sha256:{hashlib.sha256(manifest_at(reference, login)).hexdigest()}"


def manifest_at(reference: str, login: str = "") -> bytes:
    """The manifest bytes that `reference` names, as skopeo gets them."""
    credentials = ["--creds", login] if login else []
    return skopeo("inspect", "--raw", "--tls-verify=false", *credentials, f"docker://{reference}")


def has(reference: str, login: str = "") -> bool:
    """Does the reference name anything at its registry?"""
    try:
        manifest_at(reference, login)
    except subprocess.CalledProcessError:
        return False
    return True


def copy_out(reference: str, folder: Path, login: str = "") -> Path:
    """Everything below `reference` as an OCI layout; skopeo checks every digest on the way."""
    credentials = ["--src-creds", login] if login else []
    source = f"docker://{reference}"
    skopeo("copy", "--all", "--src-tls-verify=false", *credentials, source, f"oci:{folder}:it")
    return folder


def skopeo(*words: str) -> bytes:
    """Runs skopeo and returns what it printed; CalledProcessError carries its complaint."""
    # The user's own logins have no business here.
    done = subprocess.run(
        [find_program("skopeo", "skopeo"), "--insecure-policy", "--command-timeout", "120s", *words],
        env=clean_environment({"REGISTRY_AUTH_FILE": "/nonexistent/auth.json"}),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        print(done.stderr.decode(errors="replace"))
        done.check_returncode()
    return done.stdout
