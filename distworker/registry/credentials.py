"""Credentials: secrets that know where they may go.

A `Credential` is bound to origins and cannot put itself into a header for any other; its
repr is masked. A `CredentialSource` finds one by host or by the id an operator gave it. Files are read at
use, so that a rotated password is seen, and read again only when they changed. Nothing here looks at the
environment or runs a helper: a service reads only what its operator named.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from distworker.errors import ConfigInvalid, RealmRefused
from distworker.registry.profiles import canonical_host
from distworker.registry.urls import Origin

#: A docker config is small; anything larger is the wrong file.
_FILE_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Credential:
    """One login and the origins that may see it."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    origins: frozenset[Origin] = frozenset()

    def bound_to(self, origins: frozenset[Origin]) -> Credential:
        """The same login, for these origins only."""
        return replace(self, origins=origins)

    def basic(self, origin: Origin) -> str:
        """The `Authorization` value of HTTP Basic for `origin`; RealmRefused if it may not go there."""
        self._check(origin)
        pair = f"{self.username}:{self.password or self.identity_token}".encode()
        return f"Basic {base64.b64encode(pair).decode('ascii')}"

    def bearer(self, origin: Origin) -> str:
        """The operator's ready-made registry token for `origin`."""
        self._check(origin)
        return f"Bearer {self.registry_token}"

    def secret(self, origin: Origin) -> str:
        """The bare password, for an API of `origin` that takes it in another form than Basic."""
        self._check(origin)
        return self.password or self.identity_token

    def refresh_token(self, origin: Origin) -> str:
        """The identity token, for the token server at `origin`."""
        self._check(origin)
        return self.identity_token

    @property
    def fingerprint(self) -> str:
        """Tells two secrets apart without showing either; never leaves the process."""
        secret = "\0".join((self.username, self.password, self.identity_token, self.registry_token))
        return hashlib.sha256(secret.encode()).hexdigest()[:16]

    def _check(self, origin: Origin) -> None:
        if origin not in self.origins:
            raise RealmRefused(f"a credential may not be sent to {origin.netloc}", registry=origin.netloc)


@dataclass(frozen=True, slots=True)
class Login:
    """What an operator wrote for one credential: the hosts it is for and where the secret stands.

    `password_file` is read at use, its final newline dropped; it wins over `password`.
    """

    hosts: tuple[str, ...]
    username: str = ""
    password: str = field(default="", repr=False)
    password_file: str = ""
    identity_token: str = field(default="", repr=False)


class CredentialSource(Protocol):
    """Where credentials are found."""

    def find(self, host: str, name: str = "") -> Credential | None:
        """The credential called `name` if it is for `host`; with no name, the host's own one or None.

        Raises:
            ConfigInvalid: no such name, not for this host, or its file cannot be used.
        """
        ...


class NoCredentials:
    """Everyone is anonymous."""

    def find(self, host: str, name: str = "") -> Credential | None:
        """None; a name is an error, since nobody defined it."""
        if name:
            raise ConfigInvalid(
                f"credential {name!r} is not defined; name it in registries.toml", field="credential"
            )
        return None


class ConfiguredCredentials:
    """Logins by id, and docker config files in the order given; logins win over files."""

    def __init__(self, logins: Mapping[str, Login] | None = None, files: Sequence[Path | str] = ()) -> None:
        self._logins = dict(logins or {})
        self._files = [DockerConfig(Path(file)) for file in files]

    def find(self, host: str, name: str = "") -> Credential | None:
        """See `CredentialSource.find`."""
        wanted = canonical_host(host)
        if name:
            return self._named(wanted, name)
        for key, login in self._logins.items():
            if wanted in {canonical_host(one) for one in login.hosts}:
                return _open(key, login)
        for file in self._files:
            found = file.find(wanted)
            if found is not None:
                return found
        return None

    def _named(self, host: str, name: str) -> Credential:
        login = self._logins.get(name)
        if login is None:
            raise ConfigInvalid(
                f"credential {name!r} is not defined; name it in registries.toml", field="credential"
            )
        if host not in {canonical_host(one) for one in login.hosts}:
            raise ConfigInvalid(
                f"credential {name!r} is not for {host}; add the host to it in registries.toml",
                field="credential",
            )
        return _open(name, login)


class DockerConfig:
    """The `auths` of a docker `config.json` (also a Kubernetes `.dockerconfigjson`); a missing file has none.

    Keys match on host and port exactly; `https://host/v1/` counts as `host`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._auths: dict[str, Credential] = {}

    def find(self, host: str) -> Credential | None:
        """The entry for `host`, the names of Docker Hub being one."""
        with self._lock:
            self._refresh()
            return self._auths.get(canonical_host(host))

    def _refresh(self) -> None:
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_size)
            if seen == self._seen:
                return
            text = _read(self._path)
        except FileNotFoundError:
            self._seen, self._auths = None, {}
            return
        except OSError as error:
            raise ConfigInvalid(
                f"cannot read {self._path}: {error.strerror}", field="docker_config"
            ) from None
        self._auths = _parse_auths(text, self._path)
        self._seen = seen


def _open(name: str, login: Login) -> Credential:
    password = login.password
    if login.password_file:
        try:
            password = _read(Path(login.password_file)).rstrip("\r\n")
        except OSError as error:
            raise ConfigInvalid(
                f"credential {name!r}: cannot read its password file {login.password_file}: {error.strerror}",
                field="password_file",
            ) from None
    return Credential(username=login.username, password=password, identity_token=login.identity_token)


def _read(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_FILE_MAX + 1)
    if len(data) > _FILE_MAX:
        raise ConfigInvalid(f"{path} is larger than any credential file; name another file")
    text = _text(data)
    if text is None:
        raise ConfigInvalid(f"{path} is not UTF-8 text")
    return text


def _text(data: bytes) -> str | None:
    """None when it is not UTF-8. No parser's error may hang below ours: it would hold the secret."""
    with contextlib.suppress(ValueError):
        return data.decode()
    return None


def _json(text: str) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    return None


def _parse_auths(text: str, path: Path) -> dict[str, Credential]:
    document = _json(text)
    if not isinstance(document, dict):
        raise ConfigInvalid(f"{path} is not a JSON object", field="docker_config")
    auths = document.get("auths")
    found: dict[str, Credential] = {}
    for key, entry in (auths if isinstance(auths, dict) else {}).items():
        host = _host_of(key)
        credential = _entry(entry, key, path) if host and isinstance(entry, dict) else None
        if credential is not None:
            found.setdefault(canonical_host(host), credential)
    return found


def _host_of(key: str) -> str:
    """The host of an `auths` key; "" for a namespace key (`host/team`), which is for less than the host."""
    rest = key.split("://", 1)[-1]
    host, _, path = rest.partition("/")
    return host if path.strip("/") in {"", "v1", "v2"} else ""


def _entry(entry: Mapping[str, Any], key: str, path: Path) -> Credential | None:
    text = {name: value for name, value in entry.items() if isinstance(value, str)}
    username, password = text.get("username", ""), text.get("password", "")
    if text.get("auth"):
        username, password = _split(text["auth"], key, path)
    credential = Credential(
        username=username,
        password=password,
        identity_token=text.get("identitytoken", ""),
        registry_token=text.get("registrytoken", ""),
    )
    empty = not (credential.password or credential.identity_token or credential.registry_token)
    return None if empty else credential


def _split(auth: str, key: str, path: Path) -> tuple[str, str]:
    """user and password of base64 `user:password`; the password may hold colons, docker pads with NULs."""
    plain: str | None = None
    with contextlib.suppress(ValueError):
        plain = base64.b64decode(auth, validate=True).decode().strip("\0")
    if plain is None:
        raise ConfigInvalid(f"{path}: the auth of {key} is not base64 text", field="docker_config")
    username, _, password = plain.partition(":")
    return username, password
