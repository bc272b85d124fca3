"""The images of a chaos run, made in memory from a seed, and put into a registry over plain HTTP.

Small images over shared base layers, some with one large layer that is still on its way when a worker dies,
some for two platforms. The same seed makes the same bytes; another seed shares nothing with it. Nothing here
uses the product: what the run should bring is known independently of what brings it.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from tests.images import CONFIG, INDEX, LAYER, MANIFEST

KIB: Final = 1024
MIB: Final = 1024 * 1024
#: Every so many images: one with a layer that a successor goes on with, one with a large one, one for two
#: platforms.
HUGE_EVERY: Final = 50
LARGE_EVERY: Final = 8
INDEX_EVERY: Final = 6
#: Images that share a base layer.
FAMILY: Final = 10


@dataclass(frozen=True)
class Image:
    """`digest` is what the tag means; manifests (leaves first) and blobs are everything below it."""

    repository: str
    tag: str
    digest: str
    manifests: Mapping[str, tuple[str, bytes]]
    blobs: Mapping[str, bytes]

    @property
    def name(self) -> str:
        """Repository and tag."""
        return f"{self.repository}:{self.tag}"

    def at(self, repository: str) -> Image:
        """The same image in another repository."""
        return replace(self, repository=repository)


def digest_of(data: bytes) -> str:
    """The name of these bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Maker:
    """Makes images; `large` and `huge` are sizes of layers."""

    def __init__(self, seed: str, *, large: int = 6 * MIB, huge: int = 24 * MIB, base: int = MIB) -> None:
        self._seed = seed
        self._large = large
        self._huge = huge
        self._base = base
        self._bases: dict[int, bytes] = {}

    def fleet(self, prefix: str, count: int, *, middling: int = 0) -> list[Image]:
        """`count` images in as many repositories, one tag each; with `middling` every own layer is so
        large."""
        return [self.image(f"{prefix}/app{n}", n, middling=middling) for n in range(count)]

    def image(self, repository: str, number: int, *, version: int = 1, middling: int = 0) -> Image:
        """Image `number` in its `version`: a newer one keeps the base and the large layer."""
        chance = self._chance(f"{repository} {version}")
        own = chance.randbytes(middling or chance.randrange(2 * KIB, 96 * KIB))
        layers = [self._shared(number // FAMILY), own]
        if number % LARGE_EVERY == LARGE_EVERY // 2:
            layers.append(self._chance(f"{repository} large").randbytes(self._large))
        if number % HUGE_EVERY == HUGE_EVERY // 2:
            layers.append(self._chance(f"{repository} huge").randbytes(self._huge))
        manifests: dict[str, tuple[str, bytes]] = {}
        blobs: dict[str, bytes] = {}
        top = self._manifest(layers, "amd64", f"{repository} {version}", manifests, blobs)
        if number % INDEX_EVERY == 1:
            other = self._manifest(
                [layers[0], chance.randbytes(8 * KIB)], "arm64", f"{repository} {version}", manifests, blobs
            )
            top = _keep({"schemaVersion": 2, "mediaType": INDEX, "manifests": [top, other]}, INDEX, manifests)
        return Image(repository, "1", top["digest"], manifests, blobs)

    def _shared(self, family: int) -> bytes:
        if family not in self._bases:
            self._bases[family] = self._chance(f"base {family}").randbytes(self._base)
        return self._bases[family]

    def _chance(self, what: str) -> random.Random:
        return random.Random(f"{self._seed} {what}")

    @staticmethod
    def _manifest(
        layers: Sequence[bytes],
        architecture: str,
        label: str,
        manifests: dict[str, tuple[str, bytes]],
        blobs: dict[str, bytes],
    ) -> dict[str, Any]:
        config = json.dumps(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {"Labels": {"image": label}},
                "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
            }
        ).encode()
        blobs |= {digest_of(data): data for data in (*layers, config)}
        body = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(config, CONFIG),
            "layers": [_descriptor(layer, LAYER) for layer in layers],
        }
        return {
            **_keep(body, MANIFEST, manifests),
            "platform": {"architecture": architecture, "os": "linux"},
        }


def _descriptor(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def _keep(body: Any, media_type: str, manifests: dict[str, tuple[str, bytes]]) -> dict[str, Any]:
    raw = json.dumps(body, separators=(",", ":")).encode()
    manifests[digest_of(raw)] = (media_type, raw)
    return _descriptor(raw, media_type)


def push(port: int, images: Iterable[Image]) -> None:
    """Put images into a registry on loopback, each blob once per repository, tags last."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        for image in images:
            for digest, data in image.blobs.items():
                _push_blob(connection, image.repository, digest, data)
            for digest, (media_type, raw) in image.manifests.items():
                reference = image.tag if digest == image.digest else digest
                headers = {"Content-Type": media_type}
                path = f"/v2/{image.repository}/manifests/{reference}"
                _ask(connection, "PUT", path, raw, headers, expect=201)
    finally:
        connection.close()


def _push_blob(connection: http.client.HTTPConnection, repository: str, digest: str, data: bytes) -> None:
    start = _ask(connection, "POST", f"/v2/{repository}/blobs/uploads/", b"", {}, expect=202)
    place = urlsplit(start["Location"])
    path = f"{place.path}?{place.query}{'&' if place.query else ''}digest={digest}"
    headers = {"Content-Type": "application/octet-stream"}
    _ask(connection, "PUT", path, data, headers, expect=201)


def _ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes,
    headers: Mapping[str, str],
    expect: int,
) -> Mapping[str, str]:
    connection.request(method, path, body, dict(headers))
    answer = connection.getresponse()
    said = answer.read()
    assert answer.status == expect, f"{method} {path}: {answer.status} {said[:300]!r}"
    return dict(answer.getheaders())
