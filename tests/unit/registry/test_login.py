"""Logging in against scripted servers: challenges, tokens, refusals, realms."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from distworker.digest import Digest
from distworker.errors import (
    AuthRequired,
    Denied,
    Unauthorized,
    Unavailable,
)
from distworker.mediatypes import OCI_MANIFEST
from distworker.registry.credentials import Credential
from distworker.registry.pool import RegistryPool
from distworker.registry.profiles import HostProfile
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import Answer, FakeServer
from tests.fakes.registry_token import FakeTokenServer
from tests.unit.registry.conftest import Rig, fails

RigMaker = Callable[..., Rig]
DATA = b"some layer" * 100
POST = "POST /v2/a/b/blobs/uploads/"


def users() -> FakeTokenServer:
    """A token server that knows one user."""
    return FakeTokenServer({"me": "SECRET-password"})


def test_basic_is_sent_once_it_is_asked_for(rig: RigMaker) -> None:
    """The first answer is a challenge, the login is tried on ping once; then no request is sent in vain."""
    r = rig(user="me", password="SECRET-password", login=("me", "SECRET-password"))
    digest = r.fake.put_blob("a/b", DATA)
    assert r.client.has_blob("a/b", digest)
    assert r.client.has_blob("a/b", digest)
    path = f"HEAD /v2/a/b/blobs/{digest}"
    assert r.fake.lines() == [path, "GET /v2/", path, path]
    assert [bool(one.authorization) for one in r.fake.seen] == [False, True, True, True]


def test_no_login_configured_is_told(rig: RigMaker) -> None:
    """`auth_required` says where to put one."""
    r = rig(user="me", password="x")
    with fails(AuthRequired, repository="a/b", status=401) as caught:
        r.client.get_manifest("a/b", "v1")
    assert "registries.toml" in caught[0].message


def test_a_wrong_basic_login_is_tried_once(rig: RigMaker) -> None:
    """Trying on would lock the account."""
    r = rig(user="me", password="x", login=("me", "SECRET-wrong"))
    for _ in range(3):
        with fails(Unauthorized):
            r.client.ping()
    assert sum(1 for one in r.fake.seen if one.authorization) == 1


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


def test_denied_by_the_registry_is_not_a_login_problem(rig: RigMaker) -> None:
    """403 is final, and says what was not allowed."""
    r = rig()
    body = b'{"errors":[{"code":"DENIED","message":"requested access \\u001b[31mis denied"}]}'
    r.fake.always("GET", "/manifests/", Answer(403, {}, body))
    with fails(Denied, status=403, registry_code="DENIED", reference="v1") as caught:
        r.client.get_manifest("a/b", "v1")
    assert "\x1b" not in caught[0].message


class Minting:
    """A source whose logins are made, numbered, and made anew when it is told that one is over."""

    def __init__(self) -> None:
        self.number = 1

    def find(self, host: str, name: str = "", repository: str = "") -> Credential | None:
        """The login of now."""
        return Credential("AWS", f"SECRET-{self.number}")

    def check(self, host: str, name: str) -> None:
        """Every name will do."""

    def refused(self, host: str, name: str, repository: str, credential: Credential) -> None:
        """The next one, if this is the one of now."""
        self.number += credential.password == f"SECRET-{self.number}"


def test_a_403_that_says_expired_gets_a_new_login_in_the_same_request(
    serve: Callable[[FakeServer], FakeServer],
) -> None:
    """As ECR says it; once for each request, so that a 403 that stays is told."""
    # Given a registry that takes a login and then calls it expired
    fake = FakeRegistry()
    serve(fake)
    words = b'"Your authorization token has expired. Reauthenticate and try again."'
    over = Answer(403, {}, b'{"errors":[{"code":"DENIED","message":%s}]}' % words)
    fake.on("POST", "/uploads/", Answer(401, {"WWW-Authenticate": 'Basic realm="ecr"'}), over)
    source = Minting()
    pool = RegistryPool({fake.host: HostProfile(plain_http=True, private=True)}, source)
    client = pool.client(fake.host)
    # When something is written there
    client.start_upload("a/b")
    # Then a new login was made and tried on ping, and the same request went out again with it
    assert source.number == 2
    assert [one.line for one in fake.seen] == [POST, "GET /v2/", POST, "GET /v2/", POST]
    assert len({one.authorization for one in fake.seen}) == 3
    # When it says so again and again
    fake.always("POST", "/uploads/", over)
    with fails(Denied, status=403, registry_code="DENIED"):
        client.start_upload("a/b")
    assert source.number == 3
    assert [one.line for one in fake.seen[5:]] == [POST, "GET /v2/", POST]
    pool.close()


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
