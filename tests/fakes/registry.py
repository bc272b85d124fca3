"""A registry in memory, honest until told otherwise: the registry, token server and storage host of the fault
tests.
 `FakeRegistry` speaks the distribution API well enough to copy images through it (uploads in every mode,
mounts, Range, paging, logins) and inherits the script of `registry_server.FakeServer`. `blobs_served` counts
bytes per digest, so a test can say "every byte moved once".
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from distworker.digest import Digest
from tests.fakes.registry_server import Answer, FakeServer, Seen
from tests.fakes.registry_token import FakeTokenServer

_NAME = r"(?P<name>[a-z0-9._/-]+?)"
_ROUTES = [
    (re.compile(rf"/v2/{_NAME}/blobs/uploads/"), "start"),
    (re.compile(rf"/v2/{_NAME}/blobs/uploads/(?P<id>[a-z0-9-]+)"), "session"),
    (re.compile(rf"/v2/{_NAME}/blobs/(?P<digest>sha[0-9]+:[0-9a-f]+)"), "blob"),
    (re.compile(rf"/v2/{_NAME}/manifests/(?P<reference>[^/]+)"), "manifest"),
    (re.compile(rf"/v2/{_NAME}/tags/list"), "tags"),
]


@dataclass(frozen=True)
class Blob:
    """A blob: bytes, or a generator of `size` bytes for the large ones."""

    size: int
    open: Callable[[int], Iterable[bytes]]


def _bytes(data: bytes) -> Blob:
    return Blob(len(data), lambda offset: [data[offset:]])


def error(
    status: int, code: str, message: str = "", headers: dict[str, str] | None = None, detail: object = None
) -> Answer:
    """An error as the distribution spec spells it."""
    said = {"code": code, "message": message or code.lower(), "detail": detail or {}}
    body = json.dumps({"errors": [said]}).encode()
    return Answer(status, {"Content-Type": "application/json", **(headers or {})}, body)


class FakeStorage(FakeServer):
    """The object storage behind a registry: serves blobs by signed links and refuses anyone who brings a
    login."""

    def __init__(self, registry: FakeRegistry) -> None:
        super().__init__()
        self._registry = registry

    def handle(self, request: Seen) -> Answer:
        """A blob, if the link is signed and no credential came along (S3 answers 400 to two)."""
        if request.authorization or request.headers.get("Cookie"):
            return Answer(
                400, {"Content-Type": "application/xml"}, b"<Error>Only one auth mechanism allowed</Error>"
            )
        if "signature=" not in request.query:
            return Answer(403, {}, b"<Error>AccessDenied</Error>")
        digest = request.path.rpartition("/")[2]
        blob = self._registry.blobs.get(digest)
        return Answer(404) if blob is None else self._registry.serve(request, digest, blob)


class FakeRegistry(FakeServer):
    """One registry.

    `user`, `password`: wants Basic. `tokens`: wants Bearer from that token server (`public` repositories may
    be pulled anonymously there). `storage`: blob GET and HEAD are redirected to it. `ranges`: honour Range.
    Set after making it: `min_chunk` (OCI-Chunk-Min-Length), `longest` (one request's bytes, 413 above it),
    `moving` (only the newest Location works), `subjects` (it indexes them and says OCI-Subject), `etags`
    (manifests have one, and If-Match is honoured), `tag_deletes` (DELETE of a tag is offered).
    """

    def __init__(
        self,
        *,
        user: str = "",
        password: str = "",
        tokens: FakeTokenServer | None = None,
        ranges: bool = True,
        page: int = 0,
    ) -> None:
        super().__init__()
        self.user, self.password, self.tokens = user, password, tokens
        self.ranges, self.page = ranges, page
        self.storage: FakeStorage | None = None
        self.blobs: dict[str, Blob] = {}
        self.holds: defaultdict[str, set[str]] = defaultdict(set)
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.tag_lists: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self.sessions: dict[str, bytearray] = {}
        self.blobs_served: Counter[str] = Counter()
        self.blobs_taken: Counter[str] = Counter()
        self._written: set[tuple[str, str]] = set()
        self.min_chunk, self.longest = "", 0
        self.moving = self.subjects = self.etags = self.tag_deletes = False
        self._state = threading.RLock()
        self._next = 0

    # --- filling ------------------------------------------------------------------------------------------
    def put_blob(self, repository: str, data: bytes) -> Digest:
        """Have this blob in this repository."""
        digest = Digest.of(data)
        self.blobs[digest] = _bytes(data)
        self.holds[repository].add(digest)
        return digest

    def put_stream(
        self, repository: str, digest: Digest, size: int, pieces: Callable[[int], Iterable[bytes]]
    ) -> None:
        """Have a blob too large for memory; `pieces(offset)` yields its bytes from there on."""
        self.blobs[digest] = Blob(size, pieces)
        self.holds[repository].add(digest)

    def put_manifest(self, repository: str, raw: bytes, media_type: str, *tags: str) -> Digest:
        """Have this manifest, under these tags too."""
        digest = Digest.of(raw)
        self.manifests[repository, digest] = (media_type, raw)
        for tag in tags:
            self.tag_lists[repository][tag] = digest
        return digest

    def written(self, repository: str, reference: str) -> bool:
        """Did a client put a manifest under this tag or digest?"""
        return (repository, reference) in self._written

    # --- answering ----------------------------------------------------------------------------------------
    def handle(self, request: Seen) -> Answer:
        """The distribution API."""
        if request.path == "/v2/":
            return self._login(request, "", ()) or Answer(200, {"Content-Type": "application/json"}, b"{}")
        for pattern, name in _ROUTES:
            match = pattern.fullmatch(request.path)
            if match:
                groups = match.groupdict()
                repository = groups.pop("name")
                actions = (
                    ("pull",) if request.method in {"GET", "HEAD"} and name != "session" else ("pull", "push")
                )
                refused = self._login(request, repository, actions)
                if refused:
                    return refused
                with self._state:
                    return getattr(self, f"_{name}")(request, repository, **groups)
        return Answer(404, {"Content-Type": "text/plain"}, b"404 page not found\n")

    def _login(self, request: Seen, repository: str, actions: tuple[str, ...]) -> Answer | None:
        if self.tokens is not None:
            return self._bearer(request, repository, actions, self.tokens)
        if self.user:
            wanted = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            if request.authorization != f"Basic {wanted}":
                return error(401, "UNAUTHORIZED", "", {"WWW-Authenticate": 'Basic realm="fake"'})
        return None

    def _bearer(
        self, request: Seen, repository: str, actions: tuple[str, ...], tokens: FakeTokenServer
    ) -> Answer | None:
        needed = {f"repository:{repository}:{action}" for action in actions} if repository else set()
        for name, value in request.parameters:
            if name == "from" and request.method == "POST":
                needed.add(f"repository:{value}:pull")
        given = tokens.rights(request.authorization.removeprefix("Bearer "))
        if given is not None and needed <= given:
            return None
        scope = f',scope="repository:{repository}:{",".join(actions)}"' if repository else ""
        reason = (
            "" if not request.authorization else ("invalid_token" if given is None else "insufficient_scope")
        )
        said = f',error="{reason}"' if reason else ""
        challenge = f'Bearer realm="{tokens.realm}",service="{tokens.service}"{scope}{said}'
        return error(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": challenge})

    def _blob(self, request: Seen, repository: str, digest: str) -> Answer:
        if digest not in self.holds[repository]:
            return error(404, "BLOB_UNKNOWN")
        if self.storage is not None:
            target = f"{self.storage.url}/bucket/{digest}?signature=SECRET-SIGNATURE&X-Amz-Date=now"
            return Answer(307, {"Location": target, "Set-Cookie": "session=abc; Path=/"})
        return self.serve(request, digest, self.blobs[digest])

    def serve(self, request: Seen, digest: str, blob: Blob) -> Answer:
        """The bytes, or the range of them that was asked for."""
        start, headers = 0, {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
        match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range") or "")
        if match and self.ranges:
            start = int(match[1])
            if start >= blob.size:
                return Answer(416, headers, length=blob.size)
            headers["Content-Range"] = f"bytes {start}-{blob.size - 1}/{blob.size}"

        def pieces() -> Iterable[bytes]:
            for piece in blob.open(start):
                self.blobs_served[digest] += len(piece)
                yield piece

        return Answer(206 if start else 200, headers, pieces, length=blob.size - start)

    def _start(self, request: Seen, repository: str) -> Answer:
        asked = dict(request.parameters)
        if asked.get("mount") in self.holds.get(asked.get("from", ""), ()):
            self.holds[repository].add(asked["mount"])
            return Answer(201, {"Location": f"/v2/{repository}/blobs/{asked['mount']}"})
        self._next += 1
        name = f"upload-{self._next}"
        self.sessions[name] = bytearray()
        headers = {"OCI-Chunk-Min-Length": self.min_chunk} if self.min_chunk else {}
        target = f"/v2/{repository}/blobs/uploads/{name}?_state=SECRET-STATE%3D%3D"
        return Answer(202, {"Location": target, "Range": "0-0", **headers})

    def _session(self, request: Seen, repository: str, id: str) -> Answer:  # noqa: A002
        if id not in self.sessions:
            return error(404, "BLOB_UPLOAD_UNKNOWN")
        if request.method == "DELETE":
            del self.sessions[id]
            return Answer(204)
        held = self.sessions[id]
        newest = f"SECRET-STATE-{len(held)}" if held else "SECRET-STATE=="
        if self.moving and dict(request.parameters).get("_state") != newest:
            return error(404, "BLOB_UPLOAD_UNKNOWN")
        if self.longest and len(request.body) > self.longest:
            return Answer(413, {"Content-Type": "text/html"}, b"<h1>413 Request Entity Too Large</h1>")
        first = (request.headers.get("Content-Range") or str(len(held))).partition("-")[0]
        if request.method == "GET" or first != str(len(held)):
            status = 204 if request.method == "GET" else 416
            return Answer(status, self._where(request, held))
        held += request.body
        if request.method == "PATCH":
            return Answer(202, self._where(request, held))
        digest = dict(request.parameters).get("digest", "")
        data = bytes(self.sessions.pop(id))
        if Digest.of(data) != digest:
            return error(400, "DIGEST_INVALID")
        self.put_blob(repository, data)
        self.blobs_taken[digest] += len(data)
        return Answer(201, {"Location": f"/v2/{repository}/blobs/{digest}", "Docker-Content-Digest": digest})

    @staticmethod
    def _where(request: Seen, held: bytearray) -> dict[str, str]:
        target = f"{request.path}?_state=SECRET-STATE-{len(held)}"
        return {"Location": target, "Range": f"0-{max(len(held) - 1, 0)}"}

    def _manifest(self, request: Seen, repository: str, reference: str) -> Answer:
        if request.method == "PUT":
            return self._take_manifest(request, repository, reference)
        if request.method == "DELETE":
            return self._drop_manifest(repository, reference)
        digest = reference if ":" in reference else self.tag_lists[repository].get(reference, "")
        found = self.manifests.get((repository, digest))
        if found is None:
            return error(404, "MANIFEST_UNKNOWN")
        media_type, raw = found
        headers = {"ETag": f'"{digest}"'} if self.etags else {}
        return Answer(200, {"Content-Type": media_type, "Docker-Content-Digest": digest, **headers}, raw)

    def _drop_manifest(self, repository: str, reference: str) -> Answer:
        tags = self.tag_lists[repository]
        if ":" not in reference:
            if not self.tag_deletes:
                return error(400, "UNSUPPORTED")
            return Answer(202) if tags.pop(reference, None) else error(404, "MANIFEST_UNKNOWN")
        for tag in [tag for tag, digest in tags.items() if digest == reference]:
            del tags[tag]
        gone = self.manifests.pop((repository, reference), None)
        return Answer(202) if gone else error(404, "MANIFEST_UNKNOWN")

    def _take_manifest(self, request: Seen, repository: str, reference: str) -> Answer:
        document = json.loads(request.body)
        condition = request.headers.get("If-Match")
        if self.etags and condition and condition != f'"{self.tag_lists[repository].get(reference)}"':
            return error(412, "PRECONDITION_FAILED")
        for entry in [document.get("config"), *(document.get("layers") or [])]:
            if entry and not entry.get("urls") and entry["digest"] not in self.holds[repository]:
                return error(400, "MANIFEST_BLOB_UNKNOWN", detail={"digest": entry["digest"]})
        for entry in document.get("manifests", []):
            held = (repository, entry["digest"]) in self.manifests
            if not held and entry["digest"] not in self.holds[repository]:
                return error(400, "MANIFEST_BLOB_UNKNOWN", detail={"digest": entry["digest"]})
        tags = () if ":" in reference else (reference,)
        self._written.add((repository, reference))
        digest = self.put_manifest(repository, request.body, request.headers.get("Content-Type") or "", *tags)
        headers = {"Location": f"/v2/{repository}/manifests/{digest}", "Docker-Content-Digest": digest}
        if self.subjects and document.get("subject"):
            headers["OCI-Subject"] = document["subject"]["digest"]
        return Answer(201, headers)

    def _tags(self, request: Seen, repository: str) -> Answer:
        known = sorted(self.tag_lists.get(repository, ()))
        if not known and not self.holds.get(repository):
            return error(404, "NAME_UNKNOWN")
        headers = {"Content-Type": "application/json"}
        asked = dict(request.parameters)
        rest = [tag for tag in known if tag > asked.get("cursor", "")]
        if self.page and len(rest) > self.page:
            rest = rest[: self.page]
            headers["Link"] = f'</v2/{repository}/tags/list?n={self.page}&cursor={rest[-1]}>; rel="next"'
        return Answer(200, headers, json.dumps({"name": repository, "tags": rest or None}).encode())
