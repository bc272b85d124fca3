"""What a listing API is shown of a login, and what comes of one that it does not take."""

from __future__ import annotations

import pytest

from distworker.errors import (
    AuthRequired,
    ProtocolError,
    RealmRefused,
    Unauthorized,
)
from tests.fakes.listing_servers import (
    ApiServer,
    GitHubApi,
    HubApi,
    QuayApi,
)
from tests.fakes.registry_server import Answer
from tests.fakes.world import World
from tests.unit.registry.conftest import fails
from tests.unit.registry.listing.conftest import Connect
from tests.unit.registry.listing.products import IMAGES, PRODUCTS, USERS


@pytest.mark.parametrize("name", ["hub", "harbor", "quay", "gitlab", "google"])
def test_what_is_public_is_listed_without_a_login(connect: Connect, name: str) -> None:
    """No Authorization is sent."""
    product = PRODUCTS[name]
    server = product.serve(IMAGES)
    if isinstance(server, ApiServer):
        server.hidden = {"team/zoo"}
    listing = connect(product.host, {product.api: server}, None, **product.said).listing()
    found = sorted(listing.repositories("team"))
    assert found[:2] == ["team/app", "team/apps/deep/er"]
    assert {one.authorization for one in server.seen} == {""}


@pytest.mark.parametrize("name", ["hub", "harbor", "quay"])
def test_a_login_shows_what_is_hidden(connect: Connect, name: str) -> None:
    """It goes with each request."""
    product = PRODUCTS[name]
    listing, server = product.open(connect)
    assert isinstance(server, ApiServer)
    server.hidden = {"team/zoo"}
    assert "team/zoo" in list(listing.repositories("team"))
    assert all(one.authorization for one in server.seen if one.method == "GET")


@pytest.mark.parametrize("name", ["hub", "harbor", "quay", "gitlab"])
def test_a_token_of_the_registry_is_not_shown_to_an_api(connect: Connect, name: str) -> None:
    """It is worth nothing there, so the API is asked anonymously."""
    product = PRODUCTS[name]
    server = product.serve(IMAGES)
    client = connect(product.host, {product.api: server}, **product.said, identity="SECRET-IDENTITY")
    assert sorted(client.listing().repositories("team"))[0] == "team/app"
    assert {one.authorization for one in server.seen} == {""}


def test_github_lists_nothing_to_strangers(connect: Connect) -> None:
    """Said as what it is: a login is wanted."""
    listing = connect("ghcr.io", {"api.github.com": GitHubApi(IMAGES)}).listing()
    with fails(AuthRequired, registry="ghcr.io", phase="list repositories"):
        list(listing.repositories("team"))


def test_a_quay_robot_is_not_shown_to_the_api(connect: Connect) -> None:
    """Its password is good for the registry only, so the API is asked anonymously."""
    server = QuayApi(IMAGES)
    listing = connect("quay.io", {"quay.io": server}, ("team+robot", "SECRET-ROBOT")).listing()
    assert len(list(listing.repositories("team"))) == 3
    assert {one.authorization for one in server.seen} == {""}


@pytest.mark.parametrize("name", ["harbor", "quay", "ghcr", "gitlab"])
def test_a_refused_login_is_asked_once(connect: Connect, name: str) -> None:
    """The same secret again would be refused again."""
    product = PRODUCTS[name]
    server = product.serve(IMAGES)
    assert product.login is not None
    listing = connect(product.host, {product.api: server}, (product.login[0], "SECRET-WRONG"), **product.said)
    with fails(Unauthorized, status=401, registry=product.host):
        list(listing.listing().repositories("team"))
    assert len(server.seen) == 1


def test_the_hub_gives_a_token_for_the_login_and_it_is_kept(connect: Connect, world: World) -> None:
    """One login for many requests, until it is old."""
    listing, server = PRODUCTS["hub"].open(connect)
    list(listing.repositories("team"))
    listing.digests("team/app")
    assert server.count("POST", "/v2/auth/token") == 1
    world.clock.forward(301)
    listing.digests("team/app")
    assert server.count("POST", "/v2/auth/token") == 2
    assert {one.authorization for one in server.seen if one.method == "POST"} == {""}


def test_a_hub_token_that_is_no_longer_taken_is_made_anew_once(connect: Connect) -> None:
    """And then believed."""
    listing, server = PRODUCTS["hub"].open(connect)
    assert isinstance(server, HubApi)
    list(listing.repositories("team"))
    server.tokens.clear()
    assert listing.digests("team/zoo") == IMAGES["team/zoo"]
    assert server.count("POST", "/v2/auth/token") == 2
    server.always("GET", "", Answer(401))
    with fails(Unauthorized, status=401):
        listing.digests("team/zoo")
    assert server.count("POST", "/v2/auth/token") == 3


def test_a_wrong_hub_login_is_not_tried_again(connect: Connect) -> None:
    """Docker locks the account."""
    server = HubApi(IMAGES, users=USERS)
    listing = connect("docker.io", {"hub.docker.com": server}, ("me", "SECRET-WRONG")).listing()
    for _ in range(3):
        with fails(Unauthorized, registry="docker.io"):
            list(listing.repositories("team"))
    assert [one.line for one in server.seen] == ["POST /v2/auth/token"]


@pytest.mark.parametrize(
    "answer", [Answer(200, {}, b"<html>"), Answer(200, {}, b'{"access_token": "a b"}'), Answer(418)]
)
def test_a_hub_login_without_a_token_is_typed(connect: Connect, answer: Answer) -> None:
    """Not JSON, no header value, another status."""
    listing, server = PRODUCTS["hub"].open(connect)
    server.on("POST", "/v2/auth/token", answer)
    with fails(ProtocolError):
        list(listing.repositories("team"))


def test_a_hub_login_is_not_redirected(connect: Connect, world: World) -> None:
    """The password stays where it was sent."""
    listing, server = PRODUCTS["hub"].open(connect)
    server.on("POST", "/v2/auth/token", Answer(307, {"Location": "https://evil.example/v2/auth/token"}))
    with fails(RealmRefused):
        list(listing.repositories("team"))
    assert world.evil.seen == []
