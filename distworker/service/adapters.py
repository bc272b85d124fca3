"""The adapters of this process, made from the settings: ledger, broker, store, shared secrets, registries.

Making one connects to nothing. Adapters that a mode does not need are not even imported: local mode never
pays for boto3, redis or Celery, a command that only watches a fleet never for HTTP.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from distworker.blobstore.base import BlobStore
from distworker.blobstore.local import LocalStore
from distworker.errors import ConfigInvalid
from distworker.registry.providers import quirks_of
from distworker.service.broker import broker_of
from distworker.service.submit import Producer
from distworker.settings import Config, Settings, shown
from distworker.settings_registry import RegistrySettings
from distworker.state.address import is_redis, parse_address
from distworker.steps.base import Sessions

if TYPE_CHECKING:
    from distworker.registry.learned import Facts
    from distworker.registry.pool import RegistryPool
    from distworker.registry.profiles import HostProfile
    from distworker.state.ledger import RedisLedger
    from distworker.state.turns import Turns
    from distworker.state.vault import RedisVault


def build_ledger(settings: Settings) -> RedisLedger:
    """The ledger in Redis."""
    from distworker.state.ledger import RedisLedger  # noqa: PLC0415 - see the module text

    return RedisLedger(settings.redis_url, f"{settings.redis_prefix}:", access=settings.redis_access)


def fleet_name(settings: Settings) -> str:
    """Whose the store's jobs are: the fleet of this Redis and prefix, as people would name it."""
    return f"{shown(settings.redis_url)} ({settings.redis_prefix})"


def build_turns(ledger: RedisLedger) -> Turns:
    """Whose turn at upkeep it is, in the ledger's Redis."""
    from distworker.state.turns import Turns  # noqa: PLC0415 - see the module text

    return Turns(ledger.redis)


def build_producer(settings: Settings) -> Producer:
    """The way to the broker; queues carry the same prefix as the ledger's keys."""
    broker = broker_of(settings.broker, f"{settings.redis_prefix}:", settings.redis_access)
    return Producer.connect(broker)


def build_store(settings: Settings) -> BlobStore:
    """The store the settings name.

    Raises:
        ConfigInvalid: a key that this kind of store needs is missing.
    """
    store = settings.store
    if store.kind == "local":
        return LocalStore(Path(_needed("folder", store.folder, "local")))
    from distworker.blobstore.s3 import S3Options, S3Store  # noqa: PLC0415 - see the module text

    return S3Store(
        S3Options(
            bucket=_needed("bucket", store.bucket, "s3"),
            endpoint=store.endpoint,
            region=store.region,
            access_key=store.access_key,
            secret_key=store.secret_key.get_secret_value(),
            prefix=store.prefix,
            path_style=store.path_style,
            sign_payload=not store.unsigned_payload,
            verify=store.ca_file or True,
            proxy=store.proxy,
            part_size=settings.part_size,
            buffers=settings.slots,
            connections=max(8, 2 * settings.slots),
        )
    )


def build_vault(settings: Settings, ledger: RedisLedger) -> RedisVault | None:
    """Where the fleet's workers share tokens; None when they have no secret in common to encrypt with."""
    from distworker.state.vault import RedisVault  # noqa: PLC0415 - see the module text

    secret = _fleet_secret(settings)
    return RedisVault(ledger.redis, secret) if secret else None


def build_sessions(settings: Settings, ledger: RedisLedger) -> Sessions:
    """Where upload sessions are kept; without a secret in common they stay in this process."""
    from distworker.state.sessions import MemorySessions, RedisSessions  # noqa: PLC0415 - see the module text

    secret = _fleet_secret(settings)
    return RedisSessions(ledger.redis, secret) if secret else MemorySessions()


def _fleet_secret(settings: Settings) -> str:
    return settings.token_secret.get_secret_value() or settings.store.secret_key.get_secret_value()


def build_registries(
    config: Config, *, local: bool = False, learned: Facts | None = None, vault: RedisVault | None = None
) -> RegistryPool:
    """The registries with the operator's profiles and logins. `local`: whoever runs this is the operator, so
    registries that a request names may lie at private addresses, and the user's own logins and certificates
    are there. `learned`: where facts about registries are remembered, this process's memory if not given.
    `vault`: where tokens are shared; without one they stay in this process.
    """
    from distworker.registry.addresses import AddressPolicy, Allowed  # noqa: PLC0415 - see the module text
    from distworker.registry.credentials import ConfiguredCredentials  # noqa: PLC0415
    from distworker.registry.hostfiles.router import HostFiles  # noqa: PLC0415
    from distworker.registry.pool import USER_AGENT, RegistryPool  # noqa: PLC0415
    from distworker.service import logins  # noqa: PLC0415

    policy = AddressPolicy(
        allowed=tuple(Allowed.parse(text) for text in config.settings.allow_hosts),
        own=own_servers(config.settings),
    )
    ways = {
        host: logins.way(host, table, policy, USER_AGENT)
        for host, table in config.registries.items()
        if table.has_login
    }
    return RegistryPool(
        profiles={host: _profile(host, table, config.settings) for host, table in config.registries.items()},
        credentials=ConfiguredCredentials(ways, logins.files(config.settings, local=local)),
        policy=policy,
        trust_named=local,
        files=HostFiles(
            certs_dirs=config.settings.certs_dirs or (user_certs_dirs() if local else ()),
            hosts_dirs=config.settings.hosts_dirs,
            registries_conf=config.settings.registries_conf,
        ),
        learned=learned,
        vault=vault,
        aws=logins.aws_clients(config.registries, ways),
    )


def shared_facts(ledger: RedisLedger) -> Facts:
    """What workers learn about registries, shared through the ledger's Redis."""
    from distworker.registry.learned import SharedFacts, life  # noqa: PLC0415 - see the module text
    from distworker.state.learned import RedisFacts  # noqa: PLC0415

    return SharedFacts(RedisFacts(ledger.redis, life))


def own_servers(settings: Settings) -> frozenset[tuple[str, int]]:
    """Host and port of the servers that keep this service's own state: nothing of a registry leads there."""
    ports = {"http": 80, "https": 443, "amqp": 5672, "amqps": 5671, "pyamqp": 5672}
    found: set[tuple[str, int]] = set()
    for url in (settings.redis_url, settings.broker, settings.store.endpoint):
        parts = urlsplit(url)
        if is_redis(url):
            found.update(parse_address(url).nodes)
        elif parts.hostname:
            found.add((parts.hostname, parts.port or ports.get(parts.scheme, 0)))
    return frozenset(found)


def user_certs_dirs() -> tuple[str, ...]:
    """Where docker and podman look for certificates on this machine: for local runs. These folders only add
    trust; files that change where images come from (`hosts.toml`, `registries.conf`) are never found by
    themselves.
    """
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return (str(home / "containers/certs.d"), "/etc/containers/certs.d", "/etc/docker/certs.d")


def _profile(host: str, table: RegistrySettings, settings: Settings) -> HostProfile:
    from distworker.registry.profiles import HostProfile  # noqa: PLC0415 - see the module text

    quirks = quirks_of(host, table.provider, table.stated)
    return HostProfile(
        plain_http=table.plain_http,
        private=table.private,
        ca_file=table.ca_file,
        client_cert=table.client_cert,
        client_key=table.client_key,
        mirrors=table.mirrors,
        mirror_tags=table.mirror_tags,
        proxy=table.proxy,
        max_concurrency=table.max_concurrency
        or min(settings.slots, quirks.max_concurrency or settings.slots),
        upload_mode=table.upload_mode,
        token_realms=table.token_realms,
        quirks=quirks,
    )


def _needed(key: str, value: str, kind: str) -> str:
    if not value:
        raise ConfigInvalid(
            f'store.{key} is not set, and store.kind = "{kind}" needs it; set it in distworker.toml or'
            f" DISTWORKER_STORE_{key.upper()}",
            field=f"store.{key}",
        )
    return value
