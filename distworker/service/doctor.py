"""Looks at everything a fleet needs and says what to do about what is wrong: settings, broker, Redis, store,
workers, registries.

Each check is independent, bounded in time and leaves nothing behind. It never repairs anything, and never
shows a secret: settings come masked, servers by their masked address, worker comparisons as names of what
differs.
"""

from __future__ import annotations

import contextlib
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from distworker.blobstore.base import BlobStore
from distworker.errors import DistworkerError
from distworker.registry.base import Registries
from distworker.service.fingerprints import MEANING, differing
from distworker.service.readiness import NOTHING_KEPT
from distworker.settings import Config, shown
from distworker.state.base import Ledger, WorkerView


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `remedy` is what to do when `ok` is false (or advice when it is true)."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


class Broker(Protocol):
    """The part of the producer that is checked."""

    def ping(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at. `marks` are our own fingerprints."""

    config: Config
    broker: Broker
    ledger: Ledger
    store: Callable[[], BlobStore]
    registries: Callable[[], Registries]
    marks: Mapping[str, str]
    close: Callable[[], None] = lambda: None


def examine(patient: Patient, now: Callable[[], float] = time.time) -> Iterator[Check]:
    """Every check, one after the other, as each is done; what was opened is closed at the end."""
    try:
        yield from _examine(patient, now)
    finally:
        patient.close()


def _examine(patient: Patient, now: Callable[[], float]) -> Iterator[Check]:
    yield from _settings(patient.config)
    yield _broker(patient)
    redis = list(_redis(patient))
    yield from redis
    yield _store(patient)
    if redis[0].ok:
        yield from _workers(patient, now())
    else:
        yield Check("workers", False, "unknown without Redis", "fix redis first")
    yield from _registries(patient)


def _settings(config: Config) -> Iterator[Check]:
    files = ", ".join(map(str, config.files))
    looked = ", ".join(map(str, config.looked))
    yield Check("settings", True, f"read {files}" if files else f"no settings file; looked in {looked}")
    for key, value, origin in config.rows():
        yield Check(f"settings {key}", True, f"{value or '(empty)'}  [{origin}]")
    for name in config.unknown:
        yield Check(
            f"settings {name}", True, "no setting reads this variable", "check its spelling, or unset it"
        )
    yield from _secret_files(config)


def _secret_files(config: Config) -> Iterator[Check]:
    """Files of logins that are missing, and files with secrets that everybody may read."""
    named = config.settings.login_files
    for file in named:
        if not Path(file).is_file():
            # A step takes a missing file for one without logins: it may be there again with the next mount.
            remedy = "put it there, or correct docker_config or auth_files"
            yield Check("auth file", False, f"no such file: {file}", remedy)
    tables = config.registries.values()
    files = {*named, *(table.password_file for table in tables), *(table.key_file for table in tables)}
    for file in sorted(files - {""}):
        with contextlib.suppress(OSError):
            if Path(file).stat().st_mode & stat.S_IROTH:
                remedy = "let only the user of the workers read it, for example by chmod 600"
                yield Check("secret file", True, f"everybody on this machine may read {file}", remedy)


def _broker(patient: Patient) -> Check:
    address = shown(patient.config.settings.broker)
    try:
        patient.broker.ping()
    except DistworkerError as error:
        return Check("broker", False, f"{address}: {error}", "start the broker, or correct broker_url")
    return Check("broker", True, address)


def _redis(patient: Patient) -> Iterator[Check]:
    """The ledger judges version, mode and eviction policy; whether data lasts is the operator's choice."""
    address = shown(patient.config.settings.redis_url)
    try:
        facts = patient.ledger.check()
    except DistworkerError as error:
        yield Check(
            "redis", False, f"{address}: {error}", "start it or set it up as said, or correct redis_url"
        )
        return
    server = f"{facts.get('server', 'redis')} {facts.get('version', '')}".strip()
    yield Check("redis", True, f"{address}: {server}, maxmemory-policy {facts.get('policy', 'unknown')}")
    yield _persistence(str(facts.get("persistence", "unknown")))


def _persistence(kept: str) -> Check:
    if kept == "none":
        return Check("redis persistence", False, NOTHING_KEPT, "set appendonly yes and appendfsync everysec")
    remedy = "" if kept == "aof" else "set appendonly yes: without it a restart of Redis loses open jobs"
    return Check("redis persistence", True, kept, remedy)


def _store(patient: Patient) -> Check:
    kind = patient.config.settings.store.kind
    try:
        store = patient.store()
        store.check()
    except DistworkerError as error:
        remedy = "correct the [store] settings; the bucket or folder must exist, with room and write access"
        return Check("store", False, f"{kind}: {error}", remedy)
    return Check("store", True, f"{store.describe()}: wrote, read and deleted a probe")


def _workers(patient: Patient, now: float) -> Iterator[Check]:
    try:
        workers = patient.ledger.workers()
    except DistworkerError as error:
        yield Check("workers", False, str(error), "fix redis first")
        return
    if not workers:
        remedy = "start one with `celery -A tasks worker`, or use --local"
        yield Check("workers", False, "none is alive", remedy)
        return
    slots = sum(worker.slots for worker in workers)
    yield Check("workers", True, f"{len(workers)} alive with {slots} slots")
    for worker in workers:
        yield _worker(worker, patient.marks, now)


def _worker(worker: WorkerView, marks: Mapping[str, str], now: float) -> Check:
    name = f"worker {worker.owner}"
    theirs = worker.info.get("fingerprints")
    differ = differing(marks, theirs if isinstance(theirs, Mapping) else {})
    if differ:
        what = " and ".join(MEANING[mark] for mark in differ)
        remedy = "give all machines the same, then restart it"
        return Check(name, False, f"differs from here in {what}", remedy)
    seen = max(0, round(now - worker.seen))
    return Check(name, True, f"{worker.slots} slots, seen {seen} s ago, same settings as here")


def _registries(patient: Patient) -> Iterator[Check]:
    """Every registry that registries.toml names."""
    try:
        registries = patient.registries()
    except DistworkerError as error:
        yield Check("registries", False, str(error), "correct registries.toml")
        return
    for host in sorted(patient.config.registries):
        try:
            logged_in = registries.client(host).ping()
        except DistworkerError as error:
            remedy = f"correct its table in registries.toml, or its login for {host}"
            yield Check(f"registry {host}", False, str(error), remedy)
        else:
            how = "answers and takes our login" if logged_in else "answers, no login used"
            yield Check(f"registry {host}", True, how)
