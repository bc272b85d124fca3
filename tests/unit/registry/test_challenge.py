"""Challenges are read as registries write them (RFC 9110, 11.6.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distworker.limits import HEADER_VALUE_MAX
from distworker.registry.challenge import choose, parse

HUB = (
    'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
    'scope="repository:samalba/my-app:pull,push"'
)


def test_a_scope_keeps_its_comma() -> None:
    """Commas inside quotes do not split parameters."""
    (one,) = parse([HUB])
    assert (one.scheme, one.realm, one.service) == (
        "bearer",
        "https://auth.docker.io/token",
        "registry.docker.io",
    )
    assert one.scopes == ("repository:samalba/my-app:pull,push",)


def test_two_challenges_share_a_header() -> None:
    """The Basic realm holds a comma and still ends where its quote ends."""
    basic, bearer = parse(['Basic realm="a, b", Bearer realm="https://t/",service="s"'])
    assert (basic.scheme, basic.realm) == ("basic", "a, b")
    assert (bearer.scheme, bearer.realm, bearer.service) == ("bearer", "https://t/", "s")


def test_two_scopes_are_separated_by_a_space() -> None:
    """One scope parameter may ask for two repositories."""
    (one,) = parse(['Bearer realm="https://t/",scope="repository:a/b:pull repository:c/d:pull"'])
    assert one.scopes == ("repository:a/b:pull", "repository:c/d:pull")


@pytest.mark.parametrize(
    "values",
    [
        ['Negotiate, Basic realm="x", Bearer realm="https://t/"'],
        ['Bearer realm="https://t/", Negotiate, Basic realm="x"'],
        ["Negotiate", 'Basic realm="x"', 'Bearer realm="https://t/"'],
        ["Negotiate YWJjZA==, Bearer realm=https://t/"],
        ['BEARER Realm="https://t/"'],
        ['Bearer   realm = "https://t/" , service=s'],
        ['Bearer realm="https:\\/\\/t\\/"'],
    ],
)
def test_bearer_is_chosen_wherever_it_stands(values: list[str]) -> None:
    """Order, letter case, spaces, escapes and token68 of other schemes do not matter."""
    chosen = choose(parse(values))
    assert chosen is not None
    assert (chosen.scheme, chosen.realm) == ("bearer", "https://t/")


@pytest.mark.parametrize(
    ("values", "realm"),
    [
        (["Negotiate", 'Basic realm="x"'], "x"),
        (['BASIC realm="Sonatype Nexus"'], "Sonatype Nexus"),
        (['Basic realm="x"', 'Bearer service="s"'], "x"),
        (['Basic realm="x"', 'Bearer realm="https://t/'], "x"),
        (["Basic"], ""),
    ],
)
def test_basic_is_chosen_when_no_sound_bearer_is_offered(values: list[str], realm: str) -> None:
    """A Bearer without a realm or with an open quote does not hide the Basic beside it."""
    chosen = choose(parse(values))
    assert chosen is not None
    assert (chosen.scheme, chosen.realm) == ("basic", realm)


@pytest.mark.parametrize(
    "value", ["", "   ", ",,,", 'Bearer service="s"', 'Bearer realm="https://t/', "=x", "x" * 20000]
)
def test_nothing_usable_is_no_choice(value: str) -> None:
    """Broken or empty headers end in no choice, not in a crash."""
    assert choose(parse([value])) is None


def test_the_error_is_read() -> None:
    """Bearer says why."""
    (one,) = parse(['Bearer realm="https://t/",error="insufficient_scope",scope="repository:a/b:push"'])
    assert one.error == "insufficient_scope"


@pytest.mark.parametrize(
    ("value", "schemes"),
    [
        ("Negotiate abc/def==, Bearer realm=https://t/", ["negotiate", "bearer"]),
        ("Negotiate YWJj=, Bearer realm=https://t/", ["negotiate", "bearer"]),
        ("Negotiate YWJj , Bearer realm=https://t/", ["negotiate", "bearer"]),
        ("Negotiate   abc+/=\t,Basic realm=x", ["negotiate", "basic"]),
        ('Bearer realm="https://t/",service="s', []),
        ("Bearer realm=https://t/,service=", []),
        ('Basic realm="x", Bearer realm="https://t/', ["basic"]),
        (" , ,Basic realm=x, , Bearer realm=y,", ["basic", "bearer"]),
    ],
)
def test_each_challenge_ends_where_the_next_begins(value: str, schemes: list[str]) -> None:
    """A token68 is no scheme and no parameter; a challenge that breaks off counts for nothing."""
    assert [one.scheme for one in parse([value])] == schemes


def test_a_header_of_the_longest_length_is_read_and_a_longer_one_is_not() -> None:
    """The limit is the last length that counts."""
    longest = "Basic realm=" + "x" * (HEADER_VALUE_MAX - len("Basic realm="))
    assert len(parse([longest])) == 1
    assert parse([longest + "x"]) == []


@given(st.lists(st.text(max_size=200), max_size=3))
def test_any_text_is_survived(values: list[str]) -> None:
    """No header value raises or loops."""
    for one in parse(values):
        assert one.scheme
