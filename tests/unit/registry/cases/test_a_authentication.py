"""Cases A: logging in, from a registry that asks for nothing to one that wants our login sent elsewhere."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from distworker.digest import Digest
from distworker.errors import (
    AuthRequired,
    Denied,
    DistworkerError,
    NotARegistry,
    ProtocolError,
    RealmRefused,
    Unauthorized,
)
from distworker.registry.client import Client
from distworker.registry.waits import BAD_LOGIN_MEMORY
from tests.fakes.content import image, layer
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import Answer, Seen, Twist
from tests.fakes.registry_token import FakeTokenServer
from tests.fakes.vault import MemoryVault
from tests.fakes.world import AUTH, REG, REG2, World

ME = ("me", "SECRET-PASSWORD")
BASIC = "Basic " + base64.b64encode(b"me:SECRET-PASSWORD").decode()
DATA = layer("auth", 50_000)
DIGEST = Digest.of(DATA)
PICTURE = image(DATA, layer("second", 50_000))


def fill(registry: FakeRegistry, repository: str = "team/app") -> None:
    """A whole image `v1`."""
    for data in PICTURE.blobs:
        registry.put_blob(repository, data)
    registry.put_manifest(repository, PICTURE.manifest.raw, PICTURE.manifest.media_type, "v1")


def challenged(*values: str) -> Answer:
    """401 with these challenges, each in a header of its own."""
    return Answer(401, extra=tuple(("WWW-Authenticate", value) for value in values))


def scopes(seen: Seen) -> list[str]:
    """The scopes a token request asks for."""
    return [value for name, value in seen.parameters if name == "scope"]


def schemes(requests: Iterable[Seen]) -> set[str]:
    """Which kinds of Authorization were sent."""
    return {seen.authorization.partition(" ")[0] for seen in requests}


def push(client: Client) -> None:
    """The first request of a push."""
    client.start_upload("team/app")


def pull(client: Client) -> None:
    """The first request of a pull."""
    client.get_manifest("team/app", "v1")


# --- A01 --------------------------------------------------------------------------------------------------
def test_a01_ping_open_and_not_a_registry_open(world: World) -> None:
    """An open registry is copied from and to without a login, though one is configured."""
    # Given two registries that ask for nothing
    fill(world.reg)
    pool = world.pool(logins={REG: ME, REG2: ME})
    # When an image is copied
    view, _ = world.copy(f"{REG}/team/app:v1", f"{REG2}/team/app:v1", pool)
    # Then it is there, and nobody was shown a login
    assert view.state == "done"
    assert not pool.client(REG).ping(), "no login was used"
    assert world.reg2.tag_lists["team/app"] == {"v1": PICTURE.digest}
    assert world.auth.seen == []
    assert schemes([*world.reg.seen, *world.reg2.seen]) == {""}


def test_a01_ping_open_and_not_a_registry_web_server(world: World) -> None:
    """A web server that answers everything with a page is no registry, and nothing counts as pushed there."""
    # Given a web server in the place of the destination
    fill(world.reg)
    world.reg2.always("*", "/", Answer(200, {"Content-Type": "text/html"}, b"<html>hello</html>"))
    # When it is asked, and when an image is copied there
    with world.fails(NotARegistry, registry=REG2, phase="ping"):
        world.client(REG2).ping()
    view, (outcome,) = world.copy(f"{REG}/team/app:v1", f"{REG2}/team/app:v1")
    # Then the error says so
    assert view.state == "failed"
    assert outcome["error"]["code"] == "not_a_registry", outcome
    assert not world.reg2.tag_lists["team/app"]


# --- A02 --------------------------------------------------------------------------------------------------
def test_a02_anonymous_bearer(world: World) -> None:
    """Without a login one token is asked for, with the right service and scope, and used."""
    # Given a registry behind a token server, and no login
    world.reg.tokens = world.auth
    fill(world.reg, "public/app")
    # When something public is read
    assert world.client().get_manifest("public/app", "v1").raw == PICTURE.manifest.raw
    # Then one anonymous token was enough
    (asked,) = world.auth.seen
    assert (asked.method, asked.authorization) == ("GET", "")
    assert asked.parameters == [("service", "fake-registry"), ("scope", "repository:public/app:pull")]
    assert [bool(seen.authorization) for seen in world.reg.seen] == [False, True]


def test_a02_anonymous_bearer_is_not_enough(world: World) -> None:
    """What is not public ends in `auth_required`, after one token that grants nothing."""
    world.reg.tokens = world.auth
    with world.fails(AuthRequired, status=401, repository="team/app"):
        pull(world.client())
    assert len(world.auth.seen) == 1


# --- A03 --------------------------------------------------------------------------------------------------
def test_a03_bearer_with_credentials(world: World) -> None:
    """The password goes to the token server only; pull asks pull, push both, a mount both repositories."""
    # Given an image in a registry behind a token server
    world.reg.tokens = world.auth
    fill(world.reg, "old/app")
    # When it is copied to another repository of the same registry
    view, _ = world.copy(f"{REG}/old/app:v1", f"{REG}/new/app:v1", world.pool(logins={REG: ME}))
    # Then
    assert view.state == "done"
    assert schemes(world.auth.seen) == {"Basic"}
    assert {seen.authorization for seen in world.auth.seen} == {BASIC}
    assert schemes(world.reg.seen) <= {"", "Bearer"}
    asked = {tuple(scopes(seen)) for seen in world.auth.seen}
    assert ("repository:old/app:pull",) in asked
    assert ("repository:new/app:pull,push", "repository:old/app:pull") in asked
    assert {("account", "me"), ("service", "fake-registry")} <= set(world.auth.seen[0].parameters)


def test_a03_bearer_with_credentials_pull_then_push(world: World) -> None:
    """One more right is one more token; with the wider one a later pull needs none."""
    world.reg.tokens = world.auth
    fill(world.reg)
    client = world.client(login=ME)
    pull(client)
    push(client)
    pull(client)
    assert [scopes(seen) for seen in world.auth.seen] == [
        ["repository:team/app:pull"],
        ["repository:team/app:pull,push"],
    ]


# --- A04 --------------------------------------------------------------------------------------------------
NEGOTIATE, DIGESTED = "Negotiate", 'Digest realm="d", nonce="x", qop="auth,auth-int"'
BEARER = f'Bearer realm="https://{AUTH}/token",service="fake-registry"'


@pytest.mark.parametrize(
    "values",
    [
        [f'{NEGOTIATE}, Basic realm="a, b", {BEARER}'],
        [f'{BEARER}, {NEGOTIATE}, Basic realm="a, b"'],
        [f'Basic realm="a, b", {BEARER}, {NEGOTIATE}'],
        [NEGOTIATE, 'Basic realm="x"', BEARER],
        [BEARER, 'Basic realm="x"', NEGOTIATE],
        ['Basic realm="x"', BEARER, NEGOTIATE],
        [f"{DIGESTED}, {BEARER}", "NTLM TlRMTVNTUAAB=="],
    ],
)
def test_a04_multiple_challenges_bearer(world: World, values: list[str]) -> None:
    """Bearer is chosen wherever it stands, in one header or several."""
    # Given a registry that offers several ways
    world.reg.tokens = world.auth
    fill(world.reg)
    world.reg.on("GET", "/manifests/", challenged(*values))
    # When it is asked
    pull(world.client(login=ME))
    # Then the token server saw the login, the registry the token
    assert schemes(world.auth.seen) == {"Basic"}
    assert schemes(world.reg.seen) == {"", "Bearer"}


@pytest.mark.parametrize(
    "values",
    [
        [f'{NEGOTIATE}, Basic realm="a, b"'],
        [f'Basic realm="x", {NEGOTIATE}'],
        [NEGOTIATE, 'BASIC realm="Sonatype Nexus"'],
        ['Basic realm="x"', DIGESTED],
    ],
)
def test_a04_multiple_challenges_basic(world: World, values: list[str]) -> None:
    """With no Bearer on offer it is Basic, sent with each request from then on."""
    world.reg.user, world.reg.password = ME
    fill(world.reg)
    world.reg.on("GET", "/manifests/", challenged(*values))
    client = world.client(login=ME)
    pull(client)
    pull(client)
    assert [seen.authorization for seen in world.reg.seen][1:] == [BASIC] * (len(world.reg.seen) - 1)
    assert world.reg.count("GET", "/manifests/") == 3


# --- A05 --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "asked"),
    [
        (f'BEARER REALM="https://{AUTH}/token",SERVICE="fake-registry"', "service=fake-registry"),
        (f"Bearer realm=https://{AUTH}/token, service=s", "service=s"),
        (f'Bearer   realm = "https://{AUTH}/token" , service = "s"', "service=s"),
        (f'Bearer realm="https:\\/\\/{AUTH}\\/token",service="a \\"b\\""', "service=a+%22b%22"),
        (f'Bearer service="a, b",realm="https://{AUTH}/token"', "service=a%2C+b"),
        (f'Bearer realm="https://{AUTH}/token?tenant=a%2Bb&c=d",service="s"', "tenant=a%2Bb&c=d&service=s"),
    ],
    ids=["letter-case", "unquoted", "spaces", "escapes", "commas", "realm-with-query"],
)
def test_a05_challenge_syntax_corners_values(world: World, value: str, asked: str) -> None:
    """A challenge is read as its author meant it; the realm's own query stays as it is."""
    # Given a registry that writes it in its own way
    world.reg.tokens = world.auth
    fill(world.reg)
    world.reg.on("GET", "/manifests/", challenged(value))
    # When something is read there
    pull(world.client(login=ME))
    # Then the token server was asked as was meant
    assert world.auth.seen[-1].query == f"{asked}&scope=repository%3Ateam%2Fapp%3Apull&account=me"


def test_a05_challenge_syntax_corners_relative_realm(world: World) -> None:
    """`/token` is the registry itself, which may have the login."""
    fill(world.reg)
    world.reg.on("GET", "/manifests/", challenged('Bearer realm="/token",service="s"'))
    world.reg.on("GET", "/token", Answer(200, {}, b'{"token": "SECRET-T"}'))
    pull(world.client(login=ME))
    assert world.reg.lines() == [
        "GET /v2/team/app/manifests/v1",
        "GET /token",
        "GET /v2/team/app/manifests/v1",
    ]
    assert [seen.authorization for seen in world.reg.seen] == ["", BASIC, "Bearer SECRET-T"]


@pytest.mark.parametrize(
    "value",
    [
        'Bearer service="s"',
        f'Bearer realm="https://{AUTH}/token',
        "",
        NEGOTIATE,
        "Bearer",
        "=,=,=",
        "x" * 20_000,
    ],
    ids=["no-realm", "unclosed", "empty", "unknown", "bare", "nonsense", "long"],
)
@pytest.mark.parametrize("login", [ME, None])
def test_a05_challenge_syntax_corners_invalid(
    world: World, value: str, login: tuple[str, str] | None
) -> None:
    """What cannot be used is a typed error after one look at ping: no crash, no loop, no token request."""
    world.reg.always("GET", "/v2/", challenged(value))
    kind: type[DistworkerError] = Unauthorized if login else AuthRequired
    client = world.client(login=login)
    with world.fails(kind, status=401):
        pull(client)
    assert world.reg.lines() == ["GET /v2/team/app/manifests/v1", "GET /v2/"]
    assert world.auth.seen == []


@pytest.mark.parametrize("answer", [Answer(401), challenged("Bearer service=s")], ids=["none", "no-realm"])
def test_a05_challenge_syntax_corners_ping_knows(world: World, answer: Answer) -> None:
    """A registry that challenges usably only at ping (as old GCR did) is logged in to as ping says."""
    world.reg.tokens = world.auth
    fill(world.reg)
    world.reg.on("GET", "/manifests/", answer)
    pull(world.client(login=ME))
    assert world.reg.lines() == [
        "GET /v2/team/app/manifests/v1",
        "GET /v2/",
        "GET /v2/team/app/manifests/v1",
    ]
    assert scopes(world.auth.seen[0]) == ["repository:team/app:pull"]


# --- A06 --------------------------------------------------------------------------------------------------
def issued(shift: timedelta) -> str:
    """A moment as token servers write it, nanoseconds included."""
    return (datetime.now(UTC) + shift).strftime("%Y-%m-%dT%H:%M:%S.%f123Z")


@pytest.mark.parametrize(
    ("document", "good_for"),
    [
        ({"access_token": "SECRET-T"}, 47),
        ({"token": "SECRET-T", "access_token": "SECRET-T"}, 47),
        ({"token": "SECRET-T"}, 47),
        ({"token": "SECRET-T", "expires_in": 10}, 47),
        ({"token": "SECRET-T", "expires_in": 300, "issued_at": issued(timedelta(hours=1))}, 239),
        ({"token": "SECRET-T", "expires_in": 300, "issued_at": issued(timedelta(days=-1))}, 239),
        ({"token": "SECRET-T", "expires_in": 300, "refresh_token": "SECRET-R"}, 239),
    ],
    ids=["access-token", "both", "no-life", "short-life", "issued-later", "issued-long-ago", "refresh-token"],
)
def test_a06_token_response_variants(world: World, document: dict[str, object], good_for: float) -> None:
    """Every spelling of an answer is used, for a minute at least, and no skew of clocks makes a loop."""
    # Given a token server with its own way of answering
    fill(world.reg)
    world.reg.tokens = world.auth
    world.auth.issued["SECRET-T"] = {"repository:team/app:pull"}
    world.auth.always("GET", "/token", Answer(200, {}, json.dumps(document).encode()))
    client = world.client(login=ME)
    # When the registry is asked now, while the token is good, and after that
    pull(client)
    world.clock.forward(good_for)
    pull(client)
    assert len(world.auth.seen) == 1
    world.clock.forward(2)
    pull(client)
    # Then a new token was asked for only at the end
    assert len(world.auth.seen) == 2
    assert world.reg.count("GET", "/manifests/") == 4


@pytest.mark.parametrize(
    "body", [b"<html>SECRET-page</html>", b"[]", b'{"token": 7}', b'{"token": "a b"}', b""]
)
def test_a06_token_response_variants_unusable(world: World, body: bytes) -> None:
    """An answer without a usable token is a typed error that does not quote it."""
    world.reg.tokens = world.auth
    world.auth.always("GET", "/token", Answer(200, {}, body))
    with world.fails(ProtocolError, repository="team/app"):
        pull(world.client(login=ME))


def test_a06_token_response_variants_endless(world: World) -> None:
    """An answer without an end is not read to its end."""
    sent = [0]

    def pieces() -> Iterable[bytes]:
        while sent[0] < 512 << 20:
            sent[0] += 1 << 16
            yield b"x" * (1 << 16)

    world.reg.tokens = world.auth
    world.auth.always("GET", "/token", Answer(200, {}, pieces, length=512 << 20))
    with world.fails(ProtocolError):
        pull(world.client(login=ME))
    assert sent[0] < 64 << 20, "sockets hold some of it, the client nothing"


# --- A07 --------------------------------------------------------------------------------------------------
def test_a07_identity_token_post_fallback_not_needed(world: World) -> None:
    """An identity token is traded by POST, several scopes joined by a space; it goes nowhere else."""
    # Given a login by identity token
    world.reg.tokens = world.auth
    world.auth.identity = "SECRET-IDENTITY"
    fill(world.reg, "old/app")
    pool = world.pool(logins={REG: ("me", "")}, identity="SECRET-IDENTITY")
    # When an image is copied within the registry
    view, _ = world.copy(f"{REG}/old/app:v1", f"{REG}/new/app:v1", pool)
    # Then
    assert view.state == "done"
    assert {seen.method for seen in world.auth.seen} == {"POST"}
    forms = [seen.body.decode() for seen in world.auth.seen]
    assert all("grant_type=refresh_token" in form and "client_id=distworker" in form for form in forms)
    two = "scope=repository%3Anew%2Fapp%3Apull%2Cpush+repository%3Aold%2Fapp%3Apull"
    assert any(two in form for form in forms)
    assert all(not seen.query and not seen.authorization for seen in world.auth.seen)
    assert all("SECRET-IDENTITY" not in f"{seen.headers} {seen.query}" for seen in world.reg.seen)


@pytest.mark.parametrize("refusal", [404, 405, 400, 401])
def test_a07_identity_token_post_fallback(world: World, refusal: int) -> None:
    """Where POST is refused, GET is tried once, and that is remembered."""
    world.reg.tokens = world.auth
    fill(world.reg)
    world.auth.users["me"] = "SECRET-IDENTITY"
    world.auth.always("POST", "/token", Answer(refusal))
    client = world.client(login=("me", ""), identity="SECRET-IDENTITY")
    pull(client)
    push(client)
    assert [seen.method for seen in world.auth.seen] == ["POST", "GET", "GET"]
    assert schemes(world.reg.seen) == {"", "Bearer"}


def test_a07_identity_token_post_fallback_refused_too(world: World) -> None:
    """POST and GET refused is a refused login, and it is not tried again."""
    world.reg.tokens = world.auth
    client = world.client(login=("me", ""), identity="SECRET-IDENTITY")
    for _ in range(3):
        with world.fails(Unauthorized):
            pull(client)
    assert [seen.method for seen in world.auth.seen] == ["POST", "GET"]


# --- A08 --------------------------------------------------------------------------------------------------
def insufficient(actions: str) -> Answer:
    """401 for a token that does not grant enough."""
    said = f'error="insufficient_scope",scope="repository:team/app:{actions}"'
    return challenged(f"{BEARER},{said}")


def test_a08_scope_upgrade_and_partial_grant_upgrade(world: World) -> None:
    """A scope that the registry adds for the same repository is united with ours; one replay is enough."""
    # Given a registry that wants more for a push than usual
    world.reg.tokens = world.auth
    client = world.client(login=ME)
    assert not client.has_blob("team/app", DIGEST)
    world.reg.on("POST", "/uploads/", insufficient("delete,pull,push repository:other/app:pull"))
    # When something is pushed, twice
    push(client)
    push(client)
    # Then the wider token was asked for once, without the foreign repository, and kept
    assert [scopes(seen) for seen in world.auth.seen] == [
        ["repository:team/app:pull"],
        ["repository:team/app:pull,push"],
        ["repository:team/app:delete,pull,push"],
    ]
    assert world.reg.count("POST", "/uploads/") == 3


def test_a08_scope_upgrade_and_partial_grant_denied(world: World) -> None:
    """A token server grants less instead of saying no; that is `denied` after at most two requests."""
    world.reg.tokens = world.auth
    world.auth.denied.add("team/app")
    client = world.client(login=ME)
    with world.fails(Denied, repository="team/app", status=401):
        push(client)
    assert len(world.auth.seen) == 1, "the same question is not asked twice"
    world.reg.always("POST", "/uploads/", insufficient("delete,pull,push"))
    with world.fails(Denied, repository="team/app"):
        push(client)
    assert len(world.auth.seen) == 2


def test_a08_scope_upgrade_and_partial_grant_ever_wider(world: World) -> None:
    """A registry that wants more after each answer gets two token requests and no more."""
    world.reg.tokens = world.auth
    wants = ("delete,pull,push", "a,delete,pull,push", "a,b,delete,pull,push", "a,b,c,pull,push")
    world.reg.on("POST", "/uploads/", *(insufficient(actions) for actions in wants))
    with world.fails(Denied):
        push(world.client(login=ME))
    assert len(world.auth.seen) == 2
    assert world.reg.count("POST", "/uploads/") == 3


# --- A09 --------------------------------------------------------------------------------------------------
def test_a09_token_expiry_mid_job_by_the_clock(world: World) -> None:
    """A token near the end of its life is replaced before it is refused."""
    world.reg.tokens = world.auth
    world.auth.life = 60
    fill(world.reg)
    client = world.client(login=ME)
    pull(client)
    world.clock.forward(49)
    assert client.has_blob("team/app", DIGEST)
    assert len(world.auth.seen) == 2
    assert [bool(seen.authorization) for seen in world.reg.seen] == [False, True, True]


def test_a09_token_expiry_mid_job_between_requests(world: World) -> None:
    """401 `invalid_token` between manifest and blob: one silent refresh, one replay."""
    world.reg.tokens = world.auth
    fill(world.reg)
    client = world.client(login=ME)
    pull(client)
    world.auth.issued.clear()
    with client.read_blob("team/app", DIGEST, len(DATA)) as body:
        assert b"".join(bytes(chunk) for chunk in body) == DATA
    assert len(world.auth.seen) == 2
    assert world.reg.count("GET", "/blobs/") == 2


def test_a09_token_expiry_mid_job_in_a_range_resume(world: World) -> None:
    """A token that died while a blob came is replaced, and the blob goes on where it broke."""
    world.reg.tokens = world.auth
    fill(world.reg)
    client = world.client(login=ME)
    pull(client)
    world.reg.on("GET", "/blobs/", Twist(cut=20_000))
    got = []
    with client.read_blob("team/app", DIGEST, len(DATA)) as body:
        for chunk in body:
            got.append(bytes(chunk))
            if len(got) == 1:
                world.auth.issued.clear()
    assert b"".join(got) == DATA
    asked = [seen.headers.get("Range") for seen in world.reg.seen if "/blobs/" in seen.path]
    assert asked[-2:] == ["bytes=20000-", "bytes=20000-"], "401, then the same again with a new token"
    assert len(world.auth.seen) == 2


def test_a09_token_expiry_mid_job_all_the_time(world: World) -> None:
    """A whole copy succeeds with tokens that die after a few requests, and moves every blob once."""
    # Given tokens that are good for six requests
    for registry in (world.reg, world.reg2):
        registry.tokens = world.auth
    world.auth.uses = 6
    fill(world.reg)
    # When an image is copied
    pool = world.pool(logins={REG: ME, REG2: ME})
    view, _ = world.copy(f"{REG}/team/app:v1", f"{REG2}/team/app:v1", pool)
    # Then it is there, and each blob was taken once
    assert view.state == "done"
    assert world.reg2.tag_lists["team/app"] == {"v1": PICTURE.digest}
    assert world.reg2.blobs_taken == {Digest.of(data): len(data) for data in PICTURE.blobs}
    assert len(world.auth.seen) > 3


# --- A10 --------------------------------------------------------------------------------------------------
def together(count: int, run: Callable[[int], object]) -> list[object]:
    """What `run(number)` gives or raises in so many threads that begin at the same moment."""
    gate = threading.Barrier(count)

    def one(number: int) -> object:
        gate.wait()
        try:
            return run(number)
        except DistworkerError as problem:
            return problem

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


@pytest.mark.parametrize("shared", [False, True], ids=["one-process", "several-pools-one-vault"])
def test_a10_shared_token_single_flight(world: World, shared: bool) -> None:
    """Twenty callers with a cold cache cost one token request; two logins never share a token."""
    # Given a registry and two tenants
    world.reg.tokens = world.auth
    world.auth.users["you"] = "SECRET-OTHER"
    fill(world.reg)
    vault = MemoryVault(world.clock) if shared else None
    pools = [world.pool(logins={REG: ME}, vault=vault) for _ in range(4 if shared else 1)]
    # When twenty callers of the first come at once
    asked = together(20, lambda n: pools[n % len(pools)].client(REG).has_blob("team/app", DIGEST))
    # Then all of them used one token
    assert asked == [True] * 20
    assert len(world.auth.seen) == 1
    mine = {seen.authorization for seen in world.reg.seen} - {""}
    assert len(mine) == 1
    # When the second comes, then nothing of the first is used
    world.reg.seen.clear()
    other = world.pool(logins={REG: ("you", "SECRET-OTHER")}, vault=vault)
    assert together(20, lambda _: other.client(REG).has_blob("team/app", DIGEST)) == [True] * 20
    theirs = {seen.authorization for seen in world.reg.seen} - {""}
    assert len(world.auth.seen) == 2
    assert len(theirs) == 1
    assert not mine & theirs
    # And who comes later, sharing the vault, neither asks for a token nor has to be told to bring one
    if shared:
        world.reg.seen.clear()
        late = world.pool(logins={REG: ME}, vault=vault)
        assert late.client(REG).has_blob("team/app", DIGEST)
        assert {seen.authorization for seen in world.reg.seen} == mine
        assert len(world.auth.seen) == 2
    for pool in (*pools, other):
        pool.close()


# --- A11 --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shared", [False, True], ids=["one-process", "several-pools-one-vault"])
@pytest.mark.parametrize("spread", [False, True], ids=["one-repository", "fifty-repositories"])
def test_a11_bad_credentials_no_hammer(world: World, shared: bool, spread: bool) -> None:
    """Fifty jobs with a wrong password cost two token requests in ten minutes, none of them anonymous."""
    # Given a token server that refuses everyone
    world.reg.tokens = world.auth
    world.auth.always("GET", "/token", Answer(401, {}, b'{"details":"incorrect username or password"}'))
    vault = MemoryVault(world.clock) if shared else None
    pools = [world.pool(logins={REG: ("me", "SECRET-WRONG")}, vault=vault) for _ in range(5 if shared else 1)]

    def job(number: int) -> object:
        repository = f"public/app{number}" if spread else "public/app"
        return pools[number % len(pools)].client(REG).has_blob(repository, DIGEST)

    # When fifty jobs run
    outcomes = together(50, job)
    # Then each is told the same, and the server was asked once with the scope and once without
    assert {type(one) for one in outcomes} == {Unauthorized}
    assert [len(scopes(seen)) for seen in world.auth.seen] == [1, 0]
    assert schemes(world.auth.seen) == {"Basic"}
    # When the ten minutes are over, then the login gets another chance
    world.clock.forward(BAD_LOGIN_MEMORY - 1)
    together(1, job)
    assert len(world.auth.seen) == 2
    world.clock.forward(2)
    together(1, job)
    assert len(world.auth.seen) == 4
    for pool in pools:
        pool.close()


def test_a11_bad_credentials_no_hammer_basic(world: World) -> None:
    """The same for a registry that wants Basic: one try, on ping, whatever the fifty jobs are after."""
    world.reg.user, world.reg.password = "me", "SECRET-RIGHT"
    pool = world.pool(logins={REG: ME})
    outcomes = together(50, lambda n: pool.client(REG).has_blob(f"team/app{n}", DIGEST))
    assert {type(one) for one in outcomes} == {Unauthorized}
    assert [seen.line for seen in world.reg.seen if seen.authorization] == ["GET /v2/"]
    pool.close()


def test_a11_bad_credentials_no_hammer_a_closed_repository_is_no_bad_login(world: World) -> None:
    """A token server that answers 401 for one repository does not stop the login for all others."""
    world.reg.tokens = world.auth
    fill(world.reg)
    world.auth.always("GET", "closed", Answer(401))
    client = world.client(login=ME)
    for _ in range(2):
        with world.fails(Denied, repository="closed/app"):
            client.has_blob("closed/app", DIGEST)
        pull(client)


# --- A12 --------------------------------------------------------------------------------------------------
#: What a hostile registry names as its token server.
HOSTILE = {
    "elsewhere": "https://evil.example/token",
    "plain-http": f"http://{AUTH}/token",
    "plain-http-evil": "http://evil.example/token",
    "metadata": "https://169.254.169.254/token",
    "metadata-http": "http://169.254.169.254/latest/meta-data/",
    "zero": "https://0.0.0.0/token",
    "loopback-spelled": "https://2130706433/token",
    "name-to-private": "https://inner.example/token",
    "other-port": f"https://{AUTH}:8443/token",
    "user-in-it": f"https://u:SECRET-P@{AUTH}/token",
    "looks-like-user": f"https://{AUTH}@evil.example/token",
    "backslash": f"https://evil.example\\\\@{AUTH}/token",
    "fragment": f"https://{AUTH}/token#x",
    "longer-name": f"https://{AUTH}.evil.example/token",
    "file": "file:///etc/passwd",
    "none": "null://",
}
#: Those that even an anonymous request must not follow; the rest are public https addresses.
INWARD = ("plain-http", "metadata", "metadata-http", "zero", "loopback-spelled", "name-to-private", "file")


@pytest.mark.parametrize("verb", [pull, push])
@pytest.mark.parametrize("realm", HOSTILE.values(), ids=HOSTILE)
def test_a12_hostile_realm(world: World, realm: str, verb: Callable[[Client], None]) -> None:
    """A login goes to no token server that was not named for it, on pull and on push."""
    # Given a registry that names one
    world.network.name("inner.example", "10.0.0.7")
    world.reg.always("*", "/v2/", challenged(f'Bearer realm="{realm}",service="fake-registry"'))
    # When it is asked with a login
    with world.fails(RealmRefused, registry=REG, repository="team/app"):
        verb(world.client(login=ME))
    # Then nobody was asked for a token
    assert world.auth.seen == []
    assert world.evil.seen == []
    assert schemes(world.reg.seen) == {""}


@pytest.mark.parametrize("verb", [pull, push])
@pytest.mark.parametrize("name", INWARD)
def test_a12_hostile_realm_without_a_login(world: World, name: str, verb: Callable[[Client], None]) -> None:
    """Without a login it cannot be used to reach inward, or over plain http, either."""
    world.network.name("inner.example", "10.0.0.7")
    world.reg.always("*", "/v2/", challenged(f'Bearer realm="{HOSTILE[name]}"'))
    with world.fails(RealmRefused, registry=REG):
        verb(world.client())
    assert world.evil.seen == []


@pytest.mark.parametrize("verb", [pull, push])
@pytest.mark.parametrize("login", [ME, None], ids=["login", "anonymous"])
@pytest.mark.parametrize("target", ["http://169.254.169.254/token", "https://evil.example/token", "/other"])
def test_a12_hostile_realm_redirects(
    world: World, target: str, login: tuple[str, str] | None, verb: Callable[[Client], None]
) -> None:
    """A token server may not redirect, wherever to."""
    world.reg.tokens = world.auth
    world.auth.always("GET", "/token", Answer(302, {"Location": target}, b'{"token":"SECRET-T"}'))
    with world.fails(RealmRefused):
        verb(world.client(login=login))
    assert world.evil.seen == []
    assert {seen.path for seen in world.auth.seen} == {"/token"}
    assert schemes(world.reg.seen) == {""}, "nothing it said was used"


@pytest.mark.parametrize("verb", [pull, push])
def test_a12_hostile_realm_a_named_one_moves_inward(world: World, verb: Callable[[Client], None]) -> None:
    """A pair that the operator named is judged by its address all the same."""
    world.reg.tokens = world.auth
    world.network.name(AUTH, "10.0.0.7")
    with world.fails(RealmRefused):
        verb(world.client(login=ME))
    assert world.auth.seen == []


def test_a12_hostile_realm_changes_in_the_middle(world: World) -> None:
    """A challenge that names another realm in mid-job is refused, and does not replace the good one."""
    world.reg.tokens = world.auth
    fill(world.reg)
    client = world.client(login=ME)
    pull(client)
    world.reg.on("HEAD", "/blobs/", challenged(f'Bearer realm="{HOSTILE["elsewhere"]}",service="s"'))
    with world.fails(RealmRefused):
        client.has_blob("team/app", DIGEST)
    assert client.has_blob("team/app", DIGEST)
    assert world.evil.seen == []


@pytest.mark.parametrize(
    ("host", "registry", "realm"),
    [
        ("docker.io", "registry-1.docker.io", "auth.docker.io"),
        ("registry.gitlab.com", "registry.gitlab.com", "gitlab.com"),
    ],
)
def test_a12_hostile_realm_built_in_pairs_still_work(
    world: World, host: str, registry: str, realm: str
) -> None:
    """Registries whose makers keep the token server elsewhere need no setting."""
    # Given such a registry, and no `token_realms`
    tokens = FakeTokenServer({"me": "SECRET-PASSWORD"})
    fake = FakeRegistry(tokens=tokens)
    world.add(realm, tokens, "44.0.1.1")
    world.add(registry, fake, "44.0.1.2")
    fill(fake)
    # When something is read there
    pool = world.pool(logins={host: ME}, trust=False)
    assert pool.client(host).get_manifest("team/app", "v1").raw == PICTURE.manifest.raw
    # Then the pair was trusted with the login
    assert [seen.authorization for seen in tokens.seen] == [BASIC]


def test_a12_hostile_realm_a_named_pair_still_works(world: World) -> None:
    """What the operator named is trusted, and only while it is named."""
    world.reg.tokens = world.auth
    fill(world.reg)
    pull(world.client(login=ME, trust=True))
    with world.fails(RealmRefused) as caught:
        pull(world.client(login=ME, trust=False))
    assert "token_realms" in caught[0].message
    assert len(world.auth.seen) == 1
