"""Listing APIs that lead elsewhere, never end, or say what is no list: typed errors and bounds."""

from __future__ import annotations

import contextlib
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distworker.errors import (
    Denied,
    DistworkerError,
    LimitExceeded,
    NotARegistry,
    ProtocolError,
    RateLimited,
    RedirectRefused,
    RepositoryUnknown,
    Throttled,
    Unavailable,
)
from distworker.registry.waits import LIMIT_WAIT
from tests.fakes.registry_server import Answer
from tests.fakes.world import World
from tests.unit.registry.conftest import fails
from tests.unit.registry.listing.conftest import Connect
from tests.unit.registry.listing.products import APIS, DIGESTS, PRODUCTS


@pytest.mark.parametrize("name", APIS)
def test_a_redirect_of_an_api_takes_no_login_along(connect: Connect, world: World, name: str) -> None:
    """The other host is asked anonymously; `closed` of the world watches."""
    listing, server = PRODUCTS[name].open(connect)
    server.on("GET", "", Answer(302, {"Location": "https://evil.example/x"}))
    with fails(RepositoryUnknown):
        list(listing.repositories("team"))
    assert len(world.evil.seen) == 1


#: How each product says that the next page is elsewhere.
ASIDE = {
    "hub": Answer(200, {}, b'{"results": [{"name": "app"}], "next": "https://evil.example/v2/x"}'),
    "harbor": Answer(200, {"Link": '<https://evil.example/x>; rel="next"'}, b'[{"name": "team/app"}]'),
    "ghcr": Answer(200, {"Link": '<https://evil.example/x>; rel="next"'}, b'[{"name": "app", "id": 1}]'),
    "gitlab": Answer(200, {"Link": '<http://gitlab.com/x>; rel="next"'}, b'[{"path": "team/app"}]'),
    "google": Answer(200, {"Link": '<//evil.example/x>; rel="next"'}, b'{"manifest": {"sha256:x": {}}}'),
}


@pytest.mark.parametrize("name", ASIDE)
def test_the_next_page_of_an_api_is_never_elsewhere(connect: Connect, world: World, name: str) -> None:
    """Refused without a request."""
    listing, server = PRODUCTS[name].open(connect)
    server.on("GET", "", ASIDE[name])
    with fails(RedirectRefused, registry=PRODUCTS[name].host):
        list(listing.repositories("team"))
    assert world.evil.seen == []


#: Pages that go on for ever with the same entries.
ENDLESS = {
    "hub": (b'{"results": [{"name": "app"}], "next": "https://hub.docker.com/v2/x?page=%d"}', ""),
    "harbor": (b'[{"name": "team/app"}]', '</x?page=%d>; rel="next"'),
    "quay": (b'{"repositories": [{"namespace": "team", "name": "app"}], "next_page": "c%d"}', ""),
    "ghcr": (b'[{"name": "app", "id": 1}]', '</x?page=%d>; rel="next"'),
    "gitlab": (b'[{"path": "team/app"}]', '</x?page=%d>; rel="next"'),
    "google": (b'{"manifest": {"sha256:x": {}}}', '</x?page=%d>; rel="next"'),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_pages_of_an_api_that_bring_nothing_new_end(connect: Connect, name: str) -> None:
    """Typed, after the second."""
    listing, server = PRODUCTS[name].open(connect)
    body, link = ENDLESS[name]
    answers = [
        Answer(200, {"Link": link % n} if link else {}, body % n if b"%d" in body else body) for n in range(5)
    ]
    server.on("GET", "", *answers)
    with fails(ProtocolError, registry=PRODUCTS[name].host):
        list(listing.repositories("team"))
    assert sum(1 for one in server.seen if one.method == "GET") == 2


def test_quay_tags_that_never_end_do(connect: Connect) -> None:
    """`has_additional` for ever with the same tags."""
    listing, server = PRODUCTS["quay"].open(connect)
    body = b'{"tags": [{"name": "a", "manifest_digest": "x"}], "has_additional": true}'
    server.always("GET", "/tag/", Answer(200, {}, body))
    with fails(ProtocolError):
        listing.digests("team/app")
    assert len(server.seen) == 2


def test_a_quay_cursor_longer_than_any_address_is_typed(connect: Connect) -> None:
    """It would not fit into a request."""
    listing, server = PRODUCTS["quay"].open(connect)
    server.on("GET", "", Answer(200, {}, b'{"repositories": [], "next_page": "%s"}' % (b"x" * 20_000)))
    with fails(ProtocolError):
        list(listing.repositories("team"))


NONSENSE = [
    b"<html>",
    b'"x"',
    b"7",
    b"[" * 100_000,
    b'{"results": 7, "repositories": 7, "tags": 7, "child": 7}',
]


@pytest.mark.parametrize("body", NONSENSE, ids=["html", "text", "number", "deep", "no list"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_what_an_api_says_instead_of_a_list_is_typed(connect: Connect, name: str, body: bytes) -> None:
    """Never a parser's exception."""
    listing, server = PRODUCTS[name].open(connect)
    server.always("GET", "", Answer(200, {}, body))
    with fails(NotARegistry if body[:1] == b"<" else ProtocolError, registry=PRODUCTS[name].host):
        list(listing.repositories("team"))


STRANGE = b"""[null, 7, "x", [], {}, {"name": null, "path": null},
 {"name": "../x", "path": "../x", "id": true}, {"digest": "sha256:x", "tags": [{"name": "v"}, null, 7]},
 {"name": 7, "metadata": {"container": {"tags": 7}}}]"""


@pytest.mark.parametrize("name", PRODUCTS)
def test_entries_that_are_none_are_left_out(connect: Connect, name: str) -> None:
    """What is not a name, a tag or a digest cannot be used and breaks nothing."""
    listing, server = PRODUCTS[name].open(connect)
    lists = b'"results": %s, "repositories": %s, "tags": %s, "child": %s'
    whole = b"{" + lists + b', "manifest": {"x": {"tag": [7, "v", "/"]}}}'
    plain = name in ("harbor", "ghcr", "gitlab")
    server.always("GET", "", Answer(200, {}, STRANGE if plain else whole % ((STRANGE,) * 4)))
    assert [one for one in listing.repositories("team") if one.startswith("team/.")] == []
    assert not listing.digests("team/app")


@pytest.mark.parametrize("limit", ["PAGES_MAX", "TAGS_MAX", "PAGE_BODY_MAX"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_limits_hold_for_every_api(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, name: str, limit: str
) -> None:
    """Pages, entries and the size of a page are bounded."""
    monkeypatch.setattr(f"distworker.limits.{limit}", 1)
    listing, _ = PRODUCTS[name].open(connect)
    with fails(LimitExceeded, registry=PRODUCTS[name].host):
        list(listing.repositories("team"))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(403, {}, b'{"message": "forbidden"}'), Denied),
        (Answer(404, {}, b'{"message": "Not Found"}'), RepositoryUnknown),
        (Answer(429, {"Retry-After": "3600"}), Throttled),
        (Answer(503), Unavailable),
        (Answer(400), ProtocolError),
    ],
)
@pytest.mark.parametrize("name", APIS)
def test_refusals_of_an_api_are_typed(
    connect: Connect, name: str, answer: Answer, kind: type[ProtocolError]
) -> None:
    """By status, with the registry's name as it stands in references."""
    listing, server = PRODUCTS[name].open(connect)
    server.always("GET", "", answer)
    with fails(kind, registry=PRODUCTS[name].host, phase="list repositories", status=answer.status):
        list(listing.repositories("team"))


@pytest.mark.parametrize("reset", ["", "soon", str(int(time.time()) + 1800)])
def test_a_spent_budget_of_github_is_a_limit_and_no_denial(connect: Connect, reset: str) -> None:
    """It says 403, and by a Unix time when to come again."""
    listing, server = PRODUCTS["ghcr"].open(connect)
    headers = {"X-RateLimit-Remaining": "0", **({"X-RateLimit-Reset": reset} if reset else {})}
    server.on("GET", "", Answer(403, headers, b'{"message": "API rate limit exceeded"}'))
    with fails(RateLimited, status=403) as caught:
        list(listing.repositories("team"))
    delay = caught[0].delay
    assert delay is not None
    assert (1000 < delay <= 1800) if reset.isdigit() else delay == LIMIT_WAIT


#: Whatever JSON, with the words that the APIs look for.
WORDS = ["results", "next", "name", "digest", "repositories", "next_page", "tags", "child", "manifest", "tag"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=6)
    | st.sampled_from(["a", "/x", *DIGESTS[:1]]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*WORDS, "metadata", "path"]), inner)
    ),
    max_leaves=10,
)


@pytest.mark.parametrize("name", PRODUCTS)
def test_any_page_of_an_api_ends_in_a_value_or_a_typed_error(
    connect: Connect, world: World, name: str
) -> None:
    """Whatever JSON and Link it sends."""
    listing, server = PRODUCTS[name].open(connect)
    answers: list[Answer] = []
    own = server.handle
    server.handle = lambda request: (  # type: ignore[method-assign]
        own(request) if request.method == "POST" else answers.pop() if answers else Answer(200, {}, b"[]")
    )

    @settings(max_examples=25, deadline=None)
    @given(JSON, st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40))
    def any_page(document: object, link: str) -> None:
        headers = {"Link": f'<{link}>; rel="next"'} if link.strip() else {}
        for ask in (lambda: list(listing.repositories("a")), lambda: listing.digests("a/b")):
            answers[:] = [Answer(200, headers, json.dumps(document).encode())]
            with contextlib.suppress(DistworkerError):
                ask()

    any_page()
    assert world.evil.seen == []
