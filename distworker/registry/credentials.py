"""Credentials: secrets that know where they may go.

A `Credential` is bound to origins and cannot put itself into a header for any other; nothing that prints,
formats or pickles shows it. A `CredentialSource` finds one by host and repository, or by the id an operator
gave it, and is told when a registry no longer takes what it found. Files are read at use, so that a rotated
password is seen. Nothing here looks at the environment: a service reads only what its operator named. How
logins are made lies in `logins/`: files of other tools, credential helpers, and the ways of single
providers.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn, Protocol

from distworker.errors import ConfigInvalid, RealmRefused
from distworker.registry.logins.files import PHASE, read_secret
from distworker.registry.profiles import canonical_host
from distworker.registry.urls import Origin


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """One login and the origins that may see it.

    `identity_token` is for token servers only, `registry_token` a ready bearer token. Without origins it goes
    nowhere; `bound_to` gives it some.
    """

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""
    origins: frozenset[Origin] = frozenset()

    def __post_init__(self) -> None:
        # Half a character (from an escape in JSON, or a variable that is no text) would fail when it is sent,
        # with an error that holds the secret.
        if not all(map(is_text, (self.username, self.password, self.identity_token, self.registry_token))):
            raise ConfigInvalid("a login holds something that is no text; write it anew", phase=PHASE)

    def __repr__(self) -> str:
        # Not even the user: GitHub takes a token in the place of the name.
        places = ", ".join(sorted(map(str, self.origins))) or "nowhere yet"
        return f"Credential(*** for {places})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a credential does not travel: send its id, and find it again where it is used")

    def bound_to(self, origins: frozenset[Origin]) -> Credential:
        """The same login, for these origins only.

        Raises:
            RealmRefused: it is bound already, and not to all of these.
        """
        if self.origins:
            for origin in sorted(origins - self.origins, key=str):
                self._check(origin)
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
        """The bare password, for an API of `origin` that is no registry; "" when the login is a token."""
        self._check(origin)
        return self.password

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
            raise RealmRefused(
                f"a credential may not be sent to {origin.netloc}", phase=PHASE, registry=origin.netloc
            )


class Way(Protocol):
    """One way to log in that an operator configured, and the hosts it is for."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """`host[:port]` of each registry that may get this login."""
        ...

    def open(self, host: str, name: str) -> Credential:
        """The login for `host`, read or made now; `name` is how errors call it.

        Raises:
            ConfigInvalid: a file or key of the operator's cannot be used.
            TransferError: the provider that makes it refuses, or is away.
        """
        ...

    def refused(self, host: str, credential: Credential) -> None:
        """The registry no longer takes `credential`: the next `open` makes another, if it can."""
        ...


class LoginFile(Protocol):
    """A file of logins that another tool wrote. See `logins/authfile.py`."""

    def find(self, host: str, repository: str) -> Credential | None:
        """The login for `repository` on `host`, or for all of `host`."""
        ...

    def blocked(self, host: str, repository: str) -> str:
        """Why a login that the file promises for `host` cannot be had, as a sentence; "" if there is none."""
        ...

    def refused(self, host: str, credential: Credential) -> None:
        """The registry no longer takes `credential`."""
        ...


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password that an operator wrote down, and the hosts they are for.

    `username_file` and `password_file` are read at use, their final newline dropped, and win over `username`
    and `password`.
    """

    hosts: tuple[str, ...]
    username: str = ""
    password: str = field(default="", repr=False)
    password_file: str = ""
    identity_token: str = field(default="", repr=False)
    username_file: str = ""

    def open(self, host: str, name: str) -> Credential:
        """See `Way.open`."""
        username = self._read(self.username_file, "username_file", host, name) or self.username
        password = self._read(self.password_file, "password_file", host, name) or self.password
        if ":" in username:
            raise ConfigInvalid(
                f"credential {name!r}: a user name with a colon cannot be sent (RFC 7617); correct it",
                field="username",
                phase=PHASE,
                registry=host,
            )
        return Credential(username=username, password=password, identity_token=self.identity_token)

    def refused(self, host: str, credential: Credential) -> None:
        """Nothing to forget: files are read at each use."""

    def _read(self, path: str, key: str, host: str, name: str) -> str:
        return read_secret(path, host, name, key) if path else ""


class CredentialSource(Protocol):
    """Where credentials are found."""

    def find(self, host: str, name: str = "", repository: str = "") -> Credential | None:
        """The credential called `name` if it is for `host`; with no name, the one of `repository`, or the
        host's own one, or None.

        Raises:
            ConfigInvalid: no such name, not for this host, or its file cannot be used.
            TransferError: the provider that makes it refuses, or is away.
        """
        ...

    def check(self, host: str, name: str) -> None:
        """Raise ConfigInvalid for a `name` that is not defined, or not for `host`; nothing is made."""
        ...

    def refused(self, host: str, name: str, repository: str, credential: Credential) -> None:
        """The registry says that this login expired: what was made or remembered is dropped, so that the next
        `find` makes anew. Never raises.
        """
        ...


class NoCredentials:
    """Everyone is anonymous."""

    def find(self, host: str, name: str = "", repository: str = "") -> Credential | None:
        """None; a name is an error, since nobody defined it."""
        self.check(host, name)
        return None

    def check(self, host: str, name: str) -> None:
        """See `CredentialSource.check`."""
        if name:
            raise _undefined(name)

    def refused(self, host: str, name: str, repository: str, credential: Credential) -> None:
        """Nothing was found, so nothing is dropped."""


class ConfiguredCredentials:
    """Logins by id, and files of logins in the order given; logins win over files."""

    def __init__(self, logins: Mapping[str, Way] | None = None, files: Sequence[LoginFile] = ()) -> None:
        self._logins = dict(logins or {})
        self._hosts = {
            key: frozenset(canonical_host(host.lower()) for host in way.hosts)
            for key, way in self._logins.items()
        }
        self._files = tuple(files)

    def find(self, host: str, name: str = "", repository: str = "") -> Credential | None:
        """See `CredentialSource.find`."""
        wanted = canonical_host(host.lower())
        way = self._way(wanted, name)
        if way is not None:
            return way[1].open(wanted, way[0])
        for file in self._files:
            found = file.find(wanted, repository)
            if found is not None:
                return found
        for file in self._files:
            reason = file.blocked(wanted, repository)
            if reason:
                raise ConfigInvalid(reason, field="credential_helpers", phase=PHASE, registry=wanted)
        return None

    def check(self, host: str, name: str) -> None:
        """See `CredentialSource.check`."""
        if name:
            self._way(canonical_host(host.lower()), name)

    def refused(self, host: str, name: str, repository: str, credential: Credential) -> None:
        """See `CredentialSource.refused`."""
        wanted = canonical_host(host.lower())
        for key, way in self._logins.items():
            if wanted in self._hosts[key]:
                way.refused(wanted, credential)
        for file in self._files:
            file.refused(wanted, credential)

    def _way(self, host: str, name: str) -> tuple[str, Way] | None:
        if not name:
            return next((pair for pair in self._logins.items() if host in self._hosts[pair[0]]), None)
        way = self._logins.get(name)
        if way is None:
            raise _undefined(name)
        if host not in self._hosts[name]:
            raise ConfigInvalid(
                f"credential {name!r} is not for {host}; add the host to it in registries.toml",
                field="credential",
            )
        return name, way


def _undefined(name: str) -> ConfigInvalid:
    return ConfigInvalid(
        f"credential {name!r} is not defined; name it in registries.toml", field="credential"
    )


def is_text(value: str) -> bool:
    """Can it be sent at all? Half a character, as JSON can escape one, cannot."""
    if value.isascii():
        return True
    with contextlib.suppress(UnicodeError):
        value.encode()
        return True
    return False
