"""Tags beside the cases: sizes of pages, registries without `Link`, limits, and whatever else may be sent."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distworker.errors import DistworkerError, LimitExceeded, NotARegistry, ProtocolError
from distworker.registry.listing.pages import next_link
from distworker.registry.quirks import Quirks
from tests.fakes.registry_server import Answer
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


def test_all_pages_are_followed(rig: RigMaker) -> None:
    """Each tag once, in the registry's order, the cursor untouched."""
    r = tagged(rig, 25, page=10)
    assert list(r.client.tags("a/b")) == [f"v{index:03}" for index in range(25)]
    assert [one.query for one in r.fake.seen] == ["n=1000", "n=10&cursor=v009", "n=10&cursor=v019"]


def test_the_profile_says_how_many_to_ask_for(rig: RigMaker) -> None:
    """Quay refuses more than a hundred."""
    r = tagged(rig, 1, quirks=Quirks(page_size=100))
    list(r.client.tags("a/b"))
    assert [one.query for one in r.fake.seen] == ["n=100"]


@pytest.mark.parametrize(
    ("pages", "tags", "queries"),
    [
        ([page("a", "b"), page("c")], ["a", "b", "c"], ["n=2", "n=2&last=b"]),
        ([page("a", "b"), page()], ["a", "b"], ["n=2", "n=2&last=b"]),
        ([page("a", "b"), page("a", "b")], ["a", "b"], ["n=2", "n=2&last=b"]),
        ([page("a")], ["a"], ["n=2"]),
        ([page("a", "b", link='<?x=1>; rel="next"'), page("c")], ["a", "b", "c"], ["n=2", "x=1"]),
        ([page("a", "a/b"), page()], ["a"], ["n=2", "n=2&last=a"]),
        ([page("../x", "a/b")], [], ["n=2"]),
    ],
    ids=["on", "full and last", "last ignored", "short", "link wins", "no tag at the end", "no tag at all"],
)
def test_a_full_page_without_link_is_asked_on_where_the_profile_says_so(
    rig: RigMaker, pages: list[Answer], tags: list[str], queries: list[str]
) -> None:
    """Until a page is short or brings nothing new."""
    r = rig(quirks=Quirks(page_size=2, last_pagination=True))
    r.fake.on("GET", "/tags/list", *pages)
    assert list(r.client.tags("a/b")) == tags
    assert [one.query for one in r.fake.seen] == queries


def test_a_full_page_without_link_is_the_last_elsewhere(rig: RigMaker) -> None:
    """Asking on with `last` is answered 405 by some."""
    r = rig(quirks=Quirks(page_size=2))
    r.fake.on("GET", "/tags/list", page("a", "b"))
    assert list(r.client.tags("a/b")) == ["a", "b"]


def test_names_that_are_no_tags_are_left_out_with_a_warning(
    rig: RigMaker, caplog: pytest.LogCaptureFixture
) -> None:
    """They would end up in addresses; the warning does not repeat them."""
    r = rig()
    r.fake.on("GET", "/tags/list", page("v1", "../x"))
    assert list(r.client.tags("a/b")) == ["v1"]
    assert "no tag" in caplog.text
    assert "../x" not in caplog.text


def test_a_web_page_is_no_registry(rig: RigMaker) -> None:
    """A portal or login page that answers everything."""
    r = rig()
    r.fake.on("GET", "/tags/list", Answer(200, {}, b" <html>"))
    with fails(NotARegistry, phase="list tags", status=200):
        list(r.client.tags("a/b"))


@pytest.mark.parametrize("body", [b"x", b"[]", b"null", b'{"tags": "v1"}', b"[" * 100_000, b"9" * 5000])
def test_what_is_no_list_is_typed(rig: RigMaker, body: bytes) -> None:
    """Not JSON, not an object, not a list."""
    r = rig()
    r.fake.on("GET", "/tags/list", Answer(200, {}, body))
    with fails(ProtocolError, phase="list tags"):
        list(r.client.tags("a/b"))


@pytest.mark.parametrize("limit", ["PAGES_MAX", "TAGS_MAX", "PAGE_BODY_MAX"])
def test_limits_hold(rig: RigMaker, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Pages, tags and the size of a page are bounded."""
    monkeypatch.setattr(f"distworker.limits.{limit}", 2)
    r = tagged(rig, 5, page=1)
    with fails(LimitExceeded):
        list(r.client.tags("a/b"))


@given(st.lists(st.text(max_size=300), max_size=3))
def test_any_link_header_is_survived(values: list[str]) -> None:
    """No header raises or hangs."""
    assert isinstance(next_link(values), str)


def test_a_link_longer_than_any_address_is_no_end(rig: RigMaker) -> None:
    """Leaving it out would pass a cut list for a whole one."""
    r = rig()
    r.fake.on("GET", "/tags/list", page("a", link=f'<{"x" * 20_000}>; rel="next"'))
    with fails(ProtocolError, repository="a/b"):
        list(r.client.tags("a/b"))


HEADER = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=80)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["tags", "name", "x"]), inner)
    ),
    max_leaves=12,
)
BODY = st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode())


def test_any_page_ends_in_a_list_or_a_typed_error(rig: RigMaker) -> None:
    """Whatever body and Link come, nothing but our errors, and no request to another host."""
    r = rig(quirks=Quirks(page_size=1, last_pagination=True))
    answers: list[Answer] = []
    r.fake.handle = lambda request: answers.pop() if answers else Answer(200, {}, b"{}")  # type: ignore[method-assign]

    @settings(max_examples=150, deadline=None)
    @given(BODY, HEADER | HEADER.map(lambda text: f'<{text}>; rel="next"'))
    def any_page(body: bytes, link: str) -> None:
        answers[:] = [Answer(200, {"Link": link.strip()}, body)]
        with contextlib.suppress(DistworkerError):
            assert all(isinstance(tag, str) for tag in r.client.tags("a/b"))

    any_page()
    assert all(one.path.startswith("/") for one in r.fake.seen)
