"""Foreign error texts become stable codes and clean sentences."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distworker.errors import (
    AuthRequired,
    Denied,
    DistworkerError,
    ManifestUnknown,
    NotARegistry,
    ProtocolError,
    Quota,
    RequestTimeout,
    Throttled,
    Unavailable,
)
from distworker.registry.faults import Where, read_problem
from tests.fakes.registry import error
from tests.fakes.registry_server import Answer
from tests.unit.registry.conftest import Rig, fails

RigMaker = Callable[..., Rig]


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (b'{"errors":[{"code":"DENIED","message":"no"}]}', "DENIED", "no"),
        (b'{"errors":[{"code":"DENIED","detail":{"a":1}}]}', "DENIED", '{"a": 1}'),
        (b'{"message":"plain"}', "", "plain"),
        (b'{"details":"incorrect username or password"}', "", "incorrect username or password"),
        (b"Too Many Requests (HAP429)", "", "Too Many Requests (HAP429)"),
        (b"<html><body><h1>502</h1> Bad\nGateway</body></html>", "", "502 Bad Gateway"),
        (b"<Error><Code>AccessDenied</Code></Error>", "", "AccessDenied"),
        (b'{"errors":[]}', "", ""),
        (b'{"errors":[{"code":7,"message":8}]}', "", "8"),
        (b"[1]", "", "[1]"),
        (b"", "", ""),
        (b"\x1b[31mred\x1b[0m\r\nforged line", "", "[31mred [0m forged line"),
    ],
)
def test_any_body_has_a_code_and_clean_words(body: bytes, code: str, text: str) -> None:
    """JSON, text, web pages, XML, colours and forged lines."""
    problem = read_problem(body)
    assert (problem.code, problem.text) == (code, text)


def test_secrets_in_foreign_words_are_masked() -> None:
    """A registry that echoes a login does not put it into our logs."""
    for text in ("see https://s.example/x?X-Amz-Signature=SECRET", "Authorization: Bearer SECRETSECRET"):
        body = json.dumps({"errors": [{"code": "UNKNOWN", "message": text}]}).encode()
        assert "SECRET" not in read_problem(body).text


@given(st.binary(max_size=2000))
def test_no_body_raises(body: bytes) -> None:
    """Whatever comes, a problem is read, of bounded length and one line."""
    text = read_problem(body).text
    assert len(text) <= 300
    assert text == " ".join(text.split())


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(404, "NAME_UNKNOWN"), ManifestUnknown),
        (error(404, "UNKNOWN", "not found"), ManifestUnknown),
        (error(403, "DENIED"), Denied),
        (error(401, "UNAUTHORIZED"), AuthRequired),
        (error(403, "TOOMANYREQUESTS"), Throttled),
        (Answer(403, {}, b"You have exceeded a secondary rate limit"), Throttled),
        (error(412, "PRECONDITION", "storage quota reached"), Quota),
        (Answer(501), ProtocolError),
        (Answer(418, {}, b"x" * (1 << 20)), ProtocolError),
        (Answer(520), Unavailable),
    ],
)
def test_a_status_has_one_meaning(rig: RigMaker, answer: Answer, kind: type[DistworkerError]) -> None:
    """Stable codes, whatever the words; messages stay short."""
    r = rig()
    r.fake.always("GET", "/manifests/", answer)
    with fails(kind, repository="a/b", reference="v1", phase="get manifest") as caught:
        r.client.get_manifest("a/b", "v1")
    assert len(caught[0].message) <= 500


def test_an_error_says_where_in_registry_words() -> None:
    """host/repository:tag or @digest, never an address."""
    assert str(Where("ping", "r.example")) == "r.example"
    assert str(Where("get manifest", "r.example", "a/b", "v1")) == "r.example/a/b:v1"
    assert str(Where("get blob", "r.example", "a/b", "sha256:00")) == "r.example/a/b@sha256:00"


@pytest.mark.parametrize(
    "page", [Answer(404, {}, b"<h1>Our shop</h1>"), Answer(200, {"Content-Type": "text/html"})]
)
def test_a_web_server_is_told_from_a_registry_without_the_image(rig: RigMaker, page: Answer) -> None:
    """A 404 that does not speak as registries do is looked into; so is a page for an answer."""
    r = rig()
    r.fake.always("*", "", page)
    with fails(NotARegistry):
        r.client.get_manifest("a/b", "v1")


def test_a_registry_that_says_404_without_a_code_is_a_registry(rig: RigMaker) -> None:
    """Its word about the manifest stands."""
    r = rig()
    r.fake.always("GET", "/manifests/", Answer(404))
    with fails(ManifestUnknown):
        r.client.get_manifest("a/b", "v1")


def test_a_read_only_registry_denies_and_says_why_that_may_be(rig: RigMaker) -> None:
    """405 to a write; to a read it is no word about rights."""
    r = rig()
    r.fake.always("POST", "/uploads/", Answer(405))
    with fails(Denied, status=405) as caught:
        r.client.start_upload("a/b")
    assert "read-only" in caught[0].message
    r.fake.always("GET", "/manifests/", Answer(405))
    with fails(ProtocolError, status=405):
        r.client.get_manifest("a/b", "v1")


def test_who_has_answered_once_is_away_and_not_a_mistake(rig: RigMaker) -> None:
    """A registry that restarts in the middle of a job is waited for."""
    r = rig()
    r.client.ping()
    r.fake.stop()
    with fails(Unavailable) as caught:
        r.client.ping()
    assert "refused" in caught[0].message
    assert len(r.sleeps) == 3


def test_silence_is_not_waited_out_in_place(rig: RigMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """One silence per run: the ledger knows how often, and frees the slot in between."""
    monkeypatch.setattr("distworker.registry.call.READ_TIMEOUT", 0.1)
    r = rig()
    r.fake.always("HEAD", "/manifests/", Answer(stall=30))
    with fails(RequestTimeout):
        r.client.head_manifest("a/b", "v1")
    assert r.fake.count("HEAD") == 1
