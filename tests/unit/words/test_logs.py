"""Logs: one line per event, with its context on it, in UTC, and no secret whatever the way it came."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distworker import logs
from distworker.digest import Digest

log = logging.getLogger("distworker.test")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Catches what is logged, and puts the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[str]:
    """The lines logged so far."""
    return stream.getvalue().splitlines()


def record(stream: io.StringIO) -> dict[str, object]:
    """The one JSON line logged."""
    (line,) = lines(stream)
    value = json.loads(line)
    assert isinstance(value, dict)
    return value


# --- lines --------------------------------------------------------------------------------------------------
def test_a_text_line_carries_time_level_sentence_and_context(stream: io.StringIO) -> None:
    """Job, image, digest and step are on each line logged inside bind."""
    logs.setup("text", "INFO", stream)
    with logs.bind(job="j1", image="j1-7", digest="sha256:ab", step="d:default/sha256:ab"):
        log.info("downloaded %d bytes", 5, extra={"event": logs.STEP_DONE, "origin": "hub.example"})
    log.info("outside")
    first, second = lines(stream)
    assert "INFO    distworker.test downloaded 5 bytes job=j1 image=j1-7 digest=sha256:ab" in first
    assert "step=d:default/sha256:ab event=step.done origin=hub.example" in first
    assert "job=" not in second


def test_times_are_utc(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers stand in several time zones; their lines sort together."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    logs.setup("json", "INFO", stream)
    made = log.makeRecord(log.name, logging.INFO, "file", 1, "hello", (), None)
    made.created = 1_700_000_000.25
    log.handle(made)
    assert record(stream)["time"] == "2023-11-14T22:13:20.250Z"


def test_a_json_line_is_one_object_with_context_and_extras(stream: io.StringIO) -> None:
    """Machines get every field by name, numbers as numbers."""
    logs.setup("json", "INFO", stream)
    with logs.bind(job="j1"), logs.bind(step="p:j1-1"):
        log.warning(
            "paused", extra={"event": logs.REGISTRY_PAUSED, "delay": 30.5, "nan": float("nan"), "n": None}
        )
    value = record(stream)
    assert (
        value.items()
        >= {
            "level": "warning",
            "logger": "distworker.test",
            "message": "paused",
            "job": "j1",
            "step": "p:j1-1",
            "event": "registry.paused",
            "delay": 30.5,
            "nan": "nan",
            "n": None,
        }.items()
    )


def test_inner_context_wins_and_ends_with_its_block(stream: io.StringIO) -> None:
    """Leaving a bind, also by an error, brings the outer one back."""
    logs.setup("json", "INFO", stream)
    with logs.bind(job="j1", step="outer"):
        with pytest.raises(RuntimeError), logs.bind(step="inner"):
            assert logs.bound() == {"job": "j1", "step": "inner"}
            raise RuntimeError
        assert logs.bound() == {"job": "j1", "step": "outer"}
    assert logs.bound() == {}


def test_lines_go_to_stderr_unless_told_otherwise(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output belongs to results."""
    assert stream.getvalue() == ""
    logs.setup()
    log.info("hello")
    out, err = capsys.readouterr()
    assert out == ""
    assert "hello" in err


def test_a_second_setup_replaces_the_first(stream: io.StringIO) -> None:
    """Celery and the CLI may both set up; a line is written once."""
    logs.setup("json", "DEBUG", stream)
    logs.setup("text", "warning", stream)
    log.info("quiet")
    log.warning("loud")
    assert len(lines(stream)) == 1
    assert not lines(stream)[0].startswith("{")


def test_an_unknown_format_is_refused() -> None:
    """A typo does not silently become text."""
    with pytest.raises(ValueError, match="text or json"):
        logs.setup("xml")


def test_libraries_that_log_urls_are_kept_quiet(stream: io.StringIO) -> None:
    """Debug logging of ours is not debug logging of theirs."""
    logs.setup("text", "DEBUG", stream)
    logging.getLogger("urllib3.connectionpool").debug("GET /v2/?token=hidden")
    logging.getLogger("botocore.auth").info("CanonicalRequest")
    log.debug("ours")
    assert [line.split()[3] for line in lines(stream)] == ["ours"]


def test_foreign_text_cannot_forge_a_line(stream: io.StringIO) -> None:
    """A registry's message with newlines and ANSI codes stays one line."""
    logs.setup("text", "INFO", stream)
    log.info("said: %s", "x\n2026-01-01T00:00:00Z INFO forged\x1b[31m", extra={"why": "a\nb"})
    (line,) = lines(stream)
    assert "\x1b" not in line
    assert 'why="a b"' in line


def test_a_traceback_is_indented_under_its_line(stream: io.StringIO) -> None:
    """It belongs to the line above and cannot pass for one of its own."""
    logs.setup("text", "INFO", stream)
    try:
        raise ValueError("first\nERROR forged")
    except ValueError:
        log.exception("it broke", stack_info=True)
    head, *rest = lines(stream)
    assert "it broke" in head
    assert rest
    assert all(line.startswith("  ") for line in rest)
    assert any("ValueError: first" in line for line in rest)


def test_a_message_that_does_not_fit_its_arguments_is_still_logged(stream: io.StringIO) -> None:
    """A wrong log call costs its arguments, not the worker."""
    logging.getLogger().handlers.clear()  # pytest's own would raise
    logs.setup("json", "INFO", stream)
    log.info("%d of %d", "x")  # noqa: PLE1206  the mistake is the point
    assert record(stream)["message"] == "%d of %d"


# --- secrets ------------------------------------------------------------------------------------------------
SECRET = "s3cr3t-Value.9"
MARKED = [
    f"Authorization: Bearer {SECRET}",
    f"authorization: Basic {SECRET}",
    f"{{'Authorization': 'Bearer {SECRET}', 'Accept': '*/*'}}",
    f"[('Authorization', 'Basic {SECRET}')]",
    f"Proxy-Authorization: Basic {SECRET}",
    f"Cookie: a=b; session={SECRET}",
    f"Set-Cookie: session={SECRET}; Path=/",
    f"X-Amz-Security-Token: {SECRET}",
    f"x-amz-content-sha256={SECRET}",
    f"https://s3.example/b/k?X-Amz-Algorithm=AWS4&X-Amz-Signature={SECRET}",
    f"https://s3.example/b/k?X-Amz-Credential={SECRET}/20260101/eu/s3/aws4_request",
    f"/b/k?Signature={SECRET}&Expires=1",
    f"/c?sv=2020&se=2026&sp=r&sig={SECRET}",
    f"/v2/x/blobs/uploads/1?_state={SECRET}",
    f"https://reg.example/v2/x/blobs/uploads/1?anything={SECRET}",
    f"token={SECRET}",
    f'{{"token": "{SECRET}", "expires_in": 300}}',
    f'{{"access_token":"{SECRET}"}}',
    f"refresh_token={SECRET}&grant_type=refresh_token",
    f"{{'identitytoken': '{SECRET}'}}",
    f"password={SECRET}",
    f"Password: {SECRET}",
    f'password = "{SECRET} with spaces"',
    f"DISTWORKER_S3_SECRET_ACCESS_KEY={SECRET}",
    f"aws_access_key_id={SECRET}",
    f"client_secret: {SECRET}",
    f"password:{SECRET}",
    f"/path/token={SECRET}",
    f"DISTWORKER_REGISTRIES__A_REGISTRY_WITH_A_VERY_LONG_NAME_EXAMPLE_COM__PASSWORD={SECRET}",
    f"https://user:{SECRET}@registry.example/v2/",
    f"https://{SECRET}@registry.example/v2/",
    f"redis://:{SECRET}@redis.example:6379/0",
    f"amqp://user:{SECRET}/slash@rabbit.example//",
    f"https://user:p@{SECRET}@registry.example/v2/",
    f"user:{SECRET}@registry.example.com/app",
    f"sent Bearer {SECRET} to it",
    "got eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzM2NyM3QtVmFsdWUuOSJ9.c2ln",
    "got eyJ" + "x5c" * 3000 + ".eyJzdWIiOiJzM2NyM3QtVmFsdWUuOSJ9.c2ln",
    "imagePullSecret eyJzdWIiOiJzM2NyM3QtVmFsdWUuOSJ9",
    "logged in with dckr_pat_s3cr3tValue9",
]


@pytest.mark.parametrize("text", MARKED)
def test_a_marked_secret_never_comes_through(text: str) -> None:
    """S14's marks: headers, parameters, userinfo, tokens; in any of the usual spellings."""
    masked = logs.redact(text)
    assert "s3cr3t" not in masked
    assert "eyJzdWIi" not in masked
    assert logs.MASK in masked
    assert logs.redact(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "docker.io/library/alpine:3.20@" + Digest.of(b"x"),
        "localhost:5000/app:v1@" + Digest.of(b"x"),
        "https://localhost:5000/v2/app/manifests/" + Digest.of(b"x"),
        f"d:default/{Digest.of(b'x')}",
        f"u:{Digest.of(b'x')}@registry.example:5000/team/app",
        "m:0190f3c2-7 published team/app:1.0 at registry.example",
        "registry.example/team/my-secret:1.0 to registry.example/token:2",
        "the registry wants Basic authentication",
        "Bearer realm=auth.example",
        "5 of 10 tokens left; retry in 30 s",
        "",
    ],
)
def test_what_operators_need_is_left_alone(text: str) -> None:
    """References, digests and step ids look a little like credentials and are none."""
    assert logs.redact(text) == text


@pytest.mark.parametrize("format_name", ["text", "json"])
@pytest.mark.parametrize("text", MARKED[:30:3])
def test_no_way_into_a_log_line_leaks(stream: io.StringIO, format_name: str, text: str) -> None:
    """Message, argument, extra, nested extra, key, exception, its cause and the stack are all redacted."""
    logs.setup(format_name, "INFO", stream)
    log.info(text.replace("%", "%%"))
    log.info("%s", text)
    log.info("extra", extra={"detail": text, "nested": {"list": [text, (text,)], text: 1}})
    log.info("object", extra={"thing": ValueError(text)})
    try:
        try:
            raise KeyError(text)
        except KeyError as cause:
            raise ValueError(text) from cause
    except ValueError:
        log.exception("failed")
        log.exception("failed with its stack", stack_info=True)
    assert SECRET not in stream.getvalue()
    assert len(stream.getvalue()) > 200


@pytest.mark.parametrize("format_name", ["text", "json"])
def test_a_value_under_a_secrets_name_is_masked_whole(stream: io.StringIO, format_name: str) -> None:
    """In a mapping the mark is the key, so the value has none of its own."""
    logs.setup(format_name, "INFO", stream)
    log.info("headers", extra={"headers": {"Authorization": SECRET, "Accept": "x"}, "password": SECRET})
    assert SECRET not in stream.getvalue()
    assert "Accept" in stream.getvalue()


@given(st.text())
def test_redacting_never_fails_and_never_needs_a_second_time(text: str) -> None:
    """Whatever text comes, redact is total and idempotent."""
    once = logs.redact(text)
    assert logs.redact(once) == once


@pytest.mark.parametrize("unit", ["x-amz-", "x-goog-", "authorization-", "-eyJ", ".eyJhbGciOiJS"])
def test_no_rule_runs_on_from_each_of_its_beginnings(unit: str) -> None:
    """Half a mebibyte of beginnings: a rule that ran to the end from each would outlast the suite's limit."""
    text = unit * (1 << 19)
    assert len(logs.redact(text)) <= len(text) + 10


def test_redacting_a_hostile_line_takes_no_time_to_speak_of(stream: io.StringIO) -> None:
    """Lines that make backtracking patterns explode come from outside; a message is cut before it is
    searched."""
    logs.setup("text", "INFO", stream)
    for unit in ("a", "a:", "://", "x@", "password", "'\"", "eyJ", "?a=", "authorization", "a-_"):
        log.info("%s", unit * 100_000)
    assert len(lines(stream)) == 10
