"""The catalogue of the specification, and what its being closed means."""

from __future__ import annotations

import json

import pytest

from distworker.errors import (
    AuthRequired,
    Denied,
    InvalidReference,
    NotARegistry,
    ProtocolError,
    RedirectRefused,
    Throttled,
)
from distworker.registry.listing.catalog import SpecListing
from distworker.registry.quirks import Quirks
from tests.fakes.registry import error
from tests.fakes.registry_server import Answer
from tests.fakes.world import World

CATALOG = "/v2/_catalog"


def page(*names: object, link: str = "") -> Answer:
    """One page of the catalogue."""
    headers = {"Link": f'<{link}>; rel="next"'} if link else {}
    return Answer(200, headers, json.dumps({"repositories": list(names)}).encode())


def test_the_catalogue_is_read_to_its_end(world: World) -> None:
    """Names that are none are left out, each other once."""
    world.reg.on("GET", CATALOG, page("a/b", "A/B", 7, "c", link=f"{CATALOG}?last=c"), page("c", "team/app"))
    listing = world.client().listing()
    assert isinstance(listing, SpecListing)
    assert list(listing.repositories()) == ["a/b", "c", "team/app"]
    assert [(one.path, one.query) for one in world.reg.seen] == [(CATALOG, "n=1000"), (CATALOG, "last=c")]
    assert listing.digests("a/b") is None
    world.reg.put_manifest("a/b", b"{}", "x/y", "v1")
    assert list(listing.tags("a/b")) == ["v1"]


def test_a_prefix_chooses_from_the_catalogue(world: World) -> None:
    """It has no filter of its own."""
    world.reg.on("GET", CATALOG, page("team/app", "team/apps", "teams/x", "team"))
    assert list(world.client().listing().repositories("team")) == ["team/app", "team/apps", "team"]
    with pytest.raises(InvalidReference):
        world.client().listing().repositories("Team")


def test_a_full_page_without_link_is_asked_on_where_the_profile_says_so(world: World) -> None:
    """As with tags."""
    world.reg.on("GET", CATALOG, page("a", "b"), page("c"))
    client = world.client(quirks=Quirks(page_size=2, last_pagination=True))
    assert list(client.listing().repositories()) == ["a", "b", "c"]
    assert [one.query for one in world.reg.seen] == ["n=2", "n=2&last=b"]


def test_the_catalogue_has_a_scope_of_its_own(world: World) -> None:
    """`registry:catalog:*`."""
    world.reg.tokens = world.auth
    world.reg.on(
        "GET",
        CATALOG,
        Answer(401, {"WWW-Authenticate": f'Bearer realm="{world.auth.realm}",service="s"'}),
        page("a"),
    )
    assert list(world.client(login=("me", "SECRET-PASSWORD")).listing().repositories()) == ["a"]
    assert ("scope", "registry:catalog:*") in world.auth.seen[0].parameters


@pytest.mark.parametrize(
    "answer",
    [
        error(403, "DENIED"),
        error(404, "NAME_UNKNOWN"),
        error(404, "UNKNOWN", "not found"),
        error(405, "UNSUPPORTED"),
        error(400, "UNSUPPORTED"),
        Answer(404, {"Content-Type": "text/plain"}, b"404 page not found"),
        Answer(501),
    ],
)
def test_a_closed_catalogue_says_nothing_about_what_is_there(world: World, answer: Answer) -> None:
    """Never an empty list: an error that says what to do instead."""
    world.reg.on("GET", CATALOG, answer)
    with world.fails(Denied, phase="list repositories", status=answer.status) as caught:
        list(world.client().listing().repositories())
    assert "says nothing about what it holds; name the repositories" in caught[0].message


def test_a_catalogue_that_is_known_to_be_closed_is_not_asked(world: World) -> None:
    """The table of registries says so."""
    listing = world.client(quirks=Quirks(catalog=False)).listing()
    with world.fails(Denied, phase="list repositories"):
        list(listing.repositories())
    assert world.reg.seen == []


def test_a_token_that_does_not_open_the_catalogue_is_the_same(world: World) -> None:
    """Token servers grant less instead of saying no."""
    world.reg.tokens = world.auth
    challenge = f'Bearer realm="{world.auth.realm}",service="s",scope="registry:catalog:*"'
    world.reg.always("GET", CATALOG, Answer(401, {"WWW-Authenticate": challenge}))
    listing = world.client(login=("me", "SECRET-PASSWORD")).listing()
    with world.fails(Denied) as caught:
        list(listing.repositories())
    assert "says nothing" in caught[0].message
    with world.fails(AuthRequired):
        list(world.client().listing().repositories())


def test_a_web_server_has_no_catalogue_because_it_is_no_registry(world: World) -> None:
    """The better reason is told."""
    world.reg.always("GET", CATALOG, Answer(404, {"Content-Type": "text/html"}, b"<html>"))
    world.reg.always("GET", "/v2/", Answer(200, {"Content-Type": "text/html"}, b"<html>"))
    with world.fails(NotARegistry):
        list(world.client().listing().repositories())


def test_other_failures_stay_what_they_are(world: World) -> None:
    """A throttle is no closed catalogue, a page elsewhere is refused, a circle ends."""
    client = world.client()
    world.reg.on("GET", CATALOG, Answer(429, {"Retry-After": "600"}))
    with world.fails(Throttled, delay=600.0):
        list(client.listing().repositories())
    world.reg.on("GET", CATALOG, page("a", link="https://evil.example/x"))
    with world.fails(RedirectRefused):
        list(client.listing().repositories())
    world.reg.on("GET", CATALOG, page("a", link=f"{CATALOG}?x=1"), page("a", link=f"{CATALOG}?x=2"))
    with world.fails(ProtocolError):
        list(client.listing().repositories())
    assert world.evil.seen == []
