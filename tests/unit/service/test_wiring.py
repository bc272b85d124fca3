"""Settings become services; what only a part can judge is refused with the key's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from distworker.blobstore.local import LocalStore
from distworker.blobstore.s3 import S3Store
from distworker.errors import AddressRefused, ConfigInvalid, Denied, StateUnavailable
from distworker.registry.client import MirroredClient
from distworker.registry.providers import ROWS
from distworker.service import adapters, wiring
from distworker.service.local import LOCAL_SLOTS
from distworker.settings import Config, Settings
from distworker.settings_registry import QuirkSettings, RegistrySettings
from distworker.settings_sections import StoreSettings


def config(settings: Settings | None = None, **tables: RegistrySettings) -> Config:
    """Settings with these registries (`a_example` is `a.example`)."""
    hosts = {name.replace("_", "."): table for name, table in tables.items()}
    return Config(settings or Settings(store=StoreSettings(kind="local", folder="/nowhere")), hosts, {})


@pytest.mark.parametrize(("kind", "key"), [("s3", "bucket"), ("local", "folder")])
def test_a_store_without_its_place_is_refused_by_name(kind: str, key: str) -> None:
    """The defaults alone are enough for local mode, not for a fleet."""
    with pytest.raises(ConfigInvalid) as caught:
        adapters.build_store(Settings(store=StoreSettings(kind=kind)))
    assert caught.value.fields["field"] == f"store.{key}"
    assert f"DISTWORKER_STORE_{key.upper()}" in caught.value.message


def test_the_kind_of_store_decides_the_adapter(tmp_path: Path) -> None:
    """Nothing is connected yet."""
    assert isinstance(adapters.build_store(Settings(store=StoreSettings(bucket="b"))), S3Store)
    folder = StoreSettings(kind="local", folder=str(tmp_path))
    assert isinstance(adapters.build_store(Settings(store=folder)), LocalStore)


def test_a_password_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Going on anonymously would end as a puzzling refusal later."""
    table = RegistrySettings(username="u", password_env="HUB_PASSWORD")
    monkeypatch.delenv("HUB_PASSWORD", raising=False)
    with pytest.raises(ConfigInvalid, match="HUB_PASSWORD is not set"):
        adapters.build_registries(config(a_example=table))
    monkeypatch.setenv("HUB_PASSWORD", "x")
    adapters.build_registries(config(a_example=table)).close()


def test_a_registry_keeps_its_profile() -> None:
    """What registries.toml says reaches the client."""
    table = RegistrySettings(
        plain_http=True, max_concurrency=3, token_realms=("auth.example",), upload_mode="patch"
    )
    profile = adapters.build_registries(config(a_example=table)).profile("a.example")
    assert (profile.plain_http, profile.max_concurrency, profile.upload_mode) == (True, 3, "patch")
    assert profile.token_realms == ("auth.example",)


def test_the_table_of_registries_holds_where_the_operator_says_nothing() -> None:
    """By host or by `provider`; single cells may be set right."""
    table = RegistrySettings(provider="harbor", quirks=QuirkSettings(page_size=50, chunk_bytes=5 << 20))
    pool = adapters.build_registries(config(a_example=table, ghcr_io=RegistrySettings()))
    told = pool.profile("a.example").quirks
    assert (told.provider, told.list_api, told.page_size, told.chunk_bytes) == (
        "harbor",
        "harbor",
        50,
        5 << 20,
    )
    assert pool.profile("ghcr.io").quirks == ROWS["ghcr"]
    assert pool.profile("quay.io").quirks == ROWS["quay"]


def test_an_upload_mode_that_was_written_beats_the_table() -> None:
    """Also when it is "auto"."""
    words = {
        "ghcr_io": RegistrySettings(upload_mode="auto"),
        "quay_io": RegistrySettings(upload_mode="chunked"),
    }
    pool = adapters.build_registries(config(**words))
    assert pool.profile("ghcr.io").quirks.upload_mode == "auto"
    assert pool.profile("quay.io").quirks.upload_mode == "chunked"


def test_fewer_transfers_at_once_where_the_table_says_so() -> None:
    """The operator's number is stronger, the worker's slots are enough for the others."""
    tables = {
        "quay_io": RegistrySettings(),
        "a_example": RegistrySettings(),
        "b_example": RegistrySettings(provider="quay", max_concurrency=20),
    }
    many = Settings(store=StoreSettings(kind="local", folder="/nowhere"), slots=30)
    pool = adapters.build_registries(config(many, **tables))
    hosts = ("quay.io", "a.example", "b.example")
    assert [pool.profile(host).max_concurrency for host in hosts] == [ROWS["quay"].max_concurrency, 30, 20]
    told = wiring.presence(config(many, **tables))
    assert told.caps == {"quay.io": ROWS["quay"].max_concurrency, "b.example": 20}


def test_certificates_and_mirrors_reach_the_client(tmp_path: Path) -> None:
    """Keys of registries.toml, and the files of other tools that the settings name."""
    (tmp_path / "hosts/b.example").mkdir(parents=True)
    (tmp_path / "hosts/b.example/hosts.toml").write_text('[host."https://m.example"]\n')
    (tmp_path / "registries.conf").write_text('[[registry]]\nlocation = "c.example"\nblocked = true\n')
    store = StoreSettings(kind="local", folder="/nowhere")
    settings = Settings(
        store=store,
        certs_dirs=(str(tmp_path),),
        hosts_dirs=(str(tmp_path / "hosts"),),
        registries_conf=str(tmp_path / "registries.conf"),
    )
    table = RegistrySettings(
        client_cert="/c.cert", client_key="/c.key", mirrors=("m.example/hub",), mirror_tags=True
    )
    pool = adapters.build_registries(config(settings, a_example=table))
    profile = pool.profile("a.example")
    assert (profile.client_cert, profile.client_key) == ("/c.cert", "/c.key")
    assert (profile.mirrors, profile.mirror_tags) == (("m.example/hub",), True)
    assert isinstance(pool.source("a.example"), MirroredClient)
    assert isinstance(pool.source("b.example"), MirroredClient)
    with pytest.raises(Denied, match=r"blocks c\.example"):
        pool.client("c.example").ping()
    pool.close()
    plain = adapters.build_registries(config())
    assert plain.source("b.example") is plain.client("b.example")


def test_only_local_runs_find_certificates_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half pair in the user's folder is an error there, and nothing that a worker of a fleet ever sees."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "containers/certs.d/127.0.0.1:9"
    folder.mkdir(parents=True)
    (folder / "me.cert").touch()
    with pytest.raises(ConfigInvalid, match=r"me\.key is missing"):
        adapters.build_registries(config(), local=True).client("127.0.0.1:9").ping()
    assert adapters.user_certs_dirs()[1:] == ("/etc/containers/certs.d", "/etc/docker/certs.d")
    with pytest.raises(AddressRefused):
        adapters.build_registries(config()).client("127.0.0.1:9").ping()


def test_presence_tells_caps_and_marks_but_no_secret() -> None:
    """Everyone who reads Redis can read it."""
    table = RegistrySettings(username="u", password=SecretStr("hunter2"), max_concurrency=3)
    told = wiring.presence(config(a_example=table, b_example=RegistrySettings()))
    assert told.caps == {"a.example": 3}
    assert set(told.info) == {"host", "pid", "version", "fingerprints"}
    assert "hunter2" not in str(told)
    assert told.owner != wiring.presence(config()).owner


def test_local_mode_needs_no_settings_and_reads_the_users_own_logins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel alone is enough."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with wiring.build_local(Config(Settings(), {}, {}), tmp_path) as service:
        assert [worker.slots for worker in service.ledger.workers()] == [LOCAL_SLOTS]


def test_workers_share_tokens_where_they_have_a_secret_in_common() -> None:
    """A secret of its own, else the store's; with neither, nothing may lie in Redis."""
    own, stores = SecretStr("hunter2-hunter2-"), SecretStr("the-store-s-own")

    def name(**settings: Any) -> str | None:
        """How the vault of these settings would call a value."""
        ledger = adapters.build_ledger(Settings())
        vault = adapters.build_vault(Settings(**settings), ledger)
        ledger.close()
        return vault and vault._mark("token")

    alone, drawn = name(token_secret=own), name(store=StoreSettings(secret_key=stores))
    assert name() is None
    assert None not in {alone, drawn}
    assert alone != drawn
    assert name(token_secret=own, store=StoreSettings(secret_key=stores)) == alone


def test_a_fleet_without_redis_is_one_typed_error() -> None:
    """Making the services connects to nothing; the first question does."""
    settings = Settings(
        redis_url="redis://:hunter2@127.0.0.1:1/1", store=StoreSettings(kind="local", folder="/nowhere")
    )
    with wiring.build_client(config(settings)) as client, pytest.raises(StateUnavailable) as caught:
        client.jobs.require_worker()
    assert "hunter2" not in str(caught.value)


def test_a_producer_without_a_store_setting_can_watch_and_cancel() -> None:
    """Only who makes a job needs the store, and is told which key is missing before anything is recorded."""

    settings = Settings(redis_url="redis://127.0.0.1:1/1")
    with wiring.build_client(config(settings)) as client:
        with pytest.raises(StateUnavailable):
            client.jobs.view("20261123-7f3kq2xm")
        with pytest.raises(StateUnavailable):
            client.jobs.cancel("20261123-7f3kq2xm")


def test_servers_of_our_own_are_known_however_their_url_is_spelled() -> None:
    """Nothing that a registry says may lead a worker to them: every Sentinel, the broker, the store."""
    settings = Settings(
        redis_url="sentinel://u:p@s1,s2:7/1?master=m",
        broker_url="amqp://u:p@rabbit.example//",
        store=StoreSettings(bucket="b", endpoint="https://s3.example"),
    )
    assert adapters.own_servers(settings) == {
        ("s1", 26379),
        ("s2", 7),
        ("rabbit.example", 5672),
        ("s3.example", 443),
    }
    assert ("localhost", 6379) in adapters.own_servers(Settings(redis_url="redis://localhost/1"))
