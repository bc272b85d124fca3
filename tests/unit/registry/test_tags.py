"""Listing tags through pages that registries link in their own ways (distribution-spec, "Listing Tags")."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distworker.errors import LimitExceeded, ProtocolError, RedirectRefused, RepositoryUnknown
from distworker.registry.listing.pages import next_link
from tests.fakes.registry_server import Answer, FakeServer
from tests.unit.registry.conftest import Rig, fails

RigMaker = Callable[..., Rig]


def page(*tags: str, link: str = "") -> Answer:
    """One page of tags."""
    headers = {"Content-Type": "application/json", **({"Link": link} if link else {})}
    return Answer(200, headers, json.dumps({"name": "a/b", "tags": list(tags)}).encode())


def tagged(make: RigMaker, count: int, **options: object) -> Rig:
    """A rig whose registry has `count` tags."""
    r = make(**options)
    for index in range(count):
        r.fake.put_manifest("a/b", b"%d" % index, "x/y", f"v{index:03}")
    return r


def test_l01_all_pages_are_followed(rig: RigMaker) -> None:
    """Each tag once, in the registry's order, the cursor untouched."""
    r = tagged(rig, 25, page=10)
    assert list(r.client.tags("a/b")) == [f"v{index:03}" for index in range(25)]
    assert [one.query for one in r.fake.seen] == ["n=1000", "n=10&cursor=v009", "n=10&cursor=v019"]


@pytest.mark.parametrize(
    "link",
    [
        '</v2/a/b/tags/list?next_page=gAAAA%3D%3D>; rel="next"',
        "</v2/a/b/tags/list?next_page=gAAAA%3D%3D>; rel=next",
        '/v2/a/b/tags/list?next_page=gAAAA%3D%3D; rel="next"',
        '<list?next_page=gAAAA%3D%3D>; rel="next"',
        '</other>; rel="first", </v2/a/b/tags/list?next_page=gAAAA%3D%3D>; title="a, b"; rel="next"',
    ],
)
def test_l01_links_come_in_many_spellings(rig: RigMaker, link: str) -> None:
    """Relative, unquoted, without brackets, among others."""
    r = rig()
    r.fake.on("GET", "/tags/list", page("a", "b", link=link), page("b", "c"))
    assert list(r.client.tags("a/b")) == ["a", "b", "c"]
    assert r.fake.seen[1].path == "/v2/a/b/tags/list"
    assert r.fake.seen[1].query == "next_page=gAAAA%3D%3D"


@pytest.mark.parametrize("body", [b'{"tags": null}', b'{"name": "a/b"}', b'{"tags": []}'])
def test_l01_no_tags_is_an_empty_list(rig: RigMaker, body: bytes) -> None:
    """Registries spell "none" in three ways."""
    r = rig()
    r.fake.on("GET", "/tags/list", Answer(200, {}, body))
    assert list(r.client.tags("a/b")) == []


def test_l01_a_missing_repository_is_not_an_empty_one(rig: RigMaker) -> None:
    """404 is typed."""
    r = rig()
    with fails(RepositoryUnknown, repository="a/b", status=404):
        list(r.client.tags("a/b"))


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"tags": "v1"}', b"[" * 100_000])
def test_what_is_no_list_is_typed(rig: RigMaker, body: bytes) -> None:
    """Not JSON, not an object, not a list."""
    r = rig()
    r.fake.on("GET", "/tags/list", Answer(200, {}, body))
    with fails(ProtocolError):
        list(r.client.tags("a/b"))


def test_names_that_are_no_tags_are_left_out(rig: RigMaker, caplog: pytest.LogCaptureFixture) -> None:
    """They would end up in addresses; a warning tells."""
    r = rig()
    r.fake.on("GET", "/tags/list", Answer(200, {}, b'{"tags": ["v1", "../x", ".h", 7, "a b", "v2"]}'))
    assert list(r.client.tags("a/b")) == ["v1", "v2"]
    assert "no tag" in caplog.text


@pytest.mark.parametrize(
    "target", ["{evil}/v2/a/b/tags/list?x=1", "ftp://x/", "//{host}.evil/x", "http://u:p@{host}/x"]
)
def test_l02_the_next_page_is_never_elsewhere(
    rig: RigMaker, serve: Callable[[FakeServer], FakeServer], target: str
) -> None:
    """Another port, scheme or host: refused without a request."""
    evil = FakeServer()
    serve(evil)
    r = rig()
    link = target.format(evil=evil.url, host=r.fake.host)
    r.fake.on("GET", "/tags/list", page("a", link=f'<{link}>; rel="next"'))
    with fails(RedirectRefused):
        list(r.client.tags("a/b"))
    assert (evil.seen, len(r.fake.seen)) == ([], 1)


def test_l02_a_page_that_links_to_itself_stops(rig: RigMaker) -> None:
    """Walked once."""
    r = rig()
    r.fake.always("GET", "/tags/list", page("a", link='</v2/a/b/tags/list?n=1000>; rel="next"'))
    with fails(ProtocolError):
        list(r.client.tags("a/b"))
    assert len(r.fake.seen) == 1


def test_l02_ever_new_links_with_the_same_tags_stop(rig: RigMaker) -> None:
    """A page that adds nothing and still points on is a circle."""
    r = rig()
    pages = [page("a", link=f'</v2/a/b/tags/list?n={index}>; rel="next"') for index in range(5)]
    r.fake.on("GET", "/tags/list", *pages)
    with fails(ProtocolError):
        list(r.client.tags("a/b"))
    assert len(r.fake.seen) == 2


@pytest.mark.parametrize("limit", ["PAGES_MAX", "TAGS_MAX", "PAGE_BODY_MAX"])
def test_l02_limits_hold(rig: RigMaker, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Pages, tags and the size of a page are bounded."""
    monkeypatch.setattr(f"distworker.limits.{limit}", 2)
    r = tagged(rig, 5, page=1)
    with fails(LimitExceeded):
        list(r.client.tags("a/b"))


@given(st.lists(st.text(max_size=300), max_size=3))
def test_any_link_header_is_survived(values: list[str]) -> None:
    """No header raises or hangs."""
    assert isinstance(next_link(values), str)
