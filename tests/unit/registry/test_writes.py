"""Sending blobs and manifests to registries that forget, refuse and hang up."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator

import pytest

from distworker.digest import Digest
from distworker.errors import (
    BlobUnknown,
    Denied,
    DigestMismatch,
    DistworkerError,
    InternalError,
    ManifestTooLarge,
    ProtocolError,
    Quota,
    RedirectRefused,
    RepositoryUnknown,
    StoreUnavailable,
    TagImmutable,
    Throttled,
    TypeRefused,
    Unavailable,
    UploadSessionLost,
)
from distworker.manifest import Manifest, parse_manifest
from distworker.mediatypes import OCI_MANIFEST
from distworker.registry.base import Body, Chunk
from tests.fakes.registry import error
from tests.fakes.registry_server import PASS, Answer, FakeServer, Seen, Twist
from tests.unit.registry.conftest import Rig, Sent, fails

RigMaker = Callable[..., Rig]
DATA = random.Random(3).randbytes(100_000)
DIGEST = Digest.of(DATA)
UPLOADS = "/v2/a/b/blobs/uploads/"


def send(r: Rig, data: bytes = DATA) -> int:
    """Upload `data` in three chunks; how often the body was opened."""
    opened = 0

    def body() -> Body:
        nonlocal opened
        opened += 1
        third = len(data) // 3 + 1
        return Sent(*[data[at : at + third] for at in range(0, len(data), third)])

    r.client.upload_blob("a/b", Digest.of(data), len(data), body)
    assert r.fake.holds["a/b"] >= {Digest.of(data)}
    return opened


def verbs(r: Rig) -> list[str]:
    """The methods sent, in order."""
    return [one.method for one in r.fake.seen]


# --- the good way -------------------------------------------------------------------------------------------
def test_u02_one_post_and_one_put(rig: RigMaker) -> None:
    """Exact length, never chunked, the Location's query untouched and the digest appended."""
    r = rig()
    assert send(r) == 1
    post, put = r.fake.seen
    assert (post.method, post.headers["Content-Length"]) == ("POST", "0")
    assert put.method == "PUT"
    assert put.query == f"_state=SECRET-STATE%3D%3D&digest={DIGEST}"
    assert put.headers["Content-Length"] == str(len(DATA))
    assert put.headers.get("Transfer-Encoding") is None
    assert put.body == DATA


@pytest.mark.parametrize(
    "location",
    [
        "{url}{path}?_state=a%2Bb%3D%3D",
        "{path}?_state=a%2Bb%3D%3D",
        "{host}{path}?_state=a%2Bb%3D%3D",
        "//{host}{path}",
        "upload-1",
    ],
)
def test_u02_every_form_of_location_is_understood(rig: RigMaker, location: str) -> None:
    """Absolute, path-only, without a scheme, relative; with and without a query."""
    r = rig()
    path = f"{UPLOADS}upload-1"
    given = location.format(url=r.fake.url, host=r.fake.host, path=path)
    r.fake.on("POST", UPLOADS, Twist(headers={"Location": given}))
    send(r)
    state = "_state=a%2Bb%3D%3D&" if "_state" in location else ""
    assert (r.fake.seen[1].path, r.fake.seen[1].query) == (path, f"{state}digest={DIGEST}")


@pytest.mark.parametrize("data", [b"", b"{}"])
def test_u15_empty_and_tiny_blobs_have_a_length(rig: RigMaker, data: bytes) -> None:
    """Zero bytes are Content-Length: 0, not an empty chunked body."""
    r = rig()
    send(r, data)
    assert r.fake.seen[-1].headers["Content-Length"] == str(len(data))
    assert r.fake.seen[-1].headers.get("Transfer-Encoding") is None


def test_a_given_session_is_used(rig: RigMaker) -> None:
    """A refused mount's session saves the second POST."""
    r = rig()
    session = r.client.mount_blob("a/b", DIGEST, "other/x")
    assert session is not None
    assert "SECRET" not in repr(session)
    r.client.upload_blob("a/b", DIGEST, len(DATA), lambda: Sent(DATA), session)
    assert verbs(r) == ["POST", "PUT"]


def test_a_cancelled_session_is_gone(rig: RigMaker) -> None:
    """And cancelling twice, or at a dead registry, raises nothing."""
    r = rig()
    session = r.client.start_upload("a/b")
    r.client.cancel_upload(session)
    assert r.fake.sessions == {}
    r.fake.always("DELETE", "/", Answer(hangup=True))
    r.client.cancel_upload(session)


# --- Location elsewhere -------------------------------------------------------------------------------------
class Bucket(FakeServer):
    """A storage host that takes uploads for a registry."""

    r: Rig

    def __init__(self, status: int = 201) -> None:
        super().__init__()
        self.status = status

    def handle(self, request: Seen) -> Answer:
        if self.status == 201:
            self.r.fake.put_blob("a/b", request.body)
        return Answer(self.status, {"WWW-Authenticate": 'Basic realm="give me"'})


def test_u03_another_host_gets_the_bytes_and_no_login(
    rig: RigMaker, serve: Callable[[FakeServer], FakeServer]
) -> None:
    """The Location itself is the permission there."""
    bucket = Bucket()
    serve(bucket)
    r = bucket.r = rig(user="me", password="SECRET-pw", login=("me", "SECRET-pw"), near=[bucket])
    r.client.ping()
    r.fake.on("POST", UPLOADS, Twist(headers={"Location": f"{bucket.url}/up?signature=SECRET-x"}))
    send(r)
    (seen,) = bucket.seen
    assert seen.authorization == ""
    assert seen.body == DATA


def test_u03_another_host_that_asks_for_a_login_does_not_get_one(
    rig: RigMaker, serve: Callable[[FakeServer], FakeServer]
) -> None:
    """A 401 from elsewhere is never answered."""
    bucket = Bucket(401)
    serve(bucket)
    r = bucket.r = rig(user="me", password="SECRET-pw", login=("me", "SECRET-pw"), near=[bucket])
    r.client.ping()
    r.fake.always("POST", UPLOADS, Twist(headers={"Location": f"{bucket.url}/up?signature=SECRET-x"}))
    with pytest.raises(DistworkerError):
        send(r)
    assert {one.authorization for one in bucket.seen} == {""}


@pytest.mark.parametrize("location", ["ftp://x/", "https://u:SECRET@x/", "/" + "x" * 20_000, None])
def test_u03_an_unusable_location_is_a_typed_error(rig: RigMaker, location: str | None) -> None:
    """Other schemes, user names, endless text, none at all."""
    r = rig()
    twist = Twist(headers={"Location": location}) if location else Twist(drop=("Location",))
    r.fake.always("POST", UPLOADS, twist)
    with fails(ProtocolError, repository="a/b", phase="start upload"):
        send(r)


def test_a_write_is_never_turned_into_a_read(rig: RigMaker) -> None:
    """302 on a PUT would lose the body; 307 sends it again, in full."""
    r = rig()
    r.fake.on("PUT", UPLOADS, Answer(302, {"Location": "/v2/elsewhere"}))
    with fails(RedirectRefused):
        send(r)
    r.fake.on("PUT", UPLOADS, Answer(307, {"Location": f"{UPLOADS}upload-2?moved=1&digest={DIGEST}"}))
    assert send(r) == 2
    assert r.fake.seen[-1].body == DATA


# --- other modes --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "refusal", [Answer(404), Answer(405), Answer(413), Answer(416), error(400, "UNSUPPORTED")]
)
def test_u14_a_registry_that_refuses_one_put_gets_a_patch(rig: RigMaker, refusal: Answer) -> None:
    """And is remembered: the second blob goes that way at once."""
    r = rig()
    r.fake.on("PUT", UPLOADS, refusal)
    assert send(r) == 2
    assert [verb for verb in verbs(r) if verb != "DELETE"] == ["POST", "PUT", "POST", "PATCH", "PUT"]
    r.fake.seen.clear()
    send(r, b"another blob")
    assert verbs(r) == ["POST", "PATCH", "PUT"]


def test_u04_the_newest_location_counts(rig: RigMaker) -> None:
    """The commit goes where the PATCH's reply points, and old addresses may die."""
    r = rig(upload_mode="patch")
    send(r)
    patch, put = r.fake.seen[1:]
    assert (patch.method, patch.headers["Content-Length"]) == ("PATCH", str(len(DATA)))
    assert put.query == f"_state=SECRET-STATE-{len(DATA)}&digest={DIGEST}"
    assert put.headers["Content-Length"] == "0"


@pytest.mark.parametrize("twist", [Twist(status=201), Twist(status=204), Twist(drop=("Location", "Range"))])
def test_u14_quirky_patch_replies_are_fine(rig: RigMaker, twist: Twist) -> None:
    """ECR says 201, others 204 or no Location."""
    r = rig(upload_mode="patch")
    r.fake.on("PATCH", UPLOADS, twist)
    send(r)


@pytest.mark.parametrize("status", [200, 202, 204])
def test_u14_a_put_that_is_not_201_is_checked(rig: RigMaker, status: int) -> None:
    """Other successes count when the blob is really there."""
    r = rig()
    r.fake.on("PUT", UPLOADS, Twist(status=status))
    send(r)
    assert verbs(r) == ["POST", "PUT", "HEAD"]


def test_a_put_that_only_claims_success_does_not_count(rig: RigMaker) -> None:
    """A web server that says 200 to everything stored nothing."""
    r = rig()
    r.fake.always("PUT", UPLOADS, Answer(200))
    with fails(ProtocolError):
        send(r)


# --- unknown outcomes ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "lost",
    [
        Twist(hangup=True),
        Twist(status=500, body=b"oops"),
        Twist(status=404, body=b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}'),
    ],
)
def test_u08_a_commit_whose_reply_is_lost_is_found_by_head(rig: RigMaker, lost: Twist) -> None:
    """Stored is stored: the blob is sent once."""
    r = rig()
    r.fake.on("PUT", UPLOADS, lost)
    assert send(r) == 1
    assert verbs(r)[:3] == ["POST", "PUT", "HEAD"]


@pytest.mark.parametrize(
    "lost",
    [
        Answer(hangup=True),
        Answer(502),
        error(404, "BLOB_UPLOAD_UNKNOWN"),
        error(404, "BLOB_UPLOAD_INVALID"),
        Answer(read=20_000, hangup=True),
    ],
)
def test_u07_a_lost_session_is_started_over_with_a_fresh_body(rig: RigMaker, lost: Answer) -> None:
    """Not stored: a new session, the whole body again."""
    r = rig()
    r.fake.on("PUT", UPLOADS, lost)
    assert send(r) == 2
    assert r.fake.seen[-1].body == DATA


def test_u07_a_registry_that_keeps_forgetting_is_given_up(rig: RigMaker) -> None:
    """Three sessions, then typed and retryable."""
    r = rig()
    r.fake.always("PUT", UPLOADS, error(404, "BLOB_UPLOAD_UNKNOWN"))
    with fails(UploadSessionLost, repository="a/b") as caught:
        send(r)
    assert r.fake.count("PUT") == 3
    assert caught[0].retry


def test_u08_a_registry_that_keeps_hanging_up_is_given_up(rig: RigMaker) -> None:
    """The same for broken connections."""
    r = rig()
    r.fake.always("PUT", UPLOADS, Answer(hangup=True))
    with fails(Unavailable):
        send(r)
    assert r.fake.count("PUT") == 3


def test_u13_wrong_bytes_are_sent_again_once(rig: RigMaker) -> None:
    """DIGEST_INVALID once heals, always is final."""
    r = rig()
    r.fake.on("PUT", UPLOADS, error(400, "DIGEST_INVALID"))
    assert send(r) == 2
    r.fake.always("PUT", UPLOADS, error(400, "DIGEST_INVALID"))
    with fails(DigestMismatch, registry_code="DIGEST_INVALID"):
        send(r, b"other bytes")
    assert r.fake.count("PUT") == 4


def test_another_digest_in_the_reply_does_not_count(rig: RigMaker) -> None:
    """201 for something else is not our blob."""
    r = rig()
    r.fake.always("PUT", UPLOADS, Answer(201, {"Docker-Content-Digest": Digest.of(b"other")}))
    with fails(DigestMismatch):
        send(r)


def test_throttling_gives_the_work_back(rig: RigMaker) -> None:
    """A body is not sent again and again into a limit."""
    r = rig()
    r.fake.always("PUT", UPLOADS, Answer(429, {"Retry-After": "60"}))
    with fails(Throttled, delay=60.0):
        send(r)
    assert r.fake.count("PUT") == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(403, "DENIED"), Denied),
        (error(403, "DENIED", "project quota exceeded"), Quota),
        (Answer(507), Quota),
        (error(404, "NAME_UNKNOWN"), RepositoryUnknown),
        (Answer(400, {}, b"what?"), ProtocolError),
    ],
)
def test_refusals_of_the_session_are_typed(
    rig: RigMaker, answer: Answer, kind: type[DistworkerError]
) -> None:
    """Each names the repository and what to do."""
    r = rig()
    r.fake.always("POST", UPLOADS, answer)
    with fails(kind, repository="a/b", status=answer.status):
        send(r)


# --- bodies -------------------------------------------------------------------------------------------------
class Broken:
    """A body that fails in the middle, or does not keep its word."""

    def __init__(self, chunks: list[bytes], failure: Exception | None = None) -> None:
        self.chunks, self.failure = chunks, failure

    def __len__(self) -> int:
        return len(DATA)

    def __iter__(self) -> Iterator[Chunk]:
        yield from self.chunks
        if self.failure:
            raise self.failure


@pytest.mark.parametrize(
    "failure", [StoreUnavailable("the store is gone"), OSError("disk"), UploadSessionLost("used up")]
)
def test_a_failing_body_speaks_for_itself(rig: RigMaker, failure: Exception) -> None:
    """A fault of ours is not reported as the registry's, and nothing is retried here."""
    r = rig()
    with pytest.raises(type(failure)) as info:
        r.client.upload_blob("a/b", DIGEST, len(DATA), lambda: Broken([DATA[:10]], failure))
    assert info.value is failure
    assert r.fake.holds["a/b"] == set()


@pytest.mark.parametrize("chunks", [[DATA, b"x"], [DATA[:-1]]])
def test_a_body_of_another_length_is_never_sent_as_if_it_fitted(rig: RigMaker, chunks: list[bytes]) -> None:
    """Too many bytes would run into the next request, too few would hang."""
    r = rig()
    with pytest.raises(InternalError):
        r.client.upload_blob("a/b", DIGEST, len(DATA), lambda: Broken(chunks))


def test_a_body_that_exists_once_is_not_asked_twice_in_vain(rig: RigMaker) -> None:
    """The tee's second opening raises, and that is what the caller sees."""
    r = rig()
    r.fake.on("PUT", UPLOADS, Answer(502))
    bodies = [Sent(DATA)]

    def once() -> Body:
        if not bodies:
            raise UploadSessionLost("the stream is used up")
        return bodies.pop()

    with pytest.raises(UploadSessionLost, match="used up"):
        r.client.upload_blob("a/b", DIGEST, len(DATA), once)


# --- mount --------------------------------------------------------------------------------------------------
def test_u10_mount(rig: RigMaker) -> None:
    """201: nothing to send."""
    r = rig()
    digest = r.fake.put_blob("old/x", DATA)
    assert r.client.mount_blob("a/b", digest, "old/x") is None
    assert r.fake.seen[0].parameters == [("mount", digest), ("from", "old/x")]
    assert verbs(r) == ["POST"]


@pytest.mark.parametrize("status", [400, 403, 404, 405])
def test_u12_a_refused_mount_gives_an_ordinary_session(rig: RigMaker, status: int) -> None:
    """No job fails for it."""
    r = rig()
    r.fake.on("POST", "mount=", Answer(status))
    session = r.client.mount_blob("a/b", DIGEST, "old/x")
    assert session is not None
    r.client.upload_blob("a/b", DIGEST, len(DATA), lambda: Sent(DATA), session)
    assert verbs(r) == ["POST", "POST", "PUT"]


# --- manifests ----------------------------------------------------------------------------------------------
def a_manifest(r: Rig, **extra: object) -> Manifest:
    """A manifest whose config the registry holds."""
    digest = r.fake.put_blob("a/b", b"{}")
    document = {
        "schemaVersion": 2,
        "config": {"mediaType": "x/y", "digest": digest, "size": 2},
        "layers": [],
        **extra,
    }
    return parse_manifest(json.dumps(document, indent=1).encode(), OCI_MANIFEST)


def test_a_manifest_is_put_byte_for_byte(rig: RigMaker) -> None:
    """Its own type, no parameters, the same bytes."""
    r = rig()
    manifest = a_manifest(r)
    r.client.put_manifest("a/b", "v1", manifest)
    assert r.fake.seen[0].headers["Content-Type"] == OCI_MANIFEST
    assert r.fake.seen[0].body == manifest.raw
    assert list(r.client.tags("a/b")) == ["v1"]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(400, "MANIFEST_BLOB_UNKNOWN"), BlobUnknown),
        (Answer(415), TypeRefused),
        (error(412, "PRECONDITION", "tag is immutable"), TagImmutable),
        (error(400, "ImageTagAlreadyExists", "The tag already exists"), TagImmutable),
        (Answer(201, {"Docker-Content-Digest": Digest.of(b"rewritten")}), DigestMismatch),
        (Answer(200, {"Content-Type": "text/html"}, b"<html>"), ProtocolError),
        (Answer(413), ManifestTooLarge),
        (error(403, "DENIED"), Denied),
    ],
)
def test_p04_refusals_of_a_manifest_are_typed(
    rig: RigMaker, answer: Answer, kind: type[DistworkerError]
) -> None:
    """Each names repository and tag."""
    r = rig()
    manifest = a_manifest(r)
    r.fake.always("PUT", "/manifests/", answer)
    with fails(kind, repository="a/b", reference="v1", phase="put manifest"):
        r.client.put_manifest("a/b", "v1", manifest)


def test_a_manifest_put_is_tried_again(rig: RigMaker) -> None:
    """It is small and says the same each time."""
    r = rig()
    manifest = a_manifest(r)
    r.fake.on("PUT", "/manifests/", Answer(503), Answer(hangup=True), PASS)
    r.client.put_manifest("a/b", "v1", manifest)
    assert r.fake.count("PUT") == 3
