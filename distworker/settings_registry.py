"""What `registries.toml` may say of one host, checked as a whole.

One model for one table, and what the other models of `settings.py` share with it: `Strict`, which refuses
unknown keys, and the checks of URLs. Reading the file, the environment and naming what is wrong stay in
`settings.py`; this module opens nothing but the files that hold a user or a password.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ByteSize, ConfigDict, Field, SecretStr, model_validator

from distworker.errors import InvalidReference
from distworker.limits import MANIFEST_MAX_PULL
from distworker.reference import parse_host, parse_repository
from distworker.registry.providers import ROWS
from distworker.registry.quirks import CreateFirst, ListAPI, MountMode, UploadMode

#: Keys of a table whose value is a path: relative ones count from the file's folder.
REGISTRY_PATHS: Final = (
    *("ca_file", "client_cert", "client_key"),
    *("username_file", "password_file", "key_file", "token_file"),
)
#: The variable in which GitHub's workflows keep their token.
GITHUB_VARIABLE: Final = "GITHUB_TOKEN"
#: Users under which Google takes a key file itself as the password.
GOOGLE_KEY_USERS: Final = ("_json_key", "_json_key_base64")
#: Keys that only some ways to log in know.
_OF_LOGIN: Final[Mapping[str, str]] = {
    "profile": "ecr",
    "role": "ecr",
    "key_file": "google",
    "tenant": "acr",
    "token_file": "acr",
}


def with_port(value: str) -> str:
    """`value`, a URL whose port is a number.

    Python's own words about a port would quote it, and it may be the end of a password with a slash.
    """
    try:
        _ = urlsplit(value).port
    except ValueError:
        raise ValueError("its port is no number from 0 to 65535; write / in a password as %2F") from None
    return value


def proxy_url(value: str) -> str:
    """`value`, the URL of an http or https proxy, or "" for none."""
    parts = urlsplit(with_port(value))
    if value and (parts.scheme not in {"http", "https"} or not parts.hostname):
        raise ValueError("expected a URL such as http://proxy.example.com:3128")
    return value


def mirror_place(value: str) -> str:
    """`value`, which names a mirror: `host[:port]`, and perhaps what stands there before repository names."""
    host, _, prefix = value.partition("/")
    try:
        parse_host(host)
        if prefix:
            parse_repository(prefix)
    except InvalidReference:
        raise ValueError("expected host[:port] or host[:port]/prefix, without a scheme") from None
    return value


def realm_host(value: str) -> str:
    """`value`, the `host[:port]` of a token server: whoever gets logins is named exactly."""
    try:
        parse_host(value)
    except InvalidReference:
        raise ValueError("expected host or host:port of a token server, without scheme and path") from None
    return value


class Strict(BaseModel):
    """Settings that refuse what they do not know and never quote what they were given."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def api_address(value: str) -> str:
    """`value`, a host or host:port, or "" for none."""
    if value:
        try:
            parse_host(value)
        except InvalidReference as error:
            raise ValueError(error.message) from None
    return value


def row_of_the_table(value: str) -> str:
    """`value`, the name of a row of the table of registries, or "" for the one that the host has."""
    if value and value not in ROWS:
        raise ValueError(f"should be one of {', '.join(ROWS)}")
    return value


Size = Annotated[ByteSize, Field(le=1 << 50)]


class QuirkSettings(Strict):
    """How one registry differs from the specification, where the table of registries is wrong about it.

    The names are those of `distworker.registry.quirks`, which says what they mean; what is not set stays as
    the table has it.
    """

    page_size: int | None = Field(default=None, ge=1, le=10_000)
    last_pagination: bool | None = None
    catalog: bool | None = None
    list_api: ListAPI | None = None
    api_host: Annotated[str, AfterValidator(api_address)] | None = None
    chunk_bytes: Annotated[Size, Field(ge=1 << 16)] | None = None
    monolithic_max: Size | None = None
    range_is_stale: bool | None = None
    upload_resumes: bool | None = None
    cancel_needs_delete: bool | None = None
    blob_max: Size | None = None
    manifest_max: Annotated[Size, Field(ge=1, le=MANIFEST_MAX_PULL)] | None = None
    mounts: MountMode | None = None
    mount_candidates: int | None = Field(default=None, ge=0, le=16)
    head_manifests: bool | None = None
    head_403_is_missing: bool | None = None
    blob_head_trusted: bool | None = None
    digest_header_trusted: bool | None = None
    tag_deletes: bool | None = None
    manifest_deletes: bool | None = None
    create_first: CreateFirst | None = None
    path_parts_max: int | None = Field(default=None, ge=0, le=127)


class RegistrySettings(Strict):
    """What `registries.toml` says of one host.

    User and password come from one of three places each. `login` says what they are: those of the registry
    (`plain`), or what a provider makes the registry's login from.
    """

    plain_http: bool = False
    private: bool = False
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""
    mirrors: tuple[Annotated[str, AfterValidator(mirror_place)], ...] = ()
    mirror_tags: bool = False
    proxy: Annotated[str, AfterValidator(proxy_url)] = Field(default="", repr=False)
    max_concurrency: int | None = Field(default=None, ge=1, le=10_000)
    upload_mode: UploadMode = "auto"
    token_realms: tuple[Annotated[str, AfterValidator(realm_host)], ...] = ()
    login: Literal["plain", "ecr", "google", "acr", "github"] = "plain"
    username: str = ""
    username_file: str = ""
    username_env: str = ""
    password: SecretStr = SecretStr("")
    password_file: str = ""
    password_env: str = ""
    profile: str = ""
    role: str = ""
    key_file: str = ""
    tenant: str = ""
    token_file: str = ""
    provider: Annotated[str, AfterValidator(row_of_the_table)] = ""
    quirks: QuirkSettings = QuirkSettings()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if sum(self._passwords) > 1:
            raise ValueError("give one of password, password_file and password_env")
        if sum(self._usernames) > 1:
            raise ValueError("give one of username, username_file and username_env")
        for key, login in _OF_LOGIN.items():
            if getattr(self, key) and self.login != login:
                raise ValueError(f'{key} belongs to login = "{login}"; drop one of the two')
        fault = self._login_fault()
        if fault:
            raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _certificates(self) -> Self:
        if self.plain_http and (self.ca_file or self.client_cert):
            name = "ca_file" if self.ca_file else "client_cert"
            raise ValueError(f"plain_http has no certificate to check: drop plain_http or {name}")
        if self.client_key and not self.client_cert:
            raise ValueError("client_key belongs to a certificate: give client_cert too")
        return self

    @property
    def has_user(self) -> bool:
        """Does it name a user?"""
        return any(self._usernames)

    @property
    def has_login(self) -> bool:
        """Does it say how to log in?"""
        return self.login != "plain" or self.has_user

    @property
    def password_variable(self) -> str:
        """The variable that holds the password, "" when it is kept elsewhere."""
        if self.login == "github" and not any(self._passwords):
            return GITHUB_VARIABLE
        return self.password_env

    def read_username(self) -> str:
        """The user from whichever place holds it, "" when that is empty or missing."""
        return _read(self.username_env, self.username_file) or self.username

    @property
    def stated(self) -> dict[str, Any]:
        """What the operator wrote of `Quirks`, by its names."""
        said = {name: value for name, value in self.quirks if value is not None}
        if "upload_mode" in self.model_fields_set:
            said["upload_mode"] = self.upload_mode
        return said

    def read_password(self) -> str:
        """The password from whichever place holds it, "" when that is empty or missing."""
        return _read(self.password_variable, self.password_file) or self.password.get_secret_value()

    @property
    def _usernames(self) -> tuple[bool, ...]:
        return bool(self.username), bool(self.username_file), bool(self.username_env)

    @property
    def _passwords(self) -> tuple[bool, ...]:
        return bool(self.password.get_secret_value()), bool(self.password_file), bool(self.password_env)

    def _login_fault(self) -> str:
        """What user and password lack for this way to log in."""
        user, password = self.has_user, any(self._passwords)
        if self.login in {"plain", "ecr"} and user != password:
            return "a username needs one of password, password_file and password_env, and they need it"
        if self.login == "ecr" and user and self.profile:
            return "an access key (username and password) and a profile are two accounts; drop one"
        if self.login == "google" and (password or (user and self.username not in GOOGLE_KEY_USERS)):
            return f"google takes a key_file, and as username at most {' or '.join(GOOGLE_KEY_USERS)}"
        if self.login == "google" and user and not self.key_file:
            return f"username {self.username} needs key_file"
        if self.login == "acr" and not (self.tenant and user and (password != bool(self.token_file))):
            return (
                "acr needs tenant, username (the application's id) and one of password, password_file, "
                'password_env and token_file; an admin account needs no login = "acr"'
            )
        return ""


def _read(variable: str, file: str) -> str:
    if variable:
        return os.environ.get(variable, "")
    if not file:
        return ""
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        return ""
