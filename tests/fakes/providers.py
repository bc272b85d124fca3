"""Servers that make logins for clouds' registries: Google's and Entra's token servers, Azure's exchange, AWS.

Each checks what its real counterpart checks (signature, grant, secret, audience), makes tokens with a
number so that a test sees which one is used, and inherits the script of `registry_server.FakeServer` for
everything that can go wrong.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import Answer, FakeServer, Seen
from tests.fakes.registry_token import FakeTokenServer

JSON = {"Content-Type": "application/json"}


def reply(status: int = 200, **fields: Any) -> Answer:
    """An answer in JSON."""
    return Answer(status, JSON, json.dumps(fields).encode())


def form(request: Seen) -> dict[str, str]:
    """The form of a POST."""
    return dict(parse_qsl(request.body.decode()))


@dataclass(frozen=True)
class ServiceAccount:
    """An account of Google's: the JSON of its key file, and the key that proves its signatures."""

    text: str
    public: rsa.RSAPublicKey


def service_account(token_uri: str) -> ServiceAccount:
    """A new account with a key; its secrets carry the mark."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    document = {
        "type": "service_account",
        "private_key_id": "SECRET-KEY-ID",
        "private_key": pem.decode(),
        "client_email": "mover@project.example",
        "token_uri": token_uri,
    }
    return ServiceAccount(json.dumps(document), key.public_key())


class FakeGoogle(FakeServer):
    """Takes assertions of one account for access tokens, as RFC 7523 says; and is the metadata server."""

    def __init__(self, account: ServiceAccount | None = None, audience: str = "", life: Any = 3600) -> None:
        super().__init__()
        self.account, self.audience, self.life = account, audience, life
        self.claims: list[dict[str, Any]] = []
        self.made = 0

    def handle(self, request: Seen) -> Answer:
        """A token, or `invalid_grant`."""
        if request.path.startswith("/computeMetadata/"):
            return self._token() if request.headers.get("Metadata-Flavor") == "Google" else Answer(403)
        assertion = form(request).get("assertion", "")
        if self._is_signed(assertion) and self._is_right(assertion):
            return self._token()
        return reply(400, error="invalid_grant", error_description=f"Invalid JWT: {assertion}")

    def _token(self) -> Answer:
        self.made += 1
        token = f"SECRET-GOOGLE-{self.made}"
        return reply(access_token=token, expires_in=self.life, token_type="Bearer")

    def _is_signed(self, assertion: str) -> bool:
        text, _, signature = assertion.rpartition(".")
        assert self.account is not None
        try:
            self.account.public.verify(
                _decoded(signature), text.encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            return False
        return True

    def _is_right(self, assertion: str) -> bool:
        header, claims = (json.loads(_decoded(part)) for part in assertion.split(".")[:2])
        self.claims.append(claims)
        return header["alg"] == "RS256" and claims["aud"] == self.audience


class FakeEntra(FakeServer):
    """Logs applications in, by secret or by the token of a federated workload."""

    def __init__(self, client_id: str, secret: str) -> None:
        super().__init__()
        self.client_id, self.secret = client_id, secret
        self.made = 0

    def handle(self, request: Seen) -> Answer:
        """An access token for registries, or `invalid_client`."""
        given = form(request)
        right = (
            given.get("grant_type") == "client_credentials"
            and given.get("client_id") == self.client_id
            and self.secret in {given.get("client_secret"), given.get("client_assertion")}
            and given.get("scope") == "https://containerregistry.azure.net/.default"
        )
        if not right:
            said = f"AADSTS7000215: Invalid client secret provided: {given}"
            return reply(401, error="invalid_client", error_description=said)
        self.made += 1
        return reply(access_token=f"SECRET-ENTRA-{self.made}", expires_in=3599, token_type="Bearer")


class FakeAcr(FakeRegistry):
    """One of Azure's registries with its own exchange and token server."""

    def __init__(self, name: str) -> None:
        self.exchanged = 0
        super().__init__(tokens=_AcrTokens(name))

    def handle(self, request: Seen) -> Answer:
        """The exchange, the token server, or the registry."""
        assert self.tokens is not None
        if request.path == "/oauth2/token":
            return self.tokens.handle(request)
        if request.path != "/oauth2/exchange":
            return super().handle(request)
        given = form(request)
        if not given.get("access_token", "").startswith("SECRET-ENTRA-") or given.get("service") != self.host:
            return reply(401, errors=[{"code": "UNAUTHORIZED", "message": f"not valid: {given}"}])
        self.exchanged += 1
        self.tokens.identity = f"SECRET-REFRESH-{self.exchanged}"
        return reply(refresh_token=self.tokens.identity)


class _AcrTokens(FakeTokenServer):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    @property
    def realm(self) -> str:
        return f"https://{self.name}/oauth2/token"

    def _grant(self, user: str, scope: str) -> list[str]:
        return super()._grant(user, scope) if user else []


class FakeAws(FakeServer):
    """ECR's `GetAuthorizationToken`, private and public; `expires` is Unix time or what a test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.expires: Any = None
        self.made = 0

    def handle(self, request: Seen) -> Answer:
        """A new password each time."""
        self.made += 1
        token = base64.b64encode(f"AWS:SECRET-AWS-{self.made}".encode()).decode()
        data: dict[str, Any] = {"authorizationToken": token}
        if self.expires is not None:
            data["expiresAt"] = self.expires
        public = "Spencer" in (request.headers.get("X-Amz-Target") or "")
        return reply(authorizationData=data if public else [data])


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
