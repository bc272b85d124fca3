"""Records survive JSON as they are, and a wrong field is named with its path."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from distworker.digest import Digest
from distworker.errors import InvalidRequest, NewerVersion
from distworker.names import VERSION
from distworker.plan import codec, fields
from distworker.plan.model import BlobMove, ImageTransfer, JobRequest, Pair, Place, PublishOrder
from distworker.platforms import Platform

DIGEST = Digest.of(b"x")
SOURCE = Place("registry", "src.example:5000", "team/app", "1.0", DIGEST, "robot")
DESTINATION = Place("store", "dst.example", "team/app", "1.0")
TRANSFER = ImageTransfer("j1-0", "j1", SOURCE, DESTINATION, (Platform("linux", "arm", "v7"),), 7, "acme")


def request() -> JobRequest:
    pairs = (
        Pair(SOURCE, DESTINATION, platforms=(Platform("linux", "amd64"),)),
        Pair(Place("registry", "src.example", "a"), Place("registry", "dst.example", "a"), all_tags=True),
        Pair(Place("registry", "src.example", "b", "1"), Place("registry", "dst.example", "b")),
    )
    return JobRequest("j1", "migrate", pairs, 1700000000.5, 3, "acme", (("team", "blue"),))


def test_a_request_survives_json() -> None:
    """What is read is what was written."""
    assert codec.load_request(codec.dump_request(request())) == request()


def test_a_transfer_survives_as_a_line_and_as_a_body() -> None:
    """The same transfer in the frozen list and in a step."""
    line = codec.dump_line(TRANSFER)
    assert line.endswith(b"\n")
    assert codec.load_line(line, "list") == TRANSFER
    assert codec.load_image(json.loads(json.dumps(codec.dump_image(TRANSFER)))) == TRANSFER


@pytest.mark.parametrize(
    "move",
    [
        BlobMove("j1", "acme", SOURCE, DIGEST, 5),
        BlobMove("j1", "acme", SOURCE, DIGEST, 0, "x/y", 9, SOURCE, "team/other", proven=True, counted=True),
    ],
)
def test_a_blob_body_survives(move: BlobMove) -> None:
    """Downloads and uploads."""
    assert codec.load_blob(json.loads(json.dumps(codec.dump_blob(move))), "j1") == move


def test_a_publish_body_is_the_image_and_what_planning_adds() -> None:
    """Merged as the ledger merges a patch."""
    order = PublishOrder(TRANSFER, DIGEST, "x/y", (Digest.of(b"y"),), 12)
    body = {**codec.dump_image(TRANSFER), **codec.dump_pinned(order)}
    assert codec.load_order(json.loads(json.dumps(body))) == order


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Sets `a.0.b` in a document."""

    def apply(document: Any) -> None:
        *parents, last = path.split(".")
        for part in parents:
            document = document[int(part)] if part.isdigit() else document[part]
        document[int(last) if last.isdigit() else last] = value

    return apply


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("v", 0, "v"),
        ("v", True, "v"),
        ("id", "A B", "id"),
        ("id", "", "id"),
        ("kind", "steal", "kind"),
        ("created", "now", "created"),
        ("priority", 10, "priority"),
        ("priority", True, "priority"),
        ("tenant", "../x", "tenant"),
        ("surprise", 1, "surprise"),
        ("pairs", [], "pairs"),
        ("pairs", {}, "pairs"),
        ("pairs.2", "text", "pairs[2]"),
        ("pairs.2.source", None, "pairs[2].source"),
        ("pairs.2.source.tag", "no tag!", "pairs[2].source.tag"),
        ("pairs.2.source.tag", "", "pairs[2].source.tag"),
        ("pairs.2.source.tag", 5, "pairs[2].source.tag"),
        ("pairs.0.source.digest", "sha256:abc", "pairs[0].source.digest"),
        ("pairs.0.source.host", "no host", "pairs[0].source.host"),
        ("pairs.0.source.repository", "Upper", "pairs[0].source.repository"),
        ("pairs.0.source.kind", "disk", "pairs[0].source.kind"),
        ("pairs.0.source.kind", "store", "pairs[0].destination.kind"),
        ("pairs.0.source.credential", "a b", "pairs[0].source.credential"),
        ("pairs.0.source.password", "x", "pairs[0].source.password"),
        ("pairs.1.source.tag", "1", "pairs[1].source.tag"),
        ("pairs.1.destination.tag", "1", "pairs[1].destination.tag"),
        ("pairs.1.all_tags", "yes", "pairs[1].all_tags"),
        ("pairs.0.platforms", ["linux/amd64", "x"], "pairs[0].platforms[1]"),
        ("labels", ["a"], "labels"),
        ("labels.team", "x" * 256, "labels.team"),
    ],
)
def test_a_wrong_field_is_named(path: str, value: Any, field: str) -> None:
    """With its whole path, in the field and in the sentence."""
    document = json.loads(codec.dump_request(request()))
    change(path, value)(document)
    with pytest.raises(InvalidRequest) as caught:
        codec.load_request(json.dumps(document).encode())
    assert caught.value.fields["field"] == field
    assert field in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"[" * 100_000])
def test_bytes_that_are_no_request_are_refused(data: bytes) -> None:
    """Also those that would exhaust a parser."""
    with pytest.raises(InvalidRequest):
        codec.load_request(data)


def test_a_body_with_an_unknown_field_or_a_wild_size_is_refused() -> None:
    """Before anything is done with it."""
    body = codec.dump_blob(BlobMove("j1", "acme", SOURCE, DIGEST, 5))
    for wrong in ({**body, "secret": "x"}, {**body, "size": -1}, {**body, "size": 2**60}, {**body, "v": "1"}):
        with pytest.raises(InvalidRequest):
            codec.load_blob(wrong, "j1")


def test_a_record_of_a_newer_release_is_left_to_its_workers() -> None:
    """It is neither damaged nor somebody's mistake: the step is given back."""
    body = codec.dump_blob(BlobMove("j1", "acme", SOURCE, DIGEST, 5))
    with pytest.raises(NewerVersion, match="a worker of that release takes it"):
        codec.load_blob({**body, "v": VERSION + 1, "field of the future": 1}, "j1")
    line = json.loads(codec.dump_request(request())) | {"v": VERSION + 1}
    with pytest.raises(NewerVersion):
        codec.load_request(json.dumps(line).encode())


def test_a_record_of_an_older_release_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job begun before an upgrade is ended after it."""
    body = codec.dump_blob(BlobMove("j1", "acme", SOURCE, DIGEST, 5))
    monkeypatch.setattr(fields, "VERSION", VERSION + 1)
    assert codec.load_blob(body, "j1").size == 5
