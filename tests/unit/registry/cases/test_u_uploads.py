"""Uploads, case by case: registries that move, forget, refuse, lie about ranges and lose replies."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from distworker.digest import Digest
from distworker.errors import (
    AddressRefused,
    DigestMismatch,
    DistworkerError,
    ProtocolError,
    RedirectRefused,
    Unauthorized,
    UploadSessionLost,
)
from distworker.limits import MIB
from distworker.mediatypes import OCI_MANIFEST
from distworker.registry import waits
from distworker.registry.base import Body
from distworker.registry.client import Client
from distworker.registry.credentials import Credential, Login
from distworker.registry.learned import MemoryFacts
from distworker.registry.quirks import Quirks
from distworker.registry.sessions import next_byte
from distworker.registry.ways import Ways
from tests.fakes.meddle import meddle
from tests.fakes.registry import FakeRegistry, error
from tests.fakes.registry_server import PASS, Answer, Seen, Twist
from tests.fakes.world import World
from tests.unit.registry.conftest import Sent

DATA = random.Random(5).randbytes(100_000)
DIGEST = Digest.of(DATA)
CHUNK = 40_000
CHUNKED = {"quirks": Quirks(upload_mode="chunked", chunk_bytes=CHUNK)}
NAME = "team/app"
UPLOADS = f"/v2/{NAME}/blobs/uploads/"
LOGIN = ("me", "SECRET-PASSWORD")
GONE = ("BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID")


def send(client: Client, data: bytes = DATA, **more: Any) -> list[int]:
    """Upload `data`; the offsets at which its body was opened."""
    opened: list[int] = []

    def body(offset: int) -> Body:
        opened.append(offset)
        rest = data[offset:]
        return Sent(*[rest[at : at + 7_000] for at in range(0, len(rest), 7_000)])

    client.upload_blob(NAME, Digest.of(data), len(data), body, **more)
    return opened


def arrived(registry: FakeRegistry, data: bytes = DATA) -> bool:
    """Does the repository hold these very bytes, and is no session left open?"""
    digest = Digest.of(data)
    held = b"".join(registry.blobs[digest].open(0)) if digest in registry.holds[NAME] else None
    return held == data and not registry.sessions


def verbs(registry: FakeRegistry) -> list[str]:
    """The methods sent, in order."""
    return [one.method for one in registry.seen]


def sent(registry: FakeRegistry, method: str) -> list[Seen]:
    """The requests of `method` to upload sessions."""
    return [one for one in registry.seen if one.method == method and "/blobs/uploads/" in one.path]


def pushable(registry: FakeRegistry, repository: str, *layers: bytes) -> Digest:
    """An image with these layers, tagged v1."""
    entries = [
        {"mediaType": "x/layer", "digest": registry.put_blob(repository, one), "size": len(one)}
        for one in layers
    ]
    config = {"mediaType": "x/config", "digest": registry.put_blob(repository, b"{}"), "size": 2}
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": entries}
    return registry.put_manifest(repository, json.dumps(document).encode(), OCI_MANIFEST, "v1")


def test_u01_exists_skip(world: World) -> None:
    """What the destination has is not sent, and the manifest still is."""
    # Given an image of ten blobs, nine of which the destination has
    layers = [b"layer %d" % number * 10_000 for number in range(9)]
    digest = pushable(world.reg, NAME, *layers)
    for data in (b"{}", *layers[:8]):
        world.reg2.put_blob("copy/app", data)
    # When it is copied
    view, _ = world.copy("reg.example/team/app:v1", "reg2.example/copy/app:v1")
    # Then one blob was uploaded, and the tag leads to the whole image
    assert view.state == "done"
    assert len(sent(world.reg2, "PUT")) == 1
    assert dict(world.reg2.blobs_taken) == {Digest.of(layers[8]): len(layers[8])}
    assert world.reg2.tag_lists["copy/app"] == {"v1": digest}


@pytest.mark.parametrize("query", ["?_state=a%2Bb%3D%3D%7E", ""], ids=["query", "no query"])
@pytest.mark.parametrize(
    "form",
    ["{path}", "https://reg.example{path}", "https://reg.example:443{path}", "reg.example{path}", "upload-1"],
    ids=["path", "absolute", "port", "no scheme", "relative"],
)
def test_u02_monolithic_relative_location(world: World, form: str, query: str) -> None:
    """Every form of Location leads to the exact address, its query untouched, the digest appended."""
    # Given a session at such a Location
    location = form.format(path=f"{UPLOADS}upload-1") + query
    world.reg.on("POST", UPLOADS, Twist(headers={"Location": location}))
    # When a blob is sent
    opened = send(world.client())
    # Then one PUT went there, with an exact length and no transfer coding
    (put,) = sent(world.reg, "PUT")
    assert (put.path, put.query) == (
        f"{UPLOADS}upload-1",
        f"{query[1:]}{'&' if query else ''}digest={DIGEST}",
    )
    assert put.headers["Content-Length"] == str(len(DATA))
    assert put.headers.get("Transfer-Encoding") is None
    assert put.body == DATA
    assert opened == [0]
    assert arrived(world.reg)


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("https://store.example/up?signature=SECRET-SIGNATURE", None),
        ("https://evil.example/up", Unauthorized),
        ("https://inner.example/up", AddressRefused),
        ("https://169.254.169.254/up", AddressRefused),
        ("https://[::1]/up", AddressRefused),
        ("http://store.example/up", RedirectRefused),
        ("https://store.example:8443/up", RedirectRefused),
        ("ftp://store.example/up", ProtocolError),
        ("https://me:SECRET@store.example/up", ProtocolError),
    ],
    ids=["store", "evil", "private", "metadata", "loopback", "http", "port", "ftp", "userinfo"],
)
def test_u03_location_other_host(world: World, location: str, kind: type[DistworkerError] | None) -> None:
    """Another host gets the bytes without a login, is never given one, and is never an inward one."""
    # Given a registry with a login that points uploads elsewhere
    world.reg.user, world.reg.password = LOGIN
    world.network.name("inner.example", "10.0.0.7")
    world.reg.always("POST", UPLOADS, Twist(headers={"Location": location}))
    world.store.always("PUT", "/up", Answer(201))
    challenge = {"WWW-Authenticate": 'Basic realm="give me"'}
    world.evil.always("*", "/up", Answer(401, challenge))
    client = world.client(login=LOGIN)
    # When a blob is sent
    # Then the public store has it without a credential; all else is a typed refusal
    if kind is None:
        send(client)
        (put,) = world.store.seen
        assert (put.body, put.query) == (DATA, f"signature=SECRET-SIGNATURE&digest={DIGEST}")
        assert put.authorization == ""
    else:
        with world.fails(kind, repository=NAME):
            send(client)
        assert world.store.seen == []
        assert {one.authorization for one in world.evil.seen} <= {""}


def test_u03_no_token_is_made_for_another_host(world: World) -> None:
    """A Location elsewhere is its own permission: the token server is asked for the registry alone."""
    # Given a registry with tokens that points uploads to its storage
    world.reg.tokens = world.auth
    world.reg.always("POST", UPLOADS, Twist(headers={"Location": "https://store.example/up?x=SECRET"}))
    world.store.always("PATCH", "/up", Answer(202))
    world.store.always("PUT", "/up", Answer(201))
    world.store.always("DELETE", "/up", Answer(204))
    client = world.client(login=LOGIN, upload_mode="patch")
    # When a blob is sent there, and a session closed
    send(client)
    client.cancel_upload(client.start_upload(NAME))
    # Then one token was made, for this repository, and none was shown
    assert [value for one in world.auth.seen for name, value in one.parameters if name == "scope"] == [
        "repository:team/app:pull,push"
    ]
    assert [one.method for one in world.store.seen] == ["PATCH", "PUT", "DELETE"]
    assert {one.authorization for one in world.store.seen} == {""}


@pytest.mark.parametrize("least", ["", "60000", str(10 << 40)], ids=["own size", "minimum", "absurd"])
def test_u04_chunked_moving_location(world: World, monkeypatch: pytest.MonkeyPatch, least: str) -> None:
    """Chunks follow the newest Location, are as large as the registry wants, and never absurdly so."""
    # Given a registry whose old Locations die, and that asks for a smallest chunk
    monkeypatch.setattr("distworker.registry.ways.CHUNK_CEILING", 80_000)
    world.reg.moving, world.reg.min_chunk = True, least
    # When a blob is sent in chunks
    opened = send(world.client(**CHUNKED))
    # Then each PATCH is one chunk at the newest Location, and the body was opened once
    size = {"": CHUNK, "60000": 60_000}.get(least, 80_000)
    patches = sent(world.reg, "PATCH")
    starts = range(0, len(DATA), size)
    ends = [min(start + size, len(DATA)) - 1 for start in starts]
    assert [one.headers["Content-Range"] for one in patches] == [
        f"{start}-{end}" for start, end in zip(starts, ends, strict=True)
    ]
    assert [one.headers["Content-Length"] for one in patches] == [
        str(end - start + 1) for start, end in zip(starts, ends, strict=True)
    ]
    assert opened == [0]
    assert arrived(world.reg)


def test_u04_an_absurd_chunk_is_capped_in_earnest() -> None:
    """10 TiB as OCI-Chunk-Min-Length makes chunks of 256 MiB, 10 MiB ones of what it says."""
    ways = Ways("reg.example", lambda: Quirks(chunk_bytes=1 * MIB), MemoryFacts())
    assert [ways.chunk(least) for least in (0, 10 * MIB, 10 << 40)] == [1 * MIB, 10 * MIB, 256 * MIB]


@pytest.mark.parametrize("told", ["status", "refusal itself"])
def test_u05_416_then_status(world: World, told: str) -> None:
    """A refused chunk of which half is stored goes on with the other half."""

    # Given a registry that stores half of the second chunk and then refuses it
    def half(request: Seen) -> Answer:
        (held,) = world.reg.sessions.values()
        held += request.body[: CHUNK // 2]
        return Answer(416, {"Range": f"0-{len(held) - 1}", "Location": f"{request.path}?_state=SECRET-half"})

    meddle(world.reg, "PATCH", UPLOADS, None, half)
    if told == "refusal itself":
        world.reg.always("GET", UPLOADS, Answer(405))
    # When a blob is sent in chunks
    opened = send(world.client(**CHUNKED))
    # Then it goes on at the first byte that is missing, in the same session
    ranges = [one.headers["Content-Range"] for one in sent(world.reg, "PATCH")]
    assert ranges == ["0-39999", "40000-79999", "60000-99999"]
    assert world.reg.count("GET", UPLOADS) == 1
    assert len(sent(world.reg, "POST")) == 1
    assert opened == [0, 60_000]
    assert arrived(world.reg)


@pytest.mark.parametrize("stored", [0, 1])
@pytest.mark.parametrize("range_header", [True, False])
@pytest.mark.parametrize("chunk", [1, CHUNK])
def test_u06_range_zero_ambiguity(world: World, stored: int, range_header: bool, chunk: int) -> None:
    """`Range: 0-0` may mean nothing or one byte: the session is started over, and no byte is off."""

    # Given a connection that breaks after none or one byte was stored
    def broken(request: Seen) -> Answer:
        (held,) = world.reg.sessions.values()
        held += request.body[:stored]
        return Answer(hangup=True)

    meddle(world.reg, "PATCH", UPLOADS, broken)
    if not range_header:
        world.reg.always("GET", UPLOADS, Twist(drop=("Range",)))
    data = DATA if chunk > 1 else b"xyz"
    # When a blob is sent in chunks
    quirks = Quirks(upload_mode="chunked", chunk_bytes=chunk)
    opened = send(world.client(quirks=quirks), data)
    # Then a second session took all of it
    assert len(sent(world.reg, "POST")) == 2
    assert opened == [0, 0]
    assert arrived(world.reg, data)


@pytest.mark.parametrize("code", GONE)
@pytest.mark.parametrize("where", ["patch", "status"])
@pytest.mark.parametrize("times", [1, 2, 99])
def test_u07_session_lost(world: World, code: str, where: str, times: int) -> None:
    """A forgotten session is opened again, at most three in all."""
    # Given a registry that forgets sessions when patched, or when asked about them
    forgotten = [error(404, code)] * times
    if where == "status":
        world.reg.on("PATCH", UPLOADS, *([Answer(502)] * times))
        world.reg.on("GET", UPLOADS, *forgotten)
    else:
        world.reg.on("PATCH", UPLOADS, *forgotten)
    client = world.client(**CHUNKED)
    # When a blob is sent in chunks
    # Then it arrives within three sessions, or the loss is told
    if times < 3:
        send(client)
        assert arrived(world.reg)
    else:
        with world.fails(UploadSessionLost, repository=NAME, status=404) as caught:
            send(client)
        assert caught[0].retry
        assert world.reg.sessions == {}
    assert len(sent(world.reg, "POST")) == min(times + 1, 3)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("quirks", [Quirks(), Quirks(upload_mode="patch"), CHUNKED["quirks"]])
def test_u08_commit_timeout_but_stored(
    world: World, monkeypatch: pytest.MonkeyPatch, stored: bool, quirks: Quirks
) -> None:
    """A commit that is silent for too long is settled by HEAD: stored is stored, else it goes once more."""
    # Given a commit whose reply does not come in time, and a registry that forgets the session after it
    monkeypatch.setattr(waits, "COMMIT_TIMEOUT", 0.3)
    silent = Twist(stall=60) if stored else Answer(stall=60)
    world.reg.on("PUT", UPLOADS, silent)
    # When a blob is sent
    opened = send(world.client(quirks=quirks))
    # Then nothing is sent again if it was stored; without it the commit or the blob once
    assert arrived(world.reg)
    assert opened == ([0] if stored or quirks.upload_mode != "auto" else [0, 0])
    assert len(sent(world.reg, "PUT")) == (1 if stored else 2)
    assert len(sent(world.reg, "POST")) == len(opened)


@pytest.mark.parametrize("mode", ["monolithic", "patch", "chunked"])
def test_u09_token_expired_at_commit(world: World, mode: Any) -> None:
    """A login that ends during the upload is renewed, and only the commit is repeated."""
    # Given a token that is no longer good when the blob is closed
    world.reg.tokens = world.auth

    def expire(request: Seen) -> None:
        world.auth.issued.clear()

    said = frozenset({"upload_mode", "chunk_bytes"})  # else the token server's name would choose
    client = world.client(login=LOGIN, quirks=Quirks(upload_mode=mode, chunk_bytes=CHUNK, said=said))
    session = client.start_upload(NAME)
    world.auth.seen.clear()
    posts = len(sent(world.reg, "POST"))
    if mode == "monolithic":
        expire(world.reg.seen[0])
    else:
        meddle(
            world.reg, "PATCH", UPLOADS, *([None] * (2 if mode == "chunked" else 0)), _after(world, expire)
        )
    # When a blob is sent
    opened = send(client, session=session)
    # Then the login was renewed; a whole body is opened again, a commit without one sends no byte twice
    puts = sent(world.reg, "PUT")
    assert len(puts) == 2
    if mode == "monolithic":
        assert opened == [0, 0]
    else:
        assert opened == [0]
        assert [one.headers["Content-Length"] for one in puts] == ["0", "0"]
        assert len(sent(world.reg, "PATCH")) == (3 if mode == "chunked" else 1)
    assert (len(sent(world.reg, "POST")), len(world.auth.seen)) == (posts, 1)
    assert arrived(world.reg)


class _Minted:
    """A login that is made anew when the registry says that it is over."""

    hosts = ("reg.example",)

    def __init__(self) -> None:
        self.made = 1

    @property
    def password(self) -> str:
        return f"SECRET-{self.made}"

    def open(self, host: str, key: str) -> Credential:
        return Login(self.hosts, "AWS", self.password).open(host, key)

    def refused(self, host: str, credential: Credential) -> None:
        self.made += 1


@pytest.mark.parametrize("mode", ["monolithic", "patch", "chunked"])
def test_u09_login_expired_at_commit_is_told_by_403(world: World, mode: Any) -> None:
    """ECR answers 403 when a login is over: a new one is made, and only the commit is repeated."""
    # Given a registry whose login ends at the closing PUT, and that says so as ECR does
    minted = _Minted()
    world.reg.user, world.reg.password = "AWS", minted.password

    def expire(request: Seen) -> Answer:
        world.reg.password = "SECRET-2"
        return error(403, "DENIED", "Your authorization token has expired. Reauthenticate and try again.")

    meddle(world.reg, "PUT", UPLOADS, expire)
    said = frozenset({"upload_mode", "chunk_bytes"})
    quirks = Quirks(upload_mode=mode, chunk_bytes=CHUNK, said=said)
    client = world.pool(logins={"reg.example": minted}, quirks=quirks).client("reg.example")
    # When a blob is sent
    opened = send(client)
    # Then one login was made, and a commit without a body sends no byte twice
    assert minted.made == 2
    assert opened == ([0, 0] if mode == "monolithic" else [0])
    assert len(sent(world.reg, "PUT")) == 2
    assert len(sent(world.reg, "PATCH")) == {"monolithic": 0, "patch": 1, "chunked": 3}[mode]
    assert arrived(world.reg)


def _after(world: World, action: Callable[[Seen], None]) -> Callable[[Seen], Answer]:
    """Answer as the registry does, then do something."""

    def run(request: Seen) -> Answer:
        answer = FakeRegistry.handle(world.reg, request)
        action(request)
        return answer

    return run


def test_u10_mount_created(world: World) -> None:
    """201: one POST with both names and both scopes, and no byte is sent."""
    # Given a blob in another repository of a registry with tokens
    world.reg.tokens = world.auth
    world.reg.put_blob("base/image", DATA)
    client = world.client(login=LOGIN)
    # When it is mounted
    assert client.mount_blob(NAME, DIGEST, ["base/image"]) is None
    # Then the token was for both repositories, push first
    (asked,) = [one.parameters for one in world.auth.seen]
    assert [value for name, value in asked if name == "scope"] == [
        "repository:team/app:pull,push",
        "repository:base/image:pull",
    ]
    post = world.reg.seen[-1]
    assert post.parameters == [("mount", DIGEST), ("from", "base/image")]
    assert {"PUT", "PATCH"}.isdisjoint(verbs(world.reg))
    assert arrived(world.reg)


@pytest.mark.parametrize("used", [True, False])
def test_u11_mount_accepted_202(world: World, used: bool) -> None:
    """A session instead of a mount is used as it is, or cancelled; no second one is opened."""
    # Given a registry that does not find the blob where it is said to be
    client = world.client()
    # When it is to be mounted
    session = client.mount_blob(NAME, DIGEST, ["base/image"])
    assert session is not None
    # Then the blob goes through that session, or it is closed
    if used:
        send(client, session=session)
        assert verbs(world.reg) == ["POST", "PUT"]
        assert arrived(world.reg)
    else:
        client.cancel_upload(session)
        assert verbs(world.reg) == ["POST", "DELETE"]
        assert world.reg.sessions == {}


def test_u11_the_next_candidates_are_asked_by_head_and_leave_no_session(world: World) -> None:
    """The first miss is kept as the session until a later repository gives the blob."""
    # Given four candidates, the third of which has the blob
    world.reg.put_blob("base/three", DATA)
    names = ["base/one", "base/two", "base/three", "base/four"]
    # When it is mounted from them
    assert world.client().mount_blob(NAME, DIGEST, names) is None
    # Then only two POSTs were sent, and the session of the first is closed
    assert verbs(world.reg) == ["POST", "HEAD", "HEAD", "POST", "DELETE"]
    assert arrived(world.reg)


@pytest.mark.parametrize("refusal", ["scope", 400, 403, 404, 405, "anonymous"])
def test_u12_mount_source_denied(world: World, refusal: str | int) -> None:
    """Whatever refuses a mount, the blob is uploaded; a mount never fails a job."""
    # Given a source repository that is closed, missing, or a registry without mounts
    world.reg.put_blob("closed/base", DATA)
    quirks = Quirks()
    if refusal == "scope":
        world.reg.tokens = world.auth
        world.auth.denied.add("closed/base")
    elif refusal == "anonymous":
        quirks = Quirks(mounts="anonymous")
        world.reg.always("POST", "mount=", error(400, "UNSUPPORTED", "from is required"))
    else:
        world.reg.always("POST", "mount=", Answer(int(refusal)))
    client = world.client(login=LOGIN if refusal == "scope" else None, quirks=quirks)
    # When it is to be mounted, and then sent
    session = client.mount_blob(NAME, DIGEST, ["closed/base"])
    assert session is not None
    send(client, session=session)
    # Then it is there, by one plain POST and one PUT
    plain = [one for one in sent(world.reg, "POST") if not one.query]
    assert (len(plain), len(sent(world.reg, "PUT"))) == (1, 1)
    assert arrived(world.reg)


def test_u12_an_anonymous_mount_only_where_it_is_known_to_be_granted(world: World) -> None:
    """Without a name the registry is asked only if its row says so; 201 then is the upload."""
    # Given two registries, one of which gives what it has anywhere
    world.reg.on("POST", "mount=", Answer(201, {"Location": f"/v2/{NAME}/blobs/{DIGEST}"}))
    # When a blob is sent to both
    opened = send(world.client(quirks=Quirks(mounts="anonymous")))
    send(world.client("reg2.example"))
    # Then only that one was asked, and got nothing
    assert (verbs(world.reg), opened) == (["POST"], [])
    assert verbs(world.reg2) == ["POST", "PUT"]


@pytest.mark.parametrize("same", [True, False])
def test_u12_no_mount_across_credentials(world: World, same: bool) -> None:
    """What one credential delivered is no candidate for another's upload, but for its own."""
    # Given an image to be copied to two repositories of one registry
    digest = pushable(world.reg, NAME, DATA)
    credentials = {"one": "reg2.example", "two": "reg2.example" if same else ""}
    pairs = [
        {
            "source": "reg.example/team/app:v1",
            "destination": f"reg2.example/copy/{name}:v1",
            **({"destination_credential": credential} if credential else {}),
        }
        for name, credential in credentials.items()
    ]
    # When they are written with one credential, or with two
    view, _ = world.run({"pairs": pairs}, world.pool(logins={"reg2.example": LOGIN}))
    # Then only the same credential mounts what it delivered
    assert view.state == "done"
    assert bool(world.reg2.count("POST", "mount=")) == same
    assert world.reg2.tag_lists["copy/two"] == {"v1": digest}


@pytest.mark.parametrize("times", [1, 99])
@pytest.mark.parametrize("quirks", [Quirks(), CHUNKED["quirks"]], ids=["monolithic", "chunked"])
def test_u13_digest_invalid(world: World, times: int, quirks: Quirks) -> None:
    """Other bytes than announced: sent once more, then told with the registry's word."""
    # Given a registry that gets other bytes than we sent
    world.reg.on("PUT", UPLOADS, *([error(400, "DIGEST_INVALID")] * times))
    client = world.client(quirks=quirks)
    # When a blob is sent
    # Then it is sent twice at most
    if times == 1:
        assert send(client) == [0, 0]
        assert arrived(world.reg)
    else:
        with world.fails(DigestMismatch, registry_code="DIGEST_INVALID", repository=NAME, status=400):
            send(client)
        assert len(sent(world.reg, "PUT")) == 2
        assert world.reg.sessions == {}


@pytest.mark.parametrize("damaged", [True, False], ids=["our copy is damaged", "our copy is good"])
def test_u13_the_source_is_verified_again(world: World, damaged: bool) -> None:
    """A damaged copy of ours is fetched again from the source; a good one leaves the registry's refusal."""
    # Given a destination that says DIGEST_INVALID, because our copy is damaged or for no reason
    digest = pushable(world.reg, NAME, DATA)

    def spoil(request: Seen) -> Answer:
        for path in world.stored(DIGEST):
            path.write_bytes(bytes([DATA[0] ^ 1]) + DATA[1:])
        return error(400, "DIGEST_INVALID")

    part = f"digest={DIGEST}"
    if damaged:
        meddle(world.reg2, "PUT", part, spoil)
    else:
        world.reg2.always("PUT", part, error(400, "DIGEST_INVALID"))
    # When the image is copied
    view, outcomes = world.copy("reg.example/team/app:v1", "reg2.example/copy/app:v1")
    # Then the blob was read from the source a second time, or the failure names the destination
    if damaged:
        assert view.state == "done"
        assert world.reg.blobs_served[DIGEST] == 2 * len(DATA)
        assert world.reg2.tag_lists["copy/app"] == {"v1": digest}
    else:
        assert outcomes[0]["error"]["code"] == "digest_mismatch"
        assert outcomes[0]["error"]["registry"] == "reg2.example"
        assert world.reg.blobs_served[DIGEST] == len(DATA)


@pytest.mark.parametrize(
    "reply",
    [
        Twist(status=201, headers={"Range": f"0-{CHUNK - 1}"}),
        Twist(status=202, headers={"Range": f"0-{CHUNK - 1}"}),
        Twist(status=204),
        Twist(drop=("Location",)),
        Twist(drop=("Location", "Range")),
        Twist(headers={"Range": "bytes=nonsense"}),
        Twist(headers={"Range": "0-0"}),
    ],
    ids=["ECR", "stuck", "204", "no Location", "bare", "nonsense", "0-0"],
)
@pytest.mark.parametrize("mode", ["patch", "chunked"])
def test_u14_quirky_patch_status(world: World, reply: Twist, mode: Any) -> None:
    """Odd successes of a PATCH are successes, and a Range that stands still is not believed."""
    # Given a registry with such replies
    world.reg.always("PATCH", UPLOADS, reply)
    # When a blob is sent by PATCH
    opened = send(world.client(quirks=Quirks(upload_mode=mode, chunk_bytes=CHUNK)))
    # Then it is complete, though the Range of one stream that says less is believed once
    assert arrived(world.reg)
    if mode == "chunked":
        assert opened == [0]


@pytest.mark.parametrize("status", [200, 202, 204])
def test_u14_quirky_put_and_post_status(world: World, status: int) -> None:
    """A PUT that is not 201 counts when a HEAD shows the blob; a POST's 202 is a session, never a success."""
    # Given such a registry
    world.reg.on("PUT", UPLOADS, Twist(status=status))
    world.reg.on("POST", UPLOADS, Twist(status=202))
    # When a blob is sent
    send(world.client())
    # Then it was looked at
    assert verbs(world.reg) == ["POST", "PUT", "HEAD"]
    assert arrived(world.reg)


@pytest.mark.parametrize("early", [True, False], ids=["refused early", "read to the end"])
def test_u14_413_switches_to_chunks_of_the_right_size(
    world: World, monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    """A proxy that limits one request gets chunks, halved until they pass, and is remembered."""
    # Given a registry that takes 20 000 bytes at once, and a client whose smallest chunk is 10 000
    monkeypatch.setattr("distworker.registry.ways.CHUNK_FLOOR", 10_000)
    world.reg.longest = 20_000
    if early:
        refusal = Answer(413, {"Content-Type": "text/html"}, b"<h1>413</h1>", read=1_000)
        world.reg.on("PUT", UPLOADS, refusal)
    client = world.client(quirks=Quirks(chunk_bytes=128_000))
    # When two large blobs and a small one are sent
    send(client)
    first = [int(one.headers["Content-Length"]) for one in sent(world.reg, "PATCH")]
    world.reg.seen.clear()
    send(client, DATA[1:])
    again = [int(one.headers["Content-Length"]) for one in sent(world.reg, "PATCH")]
    world.reg.seen.clear()
    send(client, DATA[:9_000])
    # Then chunks were halved to 16 000, the second blob began with them, and the small one went in one PUT
    assert first == [64_000, 32_000, *[16_000] * 6, 4_000]
    assert again == [*[16_000] * 6, 3_999]
    assert verbs(world.reg) == ["POST", "PUT"]
    assert arrived(world.reg, DATA[1:])


def test_u14_413_at_the_smallest_chunk_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the floor there is nothing left to try."""
    # Given a registry that takes hardly anything
    monkeypatch.setattr("distworker.registry.ways.CHUNK_FLOOR", 10_000)
    world.reg.longest = 5_000
    # When a blob is sent
    with world.fails(ProtocolError, status=413, phase="send blob"):
        send(world.client(quirks=Quirks(chunk_bytes=40_000)))
    # Then no session is left, and each size was tried once
    assert world.reg.sessions == {}
    assert world.reg.count("PATCH") <= 5


def test_u14_ghcr_416_for_a_large_patch_goes_on_in_one_stream(world: World) -> None:
    """A registry that refuses Content-Range above its taste gets one PATCH without it, and is remembered."""
    # Given one PUT that is too long for a proxy, and a registry that answers 416 to large chunks
    world.reg.on("PUT", f"{UPLOADS}upload-1", Answer(413))

    def ghcr(request: Seen) -> Answer | None:
        return Answer(416) if request.headers.get("Content-Range") else None

    meddle(world.reg, "PATCH", UPLOADS, *([ghcr] * 20))
    client = world.client(quirks=Quirks(chunk_bytes=CHUNK))
    # When two blobs are sent
    send(client)
    ways = [one.headers.get("Content-Range") for one in sent(world.reg, "PATCH")]
    world.reg.seen.clear()
    send(client, DATA[1:])
    # Then the first found the way, and the second took it at once
    assert ways == ["0-99999", None] or ways == ["0-39999", None]
    assert verbs(world.reg) == ["POST", "PATCH", "PUT"]
    assert arrived(world.reg, DATA[1:])


@pytest.mark.parametrize(
    "refusal",
    [Answer(404), Answer(405), Answer(411), Answer(416), Answer(501), error(400, "UNSUPPORTED")],
    ids=["404", "405", "411", "416", "501", "UNSUPPORTED"],
)
def test_u14_a_registry_without_whole_puts_gets_a_patch(world: World, refusal: Answer) -> None:
    """What docker sends comes next, and is remembered for every client of the origin."""
    # Given a registry that takes no blob in a PUT
    world.reg.on("PUT", UPLOADS, refusal)
    pool = world.pool()
    # When two blobs are sent, by two clients
    first, second = pool.client("reg.example"), pool.client("reg.example", "")
    assert send(first) == [0, 0]
    assert [verb for verb in verbs(world.reg) if verb != "DELETE"] == ["POST", "PUT", "POST", "PATCH", "PUT"]
    world.reg.seen.clear()
    send(second, DATA[1:])
    # Then the second one knew
    assert verbs(world.reg) == ["POST", "PATCH", "PUT"]
    assert arrived(world.reg, DATA[1:])


def test_u14_a_reset_at_a_fixed_size_switches_to_chunks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that hangs up instead of saying 413 is found out by the second time."""
    # Given a registry that hangs up after 50 000 bytes of any PUT
    monkeypatch.setattr("distworker.registry.ways.CHUNK_FLOOR", 10_000)
    size = 12 * MIB
    data = random.Random(7).randbytes(size)
    world.reg.on("PUT", f"{UPLOADS}upload-1", Answer(read=50_000, hangup=True))
    world.reg.on("PUT", f"{UPLOADS}upload-2", Answer(read=50_000, hangup=True))
    client = world.client(quirks=Quirks(chunk_bytes=4 * MIB))
    # When a blob is sent
    opened = send(client, data)
    # Then the third session is one of chunks, which is remembered
    assert opened == [0, 0, 0]
    assert len(sent(world.reg, "PATCH")) >= 3
    assert arrived(world.reg, data)
    world.reg.seen.clear()
    send(client, data[1:])
    assert "PATCH" in verbs(world.reg)


def test_u14_a_range_that_was_wrongly_believed_is_not_believed_twice(world: World) -> None:
    """Less than was sent, said by a registry that had all of it: the digest tells, and it is remembered."""
    # Given a registry that states half of the second chunk
    world.reg.always("PATCH", "_state=SECRET-STATE-40000", Twist(headers={"Range": "0-59999"}))
    client = world.client(**CHUNKED)
    # When two blobs are sent
    meddle(world.reg, "PATCH", UPLOADS, None, None, _anyhow(world))
    opened = send(client)
    world.reg.seen.clear()
    assert send(client, DATA[1:]) == [0]
    # Then the first took two sessions, the second one
    assert opened == [0, 60_000, 0]
    assert arrived(world.reg, DATA[1:])


def _anyhow(world: World) -> Callable[[Seen], Answer]:
    """Append what comes, whatever Content-Range says (as docker-registry 2.8 does)."""

    def run(request: Seen) -> Answer:
        (held,) = world.reg.sessions.values()
        held += request.body
        return Answer(202, {"Location": f"{request.path}?_state=SECRET-x", "Range": "0-99999"})

    return run


def test_u15_empty_and_tiny_blob(world: World) -> None:
    """Zero bytes have a length, `{}` is sent like any blob, and a layer that comes twice goes once."""
    # Given an image with an empty layer, and one layer three times
    digest = pushable(world.reg, NAME, b"", DATA, DATA, b"", DATA)
    # When it is copied
    view, _ = world.copy("reg.example/team/app:v1", "reg2.example/copy/app:v1")
    # Then each digest was uploaded once, with an exact length and no transfer coding
    assert view.state == "done"
    puts = sent(world.reg2, "PUT")
    lengths = {dict(one.parameters)["digest"]: one.headers["Content-Length"] for one in puts}
    assert len(puts) == len(lengths) == 3
    assert lengths == {Digest.of(b""): "0", Digest.of(b"{}"): "2", DIGEST: "100000"}
    assert {one.headers.get("Transfer-Encoding") for one in puts} == {None}
    assert world.reg2.tag_lists["copy/app"] == {"v1": digest}


@pytest.mark.parametrize("mode", ["monolithic", "patch", "chunked"])
@pytest.mark.parametrize("data", [b"", b"{}", b"x"], ids=["empty", "braces", "one byte"])
def test_u15_tiny_blobs_in_every_mode(world: World, mode: Any, data: bytes) -> None:
    """Nothing to patch is nothing to patch."""
    # Given a registry
    client = world.client(quirks=Quirks(upload_mode=mode))
    # When a tiny blob is sent
    send(client, data)
    # Then it is there, and every request had a length
    assert arrived(world.reg, data)
    lengths = {one.headers.get("Content-Length") for one in world.reg.seen if one.method != "HEAD"}
    assert lengths <= {"0", str(len(data))}
    assert bool(sent(world.reg, "PATCH")) == bool(data and mode != "monolithic")


@pytest.mark.parametrize(
    ("stated", "first"),
    [
        *[("0-9", 10), ("bytes=0-9", 10), ("bytes 0-9", 10), (" 0-9 ", 10), ("0-1", 2), ("0-0", None)],
        *[
            ("", None),
            ("1-9", None),
            ("0--9", None),
            ("0-" + "9" * 30, None),
            ("0-9,0-12", None),
            ("-", None),
        ],
    ],
)
def test_u06_what_a_range_says(stated: str, first: int | None) -> None:
    """The first byte that is missing, and nothing where it cannot be known."""
    assert next_byte(stated) == first


def test_f01_a_busy_registry_is_waited_for_in_the_same_session(world: World) -> None:
    """A 503 with a short wait in the middle of a chunked upload is waited for in the same session."""
    # Given a registry that is busy for two seconds at the second chunk
    world.reg.on("PATCH", UPLOADS, PASS, Answer(503, {"Retry-After": "2"}), Answer(429, {"Retry-After": "3"}))
    # When a blob is sent in chunks
    opened = send(world.client(**CHUNKED))
    # Then it goes on in the same session, after just these waits
    assert world.sleeps == [2.0, 3.0]
    assert (len(sent(world.reg, "POST")), world.reg.count("GET", UPLOADS)) == (1, 1)  # 429 read nothing
    assert opened[0] == 0
    assert arrived(world.reg)
