"""What a login file says, as plain values: its entries, and the helpers it names.

Reads docker's `config.json`, containers' `auth.json`, the old `.dockercfg` (the same entries without
`auths` around them), and a Kubernetes secret of either kind, as the manifest that `kubectl get secret -o
yaml` prints or as the file that a pod mounts. The shape is checked when the file is read; the secret inside
an entry only when that entry is used, so that one broken entry does not take the others along. Errors name
file and key, never what stands there.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from distworker.errors import ConfigInvalid
from distworker.registry.credentials import Credential, is_text
from distworker.registry.logins.files import PHASE
from distworker.registry.logins.keys import Dialect, Key, read_key
from distworker.registry.profiles import canonical_host

#: The settings key that names such files; errors carry it.
SETTING: Final = "auth_files"
#: Keys of a secret's data, and whether what is below them has `auths` around it.
_SECRET_KEYS: Final = {".dockerconfigjson": True, ".dockercfg": False}


@dataclass(frozen=True, slots=True)
class Entries:
    """A login file, read. `helpers`: host → helper ("" for none); `store`: the helper for all other hosts."""

    dialect: Dialect = "docker"
    entries: tuple[tuple[Key, str, Mapping[str, Any]], ...] = field(default=(), repr=False)
    helpers: Mapping[str, str] = field(default_factory=dict)
    store: str = ""

    def find(self, host: str, repository: str) -> tuple[str, Mapping[str, Any]] | None:
        """The key and entry that say most about `repository` on `host`."""
        fitting = [one for one in self.entries if one[0].matches(host, repository)]
        best = max(fitting, key=lambda one: one[0].rank, default=None)
        return best[1:] if best else None


def parse(text: str, path: Path) -> Entries:
    """The file at `path`, whose text this is.

    Raises:
        ConfigInvalid: not JSON (or the YAML of a secret), of another shape, or with a key that fits too much.
    """
    dialect = _dialect(path)
    document = _document(text)
    if not isinstance(document, dict):
        raise _wrong(path, "is not a JSON object; name a docker config.json, an auth.json or a secret")
    if document.get("kind") == "Secret":
        document, dialect = _unwrapped(document, path), "kubernetes"
    if _is_old(document):
        document = {"auths": document}
    auths = _object(document, "auths", path)
    helpers = _object(document, "credHelpers", path)
    store = document.get("credsStore") or ""
    if not isinstance(store, str) or not all(isinstance(name, str) for name in helpers.values()):
        raise _wrong(path, "names a credential helper by something that is no text; correct it")
    return Entries(
        dialect,
        tuple(_entries(auths, dialect, path)),
        {canonical_host(host.lower()): name for host, name in helpers.items()},
        "" if dialect == "containers" else store,  # containers-auth.json(5) knows no credsStore
    )


def read_entry(entry: Mapping[str, Any], key: str, path: Path) -> Credential | None:
    """The login of one entry; None for an empty one, which means that a helper has it.

    Raises:
        ConfigInvalid: a value of it cannot be what it says.
    """
    text = {name: entry.get(name) or "" for name in _ENTRY}
    if not all(isinstance(value, str) for value in text.values()):
        raise _wrong(path, f"has a value of another kind than text below {key}; correct it")
    username, password = text["username"], text["password"]
    if text["auth"]:
        username, password = _split(text["auth"], key, path)
    if ":" in username:
        raise _wrong(path, f"has a user name with a colon below {key}, which cannot be sent (RFC 7617)")
    if not _fits_a_header(text["registrytoken"]):
        raise _wrong(path, f"has a registrytoken that no header can carry below {key}; log in again")
    if not all(map(is_text, (username, password, *text.values()))):
        raise _wrong(path, f"has something that is no text below {key}; log in again")
    if not (password or text["identitytoken"] or text["registrytoken"]):
        return None
    return Credential(username, password, text["identitytoken"], text["registrytoken"])


_ENTRY: Final = ("auth", "username", "password", "identitytoken", "registrytoken")


def _dialect(path: Path) -> Dialect:
    if path.name == "auth.json":
        return "containers"
    return "kubernetes" if path.name.endswith("dockerconfigjson") else "docker"


def _document(text: str) -> Any:
    """JSON, else YAML, else None. A parser's own error quotes the text, so it never leaves this function."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    if text.lstrip()[:1] not in {"{", "["}:
        import yaml  # noqa: PLC0415 - only manifests need it

        with contextlib.suppress(ValueError, RecursionError, yaml.YAMLError):
            return yaml.safe_load(text)
    return None


def _unwrapped(secret: Mapping[Any, Any], path: Path) -> dict[str, Any]:
    """The docker config inside a manifest of kind Secret."""
    for key, wrapped in _SECRET_KEYS.items():
        text: Any = _object(secret, "stringData", path).get(key)
        encoded = _object(secret, "data", path).get(key)
        if text is None and isinstance(encoded, str):
            with contextlib.suppress(ValueError):
                text = base64.b64decode("".join(encoded.split()), validate=True).decode()
        if isinstance(text, str):
            document = _document(text)
            if not isinstance(document, dict):
                raise _wrong(path, f"has no docker config below {key}; make the secret anew")
            return document if wrapped else {"auths": document}
    raise _wrong(path, "is a secret without .dockerconfigjson or .dockercfg; name one made for registries")


def _is_old(document: Mapping[Any, Any]) -> bool:
    """`.dockercfg`: hosts at the top, each with an object that holds a login."""
    return bool(document) and all(
        isinstance(value, dict) and not set(_ENTRY).isdisjoint(value) for value in document.values()
    )


def _entries(
    auths: Mapping[str, Any], dialect: Dialect, path: Path
) -> Iterator[tuple[Key, str, Mapping[str, Any]]]:
    for text, entry in auths.items():
        if not isinstance(entry, dict):
            raise _wrong(path, f"has something else than an object below {text}; correct it")
        reason = ""
        try:
            key = read_key(text, dialect)
        except ValueError as error:
            reason = str(error)
        if reason:
            raise _wrong(path, f"has the key {text}: {reason}")
        if key is not None:
            yield key, text, entry


def _object(document: Mapping[Any, Any], name: str, path: Path) -> dict[str, Any]:
    found = document.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise _wrong(path, f"has something else than an object as {name}; correct it")
    return found


def _split(auth: str, key: str, path: Path) -> tuple[str, str]:
    """user and password of base64 `user:password`; the password may hold colons, docker pads with NULs."""
    plain: str | None = None
    with contextlib.suppress(ValueError):
        plain = base64.b64decode(auth, validate=True).decode()
    username, colon, password = (plain or "").partition(":")
    if plain is None or not colon:
        raise _wrong(path, f"has an auth below {key} that is not base64 of user:password; log in again")
    return username.strip("\0"), password.strip("\0")


def _fits_a_header(value: str) -> bool:
    return value.isascii() and (value.isprintable() and " " not in value)


def _wrong(path: Path, what: str) -> ConfigInvalid:
    return ConfigInvalid(f"{path} {what}", field=SETTING, phase=PHASE)
