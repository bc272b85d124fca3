"""Google's registries (`gcr.io`, `*.pkg.dev`): an access token for an hour, or the key itself.

Three ways, by what the operator gives: a service-account key, from which an access token is made by a signed
assertion (RFC 7523); nothing, and the machine's own account is asked from the metadata server, as workload
identity wants it; or the user `_json_key`, and the key file itself is the password. The key never leaves the
process in the first way, which is why it is the rule. A token that opens a whole project goes to Google's own
hosts only.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from distworker.errors import ConfigInvalid
from distworker.registry.credentials import Credential
from distworker.registry.logins.files import PHASE, read_secret
from distworker.registry.logins.minted import Keeper, Minted
from distworker.registry.logins.provider import Send, post_form, read_answer

#: Where a machine of Google's learns who it is; an address, so that no name server can lead elsewhere.
METADATA_URL: Final = "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token"
#: Users under which the key file itself is the password (Artifact Registry docs, "Set up authentication").
KEY_USERS: Final = ("_json_key", "_json_key_base64")
#: The user of an access token.
TOKEN_USER: Final = "oauth2accesstoken"  # noqa: S105 - a name that Google gives to all

_HOSTS: Final = re.compile(
    r"(?:[a-z0-9-]+\.)?gcr\.io|[a-z0-9-]+-docker\.pkg\.dev|[a-z0-9-]+\.pkg\.dev", re.ASCII
)
_HTTPS: Final = re.compile(r"https://[!-~]{1,2000}", re.ASCII)
_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
#: Seconds: what an assertion asks for, and what a token lives when the answer does not say.
_LIFE: Final = 3600


@dataclass(frozen=True, slots=True)
class GoogleKey:
    """What is needed of a service-account key file."""

    email: str
    key_id: str
    token_uri: str
    private_key: rsa.RSAPrivateKey = field(repr=False)

    def assertion(self, now: int) -> str:
        """The signed text that is exchanged for an access token (RFC 7523, 3)."""
        header = {"alg": "RS256", "typ": "JWT", "kid": self.key_id}
        claims = {"iss": self.email, "scope": _SCOPE, "aud": self.token_uri, "iat": now, "exp": now + _LIFE}
        text = f"{_part(header)}.{_part(claims)}".encode()
        signature = self.private_key.sign(text, padding.PKCS1v15(), hashes.SHA256())
        return f"{text.decode()}.{_base64url(signature)}"


class GoogleLogin:
    """A `Way` for Google's registries; see the module text.

    `send` reaches the key's token server; `metadata` reaches `METADATA_URL` and nothing else.
    """

    def __init__(
        self,
        hosts: tuple[str, ...],
        send: Send,
        metadata: Send,
        *,
        key_file: str = "",
        username: str = "",
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        for host in hosts:
            if not _HOSTS.fullmatch(host.lower()):
                raise ConfigInvalid(
                    f"[{host}] login: google is for gcr.io and pkg.dev hosts, its tokens go nowhere else; "
                    "correct the host, or give it a username and password",
                    field="login",
                    registry=host,
                    phase=PHASE,
                )
        self.hosts = hosts
        self._send = send
        self._metadata = metadata
        self._key_file = key_file
        self._username = username
        self._now = now
        self._kept: Keeper[str, Credential] = Keeper(clock)

    def open(self, host: str, name: str) -> Credential:
        """See `Way.open`."""
        if self._username:
            key = self._read(host, name)
            secret = base64.b64encode(key.encode()).decode() if self._username == KEY_USERS[1] else key
            return Credential(self._username, secret)
        return self._kept.get("", lambda: self._mint(host, name))

    def refused(self, host: str, credential: Credential) -> None:
        """See `Way.refused`."""
        self._kept.drop(credential, lambda key: True)

    def _read(self, host: str, name: str) -> str:
        return read_secret(self._key_file, host, name, "key_file")

    def _mint(self, host: str, name: str) -> Minted[Credential]:
        if self._key_file:
            key = read_key(self._read(host, name), self._key_file)
            form = {"grant_type": _GRANT, "assertion": key.assertion(int(self._now()))}
            answer = post_form(self._send, key.token_uri, form)
            who, check = "Google", f"the account of {self._key_file} and this machine's clock"
        else:
            answer = self._metadata("GET", METADATA_URL, {"Metadata-Flavor": "Google"}, None)
            who, check = "the metadata server", "that this machine has a service account, or name a key_file"
        token, life = read_answer(answer, "access_token", who, host, check)
        return Minted(Credential(TOKEN_USER, token), life or _LIFE)


def read_key(text: str, path: str) -> GoogleKey:
    """The key in a service account's JSON file.

    Raises:
        ConfigInvalid: it is none; the error holds nothing of it.
    """
    document: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(text)
    if not isinstance(document, dict) or document.get("type") != "service_account":
        raise _bad(path, "is not the JSON key of a service account; make one, or leave key_file out")
    values: list[Any] = [document.get(name) for name in _KEY_FIELDS]
    if not all(isinstance(value, str) and value for value in values):
        raise _bad(path, f"lacks one of {', '.join(_KEY_FIELDS)}; make a new key")
    email, key_id, uri, pem = values
    if not _HTTPS.fullmatch(uri):
        raise _bad(path, "names a token server that is not https; make a new key")
    key: Any = None
    with contextlib.suppress(ValueError, TypeError, UnsupportedAlgorithm):
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise _bad(path, "holds no RSA private key that can be read; make a new key")
    return GoogleKey(email, key_id, uri, key)


_KEY_FIELDS: Final = ("client_email", "private_key_id", "token_uri", "private_key")


def _bad(path: str, what: str) -> ConfigInvalid:
    return ConfigInvalid(f"key_file {path} {what}", field="key_file", phase=PHASE)


def _part(values: Mapping[str, Any]) -> str:
    return _base64url(json.dumps(values, separators=(",", ":")).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
