"""The tables of `distworker.toml`: what each holds, and its defaults. Read by `settings.py` alone."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ByteSize, Field, SecretStr

from distworker.settings_registry import Strict, proxy_url, with_port


class StoreSettings(Strict):
    """Where blobs are kept: an S3 bucket, or a folder that all workers see."""

    kind: Literal["s3", "local"] = "s3"
    endpoint: Annotated[str, AfterValidator(with_port)] = ""
    bucket: str = ""
    prefix: str = ""
    region: str = "us-east-1"
    access_key: str = ""
    secret_key: SecretStr = SecretStr("")
    path_style: bool = True
    unsigned_payload: bool = True
    ca_file: str = ""
    proxy: Annotated[str, AfterValidator(proxy_url)] = Field(default="", repr=False)
    folder: str = ""


class LogSettings(Strict):
    """How the log on stderr looks."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


class UpkeepSettings(Strict):
    """Seconds from one round of each sweep to the next; 0: never by itself."""

    leftovers: int = Field(default=600, ge=0)
    reports: int = Field(default=30, ge=0)
    lost_jobs: int = Field(default=300, ge=0)
    gc: int = Field(default=0, ge=0)
    scrub: int = Field(default=0, ge=0)
    retention: int = Field(default=86_400, ge=0)


class CareSettings(Strict):
    """What is kept in the store and for how long: seconds of grace before an unused blob is deleted, days for
    records; and bytes a second that scrubbing may read."""

    gc_grace: int = Field(default=86_400, ge=86_400)
    keep_jobs: int = Field(default=90, ge=0)
    keep_quarantine: int = Field(default=30, ge=0)
    scrub_rate: ByteSize = Field(default=ByteSize(50_000_000), ge=0)
