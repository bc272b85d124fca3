"""How one registry differs from the specification, as far as a client can act on it: plain data.

`Quirks()` is a registry that does what the distribution spec says. `providers.py` has a row for each product
that differs, with the public source of every cell; an operator's word in `registries.toml` beats the row, and
what a registry shows by its behaviour is remembered beside it (`learned.py`), never in it. Names here are the
keys of the settings file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from distworker.limits import MANIFEST_MAX_PUSH, MIB

UploadMode = Literal["auto", "monolithic", "patch", "chunked"]
MountMode = Literal["none", "source", "anonymous"]
CreateFirst = Literal["nothing", "repository", "project"]
ListAPI = Literal["spec", "hub", "harbor", "quay", "ghcr", "gitlab", "google", "ecr"]

#: Fields that people read and no code asks, so that setting them would change nothing.
INFORMATIVE: Final = frozenset({"expired_is_403", "token_lifetime"})
#: Bytes of one chunk where neither row nor registry says otherwise: few requests, little to send again.
CHUNK_BYTES: Final = 32 * MIB
#: Entries of one page asked for: as many as ECR gives, which refuses more (go-containerregistry).
PAGE_SIZE: Final = 1000


@dataclass(frozen=True, slots=True)
class Quirks:
    """What to expect of a registry, and what to spare it. Sizes are bytes; 0 means "no limit known".

    Attributes:
        provider: the row of the table this came from.
        page_size: entries asked for in one page of tags or repositories.
        last_pagination: a full page without a `Link` is not the last: ask on with `last=`.
        catalog: is `_catalog` worth asking?
        list_api: what lists repositories and digests besides the specification.
        api_host: `host[:port]` of that API where it is not the registry's own; it may see the login.
        upload_mode: "auto" tries one PUT and finds out; "monolithic" is one PUT, "patch" one streamed PATCH
            and an empty PUT, "chunked" PATCHes of `chunk_bytes`; these three never try another.
        chunk_bytes: largest chunk of a chunked upload.
        monolithic_max: larger blobs are sent in chunks at once, since one request may not be that long.
        range_is_stale: `Range` of a PATCH reply does not advance though the data was stored.
        upload_resumes: a broken upload session can be asked how far it got and continued.
        cancel_needs_delete: cancelling an upload wants a right that pushers lack, so it is not tried.
        blob_max: largest blob it stores.
        manifest_max: largest manifest it stores.
        mounts: "source" asks for a mount only from a named repository, "anonymous" without one too.
        mount_candidates: repositories tried for one large blob.
        head_manifests: HEAD of manifests works; else GET is used at once.
        head_403_is_missing: HEAD of a manifest that is not there answers 403.
        blob_head_trusted: HEAD of a blob says 200 only for what the repository really holds.
        digest_header_trusted: a `Docker-Content-Digest` that differs from the bytes means wrong bytes.
        tag_deletes: DELETE of a tag removes that tag alone.
        manifest_deletes: DELETE of a manifest is offered.
        expired_is_403: a login that ran out is answered 403. For people: its words are recognised anyway.
        token_lifetime: seconds a login or token lives there; 0: unknown. For people: tokens tell their own.
        create_first: what must exist before the first push.
        path_parts_max: parts of a repository's name; 0: any number.
        max_concurrency: transfers at once where the operator says nothing; 0: as many as there are slots.
        said: keys that the operator wrote; recognising the product later leaves them alone.
    """

    provider: str = "default"
    page_size: int = PAGE_SIZE
    last_pagination: bool = False
    catalog: bool = True
    list_api: ListAPI = "spec"
    api_host: str = ""
    upload_mode: UploadMode = "auto"
    chunk_bytes: int = CHUNK_BYTES
    monolithic_max: int = 0
    range_is_stale: bool = False
    upload_resumes: bool = True
    cancel_needs_delete: bool = False
    blob_max: int = 0
    manifest_max: int = MANIFEST_MAX_PUSH
    mounts: MountMode = "source"
    mount_candidates: int = 3
    head_manifests: bool = True
    head_403_is_missing: bool = False
    blob_head_trusted: bool = True
    digest_header_trusted: bool = True
    tag_deletes: bool = False
    manifest_deletes: bool = True
    expired_is_403: bool = False
    token_lifetime: int = 0
    create_first: CreateFirst = "nothing"
    path_parts_max: int = 0
    max_concurrency: int = 0
    said: frozenset[str] = frozenset()
