"""What refers to a manifest: signatures, SBOMs, attestations (distribution-spec, "Listing Referrers").

The referrers API is asked first; a registry without it keeps the list under a tag made of the digest, which
its clients maintain. What a registry answered is remembered for a few minutes, so that a copy of many images
does not ask in vain each time. Older tools keep such things under tags of their own (cosign's `.sig`); those
are found by HEAD. Nothing here writes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Final, Literal

from distworker.digest import Digest
from distworker.errors import (
    DistworkerError,
    LimitExceeded,
    ManifestInvalid,
    ManifestUnknown,
    ProtocolError,
    RepositoryUnknown,
    UnsupportedDigest,
)
from distworker.limits import PAGE_BODY_MAX, REFERRERS_DEPTH_MAX, REFERRERS_MAX
from distworker.manifest import Descriptor, Manifest, parse_manifest
from distworker.mediatypes import OCI_INDEX, bare
from distworker.registry import faults, manifests, scopes
from distworker.registry.base import ManifestHead, Registry
from distworker.registry.call import Call, Reply
from distworker.registry.endpoint import Endpoint
from distworker.registry.listing import pages
from distworker.registry.waits import REFERRERS_MEMORY

#: How registries without the API answer: the specification's 404, and what is seen of others.
_UNSUPPORTED: Final = frozenset({400, 404, 405, 406})
_NO_TAG_CHARACTER: Final = re.compile(r"[^a-zA-Z0-9._-]", re.ASCII)
#: Repositories remembered at once.
_REMEMBERED: Final = 1024
#: Endings of the tags under which tools keep what belongs to a digest; "" is the list of referrers itself.
DIGEST_TAGS: Final = ("", ".sig", ".att", ".sbom")

Reach = Literal["off", "direct", "all"]


def fallback_tag(digest: Digest) -> str:
    """The tag that lists what refers to `digest` where there is no API (distribution-spec, "Referrers Tag
    Schema"): at most 32 and 64 characters of its two parts."""
    return f"{_tag_part(digest.algorithm, 32)}-{_tag_part(digest.hex, 64)}"


def _tag_part(text: str, limit: int) -> str:
    return _NO_TAG_CHARACTER.sub("-", text[:limit])


class Referrers:
    """Lists referrers at one registry."""

    def __init__(self, at: Endpoint, clock: Callable[[], float] = time.monotonic) -> None:
        self._at = at
        self._clock = clock
        self._without: dict[str, float] = {}  #: repository → until when the API is not asked

    def list(self, repository: str, digest: Digest, artifact_type: str = "") -> Iterator[Descriptor]:
        """What refers to `digest`, each once, only of that artifact type if one is given; often nothing.

        Raises:
            ManifestInvalid: the answer, or what stands under the tag, is no index. LimitExceeded: more than
            we follow. RedirectRefused: the next page is on another origin.
        """
        if self._without.get(repository, 0.0) <= self._clock():
            try:
                yield from self._asked(repository, digest, artifact_type)
            except _NoAPI:
                self._remember(repository)
            else:
                return
        yield from self._tagged(repository, digest, artifact_type)

    def _asked(self, repository: str, digest: Digest, artifact_type: str) -> Iterator[Descriptor]:
        where = self._at.where("list referrers", repository, digest)
        first = self._at.referrers(repository, digest, artifact_type)

        def fetch(url: str) -> pages.Page[tuple[Descriptor, bool]]:
            call = Call("GET", url, where, scopes=(scopes.pull(repository),), headers={"Accept": OCI_INDEX})
            with self._at.http.send(call) as reply:
                if url == first and _no_api(reply):
                    raise _NoAPI
                index = _index(reply)
                filtered = "artifacttype" in reply.header("OCI-Filters-Applied").lower()
                more = pages.next_page(reply, self._at.http.origin, "referrers")
            return pages.Page([(child, filtered) for child in index.children], more)

        for child, filtered in pages.walk(first, fetch, where, "referrers", lambda item: item[0].digest):
            if filtered or artifact_type in {"", child.artifact_type}:
                yield child

    def _tagged(self, repository: str, digest: Digest, artifact_type: str) -> Iterator[Descriptor]:
        tag = fallback_tag(digest)
        try:
            index = manifests.get_manifest(self._at, repository, tag)
        except (ManifestUnknown, RepositoryUnknown):
            return
        if index.media_type != OCI_INDEX:
            where = self._at.where("list referrers", repository, tag)
            raise ManifestInvalid(
                f"{where}: the tag should list what refers to {digest}, and is a {index.media_type}",
                **where.fields,
            )
        yield from (child for child in index.children if artifact_type in {"", child.artifact_type})

    def _remember(self, repository: str) -> None:
        if len(self._without) >= _REMEMBERED:
            self._without.clear()
        self._without[repository] = self._clock() + REFERRERS_MEMORY


class _NoAPI(Exception):
    """This registry does not list referrers."""


def _no_api(reply: Reply) -> bool:
    """Neither an error that says more, nor an answer of the API: a web page counts as none."""
    other = reply.status == 200 and bare(reply.header("Content-Type")) != OCI_INDEX
    return other or reply.status in _UNSUPPORTED


def _index(reply: Reply) -> Manifest:
    where = reply.where
    if reply.status != 200:
        raise reply.error()
    if bare(reply.header("Content-Type")) != OCI_INDEX:
        raise ProtocolError(f"{where}: the next page of referrers is no index", **where.fields)
    raw = reply.read(PAGE_BODY_MAX + 1)
    if len(raw) > PAGE_BODY_MAX:
        raise LimitExceeded(f"{where}: a page of referrers above {PAGE_BODY_MAX} bytes", **where.fields)
    try:
        return parse_manifest(raw, OCI_INDEX)
    except (DistworkerError, UnsupportedDigest) as error:
        found = faults.prefixed(error, where)
    raise found


def gather(registry: Registry, repository: str, digest: Digest, reach: Reach = "all") -> Iterator[Descriptor]:
    """What refers to `digest` and, with reach "all", what refers to that (the signature of an SBOM), nearest
    first, each once; lists that refer to each other end. "off" is nothing.

    Raises:
        LimitExceeded: deeper or more than `limits.py` allows.
    """
    seen, level, depth = {digest}, [digest] if reach != "off" else [], 0
    while level:
        depth += 1
        below: list[Digest] = []
        for subject in level:
            for found in registry.referrers(repository, subject):
                if found.digest in seen:
                    continue
                if depth > REFERRERS_DEPTH_MAX or len(seen) > REFERRERS_MAX:
                    raise LimitExceeded(
                        f"{registry.origin}/{repository}: more refers to {digest.short} than the "
                        f"{REFERRERS_MAX} manifests on {REFERRERS_DEPTH_MAX} levels that are followed",
                        phase="list referrers",
                        registry=registry.origin,
                        repository=repository,
                        reference=str(digest),
                    )
                seen.add(found.digest)
                below.append(found.digest)
                yield found
        level = below if reach == "all" else []


def digest_tags(registry: Registry, repository: str, digest: Digest) -> Iterator[tuple[str, ManifestHead]]:
    """The tags made of `digest` that are there: cosign's signatures, attestations and SBOMs, and the list of
    referrers where a registry has no API for it. They move when something is added, so they are asked for
    anew each time.
    """
    for ending in DIGEST_TAGS:
        tag = fallback_tag(digest) + ending
        head = registry.head_manifest(repository, tag)
        if head is not None:
            yield tag, head
