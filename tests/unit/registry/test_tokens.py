"""Tokens on the wire and in the cache, without sockets (distribution's token specification)."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from distworker.errors import ProtocolError
from distworker.registry import scopes
from distworker.registry.credentials import Credential
from distworker.registry.scopes import Scope
from distworker.registry.tokens import (
    Token,
    get_request,
    post_request,
    read_token,
)
from distworker.registry.urls import Origin

NOW = 1_700_000_000.0
REALM = "https://auth.example/token?tenant=a%2Bb"
HOME = frozenset({Origin("https", "auth.example", 443)})


def read(**document: object) -> Token:
    """The token of this answer, read at clock 1000."""
    return read_token(json.dumps(document).encode(), (), NOW, 1000.0)


@pytest.mark.parametrize(
    "answer", [{"token": "t"}, {"access_token": "t"}, {"token": "t", "access_token": "t"}]
)
def test_either_name_of_the_token_is_taken(answer: dict[str, str]) -> None:
    """Docker says token, OAuth says access_token."""
    assert read(**answer).header == "Bearer t"


@pytest.mark.parametrize("life", [None, 10, 0, -5, True, "300", 10**12])
def test_a_life_that_is_short_or_odd_counts_as_a_minute(life: object) -> None:
    """60 s is the least, renewed at 80 %."""
    assert read(token="t", expires_in=life).renew_at == pytest.approx(1048.0)


@pytest.mark.parametrize("shift", [3600, -86400])
def test_a_wrong_clock_over_there_does_not_shorten_the_life(shift: int) -> None:
    """Issued in the future, or dead on arrival, counts as issued now."""
    issued = datetime.fromtimestamp(NOW + shift, UTC).isoformat()
    assert read(token="t", expires_in=300, issued_at=issued).renew_at == pytest.approx(1240.0)


def test_age_counts() -> None:
    """A token issued 100 s ago has 200 s of its 300 left."""
    issued = datetime.fromtimestamp(NOW - 100, UTC).isoformat().replace("+00:00", "Z")
    assert read(token="t", expires_in=300, issued_at=issued).renew_at == pytest.approx(1160.0)


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[]", b"{}", b'{"token": 5}', b'{"token": "a b"}', b'{"token": "a\\nb"}', b"[" * 100_000],
)
def test_an_answer_without_a_usable_token_is_a_typed_error(body: bytes) -> None:
    """Nothing odd ends up in a header."""
    with pytest.raises(ProtocolError):
        read_token(body, (), NOW, 0.0)


def test_get_asks_one_scope_parameter_for_each_resource() -> None:
    """The destination's push stands first, the realm's own query stays as it is."""
    wanted = (scopes.push("new/x"), scopes.pull("public/bb"))
    request = get_request(REALM, "reg", wanted, None)
    assert request.url == (
        "https://auth.example/token?tenant=a%2Bb&service=reg"
        "&scope=repository%3Anew%2Fx%3Apull%2Cpush&scope=repository%3Apublic%2Fbb%3Apull"
    )
    assert request.headers == {}


def test_post_joins_scopes_with_a_space() -> None:
    """The OAuth form carries the identity token in the body only."""
    credential = Credential(identity_token="idt").bound_to(HOME)
    request = post_request(REALM, "reg", (scopes.pull("a"), scopes.pull("b")), credential)
    assert request.url == REALM
    assert request.body is not None
    assert b"scope=repository%3Aa%3Apull+repository%3Ab%3Apull" in request.body
    assert b"grant_type=refresh_token" in request.body


def test_scopes_are_widened_by_a_challenge_for_the_same_repository_only() -> None:
    """A registry cannot make us ask for rights elsewhere."""
    offered = ["repository:a/b:pull,push,delete", "repository:other:pull", "registry:catalog:*", "nonsense"]
    (united,) = scopes.united((scopes.pull("a/b"),), offered)
    assert str(united) == "repository:a/b:delete,pull,push"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("repository:host:5000/a/b:pull", "host:5000/a/b"),
        ("repository(plugin):a/b:pull", "a/b"),
        ("repository:a/b:pull,", "a/b"),
    ],
)
def test_names_in_scopes_may_hold_colons(text: str, name: str) -> None:
    """The type is split from the left, the actions from the right."""
    scope = Scope.parse(text)
    assert scope is not None
    assert (scope.kind, scope.name) == ("repository", name)


def test_nonsense_is_no_scope() -> None:
    """A challenge may hold anything."""
    assert [Scope.parse(text) for text in ("", "a", "a:b", "a:b:", "a:b:,", ":b:c", "a::c")] == [None] * 7


def test_a_catalog_is_a_scope_like_any_other() -> None:
    """What is needed is asked for as it stands; a challenge for it changes nothing."""
    catalog = Scope("registry", "catalog", ("*",))
    assert Scope.parse("registry:catalog:*") == catalog
    assert scopes.united((catalog,), ["registry:catalog:*", "repository:a/b:pull"]) == (catalog,)
    assert catalog.covers(Scope("registry", "catalog", ("list",)))


def test_a_login_without_scopes_is_asked_for_without_any() -> None:
    """As `docker login` does; an empty scope is another question."""
    credential = Credential("me", "SECRET", identity_token="SECRET").bound_to(HOME)
    assert get_request("https://auth.example/token", "s", (), credential).url.endswith(
        "?service=s&account=me"
    )
    assert b"scope" not in (post_request(REALM, "s", (), credential).body or b"")


def test_tokens_hide_in_reprs() -> None:
    """A token in a log line would be a login for everyone who reads it."""
    assert "SECRET" not in repr(Token("SECRET"))
    credential = Credential("me", "SECRET", identity_token="SECRET").bound_to(HOME)
    assert "SECRET" not in repr(get_request(REALM, "s", (), credential)) + repr(
        post_request(REALM, "s", (), credential)
    )
