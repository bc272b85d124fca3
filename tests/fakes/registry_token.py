"""Token servers: a fake one with opaque tokens, and a real one whose signed tokens Debian's docker-registry
accepts.

Both speak distribution's token spec: `GET realm?service=&scope=…` with Basic or anonymous, `POST` with an
identity token. Both answer what was asked *and* allowed, and never say no to a scope, as real ones do.
"""

from __future__ import annotations

import base64
import datetime
import json
import secrets
import time
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qsl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from tests.fakes.registry_server import Answer, FakeServer, Seen


class FakeTokenServer(FakeServer):
    """Opaque tokens. `users` name → password; anonymous callers may pull `public/…`; `denied` repositories
    never. `uses`: a token is good for so many requests, 0 for any number."""

    service = "fake-registry"

    def __init__(self, users: dict[str, str] | None = None, identity: str = "", life: int = 300) -> None:
        super().__init__()
        self.users = users or {}
        self.identity, self.life = identity, life
        self.denied: set[str] = set()
        self.issued: dict[str, set[str]] = {}
        self.uses = 0
        self._used: Counter[str] = Counter()

    @property
    def realm(self) -> str:
        """Where tokens are asked for."""
        return f"{self.url}/token"

    def rights(self, token: str) -> set[str] | None:
        """`repository:name:action` of a token; None for one we did not issue or took back."""
        self._used[token] += 1
        return None if 0 < self.uses < self._used[token] else self.issued.get(token)

    def handle(self, request: Seen) -> Answer:
        """A token, or 401 for a login that is wrong."""
        asked = request.parameters
        user = self._user(request)
        if request.method == "POST":
            form = dict(parse_qsl(request.body.decode()))
            asked = [("scope", one) for one in form.get("scope", "").split()]
            user = "identity" if self.identity and form.get("refresh_token") == self.identity else None
        if user is None:
            return Answer(
                401, {"Content-Type": "application/json"}, b'{"details":"incorrect username or password"}'
            )
        granted = {right for name, scope in asked if name == "scope" for right in self._grant(user, scope)}
        return Answer(200, {"Content-Type": "application/json"}, json.dumps(self.issue(granted)).encode())

    def issue(self, granted: set[str]) -> dict[str, object]:
        """Make a token with these rights."""
        token = f"SECRET-TOKEN-{secrets.token_hex(6)}"
        self.issued[token] = granted
        return {"token": token, "expires_in": self.life}

    def _user(self, request: Seen) -> str | None:
        if not request.authorization:
            return ""
        kind, _, encoded = request.authorization.partition(" ")
        name, _, password = base64.b64decode(encoded).decode().partition(":")
        return name if kind == "Basic" and self.users.get(name) == password else None

    def _grant(self, user: str, scope: str) -> list[str]:
        kind, name, actions = (
            scope.split(":", 1)[0],
            scope.split(":", 1)[1].rpartition(":")[0],
            scope.rpartition(":")[2],
        )
        if (kind, name) == ("registry", "catalog") and user:
            return ["registry:catalog:*"]
        if kind != "repository" or name in self.denied:
            return []
        allowed = actions.split(",")
        if not user:
            allowed = ["pull"] if "pull" in allowed and name.startswith("public/") else []
        return [f"repository:{name}:{action}" for action in allowed]


class SignedTokenServer(FakeTokenServer):
    """Tokens as JWT (RS256, certificate inside), for a real registry with `auth: token`."""

    service = "real-registry"
    issuer = "test-issuer"

    def __init__(self, users: dict[str, str] | None = None, life: int = 300) -> None:
        super().__init__(users, life=life)
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._certificate = _self_signed(self._key, self.issuer)

    def write_certificate(self, path: Path) -> Path:
        """The registry's `rootcertbundle`."""
        path.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def issue(self, granted: set[str]) -> dict[str, object]:
        """A signed token with these rights."""
        names: dict[str, list[str]] = {}
        for right in granted:
            name, _, action = right.removeprefix("repository:").rpartition(":")
            names.setdefault(name, []).append(action)
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": "someone",
            "aud": self.service,
            "iat": now,
            "nbf": now - 10,
            "exp": now + self.life,
            "jti": secrets.token_hex(8),
            "access": [{"type": "repository", "name": name, "actions": what} for name, what in names.items()],
        }
        der = self._certificate.public_bytes(serialization.Encoding.DER)
        head = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        signed = f"{_encode(head)}.{_encode(claims)}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        token = f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
        return {"token": token, "access_token": token, "expires_in": self.life}


def _encode(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _self_signed(key: rsa.RSAPrivateKey, name: str) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
