"""What is to be done, as plain values: a job, its frozen image transfers, and an image's plan.

These are the shapes that travel: `JobRequest` from the faces, `ImageTransfer` in the frozen list, `BlobMove`
and `PublishOrder` in step bodies. `codec.py` turns them into JSON and back, naming the field that is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

from distworker.digest import Digest
from distworker.manifest import Descriptor, Manifest
from distworker.platforms import Platform

#: Where an image is or goes.
REGISTRY, STORE = "registry", "store"


@dataclass(frozen=True, slots=True)
class Place:
    """One end of a transfer.

    `kind` is `registry` or `store`. For a registry, `host` and `repository` are those of a parsed reference;
    for the store they are the names under which it keeps the image (`refs/<host>/<repository>/tags/<tag>`).
    `tag` and/or `digest` say which manifest; the digest decides. `credential` is an id, never a secret.
    """

    kind: str
    host: str
    repository: str
    tag: str = ""
    digest: Digest | None = None
    credential: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """One rule of a job: a source and a destination; `all_tags` takes every tag of the source repository."""

    source: Place
    destination: Place
    all_tags: bool = False
    platforms: tuple[Platform, ...] = ()


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A validated job. `kind` is copy, pull, push or migrate and only informs people; `retry_of` is the job
    whose failed images these are."""

    id: str
    kind: str
    pairs: tuple[Pair, ...]
    created: float
    priority: int = 5
    tenant: str = "default"
    labels: tuple[tuple[str, str], ...] = ()
    retry_of: str = ""


@dataclass(frozen=True, slots=True)
class ImageTransfer:
    """One line of the frozen list: one tag or digest to one place. `id` is `<job>-<number>`, so it never
    changes."""

    id: str
    job: str
    source: Place
    destination: Place
    platforms: tuple[Platform, ...] = ()
    priority: int = 5
    tenant: str = "default"


@dataclass(frozen=True, slots=True)
class ImageTree:
    """A resolved image: the root manifest as pinned and everything below it, children before parents, root
    last.

    `loose` are entries of an index that their registry keeps as blobs, not as manifests: they are copied as
    such.
    """

    root: Manifest
    manifests: tuple[Manifest, ...]
    loose: tuple[Descriptor, ...] = ()


#: Routes of a blob.
PRESENT, MOUNT, STORED, MOVE = "present", "mount", "stored", "move"


@dataclass(frozen=True, slots=True)
class BlobRoute:
    """One unique blob and how it gets there: `present` (the destination has it), `mount` (from
    `mount_from`), `stored` (the store has it, and this job may use it), or `move` (download, then
    upload)."""

    digest: Digest
    size: int
    media_type: str
    route: str
    mount_from: str = ""


@dataclass(frozen=True, slots=True)
class BlobMove:
    """What one download or upload step is about, as one image wants it done. `destination` is None for a
    download.

    `mount_from` is a repository of the destination's origin to try first. `proven`: this image's own
    credential was seen to read the blob at `source`, so a copy that others left in the store may be used
    `counted`: these bytes are in the job's counters already, so what is saved on this
    second way is not counted again (see `JobView`).
    """

    job: str
    tenant: str
    source: Place
    digest: Digest
    size: int
    media_type: str = ""
    priority: int = 5
    destination: Place | None = None
    mount_from: str = ""
    proven: bool = False
    counted: bool = False


@dataclass(frozen=True, slots=True)
class PublishOrder:
    """What a publish step is about. `digest`, `media_type`, `loose` and `sequence` come from planning: the
    pinned root, the index entries that are blobs, and the image's number in its tag's lane (0: no tag, no
    lane)."""

    transfer: ImageTransfer
    digest: Digest
    media_type: str = ""
    loose: tuple[Digest, ...] = ()
    sequence: int = 0
