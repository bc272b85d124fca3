"""The ways to log in that the settings describe, made from plain values; part of the composition root.

A table of `registries.toml` becomes one `Way`; files named in the settings become sources of logins. A
service reads only what its operator named and runs only helpers whose names were allowed; a local run acts
for the user whose machine this is, so it reads that user's own files, in the order of
containers-auth.json(5), and runs the helpers they name. Providers that no table uses are not imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from distworker.errors import ConfigInvalid
from distworker.registry.addresses import AddressPolicy
from distworker.registry.credentials import Login, LoginFile, Way
from distworker.registry.logins.authfile import AuthFile
from distworker.registry.logins.helpers import Helpers
from distworker.registry.logins.wire import Wire, metadata_wire
from distworker.settings import Settings
from distworker.settings_registry import RegistrySettings

#: All that a helper sees of the environment: where programs and its own files are.
HELPER_VARIABLES: Final = ("HOME", "PATH")
#: What the keychains of a desktop need besides.
DESKTOP_VARIABLES: Final = ("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "GNUPGHOME", "PASSWORD_STORE_DIR")


def way(host: str, table: RegistrySettings, policy: AddressPolicy, agent: str) -> Way:
    """How to log in to `host`, as its table says; `agent` is how we call ourselves to a provider.

    Raises:
        ConfigInvalid: a variable is not set, or this way is not one for this host.
    """
    if table.login == "ecr":
        return _ecr(host, table)
    if table.login == "google":
        return _google(host, table, policy, agent)
    if table.login == "acr":
        return _acr(host, table, policy, agent)
    pair = _pair(host, table)
    if table.login == "github":
        from distworker.registry.logins.github import github  # noqa: PLC0415 - see the module text

        return github(pair)
    return pair


def aws_clients(
    tables: Mapping[str, RegistrySettings], ways: Mapping[str, Way]
) -> dict[str, Callable[[str], Any]]:
    """By host: what makes AWS's client for it, as the account that logs in there."""
    hosts = [host for host, table in tables.items() if table.login == "ecr"]
    if not hosts:
        return {}
    from distworker.registry.logins.ecr import EcrLogin  # noqa: PLC0415 - it brings boto3

    return {host: found.api for host in hosts if isinstance(found := ways[host], EcrLogin)}


def files(settings: Settings, *, local: bool) -> list[LoginFile]:
    """The files of logins, in order; `local`: the user's own if the settings name none."""
    if settings.login_files or not local:
        helpers = Helpers(settings.credential_helpers, _environment(HELPER_VARIABLES))
        return [AuthFile(file, helpers) for file in settings.login_files]
    helpers = Helpers(None, _environment(HELPER_VARIABLES + DESKTOP_VARIABLES))
    return [AuthFile(file, helpers) for file in user_files()]


def user_files() -> Iterator[Path]:
    """Where the tools of whoever runs this keep their logins."""
    named, runtime = os.environ.get("REGISTRY_AUTH_FILE"), os.environ.get("XDG_RUNTIME_DIR")
    if named:
        yield Path(named)
    else:
        if runtime:
            yield Path(runtime) / "containers/auth.json"
        yield Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "containers/auth.json"
    yield Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    yield Path.home() / ".dockercfg"


def _ecr(host: str, table: RegistrySettings) -> Way:
    from distworker.registry.logins.ecr import Account, EcrLogin  # noqa: PLC0415 - it brings boto3

    keys = _pair(host, table) if table.has_user else None
    account = Account(keys, table.profile, table.role)
    return EcrLogin((host,), account, ca_file=table.ca_file, proxy=table.proxy)


def _google(host: str, table: RegistrySettings, policy: AddressPolicy, agent: str) -> Way:
    from distworker.registry.logins.google import METADATA_URL, GoogleLogin  # noqa: PLC0415 - cryptography

    metadata = metadata_wire(host, agent, METADATA_URL)
    send = _wire(host, table, policy, agent)
    return GoogleLogin((host,), send, metadata, key_file=table.key_file, username=table.username)


def _acr(host: str, table: RegistrySettings, policy: AddressPolicy, agent: str) -> Way:
    from distworker.registry.logins.acr import AcrLogin, Application  # noqa: PLC0415 - see the module text

    application = Application(table.tenant, _pair(host, table), table.token_file)
    return AcrLogin((host,), _wire(host, table, policy, agent), application)


def _wire(host: str, table: RegistrySettings, policy: AddressPolicy, agent: str) -> Wire:
    return Wire(host, agent, policy=policy, ca_file=table.ca_file, proxy=table.proxy)


def _pair(host: str, table: RegistrySettings) -> Login:
    """User and password; those that stand in files are read when they are used."""
    username = _variable(host, "username_env", table.username_env) or table.username
    password = _variable(host, "password_env", table.password_variable) or table.password.get_secret_value()
    return Login((host,), username, password, table.password_file, username_file=table.username_file)


def _variable(host: str, key: str, name: str) -> str:
    value = os.environ.get(name, "") if name else ""
    if name and not value:
        raise ConfigInvalid(
            f"registries.toml: [{host}] {key}: the variable {name} is not set", field=key, registry=host
        )
    return value


def _environment(names: tuple[str, ...]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}
