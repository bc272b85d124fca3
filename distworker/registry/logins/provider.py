"""What logins made by a provider's own servers have in common: asking, and reading the answer.

How a request is sent is passed in (`Send`), so each provider is tested without sockets and none of them can
reach further than it was given. Answers are read by the rules of OAuth 2 (RFC 6749, 5.1 and 5.2). Of a
refusal only its short error code is ever shown: descriptions quote what was sent.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final, Protocol
from urllib.parse import urlencode

from distworker.errors import Denied, ProtocolError, Throttled, TransferError, Unauthorized, Unavailable
from distworker.registry.logins.files import PHASE
from distworker.registry.waits import THROTTLE_WAIT

#: Longest life believed, in seconds: no provider's token lives longer than a day.
LIFE_MAX: Final = 24 * 3600.0
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
_CODE: Final = re.compile(r"[A-Za-z_]{1,40}", re.ASCII)


class Send(Protocol):
    """One request to a provider: no redirect is followed and no login added. Gives status and body, bounded;
    raises the typed errors of a connection that fails.
    """

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        """See above; `url` may hold nothing secret."""
        ...


def post_form(send: Send, url: str, form: Mapping[str, str]) -> tuple[int, bytes]:
    """POST `form`, as token servers want it."""
    return send("POST", url, _FORM, urlencode(form).encode())


def read_answer(answer: tuple[int, bytes], name: str, who: str, host: str, check: str) -> tuple[str, float]:
    """The token called `name` in an answer of `who`, and the seconds it lives, 0 if it does not say.

    `host` is the registry the login is for, `check` what an operator looks at when it is refused.

    Raises:
        Unauthorized, Denied, Throttled, Unavailable: by the status.
        ProtocolError: anything else that is no token.
    """
    status, body = answer
    document = _json(body)
    if status != 200:
        raise _refused(status, _code(document), who, host, check)
    token = document.get(name)
    if not isinstance(token, str) or not token or not (token.isascii() and token.isprintable()):
        raise ProtocolError(
            f"{who} answered without a usable {name} for {host}", phase=PHASE, registry=host, status=status
        )
    return token, _seconds(document.get("expires_in"))


def _refused(status: int, code: str, who: str, host: str, check: str) -> TransferError:
    fields: dict[str, Any] = {"phase": PHASE, "registry": host, "status": status}
    said = f"{status} {code}".strip()
    if status in {400, 401}:
        return Unauthorized(f"{who} refuses the login for {host} ({said}); check {check}", **fields)
    if status == 403:
        return Denied(f"{who} does not allow the login for {host} ({said}); check {check}", **fields)
    if status == 429:
        return Throttled(f"{who} is asked too often for {host}", **fields, delay=THROTTLE_WAIT)
    if status >= 500:
        return Unavailable(f"{who} cannot make a login for {host} just now ({said})", **fields)
    return ProtocolError(f"{who} answered {said} instead of a login for {host}; check {check}", **fields)


def _json(body: bytes) -> Mapping[str, Any]:
    """The object, an empty one if it is none: a parser's own error holds the text, which may be a token."""
    document: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(body)
    return document if isinstance(document, dict) else {}


def _code(document: Mapping[str, Any]) -> str:
    code = document.get("error")
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


def _seconds(value: Any) -> float:
    """`expires_in`; Entra's older form writes the number as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # The smaller one first: an integer may be larger than any float.
    return float(min(value, LIFE_MAX)) if number and value > 0 else 0.0
