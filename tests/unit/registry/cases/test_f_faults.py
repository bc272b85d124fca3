"""Cases F: throttling, transient faults, the words of errors, secrets, repetition (the client's part)."""

from __future__ import annotations

import contextlib
import pickle
import socket
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import pytest

from distworker.digest import Digest
from distworker.errors import (
    BlobUnknown,
    Denied,
    DistworkerError,
    ManifestUnknown,
    NotARegistry,
    ProtocolError,
    Quota,
    RateLimited,
    RepositoryUnknown,
    Throttled,
    TLSError,
    TransferError,
    Unauthorized,
    Unavailable,
)
from distworker.registry.client import Client
from distworker.registry.credentials import Credential
from distworker.registry.waits import CIRCUIT_SECONDS, FAILURES_IN_A_ROW
from tests.fakes.content import image, layer
from tests.fakes.network import make_authority
from tests.fakes.registry_server import Answer, FakeServer, Twist
from tests.fakes.typed import MARK, texts
from tests.fakes.world import ADDRESSES, AUTH, NAMES, REG, World
from tests.unit.registry.conftest import Sent

LOGIN = ("me", "SECRET-PASSWORD")
DATA = layer("fault", 50_000)
DIGEST = Digest.of(DATA)
PICTURE = image(DATA)


def fill(world: World) -> None:
    """A whole image `team/app:v1` in the first registry."""
    for data in PICTURE.blobs:
        world.reg.put_blob("team/app", data)
    world.reg.put_manifest("team/app", PICTURE.manifest.raw, PICTURE.manifest.media_type, "v1")


def said(code: str, message: str = "x") -> bytes:
    """An error body as the distribution spec has it."""
    return b'{"errors":[{"code":"%s","message":"%s"}]}' % (code.encode(), message.encode())


# --- F01 --------------------------------------------------------------------------------------------------
def http_date(seconds: float) -> str:
    return formatdate(time.time() + seconds, usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("2", 2, 2),
        (http_date(-100), 1, 1),
        ("1.5", 0, 60),
        ("", 0, 60),
        (None, 0, 60),
    ],
    ids=["seconds", "past", "float", "empty", "none"],
)
def test_f01_throttle_variants_waited_in_place(
    world: World, status: int, value: str | None, least: float, most: float
) -> None:
    """A short or senseless wait is slept here, and the request then succeeds."""
    # Given a registry that throttles once
    fill(world)
    headers = {} if value is None else {"Retry-After": value}
    world.reg.on("GET", "/manifests/", Answer(status, headers))
    # When something is read
    client = world.client()
    assert client.get_manifest("team/app", "v1").raw == PICTURE.manifest.raw
    # Then one wait of the right length was enough
    (slept,) = world.sleeps
    assert least <= slept <= most


@pytest.mark.parametrize(
    ("status", "value", "wait"),
    [
        (429, "600", 600),
        (503, "600", 600),
        (429, "DATE+900", 900),
        (429, "UNIX+900", 900),
        (429, "999999999", 6 * 3600),
        (429, "1000000000000", 6 * 3600),
    ],
    ids=["seconds", "unavailable", "date", "unix-time", "clamped", "10^12"],
)
def test_f01_throttle_variants_long_waits_release_the_worker(
    world: World, status: int, value: str, wait: float
) -> None:
    """A long wait becomes an error that says when to come back; nothing is slept, others are not touched."""
    # Given a registry that wants to be left alone
    fill(world)
    fixed = value.replace("DATE+900", http_date(900)).replace("UNIX+900", str(int(time.time()) + 900))
    world.reg.always("GET", "/manifests/", Answer(status, {"Retry-After": fixed}))
    # When it is asked
    client = world.client(login=LOGIN)
    kind = Throttled if status == 429 else Unavailable
    with world.fails(kind, status=status) as caught:
        client.get_manifest("team/app", "v1")
    # Then the error carries the wait, and the other registry still answers
    assert caught[0].delay is not None
    assert abs(caught[0].delay - wait) <= 3
    assert abs(caught[0].fields["retry_at"] - time.time() - wait) <= 10
    assert caught[0].retry
    assert world.sleeps == []
    assert world.reg.count("GET", "/manifests/") == 1
    assert world.client("reg2.example").ping() is False


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(429, {}, said("TOOMANYREQUESTS", "You have reached your pull rate limit")), RateLimited),
        (Answer(429, {"RateLimit-Remaining": "0;w=21600"}, b"toomanyrequests: slow"), RateLimited),
        (Answer(429, {}, b"Too Many Requests (HAP429)"), Throttled),
        (Answer(403, {}, b'{"message":"You have exceeded a secondary rate limit"}'), Throttled),
        (Answer(503, {}, b'{"errors":[{"code":"TOOMANYREQUESTS"}]}'), Throttled),
        (Answer(200, {"Content-Type": "application/json"}, said("TOOMANYREQUESTS")), Throttled),
    ],
    ids=["hub-pull-limit", "hub-window", "abuse", "secondary", "by-code-503", "by-code-200"],
)  # fmt: skip
def test_f01_throttle_variants_counted_and_abuse_limits(
    world: World, answer: Answer, kind: type[TransferError]
) -> None:
    """A counted limit waits for its window, an abuse limit for a moment; the code counts like the status."""
    world.reg.always("GET", "/manifests/", answer)
    with world.fails(kind) as caught:
        world.client().get_manifest("team/app", "v1")
    assert caught[0].delay
    assert (caught[0].delay >= 600) == (kind is RateLimited)


def test_f01_throttle_variants_a_failing_registry_is_left_alone(world: World) -> None:
    """After ten faults in a row nobody asks for half a minute; then one request tries and opens the way."""
    # Given a registry that is down
    fill(world)
    world.reg.on("GET", "/v2/", *[Answer(502)] * FAILURES_IN_A_ROW)
    client = world.client(tries=5)
    for _ in range(2):
        with world.fails(Unavailable, status=502, attempts=5):
            client.ping()
    # When more requests come, none is sent
    with world.fails(Unavailable, status=None) as caught:
        client.ping()
    assert caught[0].delay == CIRCUIT_SECONDS
    assert world.reg.count("GET", "/v2/") == FAILURES_IN_A_ROW
    # Then, after the pause, it is asked again and works for all
    world.clock.forward(CIRCUIT_SECONDS)
    client.ping()
    client.ping()


def test_f01_throttle_variants_one_probe_after_the_pause(world: World) -> None:
    """While the one that tries is not back, the others go on waiting; its failure begins a new pause."""
    world.reg.always("GET", "/v2/", Answer(502))
    client = world.client(tries=5)
    for _ in range(2):
        with contextlib.suppress(Unavailable):
            client.ping()
    world.clock.forward(CIRCUIT_SECONDS)
    with world.fails(Unavailable, status=502):
        client.ping()
    with world.fails(Unavailable, status=None):
        client.ping()


# --- F02 --------------------------------------------------------------------------------------------------
def get_token(client: Client) -> None:
    client.ping()
    client.get_manifest("team/app", "v1")


def send_with(client: Client) -> None:
    client.upload_blob("team/app", Digest.of(b"new"), 3, lambda *_: Sent(b"new"))


def read(client: Client) -> None:
    with client.read_blob("team/app", DIGEST, len(DATA)) as blob:
        assert b"".join(bytes(chunk) for chunk in blob) == DATA


PHASES: dict[str, tuple[str, str, str, Callable[[Client], object]]] = {
    "token": (AUTH, "GET", "/token", get_token),
    "head manifest": (REG, "HEAD", "/manifests/", lambda client: client.head_manifest("team/app", "v1")),
    "get manifest": (REG, "GET", "/manifests/", lambda client: client.get_manifest("team/app", "v1")),
    "head blob": (REG, "HEAD", "/blobs/", lambda client: client.has_blob("team/app", DIGEST)),
    "get blob": (REG, "GET", "/blobs/", read),
    "start upload": (REG, "POST", "/uploads/", send_with),
    "send blob": (REG, "PUT", "/uploads/", send_with),
    "patch blob": (REG, "PATCH", "/uploads/", send_with),
    "put manifest": (
        REG,
        "PUT",
        "/manifests/",
        lambda client: client.put_manifest("team/app", "v2", PICTURE.manifest),
    ),
}


def prepared(world: World, phase: str) -> tuple[Client, Callable[[Client], object]]:
    """A client that has not connected yet, and what it is going to do in that phase."""
    fill(world)
    if phase == "token":
        world.reg.tokens = world.auth
    mode = "patch" if phase == "patch blob" else "auto"
    return world.client(login=LOGIN, upload_mode=mode), PHASES[phase][3]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("status", [408, 425, 499, 500, 502, 503, 504, 520, 521, 522, 523, 524])
def test_f02_transient_matrix_of_statuses(world: World, phase: str, status: int) -> None:
    """One such answer in any phase costs a moment and nothing else."""
    # Given a server that fails once in this phase
    host, method, part, _ = PHASES[phase]
    client, act = prepared(world, phase)
    server = world.auth if host == AUTH else world.reg
    server.on(method, part, Answer(status, {}, b"oops"))
    # When the client gets there
    act(client)
    # Then it did what it should, and sent nothing twice that had been taken
    assert all(world.reg.blobs_taken[digest] <= 3 for digest in world.reg.blobs_taken)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("broken", [Twist(hangup=True), Answer(hangup=True)], ids=["done", "not-done"])
def test_f02_transient_matrix_closed_before_the_reply(
    world: World, phase: str, broken: Answer | Twist
) -> None:
    """Whether or not the server did its work before it hung up, the outcome is right and done once."""
    host, method, part, _ = PHASES[phase]
    client, act = prepared(world, phase)
    (world.auth if host == AUTH else world.reg).on(method, part, broken)
    act(client)
    if phase in {"start upload", "send blob", "patch blob"}:
        assert Digest.of(b"new") in world.reg.holds["team/app"]
        assert world.reg.blobs_taken[Digest.of(b"new")] == 3


@pytest.mark.parametrize("phase", [name for name in PHASES if name not in {"send blob", "patch blob"}])
@pytest.mark.parametrize(
    "fault",
    [
        socket.gaierror(socket.EAI_AGAIN, "try again"),
        ConnectionRefusedError(111, "refused"),
        TimeoutError("timed out"),
        ConnectionResetError(104, "reset"),
    ],
    ids=["dns", "refused", "connect-timeout", "tls-reset"],
)
def test_f02_transient_matrix_of_connections(world: World, phase: str, fault: OSError) -> None:
    """A look-up, a connection or a handshake that fails once is tried again, whoever asked first."""
    host = PHASES[phase][0]
    client, act = prepared(world, phase)
    place = host if isinstance(fault, socket.gaierror) else ADDRESSES[host]
    world.network.trouble(place, fault)
    if isinstance(fault, TimeoutError):
        # Ten silent seconds are the ledger's to repeat: it frees the slot meanwhile.
        with contextlib.suppress(TransferError):
            act(client)
    act(client)


@pytest.mark.parametrize("phase", [name for name in PHASES if name not in {"send blob", "patch blob"}])
def test_f02_transient_matrix_a_bad_certificate_is_permanent(
    world: World, phase: str, tmp_path: Path
) -> None:
    """It is said at once, never retried, and never answered by plain http."""
    client, act = prepared(world, phase)
    host = PHASES[phase][0]
    stranger = make_authority(tmp_path, *NAMES)
    impostor = FakeServer()
    world.reg.tokens = world.auth if host == AUTH else None
    impostor.known_as(host, stranger.server)
    with impostor:
        world.network.serve(ADDRESSES[host], 443, impostor)
        with world.fails(TLSError) as caught:
            act(client)
    assert not caught[0].retry
    assert impostor.seen == []
    assert [where for where in world.network.dialled if where[0] == ADDRESSES[host]] == [
        (ADDRESSES[host], 443)
    ]


def test_f02_transient_matrix_lasting_trouble_ends_within_its_budget(world: World) -> None:
    """Four tries, full jitter, then a typed error that may be tried again later."""
    world.reg.always("GET", "/manifests/", Answer(502, {}, b"<html>bad gateway</html>"))
    with world.fails(Unavailable, status=502, attempts=4) as caught:
        world.client().get_manifest("team/app", "v1")
    assert caught[0].retry
    assert len(world.sleeps) == 3
    assert all(0 <= wait <= 60 for wait in world.sleeps)


def test_f02_transient_matrix_a_name_nobody_knows_is_a_mistake(world: World) -> None:
    """Unavailable all the same, tried in place, but not to be tried again later: it never answered."""
    with world.fails(Unavailable) as caught:
        world.pool().client("nowhere.example").ping()
    assert not caught[0].retry
    assert "check its spelling" in caught[0].message
    assert isinstance(pickle.loads(pickle.dumps(caught[0])), Unavailable)
    assert pickle.loads(pickle.dumps(caught[0])).retry is False


# --- F03 --------------------------------------------------------------------------------------------------
GET, PUT, TAGS, POST = "get manifest", "put manifest", "list tags", "start upload"


@pytest.mark.parametrize(
    ("phase", "status", "body", "kind", "retry"),
    [
        (GET, 404, said("NAME_UNKNOWN"), ManifestUnknown, False),
        (GET, 404, said("UNKNOWN", "not found"), ManifestUnknown, False),
        (TAGS, 404, said("NAME_UNKNOWN"), RepositoryUnknown, False),
        (POST, 404, said("NAME_UNKNOWN"), RepositoryUnknown, False),
        (GET, 403, said("DENIED"), Denied, False),
        (GET, 403, b"", Denied, False),
        (POST, 405, said("UNSUPPORTED"), Denied, False),
        (GET, 406, said("UNSUPPORTED"), ProtocolError, False),
        *((GET, status, b"", ProtocolError, False) for status in (400, 409, 410, 411, 414, 415, 422, 431)),
        *((GET, status, b"", ProtocolError, False) for status in (402, 418, 501, 505, 599)),
        (POST, 507, b"", Quota, False),
        (POST, 403, said("DENIED", "the quota is used up"), Quota, False),
        (PUT, 412, said("PRECONDITION", "exceeds the storage quota"), Quota, False),
        (PUT, 500, b"adding 10 MiB will exceed the configured upper limit: quota", Quota, False),
        (PUT, 400, said("BLOB_UNKNOWN"), BlobUnknown, False),
        (GET, 500, b"<Error><Code>InternalError</Code></Error>", Unavailable, True),
        (GET, 200, b"<html><body>Please log in</body></html>", NotARegistry, False),
        (TAGS, 200, b"<!DOCTYPE html><title>portal</title>", NotARegistry, False),
        (GET, 400, b"x" * (1 << 20), ProtocolError, False),
        (GET, 400, b"\x1b[31mred\x1b[0m\r\nforged: line\x00", ProtocolError, False),
        (GET, 400, b'{"message":"plain"}', ProtocolError, False),
        (GET, 400, b'{"details":"plain"}', ProtocolError, False),
        (GET, 400, b'{"errors":"not a list"}', ProtocolError, False),
        (GET, 400, b"[" * 100_000, ProtocolError, False),
    ],
)  # fmt: skip
def test_f03_error_classification(
    world: World, phase: str, status: int, body: bytes, kind: type[TransferError], retry: bool
) -> None:
    """Whatever comes back becomes one stable class with its verdict and one short clean line."""
    # Given a registry that answers so
    html = body.lower().startswith((b"<html", b"<!doctype"))
    answer = Answer(status, {"Content-Type": "text/html" if html else "application/json"}, body)
    for method in ("GET", "PUT", "POST"):
        world.reg.always(method, "team/app", answer)
    actions: dict[str, Callable[[Client], object]] = {
        GET: lambda client: client.get_manifest("team/app", "v1"),
        PUT: lambda client: client.put_manifest("team/app", "v1", PICTURE.manifest),
        TAGS: lambda client: list(client.tags("team/app")),
        POST: lambda client: client.start_upload("team/app"),
    }
    # When it is asked
    with world.fails(kind, registry=REG, repository="team/app") as caught:
        actions[phase](world.client())
    # Then the error is the right one, and fit for a terminal
    error = caught[0]
    assert error.retry is retry
    assert len(error.message) <= 500
    assert error.message.isprintable()
    assert error.fields["phase"]


def test_f03_error_classification_of_a_refused_login(world: World) -> None:
    """401 with our login is `unauthorized`, and says where to look."""
    world.reg.user, world.reg.password = "me", "SECRET-OTHER"
    with world.fails(Unauthorized, status=401) as caught:
        world.client(login=LOGIN).get_manifest("team/app", "v1")
    assert "registries.toml" in caught[0].message


# --- F04 --------------------------------------------------------------------------------------------------
def spoil_redirect(world: World) -> Callable[[Client], object]:
    world.reg.storage = world.store
    world.store.always(
        "GET", "/bucket/", Answer(403, {}, b"<Error>Request has expired: SECRET-SIGNATURE</Error>")
    )
    return read


def spoil_location(world: World) -> Callable[[Client], object]:
    world.reg.always("PUT", "/uploads/", Answer(500, {}, b"_state=SECRET-STATE broke, token=SECRET-TOKEN"))
    return send_with


def spoil_token(world: World) -> Callable[[Client], object]:
    world.reg.tokens = world.auth
    world.auth.always(
        "GET", "/token", Answer(500, {}, b'{"token": "SECRET-TOKEN", "refresh_token":"SECRET-R"}')
    )
    return get_token


def spoil_login(world: World) -> Callable[[Client], object]:
    world.reg.tokens = world.auth
    world.auth.users["me"] = "SECRET-OTHER"
    return get_token


def spoil_echo(world: World) -> Callable[[Client], object]:
    """Quotes the bare password, as word and as code, with nothing that marks it."""
    world.reg.user, world.reg.password = LOGIN
    body = b'{"errors":[{"code":"NO_SECRET-PASSWORD","message":"what is this SECRET\\u002dPASSWORD?"}]}'
    world.reg.always("GET", "/manifests/", Answer(403, {}, body))
    return get_token


def spoil_token_echo(world: World) -> Callable[[Client], object]:
    """The same by the token server, with a status that is no refusal of the login."""
    world.reg.tokens = world.auth
    world.auth.always("GET", "/token", Answer(404, {}, b"nobody has SECRET-PASSWORD here"))
    return get_token


def spoil_bearer_echo(world: World) -> Callable[[Client], object]:
    """The same with a token."""
    world.reg.tokens = world.auth
    world.auth.issue = lambda granted: {"token": "SECRETTOKEN"}  # type: ignore[method-assign]
    world.reg.on("GET", "/v2/", Twist())
    world.reg.always("GET", "/v2/", Answer(400, {}, b"your SECRETTOKEN is odd"))
    return get_token


def spoil_realm(world: World) -> Callable[[Client], object]:
    challenge = 'Bearer realm="https://me:SECRET-PASSWORD@evil.example/t?sig=SECRET-SIG",service="s"'
    world.reg.always("GET", "/v2/", Answer(401, {"WWW-Authenticate": challenge}))
    return get_token


def spoil_connection(world: World) -> Callable[[Client], object]:
    world.reg.storage = world.store
    world.network.serve(ADDRESSES["store.example"], 443, ConnectionResetError(104, "reset"))
    return read


@pytest.mark.parametrize(
    "spoil",
    [
        *(spoil_redirect, spoil_location, spoil_token, spoil_login, spoil_realm, spoil_connection),
        *(spoil_echo, spoil_token_echo, spoil_bearer_echo),
    ],
)
def test_f04_secrets_nowhere(
    world: World, spoil: Callable[[World], Callable[[Client], object]], caplog: pytest.LogCaptureFixture
) -> None:
    """Passwords, tokens, signatures and upload state stay out of errors, reprs, tracebacks and every log.

    The fixture `secrets_nowhere` asserts the same for every error and log line of all tests of this room.
    """
    # Given secrets on every way, and something that goes wrong there
    caplog.set_level("DEBUG")
    fill(world)
    act = spoil(world)
    client = world.client(login=LOGIN)
    # When it fails
    with pytest.raises(DistworkerError) as info:
        act(client)
    # Then nothing that may be shown or stored holds one
    shown = [*texts(info.value), repr(client), repr(world.clock), caplog.text]
    assert [text for text in shown if MARK in text] == []


def test_f04_secrets_nowhere_in_a_credential() -> None:
    """A login shows its user name and nothing else, however it is printed or compared."""
    login = Credential("me", "SECRET-PASSWORD", "SECRET-IDENTITY", "SECRET-REGISTRY")
    for text in (repr(login), str(login), f"{login}", login.fingerprint):
        assert MARK not in text


# --- F05 --------------------------------------------------------------------------------------------------
def test_f05_crash_and_redelivery_two_uploads_of_one_blob(world: World) -> None:
    """Two workers with the same blob both succeed, and the registry holds it once."""
    one, two = world.client(), world.client()
    first, second = one.start_upload("team/app"), two.start_upload("team/app")
    for client, session in ((one, first), (two, second)):
        client.upload_blob("team/app", Digest.of(b"new"), 3, lambda *_: Sent(b"new"), session)
    assert world.reg.sessions == {}
    assert world.reg.holds["team/app"] == {Digest.of(b"new")}


def test_f05_crash_and_redelivery_a_killed_copy_runs_again(world: World) -> None:
    """Whatever a dead run left behind (an open session, some blobs, a manifest without its tag), a second run
    completes the image and moves only what is missing.
    """
    # Given what a killed worker leaves at the destination
    fill(world)
    dead = world.client("reg2.example")
    dead.start_upload("team/app")
    dead.upload_blob("team/app", DIGEST, len(DATA), lambda *_: Sent(DATA))
    # When the copy is run, twice
    for state in ("done", "unchanged"):
        _, outcomes = world.copy("reg.example/team/app:v1", "reg2.example/team/app:v1")
        assert [one["state"] for one in outcomes] == [state]
    # Then the tag stands on the whole image and the layer was sent once
    assert world.reg2.tag_lists["team/app"]["v1"] == PICTURE.digest
    assert world.reg2.blobs_taken[DIGEST] == len(DATA)


def test_f05_crash_and_redelivery_a_manifest_put_again_changes_nothing(world: World) -> None:
    """The same bytes under the same tag, however often."""
    fill(world)
    client = world.client()
    for _ in range(3):
        client.put_manifest("team/app", "v1", PICTURE.manifest)
    assert world.reg.tag_lists["team/app"] == {"v1": PICTURE.digest}
