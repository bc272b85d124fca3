"""Foreign error texts become stable codes and clean sentences (protocol.md 2.13, 4.3; case F03)."""

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
    ProtocolError,
    Quota,
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
