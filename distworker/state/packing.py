"""Bodies and ways as the records keep them: small, for there may be millions of them and they live in memory.

A body is deflated with a dictionary of what bodies look like; the digest that its step's id names anyway is
left out. A way (`StepSpec.via`) is only ever compared, so a long one is kept as its hash. Lua looks into
neither.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from typing import Any, Final

#: What a packed body starts with; JSON never does. Another dictionary takes another mark.
MARK: Final = "="
#: Shorter bodies are kept as they are.
PLAIN_MAX: Final = 60
#: Longer ways are kept as their hash.
VIA_MAX: Final = 20
#: Stands for the digest in the step's id; JSON writes this character as an escape.
_DIGEST_HERE: Final = "\x01"
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_WORDS: Final = (
    '"manifests":["tree":{"sequence":0,"platforms":["linux/amd64","linux/arm64"],"proven":true,"mount_from":"'
    '"annotations":{"config":{"layers":["root":"sha256:"transfer":{"id":","job":","kind":"store"'
    "application/vnd.docker.distribution.manifest.list.v2+jsonapplication/vnd.oci.image.index.v1+json"
    "application/vnd.docker.distribution.manifest.v2+jsonapplication/vnd.oci.image.manifest.v1+json"
    "application/vnd.docker.container.image.v1+jsonapplication/vnd.oci.image.config.v1+json"
    "application/vnd.oci.image.layer.v1.tarapplication/vnd.oci.image.layer.v1.tar+zstd"
    '{"v":1,"digest":"sha256:{"v":1,"digest":"\x01","size":,"media_type":"'
    'application/vnd.docker.image.rootfs.diff.tar.gzip","source":{"kind":"registry","host":"docker.ioghcr.io'
    'application/vnd.oci.image.layer.v1.tar+gzip","source":{"kind":"registry","host":"registry.","repository":"'
    '","tag":"latest","credential":""},"tenant":"default","priority":5,"counted":true,'
    '"destination":{"kind":"registry","host":".example.com","repository":"","tag":"v1.0","credential":""}}'
)
_DICTIONARY: Final = _WORDS.encode()


def packed(text: str, step: str) -> str:
    """A body's JSON, as the record of this step keeps it."""
    if len(text) <= PLAIN_MAX:
        return text
    named = _DIGEST.search(step)
    if named:
        text = text.replace(named[0], _DIGEST_HERE)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=_DICTIONARY)
    data = deflate.compress(text.encode()) + deflate.flush()
    return MARK + base64.b64encode(data).decode()


def unpacked(part: str, step: str) -> str:
    """The JSON again."""
    if not part.startswith(MARK):
        return part
    inflate = zlib.decompressobj(-15, zdict=_DICTIONARY)
    text = (inflate.decompress(base64.b64decode(part[len(MARK) :])) + inflate.flush()).decode()
    named = _DIGEST.search(step)
    return text.replace(_DIGEST_HERE, named[0]) if named else text


def merged(parts: Sequence[str], step: str) -> dict[str, Any]:
    """A body from its parts: the spec's, then the patches merged into it."""
    body: dict[str, Any] = {}
    for part in parts:
        body.update(json.loads(unpacked(part, step)))
    return body


def short_via(via: str) -> str:
    """A way, to be compared with others."""
    if len(via) <= VIA_MAX:
        return via
    return base64.b64encode(hashlib.blake2b(via.encode(), digest_size=9).digest()).decode()
