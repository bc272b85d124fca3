"""L: listing tags through pages that registries link in their own ways, and pages that mean harm."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from distworker.errors import DistworkerError, ProtocolError, RedirectRefused, RepositoryUnknown
from tests.fakes.registry_server import Answer
from tests.fakes.world import World

LIST = "/v2/a/b/tags/list"
MANY = tuple(f"v{number:04}" for number in range(2500))


def page(*tags: str, link: str = "", body: bytes | None = None) -> Answer:
    """One page of tags, with this Link header."""
    headers = {"Content-Type": "application/json", **({"Link": link} if link else {})}
    whole = json.dumps({"name": "a/b", "tags": list(tags)}).encode()
    return Answer(200, headers, whole if body is None else body)


@dataclass(frozen=True)
class Paged:
    """What the registry answers in turn, the tags that makes, and the query of the last request."""

    answers: tuple[Answer, ...]
    tags: tuple[str, ...]
    query: str = "n=1000"


L01 = {
    "opaque next_page": Paged(
        (page("a", "b", link=f'<{LIST}?next_page=gAAAA%3D%3D>; rel="next"'), page("b", "c")),
        ("a", "b", "c"),
        "next_page=gAAAA%3D%3D",
    ),
    "cursor that is no last": Paged(
        (page("a", link=f'<{LIST}?NextToken=x%2By%2F&n=5>; rel="next"'), page("b")),
        ("a", "b"),
        "NextToken=x%2By%2F&n=5",
    ),
    "absolute link": Paged(
        (page("a", link=f'<https://reg.example{LIST}?last=a>; rel="next"'), page("b")), ("a", "b"), "last=a"
    ),
    "link with the usual port": Paged(
        (page("a", link=f'<https://REG.example:443{LIST}?last=a>; rel="next"'), page("b")),
        ("a", "b"),
        "last=a",
    ),
    "relative link": Paged((page("a", link='<list?last=a>; rel="next"'), page("b")), ("a", "b"), "last=a"),
    "no brackets": Paged((page("a", link=f'{LIST}?last=a; rel="next"'), page("b")), ("a", "b"), "last=a"),
    "no quotes": Paged((page("a", link=f"<{LIST}?last=a>; rel=next"), page("b")), ("a", "b"), "last=a"),
    "extra rels": Paged(
        (
            page("a", link=f'</x>; rel="first", </y>; rel=prev, <{LIST}?last=a>; title="a, b"; rel="next"'),
            page("b", link=f'<{LIST}?n=1>; rel="first"; title="next"'),
        ),
        ("a", "b"),
        "last=a",
    ),
    "several rels in one": Paged(
        (page("a", link=f'<{LIST}?last=a>; rel="last next"'), page("b")), ("a", "b"), "last=a"
    ),
    "tags null": Paged((page(body=b'{"name": "a/b", "tags": null}'),), ()),
    "tags missing": Paged((page(body=b'{"name": "a/b"}'),), ()),
    "tags empty": Paged((page(),), ()),
    "null on a later page": Paged(
        (page("a", link=f'<{LIST}?last=a>; rel="next"'), page(body=b'{"tags": null}')), ("a",), "last=a"
    ),
    "page cap ignored": Paged((page(*MANY),), MANY),
    "smaller pages than asked": Paged(
        (page("a", link=f'<{LIST}?n=1&last=a>; rel="next"'), page("b")), ("a", "b"), "n=1&last=a"
    ),
    "duplicates and names that are no tags": Paged(
        (page(body=b'{"tags": ["b", "a", "b", "../x", ".h", 7, "a b", "A"]}'),), ("b", "a", "A")
    ),
}


@pytest.mark.parametrize("name", [*L01, "404"])
def test_l01_tags_pagination(world: World, name: str) -> None:
    """Every way of paging gives the complete list, each tag once; null is empty, 404 is no empty list."""
    # Given
    client = world.client()
    if name == "404":
        # When / Then
        with world.fails(RepositoryUnknown, repository="a/b", status=404, phase="list tags"):
            list(client.tags("a/b"))
        return
    case = L01[name]
    world.reg.on("GET", LIST, *case.answers)

    # When
    found = list(client.tags("a/b"))

    # Then
    assert found == list(case.tags)
    assert [one.path for one in world.reg.seen] == [LIST] * len(case.answers)
    assert world.reg.seen[-1].query == case.query


L02: dict[str, tuple[type[DistworkerError], list[str]]] = {
    "next at evil": (RedirectRefused, ["https://evil.example/v2/a/b/tags/list?x=1"]),
    "next at evil, without a scheme": (RedirectRefused, ["//evil.example/v2/a/b/tags/list"]),
    "next at a host that only begins alike": (RedirectRefused, ["//reg.example.evil.example/x"]),
    "next is plain http": (RedirectRefused, ["http://reg.example/v2/a/b/tags/list?last=a"]),
    "next is plain http elsewhere": (RedirectRefused, ["http://evil.example/v2/a/b/tags/list"]),
    "next on another port": (RedirectRefused, ["https://reg.example:8443/v2/a/b/tags/list"]),
    "next with a user": (RedirectRefused, ["https://me:SECRET@reg.example/v2/a/b/tags/list"]),
    "next is no web address": (RedirectRefused, ["ftp://reg.example/v2/a/b/tags/list"]),
    "next is inward": (RedirectRefused, ["http://169.254.169.254/latest"]),
    "next is longer than any address": (ProtocolError, ["/v2/a/b/tags/list?x=" + "y" * 20_000]),
    "to itself": (ProtocolError, ["/v2/a/b/tags/list?n=1000"]),
    "to and fro": (ProtocolError, ["/v2/a/b/tags/list?n=1", "/v2/a/b/tags/list?n=1000"]),
    "ever-new, same tags": (ProtocolError, [f"/v2/a/b/tags/list?x={number}" for number in range(9)]),
}


@pytest.mark.parametrize("name", L02)
def test_l02_link_hostile(world: World, name: str) -> None:
    """A next page elsewhere is refused without a request; pages that go in a circle end with an error."""
    # Given
    world.reg.tokens = world.auth
    client = world.client(login=("me", "SECRET-PASSWORD"))
    kind, links = L02[name]
    world.reg.on("GET", LIST, Answer(401, {"WWW-Authenticate": f'Bearer realm="{world.auth.realm}"'}))
    fresh = ["b"] if name == "to and fro" else ["a"]
    answers = [page("a", link=f'<{links[0]}>; rel="next"')]
    answers += [page(*fresh, link=f'<{link}>; rel="next"') for link in links[1:]]
    world.reg.on("GET", LIST, *answers)

    # When
    with world.fails(kind, repository="a/b", phase="list tags"):
        list(client.tags("a/b"))

    # Then
    walked = {"to and fro": 2, "ever-new, same tags": 2}.get(name, 1)
    assert world.reg.count("GET", LIST) == 1 + walked
    assert world.evil.seen == []
    assert {address for address, _ in world.network.dialled} <= {"44.0.0.1", "44.0.0.3"}
