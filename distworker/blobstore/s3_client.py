"""The S3 client of the library, made from our options alone.

Nothing of the machine leaks in once keys are given: no AWS_* variable, profile, proxy or CA variable;
everything is a constructor value.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import Any

import boto3
import botocore.configprovider
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader

from distworker.blobstore.parts import PART_SIZE
from distworker.blobstore.s3_model import LeanLoader
from distworker.errors import ConfigInvalid

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class S3Options:
    """Where the bucket is and how to talk to it; plain values, secrets hidden from `repr`.

    `endpoint` empty means Amazon's own for `region`. Without `access_key` the machine's own credentials are
    used (instance role, AWS_* variables, profile). `prefix` goes before every key. `verify` is True or a file
    of CA certificates; `proxy` a URL or "". `connections` should be at least twice the slots of a worker. A
    writer of a large blob holds one part in memory, and a second one, which it fills while the first is sent,
    as long as the process holds no more than `buffers` parts. Times are in seconds, sizes in bytes;
    `attempts` counts the first try.
    """

    bucket: str
    endpoint: str = ""
    region: str = "us-east-1"
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    prefix: str = ""
    path_style: bool = True
    sign_payload: bool = False
    verify: bool | str = True
    proxy: str = field(default="", repr=False)
    part_size: int = PART_SIZE
    buffers: int = 4
    connections: int = 32
    attempts: int = 3
    connect_timeout: float = 10.0
    read_timeout: float = 60.0


def make_client(options: S3Options) -> Any:
    """A client for these options, made from as little of the library's data as it needs."""
    lean = LeanLoader()
    try:
        return _client(options, lean)
    except (LookupError, TypeError, AttributeError) as error:
        # A release of the library that wants more of its data than we leave it: 9 MiB more, and it works.
        log.info("the S3 client is made from the library's whole description: %s", type(error).__name__)
        return _client(options, Loader())
    finally:
        lean.forget()


def _client(options: S3Options, loader: Loader) -> Any:
    session = botocore.session.Session()
    session.register_component("data_loader", loader)
    if options.access_key:
        _isolate(session)
        session.set_credentials(options.access_key, options.secret_key, options.session_token or None)
    try:
        return boto3.Session(botocore_session=session).client(
            "s3",
            region_name=options.region,
            endpoint_url=options.endpoint or None,
            verify=options.verify,
            config=_config(options),
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigInvalid(
            "the store's endpoint or region is not a valid one; an endpoint reads http(s)://host[:port]"
        ) from error


def _isolate(session: Any) -> None:
    """Pins every session variable to its default, so that no AWS_* variable or profile file has a say."""
    values = session.get_component("config_store")
    for name, (_, _, default, _) in botocore.configprovider.BOTOCORE_DEFAUT_SESSION_VARIABLES.items():
        values.set_config_variable(name, default)
    values.set_config_variable("s3", None)
    values.set_config_variable("config_file", os.devnull)
    values.set_config_variable("credentials_file", os.devnull)


def _config(options: S3Options) -> Any:
    proxies = {"http": options.proxy, "https": options.proxy} if options.proxy else {}
    return Config(
        signature_version="s3v4",  # otherwise signed URLs come in the old form that few servers still take
        s3={
            "addressing_style": "path" if options.path_style else "auto",
            "payload_signing_enabled": options.sign_payload,
        },
        # The new defaults add a CRC trailer over https that Ceph 16 and older Swift answer with 411 or 501.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=options.connect_timeout,
        read_timeout=options.read_timeout,
        max_pool_connections=options.connections,
        retries={"mode": "standard", "total_max_attempts": options.attempts},
        proxies=proxies,
        defaults_mode="legacy",
        ignore_configured_endpoint_urls=True,
    )
