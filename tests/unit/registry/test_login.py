"""Logging in against scripted servers: challenges, tokens, refusals, realms."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from distworker.digest import Digest
from distworker.errors import (
    AuthRequired,
    Denied,
    NotARegistry,
    ProtocolError,
    RealmRefused,
    RedirectRefused,
    Unauthorized,
    Unavailable,
)
from distworker.mediatypes import OCI_MANIFEST
from tests.fakes.registry_server import Answer, FakeServer
from tests.fakes.registry_token import FakeTokenServer
from tests.unit.registry.conftest import Rig, Sent, fails

RigMaker = Callable[..., Rig]
DATA = b"some layer" * 100


def users() -> FakeTokenServer:
    """A token server that knows one user."""
    return FakeTokenServer({"me": "SECRET-password"})


def test_a01_open_registry_gets_no_login_and_no_token_request(rig: RigMaker) -> None:
    """Where nothing is asked, nothing is sent."""
    r = rig(login=("me", "SECRET-password"))
    r.fake.put_blob("a/b", DATA)
    assert not r.client.ping(), "no login was used"
    assert r.client.has_blob("a/b", Digest.of(DATA))
    assert [one.authorization for one in r.fake.seen] == ["", ""]


def test_a01_a_web_server_is_not_a_registry(rig: RigMaker) -> None:
    """A page on /v2/, or 200 to everything, never counts as success."""
    r = rig()
    r.fake.always("*", "/v2/", Answer(200, {"Content-Type": "text/html"}, b"<html>hello</html>"))
    with fails(NotARegistry):
        r.client.ping()
    with fails(ProtocolError):
        r.client.upload_blob("a/b", Digest.of(DATA), len(DATA), Sent(DATA).at)


def test_a02_anonymous_bearer(rig: RigMaker) -> None:
    """One token request without a login, then success."""
    tokens = users()
    r = rig(tokens=tokens)
    r.fake.put_blob("public/b", DATA)
    assert r.client.has_blob("public/b", Digest.of(DATA))
    (asked,) = tokens.seen
    assert asked.authorization == ""
    assert asked.parameters == [("service", "fake-registry"), ("scope", "repository:public/b:pull")]


def test_a03_the_password_goes_to_the_token_server_only(rig: RigMaker) -> None:
    """Basic there, Bearer at the registry; pull asks pull, push asks both."""
    tokens = users()
    r = rig(tokens=tokens, login=("me", "SECRET-password"))
    assert not r.client.has_blob("a/b", Digest.of(DATA))
    r.client.upload_blob("a/b", Digest.of(DATA), len(DATA), Sent(DATA).at)
    scopes = [dict(one.parameters)["scope"] for one in tokens.seen]
    assert scopes == ["repository:a/b:pull", "repository:a/b:pull,push"]
    assert all(one.authorization.startswith("Basic ") for one in tokens.seen)
    assert {one.authorization.partition(" ")[0] for one in r.fake.seen} == {"", "Bearer"}


def test_a03_mount_asks_for_both_repositories_in_one_token(rig: RigMaker) -> None:
    """Destination's push first, source's pull second."""
    tokens = users()
    r = rig(tokens=tokens, login=("me", "SECRET-password"))
    digest = r.fake.put_blob("old/x", DATA)
    assert r.client.mount_blob("new/x", digest, ["old/x"]) is None
    assert [value for name, value in tokens.seen[-1].parameters if name == "scope"] == [
        "repository:new/x:pull,push",
        "repository:old/x:pull",
    ]


def test_basic_is_sent_once_it_is_asked_for(rig: RigMaker) -> None:
    """The first answer is a challenge; after it no request is sent in vain."""
    r = rig(user="me", password="SECRET-password", login=("me", "SECRET-password"))
    r.client.ping()
    r.client.ping()
    assert [bool(one.authorization) for one in r.fake.seen] == [False, True, True]


def test_no_login_configured_is_told(rig: RigMaker) -> None:
    """`auth_required` says where to put one."""
    r = rig(user="me", password="x")
    with fails(AuthRequired, repository="a/b", status=401) as caught:
        r.client.get_manifest("a/b", "v1")
    assert "registries.toml" in caught[0].message


def test_a_wrong_basic_login_is_tried_once(rig: RigMaker) -> None:
    """Once for the request and once for the ping that confirms it: trying on would lock the account."""
    r = rig(user="me", password="x", login=("me", "SECRET-wrong"))
    for _ in range(3):
        with fails(Unauthorized):
            r.client.ping()
    assert sum(1 for one in r.fake.seen if one.authorization) == 2


@pytest.mark.parametrize("first", ["closed/b", "a/b"])
def test_a_repository_closed_to_a_good_login_stops_nothing_else(rig: RigMaker, first: str) -> None:
    """Some registries say 401 where 403 is meant; the login stays usable, whichever is asked first."""
    r = rig(user="me", password="SECRET-pw", login=("me", "SECRET-pw"))
    r.fake.put_blob("a/b", DATA)
    r.fake.always("HEAD", "/v2/closed/", Answer(401, {"WWW-Authenticate": 'Basic realm="fake"'}))
    for repository in (first, "closed/b", "a/b"):
        if repository == "a/b":
            assert r.client.has_blob("a/b", Digest.of(DATA))
        else:
            with fails(Denied, repository="closed/b"):
                r.client.has_blob(repository, Digest.of(DATA))


def test_a11_a_wrong_login_is_not_hammered_into_the_token_server(rig: RigMaker) -> None:
    """One token request, however many requests want one; no silent anonymous try."""
    tokens = users()
    r = rig(tokens=tokens, login=("me", "SECRET-wrong"))
    r.fake.put_blob("public/b", DATA)
    for _ in range(5):
        with fails(Unauthorized):
            r.client.has_blob("public/b", Digest.of(DATA))
    assert len(tokens.seen) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, {}, b"<html>SECRET-page"),
        Answer(200, {}, b"x" * (5 << 20)),
        Answer(200, {}, b'{"token": 7}'),
        Answer(404, {}, b"no"),
    ],
)
def test_a06_an_unusable_token_answer_is_a_typed_error(rig: RigMaker, answer: Answer) -> None:
    """Not JSON, endless, no token, no server."""
    tokens = users()
    r = rig(tokens=tokens)
    tokens.always("GET", "/token", answer)
    with fails(ProtocolError):
        r.client.has_blob("public/b", Digest.of(DATA))


def test_a_token_server_that_is_down_for_a_moment_is_asked_again(rig: RigMaker) -> None:
    """Its faults are retried like any other."""
    tokens = users()
    r = rig(tokens=tokens)
    r.fake.put_blob("public/b", DATA)
    tokens.on("GET", "/token", Answer(503), Answer(hangup=True))
    assert r.client.has_blob("public/b", Digest.of(DATA))
    tokens.issued.clear()
    tokens.always("GET", "/token", Answer(502))
    with fails(Unavailable):
        r.client.has_blob("public/b", Digest.of(DATA))


@pytest.mark.parametrize("refusal", [400, 401, 404, 405])
def test_a07_identity_token_falls_back_to_get(rig: RigMaker, refusal: int) -> None:
    """POST first; where it is refused, GET once; the identity token goes to the token server only."""
    tokens = FakeTokenServer({"me": "SECRET-identity"}, identity="SECRET-identity")
    r = rig(tokens=tokens, login=("me", ""), identity="SECRET-identity")
    r.fake.put_blob("a/b", DATA)
    assert r.client.has_blob("a/b", Digest.of(DATA))
    assert [one.method for one in tokens.seen] == ["POST"]
    tokens.issued.clear()
    tokens.on("POST", "/token", Answer(refusal))
    assert r.client.has_blob("a/b", Digest.of(DATA))
    assert [one.method for one in tokens.seen] == ["POST", "POST", "GET"]
    assert all("SECRET-identity" not in str(one.headers) for one in r.fake.seen)


def test_a08_a_partial_grant_ends_in_denied(rig: RigMaker) -> None:
    """The token server grants less than asked; that is a no, after at most two token requests."""
    tokens = users()
    tokens.denied.add("closed/b")
    r = rig(tokens=tokens, login=("me", "SECRET-password"))
    with fails(Denied, repository="closed/b"):
        r.client.start_upload("closed/b")
    assert len(tokens.seen) <= 2


def test_a09_a_token_that_expires_between_requests_is_replaced(rig: RigMaker) -> None:
    """One silent refresh, one replay."""
    tokens = users()
    r = rig(tokens=tokens, login=("me", "SECRET-password"))
    r.fake.put_blob("a/b", DATA)
    assert r.client.has_blob("a/b", Digest.of(DATA))
    tokens.issued.clear()
    assert r.client.has_blob("a/b", Digest.of(DATA))
    assert len(tokens.seen) == 2


def test_a10_threads_share_one_token_request(rig: RigMaker) -> None:
    """A cold cache and many threads cost one request."""
    tokens = users()
    r = rig(tokens=tokens, login=("me", "SECRET-password"))
    digest = r.fake.put_blob("a/b", DATA)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: r.client.has_blob("a/b", digest), range(16)))
    r.pool.close()
    assert len(tokens.seen) == 1


def test_a12_a_realm_elsewhere_gets_no_credentials(rig: RigMaker) -> None:
    """Nothing is sent there, not even an anonymous request."""
    tokens = users()
    r = rig(tokens=tokens, login=("me", "SECRET-password"), trust=False)
    for use in (lambda: r.client.has_blob("a/b", Digest.of(DATA)), lambda: r.client.start_upload("a/b")):
        with fails(RealmRefused) as caught:
            use()
        assert "token_realms" in caught[0].message
    assert tokens.seen == []


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "gopher://x/", "https://u:SECRET@t.example/"])
def test_a12_a_realm_that_is_no_address_is_refused(rig: RigMaker, realm: str) -> None:
    """Other schemes and user names never get a request."""
    r = rig()
    r.fake.always("GET", "/v2/", Answer(401, {"WWW-Authenticate": f'Bearer realm="{realm}"'}))
    with fails(RealmRefused):
        r.client.ping()


def test_a12_a_token_server_may_not_redirect(
    rig: RigMaker, serve: Callable[[FakeServer], FakeServer]
) -> None:
    """A redirect would carry the login on."""
    evil = FakeServer()
    serve(evil)
    tokens = users()
    r = rig(tokens=tokens, login=("me", "SECRET-password"))
    tokens.always("GET", "/token", Answer(302, {"Location": f"{evil.url}/token"}))
    with fails(RedirectRefused):
        r.client.ping()
    assert evil.seen == []


def test_a_relative_realm_is_the_registry_itself(rig: RigMaker) -> None:
    """`/token` means the registry's own host, which may have the login."""
    r = rig(login=("me", "SECRET-password"))
    r.fake.on("GET", "/v2/", Answer(401, {"WWW-Authenticate": 'Bearer realm="/token",service="s"'}))
    r.fake.on("GET", "/token", Answer(200, {}, b'{"token": "SECRET-t"}'))
    assert r.client.ping(), "our login was taken"
    assert r.fake.lines() == ["GET /v2/", "GET /token", "GET /v2/"]
    assert r.fake.seen[-1].authorization == "Bearer SECRET-t"


def test_a_401_without_a_challenge_ends_typed(rig: RigMaker) -> None:
    """No loop, no crash."""
    r = rig(login=("me", "SECRET-password"))
    r.fake.always("GET", "/v2/", Answer(401))
    with fails(Unauthorized):
        r.client.ping()
    assert len(r.fake.seen) == 1


def test_a_login_lost_in_the_middle_of_an_upload_is_renewed(rig: RigMaker) -> None:
    """401 on the closing PUT: refresh, and the body is opened anew rather than sent half."""
    tokens = users()
    r = rig(tokens=tokens, login=("me", "SECRET-password"))
    session = r.client.start_upload("a/b")
    tokens.issued.clear()
    opened: list[int] = []

    def body(offset: int) -> Sent:
        opened.append(offset)
        return Sent(DATA).at(offset)

    r.client.upload_blob("a/b", Digest.of(DATA), len(DATA), body, session)
    assert len(opened) == 2
    assert r.fake.holds["a/b"] == {Digest.of(DATA)}


def test_denied_by_the_registry_is_not_a_login_problem(rig: RigMaker) -> None:
    """403 is final, and says what was not allowed."""
    r = rig()
    body = b'{"errors":[{"code":"DENIED","message":"requested access \\u001b[31mis denied"}]}'
    r.fake.always("GET", "/manifests/", Answer(403, {}, body))
    with fails(Denied, status=403, registry_code="DENIED", reference="v1") as caught:
        r.client.get_manifest("a/b", "v1")
    assert "\x1b" not in caught[0].message


def test_manifest_types_survive_a_login(rig: RigMaker) -> None:
    """The replayed request carries the same Accept line."""
    tokens = users()
    r = rig(tokens=tokens)
    raw = (
        b'{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"%s","size":2},"layers":[]}'
        % Digest.of(b"{}").encode()
    )
    r.fake.put_manifest("public/b", raw, OCI_MANIFEST, "v1")
    assert r.client.get_manifest("public/b", "v1").raw == raw
    assert {one.headers.get("Accept") for one in r.fake.seen} == {r.fake.seen[0].headers.get("Accept")}
