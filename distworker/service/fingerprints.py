"""Short marks by which processes compare what they must share, without showing it.

Workers publish them with their presence; `doctor` compares them with its own. Keyed with the store's secret
(or the Redis URL where there is none), so that a reader of Redis cannot try values against them, and
stretched, because a password may be short. They are equal exactly when the values are; nothing else can be
learned from them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from distworker.settings import Config
from distworker.settings_registry import RegistrySettings

#: What each mark covers, in words for the operator.
MEANING: Final[Mapping[str, str]] = {
    "key": "the store's secret key (or the Redis URL where the store has none)",
    "redis": "redis_url, broker_url and redis_prefix",
    "store": "the [store] settings",
    "registries": "registries.toml and the files of certs_dirs, hosts_dirs and registries_conf",
    "credentials": "the registries' passwords and keys, auth_files and credential_helpers",
}

# About 10 ms of CPU for each mark: nothing at a worker's start, much for a guesser.
_ROUNDS: Final = 20_000
_LENGTH: Final = 12
#: Secrets of a registry's table, and where they and other files lie.
_PLACES: Final = {
    *("username_file", "username_env", "password", "password_file", "password_env"),
    *("key_file", "token_file", "ca_file", "client_cert", "client_key"),
}


def fingerprints(config: Config) -> dict[str, str]:
    """The marks of this process's settings; files that cannot be read count as absent."""
    settings = config.settings
    store = settings.store.model_dump(exclude={"secret_key"})
    secret = settings.store.secret_key.get_secret_value()
    key = hashlib.sha256(f"distworker {secret or settings.redis_url}".encode()).digest()
    tables = {host: _public(table) for host, table in config.registries.items()}
    logins = {host: _secret(table) for host, table in config.registries.items() if table.has_login}
    files = [hashlib.sha256(_file(file)).hexdigest() for file in settings.login_files]
    return {
        "key": _mark(key, "key", ""),
        "redis": _mark(key, "redis", [settings.redis_url, settings.broker, settings.redis_prefix]),
        "store": _mark(key, "store", [store, secret]),
        "registries": _mark(key, "registries", [tables, _host_files(config)]),
        "credentials": _mark(key, "credentials", [logins, files, settings.credential_helpers]),
    }


def differing(ours: Mapping[str, str], theirs: Mapping[str, Any]) -> list[str]:
    """Names of the marks that differ; only `key` when that one differs, since it decides all others."""
    found = [name for name in MEANING if ours.get(name) != theirs.get(name)]
    return ["key"] if "key" in found else found


def _mark(key: bytes, name: str, value: Any) -> str:
    text = json.dumps([name, value], sort_keys=True).encode()
    stretched = hashlib.pbkdf2_hmac("sha256", text, key, _ROUNDS)
    return hmac.new(key, stretched, hashlib.sha256).hexdigest()[:_LENGTH]


def _public(table: RegistrySettings) -> dict[str, Any]:
    """All but the secrets, and not where they lie: machines may keep the same password in other places."""
    # A machine may have a client certificate of its own; that it has one is what all need the same.
    return table.model_dump(exclude=_PLACES) | {
        "ca_file": hashlib.sha256(_file(table.ca_file)).hexdigest(),
        "client_cert": bool(table.client_cert),
    }


def _host_files(config: Config) -> list[list[str]]:
    """What the files of other tools say, folder by folder; not the certificates that machines may have of
    their own."""
    settings = config.settings
    conf = settings.registries_conf
    groups: list[Iterable[Path]] = [
        Path(root).glob("*/*.crt") for root in (*settings.certs_dirs, *settings.hosts_dirs)
    ]
    groups += [Path(root).glob("*/hosts.toml") for root in settings.hosts_dirs]
    groups += [[Path(conf)], Path(f"{conf}.d").glob("*.conf")] if conf else []
    files = [path for group in groups for path in sorted(group)]
    return [
        [f"{path.parent.name}/{path.name}", hashlib.sha256(_file(str(path))).hexdigest()] for path in files
    ]


def _secret(table: RegistrySettings) -> list[str]:
    """Not the token of a federated workload: each machine is given its own."""
    key = hashlib.sha256(_file(table.key_file)).hexdigest()
    return [table.read_username(), table.read_password(), key]


def _file(path: str) -> bytes:
    try:
        return Path(path).read_bytes() if path else b""
    except OSError:
        return b""
