"""What operators tune, where each value came from, and what is wrong with it when something is.

Looked up in `--config`, `$DISTWORKER_CONFIG`, `./config/`, the user's config folder and `/etc/distworker`:
the first `distworker.toml` found is read, `DISTWORKER_*` variables go on top (`store.bucket` is
`DISTWORKER_STORE_BUCKET`). `registries.toml` is looked up in the same places, or is the file that the setting
`registries` names. A wrong or unknown key raises `ConfigInvalid` naming the file or variable, the key and the
remedy. Protocol limits are not settings (`limits.py`). Values never reach a log: secrets are `SecretStr`,
URLs are masked by `shown`. Only `service/wiring.py` with its `adapters.py`, the faces and the Celery app read
this module; everything below takes plain values. What the tables of `distworker.toml` hold is
`settings_sections.py`, what `registries.toml` may say of one host is `settings_registry.py`.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from distworker.errors import ConfigInvalid, InvalidReference
from distworker.reference import parse_host
from distworker.settings_registry import REGISTRY_PATHS, RegistrySettings, with_port
from distworker.settings_sections import CareSettings, LogSettings, StoreSettings, UpkeepSettings
from distworker.state.address import Access, is_redis, parse_address

ENV_PREFIX: Final = "DISTWORKER_"
#: Names `--config`'s file from the environment; not a setting itself.
ENV_CONFIG: Final = "DISTWORKER_CONFIG"
#: Variables that other parts read for themselves: the dashboard's settings file, the demo, `make live`.
ENV_OTHERS: Final = ("DISTWORKER_FLOWER_", "DISTWORKER_DEMO_", "DISTWORKER_SWIFT_", "DISTWORKER_LIVE_")
FILE: Final = "distworker.toml"
REGISTRIES_FILE: Final = "registries.toml"
SYSTEM_FOLDER: Final = Path("/etc/distworker")
DEFAULT: Final = "default"

_MIB: Final = 1024 * 1024
_SECRET_MIN: Final = 16
#: Keys whose value is a path: relative ones in a file count from that file's folder.
_PATHS: Final = (
    *("registries", "docker_config", "auth_files", "certs_dirs", "hosts_dirs", "registries_conf"),
    *("redis_ca_file", "redis_client_cert", "redis_client_key"),
    *("store.folder", *REGISTRY_PATHS),
)


def _redis(value: str) -> str:
    parse_address(value)
    return value


def _broker(value: str) -> str:
    if not value or urlsplit(value).scheme in {"amqp", "amqps", "pyamqp"}:
        if urlsplit(value).query:
            raise ValueError("its URL takes no options; certificates are always checked")
        return with_port(value)
    if not is_redis(value):
        raise ValueError("expected a URL such as redis://host:6379/0 or amqp://host//")
    return _redis(value)


def _hard_to_guess(value: SecretStr) -> SecretStr:
    if 0 < len(value.get_secret_value()) < _SECRET_MIN:
        raise ValueError(f"too short to keep anything secret; give at least {_SECRET_MIN} random characters")
    return value


#: Several values; in a variable they stand between commas or spaces, or as a JSON list.
Listed = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Everything an operator may tune. Get one from `load`; making one by hand takes values as they are."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
    )

    redis_url: Annotated[str, AfterValidator(_redis)] = Field(default="redis://127.0.0.1:6379/1", repr=False)
    redis_ca_file: str = ""
    redis_client_cert: str = ""
    redis_client_key: str = ""
    redis_sentinel_user: str = ""
    redis_sentinel_password: SecretStr = SecretStr("")
    redis_prefix: str = Field(default="distworker", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")
    broker_url: Annotated[str, AfterValidator(_broker)] = Field(default="", repr=False)
    slots: int = Field(default=4, ge=1, le=128)
    window: int = Field(default=200, ge=1, le=10_000)
    # S3 takes parts of 5 MiB to 5 GiB; a worker holds about two parts for each slot in memory.
    part_size: ByteSize = Field(default=ByteSize(8 * _MIB), ge=5 * _MIB, le=512 * _MIB)
    token_secret: Annotated[SecretStr, AfterValidator(_hard_to_guess)] = SecretStr("")
    docker_config: str = ""
    auth_files: Listed = ()
    credential_helpers: Listed = ()
    registries: str = ""
    allow_hosts: Listed = ()
    certs_dirs: Listed = ()
    hosts_dirs: Listed = ()
    registries_conf: str = ""
    store: StoreSettings = StoreSettings()
    log: LogSettings = LogSettings()
    upkeep: UpkeepSettings = UpkeepSettings()
    care: CareSettings = CareSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`load` joins the sources itself, because it keeps each value's origin."""
        return (init_settings,)

    @property
    def redis_access(self) -> Access:
        """What is needed besides `redis_url`, and besides `broker_url` where that is a Redis."""
        return Access(
            ca_file=self.redis_ca_file,
            client_cert=self.redis_client_cert,
            client_key=self.redis_client_key,
            sentinel_user=self.redis_sentinel_user,
            sentinel_password=self.redis_sentinel_password.get_secret_value(),
        )

    @property
    def login_files(self) -> tuple[str, ...]:
        """The files of logins to look into, in order."""
        return (self.docker_config, *self.auth_files) if self.docker_config else self.auth_files

    @property
    def broker(self) -> str:
        """The broker's URL: `broker_url`, or the ledger's own database.

        Never a neighbouring one by itself: two fleets in databases of their own would meet in it, and the
        workers of one would take the messages of the other.
        """
        if self.broker_url:
            return self.broker_url
        parts = urlsplit(self.redis_url)
        if parts.scheme == "unix":
            database = parse_qs(parts.query).get("db", ["0"])[0]
            return f"redis+socket://{parts.path}?virtual_host={database}"
        return self.redis_url


_LISTS: Final = tuple(
    name for name, each in Settings.model_fields.items() if each.annotation == tuple[str, ...]
)
#: What is said of a key that stands in the wrong one of the two files.
_ELSEWHERE: Final[Mapping[type[BaseModel], Mapping[str, str]]] = {
    Settings: dict.fromkeys(
        RegistrySettings.model_fields,
        f'belongs into {REGISTRIES_FILE}, below the registry it is for, such as ["registry.example.com"]',
    ),
    RegistrySettings: dict.fromkeys(Settings.model_fields, f"belongs into {FILE}, above its tables"),
}


@dataclass(frozen=True, slots=True)
class Config:
    """Settings with their story.

    `origins`: dotted key → `default`, a file's path, or `environment NAME`. `files`: what was read.
    `looked`: where files were looked for, in order. `unknown`: `DISTWORKER_*` variables that no setting reads
    (a warning only: Kubernetes adds such variables by itself for a Service of that name).
    """

    settings: Settings
    registries: Mapping[str, RegistrySettings]
    origins: Mapping[str, str]
    files: tuple[Path, ...] = ()
    looked: tuple[Path, ...] = ()
    unknown: tuple[str, ...] = field(default=())

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """`(key, value, origin)` of each setting for people, secrets masked."""
        for key, value in _flat(self.settings.model_dump()):
            text = "***" if value and key.endswith("_key") else shown(value)
            yield key, text, self.origins.get(key, DEFAULT)


def load(config: str | Path | None = None) -> Config:
    """Read the settings files and the environment; `config` is the operator's `--config`.

    Raises:
        ConfigInvalid: a named file is missing, or a file or variable is unreadable, unknown or has a bad
        value.
    """
    looked = _candidates(config)
    path = _find(looked, FILE, required=config is not None or bool(os.environ.get(ENV_CONFIG)))
    values, origins = _merged(path)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise _invalid(error, origins, Settings, path) from None
    registries_path = _registries_path(settings, looked, origins)
    return Config(
        settings=settings,
        registries=_registries(registries_path) if registries_path else {},
        origins=origins,
        files=tuple(p for p in (path, registries_path) if p),
        looked=tuple(looked),
        unknown=_unknown_variables(),
    )


def shown(value: object) -> str:
    """`value` for people: secrets become `***`, so does whatever stands before the `@` of a URL."""
    if isinstance(value, SecretStr):
        return "***" if value.get_secret_value() else ""
    if isinstance(value, tuple):
        return ", ".join(shown(one) for one in value)
    return re.sub(r"(?<=://)[^/@\s]+(?=@)", "***", str(value))


def _candidates(config: str | Path | None) -> list[Path]:
    named = config or os.environ.get(ENV_CONFIG)
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    user = Path(home).expanduser() / "distworker"
    return [*([Path(named).expanduser()] if named else []), Path("config"), user, SYSTEM_FOLDER]


def _find(looked: Sequence[Path], name: str, *, required: bool) -> Path | None:
    for number, place in enumerate(looked):
        path = place / name if place.is_dir() or place.suffix != ".toml" else place
        if required and number == 0:
            if not path.is_file():
                raise ConfigInvalid(f"{path}: no such settings file; check --config or ${ENV_CONFIG}")
            return path
        if path.is_file():
            return path
    return None


def _registries_path(settings: Settings, looked: Sequence[Path], origins: Mapping[str, str]) -> Path | None:
    if settings.registries:
        path = Path(settings.registries)
        if not path.is_file():
            where = origins["registries"]
            raise ConfigInvalid(f"{where}: registries: no such file: {path}", field="registries")
        return path
    folders = [place.parent if place.suffix == ".toml" else place for place in looked]
    return _find(folders, REGISTRIES_FILE, required=False)


def _merged(path: Path | None) -> tuple[dict[str, Any], dict[str, str]]:
    values = _read(path) if path else {}
    origins = {key: str(path) for key, _ in _flat(values)}
    try:
        environment = EnvSettingsSource(Settings)()
    except SettingsError as error:
        raise ConfigInvalid(f"environment: {error}; sections take one variable for each key") from None
    for key, given in _flat(environment):
        value = _several(key, given) if key in _LISTS else given
        section, _, name = key.rpartition(".")
        target = values.setdefault(section, {}) if section else values
        if isinstance(target, dict):
            target[name] = _expanded(key, value, Path())
            origins[key] = f"environment {_variable(key)}"
    return values, origins


def _several(key: str, text: str) -> list[str]:
    """The values in a variable: `a,b`, `a b` or `["a", "b"]`. An address such as `[::1]:443` is no JSON."""
    if not text.lstrip().startswith("[") or (text.strip() != "[]" and '"' not in text):
        return re.split(r"[,\s]+", text.strip(", \t\r\n")) if text.strip(", \t\r\n") else []
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ConfigInvalid(
            f"environment {_variable(key)}: {key}: not a JSON list of texts; write values between commas",
            field=key,
        )
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigInvalid(f"{path}: not valid TOML: {error}") from None
    folder = path.parent
    return {
        key: {name: _expanded(f"{key}.{name}", inner, folder) for name, inner in value.items()}
        if isinstance(value, dict)
        else _expanded(key, value, folder)
        for key, value in raw.items()
    }


def _expanded(key: str, value: Any, folder: Path) -> Any:
    is_path = key in _PATHS or key.rpartition(".")[2] in _PATHS
    if is_path and isinstance(value, list | tuple):
        return [_expanded(key, one, folder) for one in value]
    if not (is_path and isinstance(value, str) and value):
        return value
    return str(folder / Path(value).expanduser())


def _registries(path: Path) -> dict[str, RegistrySettings]:
    found: dict[str, RegistrySettings] = {}
    for name, table in _read(path).items():
        if not isinstance(table, dict):
            raise ConfigInvalid(
                f'{path}: {name}: keys belong into a table per registry, such as ["registry.example.com"]',
                field=name,
            )
        try:
            host = parse_host(name)
        except InvalidReference as error:
            raise ConfigInvalid(f"{path}: [{name}]: {error.message}", field=name) from None
        if host in found:
            raise ConfigInvalid(f"{path}: [{name}]: {host} is there twice; keep one table", field=name)
        try:
            found[host] = RegistrySettings(**table)
        except ValidationError as error:
            raise _invalid(error, {}, RegistrySettings, path, prefix=f"[{name}] ") from None
    return found


def _invalid(
    error: ValidationError,
    origins: Mapping[str, str],
    model: type[BaseModel],
    path: Path | None,
    prefix: str = "",
) -> ConfigInvalid:
    """The first fault of `error` as a sentence: where, which key, what to do."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    below = [origin for name, origin in origins.items() if name == key or name.startswith(f"{key}.")]
    where = below[0] if below else str(path or "settings")
    if first["type"] == "extra_forbidden" and key in _ELSEWHERE.get(model, {}):
        text = _ELSEWHERE[model][key]
    elif first["type"] == "extra_forbidden":
        known = [name for name, _ in _flat(model.model_construct().model_dump())]
        close = difflib.get_close_matches(key, known, n=1)
        text = "unknown key; " + (f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}")
    elif first["type"] == "tuple_type":
        text = 'should be a list, such as ["one", "two"]'
    else:
        text = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
    return ConfigInvalid(f"{where}: {prefix}{key + ': ' if key else ''}{text}", field=key or None)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _variable(key: str) -> str:
    return ENV_PREFIX + key.upper().replace(".", "_")


def _unknown_variables() -> tuple[str, ...]:
    defaults = Settings.model_construct()
    known = {_variable(key) for key, _ in _flat(defaults.model_dump())} | {ENV_CONFIG}
    known |= {_variable(key) for key, value in defaults if isinstance(value, BaseModel)}
    ours = (name for name in os.environ if name.upper().startswith(ENV_PREFIX))
    return tuple(
        sorted(name for name in ours if name.upper() not in known and not name.upper().startswith(ENV_OTHERS))
    )
