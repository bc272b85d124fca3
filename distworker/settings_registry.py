"""What `registries.toml` may say of one host, checked as a whole.

One model for one table, and what the other models of `settings.py` share with it: `Strict`, which refuses
unknown keys, and the checks of URLs. Reading the file, the environment and naming what is wrong stay in
`settings.py`; this module opens nothing but the file that holds a password.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ByteSize, ConfigDict, Field, SecretStr, model_validator

from distworker.errors import InvalidReference
from distworker.limits import MANIFEST_MAX_PULL
from distworker.reference import parse_host
from distworker.registry.providers import ROWS
from distworker.registry.quirks import CreateFirst, ListAPI, MountMode, UploadMode

#: Keys of a table whose value is a path: relative ones count from the file's folder.
REGISTRY_PATHS: Final = ("ca_file", "password_file")


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
    expired_is_403: bool | None = None
    token_lifetime: int | None = Field(default=None, ge=0, le=30 * 86_400)
    create_first: CreateFirst | None = None
    path_parts_max: int | None = Field(default=None, ge=0, le=127)


class RegistrySettings(Strict):
    """What `registries.toml` says of one host. The password comes from one of three places."""

    plain_http: bool = False
    private: bool = False
    ca_file: str = ""
    proxy: Annotated[str, AfterValidator(proxy_url)] = Field(default="", repr=False)
    max_concurrency: int | None = Field(default=None, ge=1, le=10_000)
    upload_mode: UploadMode = "auto"
    token_realms: tuple[str, ...] = ()
    username: str = ""
    password: SecretStr = SecretStr("")
    password_file: str = ""
    password_env: str = ""
    provider: Annotated[str, AfterValidator(row_of_the_table)] = ""
    quirks: QuirkSettings = QuirkSettings()

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        ways = [bool(self.password.get_secret_value()), bool(self.password_file), bool(self.password_env)]
        if sum(ways) > 1:
            raise ValueError("give one of password, password_file and password_env")
        if any(ways) != bool(self.username):
            raise ValueError(
                "a username needs one of password, password_file and password_env, and they need it"
            )
        if self.plain_http and self.ca_file:
            raise ValueError("plain_http has no certificate to check: drop plain_http or ca_file")
        return self

    @property
    def stated(self) -> dict[str, Any]:
        """What the operator wrote of `Quirks`, by its names."""
        said = {name: value for name, value in self.quirks if value is not None}
        if "upload_mode" in self.model_fields_set:
            said["upload_mode"] = self.upload_mode
        return said

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
