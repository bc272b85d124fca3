"""What a request carried that must not come back in an error: a server may quote what it was sent.

A registry that refuses a login knows it already; those who read its error in a log, a job record or Flower do
not. Redaction by marks (`logs.redact`) cannot find a bare password, but here it is known.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from distworker.logs import MASK

#: Shorter ones stand in ordinary words too.
_SHORTEST: Final = 4
#: Values of a query that are secrets of an upload or a signed link are long; digests and numbers are not.
_QUERY_SHORTEST: Final = 8
_PUBLIC: Final = frozenset(
    {"digest", "mount", "from", "service", "scope", "account", "client_id", "grant_type"}
)
FORM: Final = "application/x-www-form-urlencoded"


def secrets_sent(headers: Mapping[str, str], url: str, body: object) -> tuple[str, ...]:
    """The login, the secrets of the address and those of a form, the longest first."""
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    found = {value}
    if scheme.lower() == "basic":
        with contextlib.suppress(ValueError):
            pair = base64.b64decode(value).decode()
            found |= {pair, pair.partition(":")[2]}
    fields = parse_qsl(urlsplit(url).query)
    if isinstance(body, bytes) and headers.get("Content-Type") == FORM:
        fields += parse_qsl(body.decode("utf-8", "replace"))
    found |= {text for name, text in fields if name not in _PUBLIC and len(text) >= _QUERY_SHORTEST}
    return tuple(sorted((one for one in found if len(one) >= _SHORTEST), key=len, reverse=True))


def hide(text: str, secrets: Sequence[str]) -> str:
    """`text` without these."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text
