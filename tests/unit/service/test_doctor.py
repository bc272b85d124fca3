"""What the doctor finds, says, and never says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from distworker.blobstore.base import BlobStore
from distworker.blobstore.memory import MemoryStore
from distworker.errors import NotARegistry, StateUnavailable, StoreUnavailable
from distworker.registry.base import Registries
from distworker.service.doctor import Check, Patient, examine
from distworker.service.fingerprints import differing, fingerprints
from distworker.settings import Config, Settings
from distworker.settings_registry import RegistrySettings
from distworker.settings_sections import StoreSettings
from distworker.state.memory import MemoryLedger


def config(secret: str = "s3cr3t", **changes: Any) -> Config:
    """Settings with secrets in all places."""
    store = StoreSettings(bucket="images", secret_key=SecretStr(secret))
    settings = Settings(redis_url="redis://:s3cr3t@cache:6379/1", store=store)
    tables = {
        "hub.example": RegistrySettings(
            username="robot", password=SecretStr(changes.pop("password", "s3cr3t"))
        )
    }
    return Config(settings, tables, {}, **changes)


class Broker:
    """Answers, or does not."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def ping(self) -> str:
        if self.error:
            raise self.error
        return "redis://cache"


class Hub:
    """Registries whose ping ends as told."""

    def __init__(self, error: Exception | None = None, login: bool = True) -> None:
        self.error = error
        self.login = login

    def client(self, host: str, credential: str = "") -> Any:
        return self

    def ping(self) -> bool:
        if self.error:
            raise self.error
        return self.login


def findings(**parts: Any) -> Mapping[str, Check]:
    """The checks by name; every part is well unless given."""
    ours: Config = parts.pop("config", config())
    ledger = parts.pop("ledger", None) or MemoryLedger()
    store: BlobStore = parts.pop("store", None) or MemoryStore()
    hub: Registries = parts.pop("hub", Hub())
    patient = Patient(
        config=ours,
        broker=parts.pop("broker", Broker()),
        ledger=ledger,
        store=lambda: store,
        registries=lambda: hub,
        marks=fingerprints(ours),
    )
    return {check.name: check for check in examine(patient)}


def test_a_healthy_fleet_is_all_well() -> None:
    """Each part has its line, and none is a complaint."""
    ledger = MemoryLedger()
    ledger.beat("w1", 4, {"fingerprints": fingerprints(config())}, [])
    found = findings(ledger=ledger)
    assert [check.name for check in found.values() if not check.ok] == []
    assert {"broker", "redis", "store", "workers", "worker w1", "registry hub.example"} <= set(found)


def test_each_part_that_is_away_has_a_remedy_and_hides_nothing_else() -> None:
    """One broken server must not keep the doctor from looking at the others."""

    class NoRedis(MemoryLedger):
        def check(self) -> Mapping[str, Any]:
            raise StateUnavailable("Redis at cache:6379/1 cannot be reached")

    class NoStore(MemoryStore):
        def check(self) -> None:
            raise StoreUnavailable("the bucket does not answer")

    found = findings(
        ledger=NoRedis(),
        store=NoStore(),
        broker=Broker(StateUnavailable("the broker is away")),
        hub=Hub(NotARegistry("a web page")),
    )
    broken = {name: check for name, check in found.items() if not check.ok}
    assert set(broken) == {"broker", "redis", "store", "workers", "registry hub.example"}
    assert all(check.remedy for check in broken.values())


def test_a_login_is_praised_only_where_one_was_used() -> None:
    """An open registry says nothing about the login that the operator wrote down."""
    assert findings()["registry hub.example"].detail == "answers and takes our login"
    assert findings(hub=Hub(login=False))["registry hub.example"].detail == "answers, no login used"


@pytest.mark.parametrize("key", ["docker_config", "auth_files"])
def test_a_named_file_of_logins_must_be_there(tmp_path: Path, key: str) -> None:
    """Steps read a missing one as no login: everything would be asked for anonymously, and nobody told."""
    file = tmp_path / "config.json"
    named = str(file) if key == "docker_config" else (str(file),)
    ours = config()
    ours = replace(ours, settings=ours.settings.model_copy(update={key: named}))
    assert str(file) in findings(config=ours)["auth file"].detail
    assert not findings(config=ours)["auth file"].ok
    file.write_text("{}")
    assert "auth file" not in findings(config=ours)


def test_a_secret_that_everybody_may_read_is_a_caution(tmp_path: Path) -> None:
    """Not a fault: a mounted secret of a cluster is like that, and nobody else is in the container."""
    file = tmp_path / "password"
    file.write_text("s3cr3t")
    tables = {"a.example": RegistrySettings(username="u", password_file=str(file))}
    file.chmod(0o600)
    assert "secret file" not in findings(config=replace(config(), registries=tables))
    file.chmod(0o644)
    check = findings(config=replace(config(), registries=tables))["secret file"]
    assert (check.ok, "chmod" in check.remedy) == (True, True)
    assert str(file) in check.detail


def test_no_worker_names_both_ways_out() -> None:
    """Start one, or do without."""
    check = findings()["workers"]
    assert not check.ok
    assert "celery -A tasks worker" in check.remedy and "--local" in check.remedy


def test_a_worker_with_other_credentials_is_found_out() -> None:
    """It would fail with a login error that nobody could explain."""
    ledger = MemoryLedger()
    ledger.beat("w1", 4, {"fingerprints": fingerprints(config(password="old"))}, [])
    check = findings(ledger=ledger)["worker w1"]
    assert not check.ok
    assert "passwords" in check.detail and "[store]" not in check.detail


def test_another_store_secret_is_named_as_the_one_cause() -> None:
    """All marks hang on it, so the others say nothing."""
    assert differing(fingerprints(config()), fingerprints(config(secret="other"))) == ["key"]
    assert differing(fingerprints(config()), {}) == ["key"]


def test_marks_are_equal_for_equal_settings_and_show_nothing() -> None:
    """Short, repeatable, and without the values."""
    assert fingerprints(config()) == fingerprints(config())
    assert "s3cr3t" not in str(fingerprints(config()))


def test_marks_tell_files_of_other_tools_apart(tmp_path: Path) -> None:
    """What says where images come from and who is trusted; not what a machine may have of its own."""

    def mark() -> str:
        settings = Settings(
            certs_dirs=(str(tmp_path / "certs"),),
            hosts_dirs=(str(tmp_path / "hosts"),),
            registries_conf=str(tmp_path / "registries.conf"),
        )
        table = RegistrySettings(client_cert=str(tmp_path / "own.cert"))
        return fingerprints(Config(settings, {"a.example": table}, {}))["registries"]

    def write(name: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name} was here")
        return mark()

    shared = ("registries.conf", "registries.conf.d/a.conf", "hosts/a.example/hosts.toml")
    seen = [mark(), *(write(name) for name in (*shared, "hosts/b/x.crt", "certs/a.example/ca.crt"))]
    assert len(set(seen)) == len(seen)
    own = [write(name) for name in ("own.cert", "certs/a.example/me.key", "certs/a.example/me.cert")]
    assert set(own) == {seen[-1]}


def test_no_secret_is_in_any_finding() -> None:
    """People paste the doctor's answer into tickets."""
    found = findings(config=config(unknown=("DISTWORKER_PORT",)))
    assert "s3cr3t" not in str([check.to_dict() for check in found.values()])
    assert "DISTWORKER_PORT" in str(found)
