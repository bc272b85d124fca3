"""What `registries.toml` may say of one host, checked as a whole.

One model for one table, and what the other models of `settings.py` share with it: `Strict`, which refuses
unknown keys, and the checks of URLs. Reading the file, the environment and naming what is wrong stay in
`settings.py`; this module opens nothing but the file that holds a password.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from distworker.errors import InvalidReference
from distworker.reference import parse_host, parse_repository

#: Keys of a table whose value is a path: relative ones count from the file's folder.
REGISTRY_PATHS: Final = ("ca_file", "client_cert", "client_key", "password_file")


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


class Strict(BaseModel):
    """Settings that refuse what they do not know and never quote what they were given."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class RegistrySettings(Strict):
    """What `registries.toml` says of one host. The password comes from one of three places."""

    plain_http: bool = False
    private: bool = False
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""
    mirrors: tuple[Annotated[str, AfterValidator(mirror_place)], ...] = ()
    mirror_tags: bool = False
    proxy: Annotated[str, AfterValidator(proxy_url)] = Field(default="", repr=False)
    max_concurrency: int | None = Field(default=None, ge=1, le=10_000)
    upload_mode: Literal["auto", "monolithic", "patch"] = "auto"
    token_realms: tuple[str, ...] = ()
    username: str = ""
    password: SecretStr = SecretStr("")
    password_file: str = ""
    password_env: str = ""

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        ways = [bool(self.password.get_secret_value()), bool(self.password_file), bool(self.password_env)]
        if sum(ways) > 1:
            raise ValueError("give one of password, password_file and password_env")
        if any(ways) != bool(self.username):
            raise ValueError(
                "a username needs one of password, password_file and password_env, and they need it"
            )
        return self

    @model_validator(mode="after")
    def _certificates(self) -> Self:
        if self.plain_http and (self.ca_file or self.client_cert):
            name = "ca_file" if self.ca_file else "client_cert"
            raise ValueError(f"plain_http has no certificate to check: drop plain_http or {name}")
        if self.client_key and not self.client_cert:
            raise ValueError("client_key belongs to a certificate: give client_cert too")
        return self

    def read_password(self) -> str:
        """The password from whichever place holds it, "" when that is empty or missing."""
        if self.password_env:
            return os.environ.get(self.password_env, "")
        if self.password_file:
            try:
                return Path(self.password_file).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError):
                return ""
        return self.password.get_secret_value()
