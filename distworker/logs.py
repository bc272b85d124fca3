"""Logs: one line per event on stderr, as text or JSON, with job, image, digest and step on it, and no secret
in it.

`setup` is called once per process by the faces; everything else logs with `logging.getLogger(__name__)`, the
sentence as message and values in `extra=`. Times are UTC. Redaction sees the message, the
exception and every extra, and works by marks: header names, parameter names, userinfo in URLs, bearer tokens.
It is the last net, not a licence: secrets are not passed to loggers in the first place.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from distworker.errors import clean

# --- event names (the `event` extra), stable for people who alert on them -----------------------------------
JOB_OPENED: Final = "job.opened"
JOB_CLOSED: Final = "job.closed"
JOB_CANCELLED: Final = "job.cancelled"
IMAGE_CLOSED: Final = "image.closed"
STEP_STARTED: Final = "step.started"
STEP_DONE: Final = "step.done"
STEP_BLOCKED: Final = "step.blocked"
STEP_RELEASED: Final = "step.released"
STEP_RETRIED: Final = "step.retried"
STEP_FAILED: Final = "step.failed"
STEP_SUPERSEDED: Final = "step.superseded"
STEPS_REAPED: Final = "steps.reaped"
WORKER_STARTED: Final = "worker.started"
WORKER_STOPPED: Final = "worker.stopped"
REGISTRY_PAUSED: Final = "registry.paused"
TEE_CUT: Final = "tee.cut"

#: What stands in the place of a secret.
MASK: Final = "***"
#: Longest message kept; a longer one is a body that somebody logged.
_LINE_MAX: Final = 4000
#: Libraries whose debug lines hold URLs, headers or bodies.
_NOISY: Final = ("urllib3", "requests", "boto3", "botocore", "s3transfer")

# --- redaction ----------------------------------------------------------------------------------------------
# Repeats that could run on are bounded, so that a hostile line costs linear time.
_HEADERS = (
    r"(?:proxy-)?authorization|(?:set-)?cookie|x-amz-[a-z0-9-]{1,60}|x-registry-auth|x-goog-[a-z0-9-]{1,60}"
)
_NAMES = (
    r"[a-z0-9_-]{0,100}(?:passw(?:or)?d|passphrase|secret|token|signature|api[_-]?key|access[_-]?key"
    r"(?:[_-]?id)?|private[_-]?key)|sig|_state"
)
_VALUE = r"b?'[^']*'?|b?\"[^\"]*\"?|[^\s&,;\"'}\])]+"
_RULES: Final = (
    # scheme://user:password@host, also when the password holds a slash (but host:port/path@sha256:… is a
    # reference)
    (
        re.compile(
            r"(://)(?:[^\s/?#\"'<>]{0,999}|[^\s/?#:@\"'<>]{0,99}:(?![0-9]+[/?#])[^\s@\"'<>]{0,999})@", re.I
        ),
        rf"\1{MASK}@",
    ),
    # user:password@host without a scheme; name:tag@sha256:… and u:sha256:…@host are ours
    (
        re.compile(
            r"(?<![\w:/.@+-])(?!u:sha|sha[0-9])[^\s:/@\"'=(\[{]{1,99}:[^\s/@\"']{1,999}@(?!sha[0-9]+:)"
        ),
        f"{MASK}@",
    ),
    # every query of a URL: presigned ones differ by vendor
    (re.compile(r"(://[^\s?\"'<>]{1,999}\?)[^\s\"'<>]+"), rf"\1{MASK}"),
    # a header with its value to the end of the line or quote
    (
        re.compile(rf"\b({_HEADERS})((?:['\"]?\s*[:=]|['\"]\s*,)\s*(?:b?['\"])?)[^'\"\r\n&]+", re.I),
        rf"\1\2{MASK}",
    ),
    # short names that only mean something inside a query
    (re.compile(r"([?&](?:se|sp|sv|sr|st|skoid|sktid|code|key)=)[^&\s\"'<>]+", re.I), rf"\1{MASK}"),
    # name=value, name: value, "name": "value"; but team/my-secret:1.0 is an image
    (re.compile(rf"(?<![a-z0-9_-])({_NAMES})(['\"]?\s*=\s*)({_VALUE})", re.I), rf"\1\2{MASK}"),
    (re.compile(rf"(?<![a-z0-9_./-])({_NAMES})(['\"]?\s*:\s*)({_VALUE})", re.I), rf"\1\2{MASK}"),
    # credentials without a name
    (
        re.compile(r"\b(bearer|basic)\s+(?!auth|realm|login|token\b)[A-Za-z0-9._~+/=-]{6,}", re.I),
        rf"\1 {MASK}",
    ),
    # JSON in base64: tokens, and docker's `auths`. One without a dot goes too: a rule that looked for one
    # would run to the end of a hostile line from each of its beginnings.
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]+){0,4}+"), MASK),
    (re.compile(r"\b(?:dckr_[a-z]{3}_|gh[a-z]_|github_pat_|glpat-)[A-Za-z0-9_-]{8,}"), MASK),
)
_SECRET_KEY = re.compile(rf"(?:{_HEADERS}|{_NAMES}|auth|auths)", re.I)


def redact(text: str) -> str:
    """`text` with everything masked that is marked as a secret. Running it twice changes nothing more."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def _plain(value: Any, key: str = "") -> Any:
    """`value` as redacted JSON; whatever stands under a secret's name is masked whole."""
    if key and value not in (None, "") and _SECRET_KEY.fullmatch(key):
        return MASK
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {redact(str(name)): _plain(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return redact(clean(str(value), _LINE_MAX))


class Redactor(logging.Filter):
    """Rewrites each record before any formatter sees it: message, arguments, exception and stack."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always lets the record pass, redacted."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            message = str(record.msg)
        record.msg, record.args = redact(clean(message, _LINE_MAX)), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = _block(record.exc_text)
        if record.stack_info:
            record.stack_info = _block(record.stack_info)
        return True


def _block(text: str) -> str:
    """A traceback, redacted and indented, so that no line of it can pass for a log line of its own."""
    return "\n".join(
        "  " + "".join(c if c.isprintable() else " " for c in line) for line in redact(text).splitlines()
    )


# --- context ------------------------------------------------------------------------------------------------
_CONTEXT: ContextVar[Mapping[str, str] | None] = ContextVar("distworker_log_context", default=None)
_FIELDS: Final = ("job", "image", "digest", "step")


@contextmanager
def bind(*, job: str = "", image: str = "", digest: str = "", step: str = "") -> Iterator[None]:
    """Put these on every line logged inside; empty ones leave what an outer `bind` said. Threads start
    without."""
    given = {"job": job, "image": image, "digest": digest, "step": step}
    token = _CONTEXT.set(bound() | {name: str(value) for name, value in given.items() if value})
    try:
        yield
    finally:
        _CONTEXT.reset(token)


def bound() -> dict[str, str]:
    """What `bind` put on the lines of this thread, for handing it to another one."""
    return dict(_CONTEXT.get() or {})


_STANDARD: Final = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {
    "message",
    "asctime",
    "taskName",
}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Context and extras of a record, redacted; an extra wins over the context."""
    extras = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    merged = bound() | extras
    first = {name: merged.pop(name) for name in _FIELDS if name in merged}
    return {name: _plain(value, name) for name, value in (first | merged).items()}


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- formats ------------------------------------------------------------------------------------------------
class TextFormatter(logging.Formatter):
    """`2026-01-31T09:30:00.000Z INFO  distworker.steps.download the sentence job=… step=…`, tracebacks
    indented."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record that `Redactor` has seen."""
        pairs = " ".join(f"{name}={_word(value)}" for name, value in _fields(record).items())
        head = f"{_time(record)} {record.levelname:<7} {record.name} {record.getMessage()}"
        blocks = [text for text in (record.exc_text, record.stack_info) if text]
        return "\n".join([f"{head} {pairs}".rstrip(), *blocks])


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return json.dumps(text, ensure_ascii=False) if not text or re.search(r"[\s\"=]", text) else text


class JSONFormatter(logging.Formatter):
    """One JSON object per line: `time`, `level`, `logger`, `message`, then context and extras, then
    `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record that `Redactor` has seen."""
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in _fields(record).items() if name not in line}
        if record.exc_text:
            line["exception"] = record.exc_text
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, ensure_ascii=False)


class _Handler(logging.StreamHandler[TextIO]):
    """Our handler, told apart from others so that a second `setup` replaces only it."""


def setup(
    format: str = "text",  # noqa: A002  the name of the command-line option
    level: str | int = "INFO",
    stream: TextIO | None = None,
) -> None:
    """Send all logs of this process to stderr (or `stream`) as `text` or `json`, from `level` up. Call it
    again to change your mind. Libraries that log URLs or headers are kept at WARNING."""
    if format not in ("text", "json"):
        raise ValueError("the log format is text or json")
    handler = _Handler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JSONFormatter() if format == "json" else TextFormatter())
    handler.addFilter(Redactor())
    root = logging.getLogger()
    for old in [known for known in root.handlers if isinstance(known, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper() if isinstance(level, str) else level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
