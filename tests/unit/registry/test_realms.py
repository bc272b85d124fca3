"""Where a registry may send us for a token, whatever it says."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distworker.errors import RealmRefused
from distworker.registry import realms
from distworker.registry.faults import Where
from distworker.registry.urls import Origin, origin_of

REG, AUTH, PLAIN = (
    Origin("https", "reg.example", 5000),
    Origin("https", "auth.example", 443),
    Origin("http", "reg.example", 5000),
)
WHERE = Where("ping", "reg.example:5000")


def address(realm: str, registry: Origin = REG, *, login: bool = True) -> str:
    """The address to be asked."""
    return realms.address(realm, registry, frozenset({registry, AUTH}), login=login, where=WHERE)


@pytest.mark.parametrize(
    ("realm", "url"),
    [
        ("https://auth.example/token", "https://auth.example/token"),
        ("https://auth.example:443/token?a=%2B", "https://auth.example:443/token?a=%2B"),
        ("HTTPS://AUTH.example/token", "https://AUTH.example/token"),
        ("/token", "https://reg.example:5000/token"),
        ("token", "https://reg.example:5000/v2/token"),
        ("//auth.example/token", "https://auth.example/token"),
        ("https://reg.example:5000/token", "https://reg.example:5000/token"),
    ],
)
def test_the_registry_itself_and_named_pairs_may_have_the_login(realm: str, url: str) -> None:
    """However the same origin is spelled."""
    assert address(realm) == url


@pytest.mark.parametrize(
    "realm",
    [
        *("https://reg.example/token", "https://reg.example:5001/token", "https://auth.example:5000/token"),
        *("https://xauth.example/token", "https://auth.example.evil.example/", "//evil.example/token"),
    ],
)
def test_another_host_or_port_may_not(realm: str) -> None:
    """Without a login it may be asked, which is judged by its address later."""
    with pytest.raises(RealmRefused, match="token_realms"):
        address(realm)
    assert address(realm, login=False).startswith("https://")


def test_plain_http_only_behind_plain_http() -> None:
    """A registry that an operator made plain may have a plain token server; a login goes to named ones."""
    assert address("http://reg.example:5000/token", PLAIN) == "http://reg.example:5000/token"
    assert address("https://auth.example/token", PLAIN) == "https://auth.example/token"
    assert address("http://other.example/token", PLAIN, login=False) == "http://other.example/token"
    with pytest.raises(RealmRefused, match="token_realms"):
        address("http://auth.example/token", PLAIN)
    for login in (True, False):
        with pytest.raises(RealmRefused, match="plain http"):
            address("http://auth.example/token", login=login)


@given(st.text(max_size=60) | st.from_regex(r"(https?:)?//?[a-z.@:\\#?%/\[\]0-9]{0,30}", fullmatch=True))
@example("https://auth.example\\@evil.example/")
@example("https://evil.example\\.auth.example/")
@example("https://auth.example\t/token")
@example("https://[::1/token")
@example("https://auth.example:99999/token")
@example("")
@example("x" * 20_000)
def test_any_text_is_refused_or_goes_where_it_may(realm: str) -> None:
    """With a login to trusted origins only; without one to https; nothing else is raised."""
    for login, allowed in ((True, {REG, AUTH}), (False, None)):
        try:
            url = address(realm, login=login)
        except RealmRefused as error:
            assert error.fields["registry"] == "reg.example:5000"
            assert len(error.message) <= 500
        else:
            assert origin_of(url).scheme == "https"
            assert allowed is None or origin_of(url) in allowed
