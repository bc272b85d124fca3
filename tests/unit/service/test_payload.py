"""Requests as people and other systems write them, and what is said about wrong ones."""

from __future__ import annotations

from typing import Any

import pytest

from distworker.errors import RequestError
from distworker.plan.model import JobRequest, Place
from distworker.platforms import Platform
from distworker.service.payload import parse_request

DIGEST = "sha256:" + "ab" * 32


def parse(**fields: Any) -> JobRequest:
    """The request with `v` and an id filled in."""
    return parse_request({"v": 1, **fields}, new_id="20261123-abcd2345", created=7.0)


def ends(**fields: Any) -> tuple[str, str]:
    """Both ends of the first pair as text."""
    pair = parse(**fields).pairs[0]
    return spelled(pair.source), spelled(pair.destination)


def spelled(place: Place) -> str:
    """`kind host/repository:tag@digest`."""
    digest = f"@{place.digest.short}" if place.digest else ""
    return f"{place.kind} {place.host}/{place.repository}:{place.tag}{digest}"


def test_two_images_for_one_tag_are_refused() -> None:
    """Chance would decide which of them the tag ends as, and both would be reported as done."""
    with pytest.raises(RequestError, match=r"pairs\[0\] puts another image there") as caught:
        parse(
            pairs=[
                {"source": "a.example/x:1", "destination": "c.example/y"},
                {"source": "a.example/x:2", "destination": "c.example/y"},
                {"source": "b.example/x:1", "destination": "c.example/y:1"},
            ]
        )
    assert caught.value.fields["field"] == "pairs[2].destination"


def test_a_pair_may_be_there_twice() -> None:
    """Lists are put together from others; the same image for one tag leaves nothing to chance."""
    pair = {"source": "a.example/x:1", "destination": "c.example/y"}
    untagged = {"source": f"a.example/x@{DIGEST}", "destination": "c.example/z"}
    other = {"source": f"a.example/x@{DIGEST.replace('ab', 'cd')}", "destination": "c.example/z"}
    assert len(parse(pairs=[pair, pair, untagged, other]).pairs) == 4


def test_the_smallest_request_is_a_copy_of_latest() -> None:
    """A tag that nobody wrote is `latest`, and the destination takes the source's."""
    request = parse(source="alpine", destination="mirror.example/alpine")
    assert (request.kind, request.id, request.created) == ("copy", "20261123-abcd2345", 7.0)
    assert (request.priority, request.tenant) == (5, "default")
    assert ends(source="alpine", destination="mirror.example/alpine") == (
        "registry docker.io/library/alpine:latest",
        "registry mirror.example/alpine:latest",
    )


def test_a_destination_without_tag_takes_the_sources() -> None:
    """What is written wins, what is not written follows the source."""
    assert ends(source="a.example/x:1.2", destination="b.example/x")[1] == "registry b.example/x:1.2"
    assert ends(source="a.example/x:1.2", destination="b.example/x:3")[1] == "registry b.example/x:3"
    assert ends(source=f"a.example/x@{DIGEST}", destination="b.example/x") == (
        "registry a.example/x:@abababababab",
        "registry b.example/x:",
    )


def test_pull_goes_into_the_store_under_the_same_name() -> None:
    """`pull REF` needs no destination."""
    assert ends(kind="pull", source="a.example/x:1") == ("registry a.example/x:1", "store a.example/x:1")


def test_push_comes_from_the_store() -> None:
    """`push REF` goes back to where it is named for, `push REF DST` elsewhere."""
    assert ends(kind="push", source="a.example/x:1") == ("store a.example/x:1", "registry a.example/x:1")
    assert ends(kind="push", source="a.example/x:1", destination="b.example/y") == (
        "store a.example/x:1",
        "registry b.example/y:1",
    )


def test_all_tags_names_repositories_only() -> None:
    """No tag on either side."""
    request = parse(source="a.example/x", destination="b.example/x", all_tags=True)
    assert request.pairs[0].all_tags
    assert ends(source="a.example/x", destination="b.example/x", all_tags=True) == (
        "registry a.example/x:",
        "registry b.example/x:",
    )


def test_pairs_share_what_the_request_says_and_may_say_otherwise() -> None:
    """A migration names its platforms once."""
    request = parse(
        platforms=["linux/amd64"],
        pairs=[
            {"source": "a.example/x:1", "destination": "b.example/x", "source_credential": "robot"},
            {"source": "a.example/y:1", "destination": "b.example/y", "platforms": ["linux/arm64"]},
        ],
        priority=9,
        labels={"why": "test"},
        id="nightly-7",
    )
    assert (request.kind, request.id, request.priority) == ("migrate", "nightly-7", 9)
    assert [pair.platforms for pair in request.pairs] == [
        (Platform("linux", "amd64"),),
        (Platform("linux", "arm64"),),
    ]
    assert request.pairs[0].source.credential == "robot"
    assert request.labels == (("why", "test"),)


A_PAIR = {"source": "a.example/x:1", "destination": "b.example/x"}


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({}, "v"),
        ({"v": 2, **A_PAIR}, "v"),
        ({"v": True, **A_PAIR}, "v"),
        ({"v": 1}, "source"),
        ({"v": 1, "source": "a.example/x"}, "destination"),
        ({"v": 1, "source": 5, "destination": "b.example/x"}, "source"),
        ({"v": 1, "source": "a.example/X Y", "destination": "b.example/x"}, "source"),
        ({"v": 1, "source": "a.example/x", "destination": "https://b.example/x"}, "destination"),
        ({"v": 1, "source": "a.example/x", "destination": f"b.example/x@{DIGEST}"}, "destination"),
        ({"v": 1, **A_PAIR, "kind": "move"}, "kind"),
        ({"v": 1, **A_PAIR, "priority": 10}, "priority"),
        ({"v": 1, **A_PAIR, "priority": "5"}, "priority"),
        ({"v": 1, **A_PAIR, "all_tags": "yes"}, "all_tags"),
        ({"v": 1, **A_PAIR, "all_tags": True}, "source"),
        ({"v": 1, "source": "a.example/x", "destination": "b.example/x:1", "all_tags": True}, "destination"),
        ({"v": 1, **A_PAIR, "platforms": "linux/amd64"}, "platforms"),
        ({"v": 1, **A_PAIR, "platforms": ["linux/amd64", "linux"]}, "platforms[1]"),
        ({"v": 1, **A_PAIR, "platforms": [1]}, "platforms[0]"),
        ({"v": 1, **A_PAIR, "labels": {"a": 1}}, "labels"),
        ({"v": 1, **A_PAIR, "labels": {"a": "\ud800"}}, "labels"),
        ({"v": 1, **A_PAIR, "labels": {"a": "\x1b[2J"}}, "labels"),
        ({"v": 1, **A_PAIR, "id": "Bad Id"}, "id"),
        ({"v": 1, **A_PAIR, "source_credential": "a b"}, "source_credential"),
        ({"v": 1, **A_PAIR, "password": "x"}, "password"),
        ({"v": 1, **A_PAIR, "tenant": "other"}, "tenant"),
        ({"v": 1, "pairs": []}, "pairs"),
        ({"v": 1, "pairs": "x"}, "pairs"),
        ({"v": 1, "pairs": ["x"]}, "pairs[0]"),
        ({"v": 1, "pairs": [A_PAIR], **A_PAIR}, "source"),
        ({"v": 1, "pairs": [A_PAIR, {"source": "a.example/x"}]}, "pairs[1].destination"),
        ({"v": 1, "pairs": [{**A_PAIR, "sorce": "x"}]}, "pairs[0].sorce"),
        ({"v": 1, "kind": "pull", "source": f"a.example/x@{DIGEST}"}, "source"),
    ],
)
def test_the_field_that_is_wrong_is_named(payload: dict[str, Any], field: str) -> None:
    """Both the message and the error's `field` say where."""
    with pytest.raises(RequestError) as caught:
        parse_request(payload, new_id="x", created=0)
    assert caught.value.fields["field"] == field
    assert caught.value.message.startswith(f"{field}: ")
