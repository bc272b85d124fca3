"""The addresses of one registry's API, built from checked names only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlencode

from distworker.digest import Digest
from distworker.reference import parse_repository, parse_tag
from distworker.registry.faults import Where
from distworker.registry.http import HTTP
from distworker.registry.providers import recognised
from distworker.registry.quirks import Quirks


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One registry: how it is called in references, and how to send to it.

    `root`: path of its API. `namespace`: the registry that it mirrors and is told about (distribution-spec,
    "Registry Proxying"). `gate`: raises where an operator wants nothing to be asked.
    """

    registry: str  #: host[:port] as in references
    http: HTTP
    stated: Quirks = field(default_factory=Quirks)  #: what table and operator say
    root: str = "/v2"
    namespace: str = ""
    gate: Callable[[Where], None] | None = None

    @property
    def quirks(self) -> Quirks:
        """How it differs from the specification, as far as is known by now: its challenge names some."""
        return recognised(self.stated, self.http.auth.known)

    def where(self, phase: str, repository: str = "", reference: str = "") -> Where:
        """What an error will say; each verb says it before it sends anything."""
        where = Where(phase, self.registry, repository, reference)
        if self.gate is not None:
            self.gate(where)
        return where

    def ping(self) -> str:
        """`/v2/`, the slash included."""
        return f"{self.http.origin}/v2/"

    def manifest(self, repository: str, reference: str) -> str:
        """A manifest by tag or digest."""
        checked = Digest.parse(reference) if ":" in reference else parse_tag(reference)
        return f"{self._name(repository)}/manifests/{checked}{self._proxied()}"

    def blob(self, repository: str, digest: Digest) -> str:
        """A blob."""
        return f"{self._name(repository)}/blobs/{Digest.parse(digest)}{self._proxied()}"

    def uploads(self, repository: str, **query: str) -> str:
        """Where uploads start; the query asks for a mount."""
        url = f"{self._name(repository)}/blobs/uploads/"
        return f"{url}?{urlencode(query)}" if query else url

    def tags(self, repository: str, page: int, last: str = "") -> str:
        """The first page of tags, or the one behind `last`."""
        query = {"n": str(page), **({"last": last} if last else {})}
        return f"{self._name(repository)}/tags/list?{urlencode(query)}"

    def catalog(self, page: int, last: str = "") -> str:
        """The first page of repositories, or the one behind `last`."""
        query = {"n": str(page), **({"last": last} if last else {})}
        return f"{self.http.origin}/v2/_catalog?{urlencode(query)}"

    def referrers(self, repository: str, digest: Digest, artifact_type: str = "") -> str:
        """What refers to a manifest, of one artifact type if given."""
        query = f"?{urlencode({'artifactType': artifact_type})}" if artifact_type else ""
        return f"{self._name(repository)}/referrers/{Digest.parse(digest)}{query}"

    def _name(self, repository: str) -> str:
        return f"{self.http.origin}{self.root}/{parse_repository(repository)}"

    def _proxied(self) -> str:
        return f"?{urlencode({'ns': self.namespace})}" if self.namespace else ""
