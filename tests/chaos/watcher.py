"""Watches a registry's tags over plain HTTP while others write: what does a person see who pulls just now?

It knows nothing of the product. For every tag it is given the digests that may show there, oldest first. A
finding is: a tag whose image is not whole at the moment it is first seen, a tag that leads to an older digest
than before or to one nobody pushed, and a tag that was there and is gone.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from tests.images import INDEX, MANIFEST

ACCEPT: Final = {"Accept": f"{MANIFEST}, {INDEX}"}
EARLY, BACK, STRANGE, GONE = "early tag", "tag moved back", "strange tag", "tag gone"


@dataclass(frozen=True)
class Finding:
    """Something that must not be; `kind` is a word of the module that found it."""

    kind: str
    what: str


@dataclass(frozen=True)
class Seen:
    """A tag at the first sight of a digest; `at` is Unix seconds."""

    tag: str
    digest: str
    at: float


@dataclass
class Watcher:
    """`tags` maps `repository:tag` to its digests in the order in which they may appear."""

    port: int
    tags: Mapping[str, Sequence[str]]
    every: float = 1.0
    findings: list[Finding] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    rounds: int = 0

    def __post_init__(self) -> None:
        self._now: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._connection: http.client.HTTPConnection | None = None

    def look(self) -> None:
        """One look at every tag; raises OSError or HTTPException when the registry is not there."""
        for name, expected in self.tags.items():
            repository, _, tag = name.rpartition(":")
            status, digest, _ = self._ask("HEAD", repository, f"manifests/{tag}")
            if status in {200, 404}:
                self._note(name, digest if status == 200 else "", expected)
        self.rounds += 1

    def _note(self, name: str, digest: str, expected: Sequence[str]) -> None:
        before = self._now.get(name, "")
        if digest == before:
            return
        if not digest:
            self._find(GONE, f"{name} led to {before} and is not there any more")
        elif digest not in expected:
            self._find(STRANGE, f"{name} leads to {digest}, which nobody put there")
        elif before in expected and expected.index(digest) < expected.index(before):
            self._find(BACK, f"{name} led to {before} and leads to the older {digest} again")
        if digest:
            missing = self.lacks(name.rpartition(":")[0], digest)
            if missing:
                self._find(EARLY, f"{name} leads to {digest}, and there is no {', '.join(missing)}")
            self.seen.append(Seen(name, digest, time.time()))
        # Only now: where the registry went away in between, the whole tag is looked at again.
        self._now[name] = digest

    def lacks(self, repository: str, digest: str) -> list[str]:
        """Everything below that manifest, itself included, that the repository does not have just now."""
        status, _, raw = self._ask("GET", repository, f"manifests/{digest}")
        if status != 200:
            return [digest]
        body = json.loads(raw)
        missing = [
            lost for child in body.get("manifests", ()) for lost in self.lacks(repository, child["digest"])
        ]
        for blob in (*body.get("layers", ()), *filter(None, [body.get("config")])):
            if self._ask("HEAD", repository, f"blobs/{blob['digest']}")[0] != 200:
                missing.append(blob["digest"])
        return missing

    def _find(self, kind: str, what: str) -> None:
        self.findings.append(Finding(kind, what))

    def _ask(self, method: str, repository: str, rest: str) -> tuple[int, str, bytes]:
        """Status, digest and body; a server in trouble (5xx) is one that is not there."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            self._connection.request(method, f"/v2/{repository}/{rest}", headers=ACCEPT)
            answer = self._connection.getresponse()
            raw = answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        if answer.status >= 500:
            raise ConnectionError(f"{method} {rest}: {answer.status}")
        return answer.status, answer.headers.get("Docker-Content-Digest", ""), raw

    def close(self) -> None:
        """Hangs up; a later look connects again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _watch(self) -> None:
        while not self._stop.is_set():
            # A registry that is just being restarted is a part of the run.
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.look()
            self._stop.wait(self.every)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(30)
        self.close()
