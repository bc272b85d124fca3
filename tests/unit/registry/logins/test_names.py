"""Peculiar users and passwords survive the way to the server: as Basic, and in a token request."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from distworker.registry.credentials import Login
from distworker.registry.logins.github import USER, github
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_token import FakeTokenServer
from tests.unit.registry.conftest import Rig
from tests.unit.registry.logins.conftest import Town

#: Whose login it is, user, password.
LOGINS = [
    ("a robot of Quay's", "org+mover", "SECRET+/=&%20"),
    ("a robot of Harbor's", "robot$project+mover", "SECRET$HOME`x`"),
    ("a deploy token of GitLab's", "gitlab+deploy-token-7", "gldt-SECRET_-x"),
    ("a job token of GitLab's", "gitlab-ci-token", "SECRET 64:x y"),
    ("a key of Google's", "_json_key", '{"type": "service_account", "private_key": "-----\\nSECRET\\n"}'),
    ("an account with an address", "me@example.com", "SECRET#?;,'\""),
    ("a name beyond ASCII", "jürgen", "SECRET-pässwörd-密"),
    ("an account of Azure's", "00000000-0000-0000-0000-000000000000", "SECRET.jwt-like.x"),
    ("a domain of Windows", "DOMAIN\\user", "SECRET\\x"),
]
RigMaker = Callable[..., Rig]


@pytest.mark.parametrize(("user", "password"), [one[1:] for one in LOGINS], ids=[one[0] for one in LOGINS])
def test_a_name_survives_basic(rig: RigMaker, user: str, password: str) -> None:
    """UTF-8, and everything after the first colon is the password."""
    r = rig(login=(user, password), user=user, password=password)
    assert r.client.has_blob("a/b", r.fake.put_blob("a/b", b"layer"))
    kind, _, encoded = r.fake.seen[-1].authorization.partition(" ")
    assert (kind, base64.b64decode(encoded).decode()) == ("Basic", f"{user}:{password}")


@pytest.mark.parametrize(("user", "password"), [one[1:] for one in LOGINS], ids=[one[0] for one in LOGINS])
def test_a_name_survives_a_token_request(rig: RigMaker, user: str, password: str) -> None:
    """In the `account` parameter too, where `+` and `$` have meanings of their own."""
    tokens = FakeTokenServer({user: password})
    r = rig(login=(user, password), tokens=tokens)
    assert r.client.has_blob("a/b", r.fake.put_blob("a/b", b"layer"))
    (asked,) = tokens.seen
    assert dict(asked.parameters)["account"] == user


def test_github_takes_a_token_under_any_name(town: Town) -> None:
    """The user may be left out."""
    assert github(Login(("ghcr.io",), "me", "SECRET")).open("ghcr.io", "x").username == "me"
    tokens = FakeTokenServer({USER: "SECRET-ghp_token"})
    registry = FakeRegistry(tokens=tokens)
    town.add("auth.example", tokens)
    town.add("ghcr.io", registry)
    digest = registry.put_blob("me/app", b"layer")
    way = github(Login(("ghcr.io",), password="SECRET-ghp_token"))
    assert town.client("ghcr.io", way, token_realms=("auth.example",)).has_blob("me/app", digest)
