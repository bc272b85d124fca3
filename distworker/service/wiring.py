"""The composition root: the one place that reads settings and joins adapters into services.

Everything is made here per process and after any fork, from plain values; nothing below knows their origin.
Making services connects to nothing: a server that is away shows when it is first asked, as its typed error.
Adapters that a mode does not need are not even imported: local mode never pays for boto3, redis or Celery, a
command that only watches a fleet never for HTTP.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from distworker import __version__, names
from distworker.blobstore.base import BlobStore
from distworker.blobstore.local import LocalStore
from distworker.registry.providers import quirks_of
from distworker.service.adapters import (
    build_ledger,
    build_producer,
    build_registries,
    build_sessions,
    build_store,
    build_turns,
    build_vault,
    fleet_name,
    shared_facts,
)
from distworker.service.care import Care, Keeping, fleet_care
from distworker.service.doctor import Patient
from distworker.service.fingerprints import fingerprints
from distworker.service.jobs import Jobs
from distworker.service.local import LOCAL_SLOTS, LocalService, cache_folder
from distworker.service.runner import Dispatcher, Equipment, Presence, Runner
from distworker.service.submit import Producer
from distworker.service.sweeps import build_sweeps, intervals
from distworker.service.upkeep import Upkeep
from distworker.settings import DEFAULT, Config, Settings
from distworker.settings_registry import RegistrySettings
from distworker.steps.table import STEPS

if TYPE_CHECKING:
    from distworker.registry.pool import RegistryPool
    from distworker.state.ledger import RedisLedger
    from distworker.state.turns import Turns


@dataclass(frozen=True, slots=True)
class Services:
    """What a worker process has."""

    config: Config
    ledger: RedisLedger
    store: BlobStore
    registries: RegistryPool
    jobs: Jobs
    runner: Runner
    upkeep: Upkeep

    def close(self) -> None:
        """Close idle connections, after the runner stopped."""
        self.registries.close()
        self.ledger.close()


@dataclass(frozen=True, slots=True)
class Bell:
    """What a scheduler has: whose turn it is, and how often each sweep is due."""

    ledger: RedisLedger
    turns: Turns
    every: Mapping[str, float]

    def close(self) -> None:
        """Give up the connection to Redis."""
        self.ledger.close()


@dataclass(frozen=True, slots=True)
class Client:
    """What a producer has: the command line, an API process. A context that closes what it opened."""

    config: Config
    ledger: RedisLedger
    jobs: Jobs
    producer: Producer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections."""
        self.producer.close()
        self.ledger.close()


def build_services(config: Config, dispatch: Dispatcher, ring: Callable[[str], None]) -> Services:
    """A worker's services; call `start()` of runner and upkeep once the worker is ready. `ring` sends the
    message of a sweep.

    Raises:
        ConfigInvalid: a setting that only the store or the ledger can judge.
    """
    settings = config.settings
    ledger, store = build_ledger(settings), build_store(settings)
    registries = build_registries(config, learned=shared_facts(ledger), vault=build_vault(settings, ledger))
    kit = Equipment(
        registries,
        store,
        STEPS,
        window=settings.window,
        part_size=settings.part_size,
        sessions=build_sessions(settings, ledger),
    )
    who = presence(config)
    jobs = Jobs(ledger, lambda: store, dispatch, window=settings.window, fleet=fleet_name(settings))
    return Services(
        config=config,
        ledger=ledger,
        store=store,
        registries=registries,
        jobs=jobs,
        runner=Runner(ledger, kit, dispatch, who),
        upkeep=Upkeep(
            build_turns(ledger),
            {
                **build_sweeps(ledger, kit, names.TENANT, fleet_name(settings)),
                **fleet_care(store, ledger, jobs, keeping(settings)).sweeps(),
            },
            intervals(settings.upkeep),
            who.owner,
            ring,
        ),
    )


def build_bell(config: Config) -> Bell:
    """What the scheduler rings by."""
    ledger = build_ledger(config.settings)
    return Bell(ledger, build_turns(ledger), intervals(config.settings.upkeep))


def build_client(config: Config) -> Client:
    """A producer's services: it creates, watches and cancels jobs, and moves nothing itself."""
    settings = config.settings
    ledger, producer = build_ledger(settings), build_producer(settings)
    every = intervals(settings.upkeep)
    jobs = Jobs(
        ledger,
        lambda: build_store(settings),
        producer,
        window=settings.window,
        fleet=fleet_name(settings),
        upkeep=lambda: build_turns(ledger).views([name for name, seconds in every.items() if seconds]),
    )
    return Client(config, ledger, jobs, producer)


def build_local(config: Config, folder: Path | None = None, slots: int | None = None) -> LocalService:
    """Everything in this process; blobs go to `folder`, or the user's cache folder."""
    from distworker.state.memory import MemoryLedger  # noqa: PLC0415 - see the module text

    settings = config.settings
    own_slots = settings.slots if config.origins.get("slots", DEFAULT) != DEFAULT else LOCAL_SLOTS
    # Whoever names a registry here is the person whose machine this is.
    registries = build_registries(config, local=True)
    kit = Equipment(
        registries=registries,
        store=LocalStore(folder or cache_folder(), durable=False),
        steps=STEPS,
        window=settings.window,
        part_size=settings.part_size,
    )
    return LocalService(MemoryLedger(), kit, slots or own_slots, close=registries.close)


def build_care(config: Config, *, local: bool, folder: Path | None = None) -> Care:
    """The care of the configured store, or, with `local`, of the one that local runs use: `folder`, or the
    user's cache folder. A fleet is asked only by what needs it."""
    settings = config.settings
    if local:
        return Care(LocalStore(folder or cache_folder()), keeping=keeping(settings))
    store = build_store(settings)
    client = build_client(config)
    return fleet_care(store, client.ledger, client.jobs, keeping(settings), close=client.close)


def keeping(settings: Settings) -> Keeping:
    """How long what is kept, and how fast it is read."""
    care = settings.care
    return Keeping(float(care.gc_grace), care.keep_jobs, care.keep_quarantine, int(care.scrub_rate))


def build_patient(config: Config) -> Patient:
    """What `doctor` looks at."""
    settings = config.settings
    opened = ExitStack()
    ledger, producer = build_ledger(settings), build_producer(settings)
    opened.callback(ledger.close)
    opened.callback(producer.close)

    def registries() -> RegistryPool:
        pool = build_registries(config)
        opened.callback(pool.close)
        return pool

    return Patient(
        config=config,
        broker=producer,
        ledger=ledger,
        store=lambda: build_store(settings),
        registries=registries,
        marks=fingerprints(config),
        close=opened.close,
    )


def presence(config: Config, random: Callable[[int], str] = secrets.token_hex) -> Presence:
    """How a worker process shows itself; its name is new with every start, so a restarted one is another."""
    host = socket.gethostname()
    info: dict[str, Any] = {
        "host": host,
        "pid": os.getpid(),
        "version": __version__,
        "fingerprints": fingerprints(config),
    }
    caps = {host: cap for host, table in config.registries.items() if (cap := _cap(host, table))}
    return Presence(f"{host}-{os.getpid()}-{random(3)}", config.settings.slots, info, caps)


def _cap(host: str, table: RegistrySettings) -> int:
    """Transfers at once that the operator, or else the table of registries, allows; 0: any number."""
    return table.max_concurrency or quirks_of(host, table.provider).max_concurrency
