"""Tables of registries.toml become ways to log in; a local run finds the user's own files."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from distworker.errors import ConfigInvalid
from distworker.registry.addresses import AddressPolicy
from distworker.registry.credentials import ConfiguredCredentials, CredentialSource, Way
from distworker.registry.logins.acr import AcrLogin
from distworker.registry.logins.ecr import EcrLogin
from distworker.registry.logins.google import GoogleLogin
from distworker.service import logins
from distworker.service.fingerprints import fingerprints
from distworker.settings import Config, Settings
from distworker.settings_registry import RegistrySettings

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


def way(host: str, **table: Any) -> Way:
    """The way that this table describes."""
    return logins.way(host, RegistrySettings(**table), AddressPolicy(), "distworker-test")


def source(settings: Settings, *, local: bool) -> CredentialSource:
    """The logins that these settings find in files."""
    return ConfiguredCredentials({}, logins.files(settings, local=local))


def docker(path: Path, user: str, *hosts: str, **more: Any) -> Path:
    """A file of logins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(f"{user}:pw".encode()).decode()
    path.write_text(json.dumps({"auths": {host: {"auth": auth} for host in hosts}, **more}))
    return path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and no variable that leads elsewhere."""
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG", "GITHUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("host", "table", "kind"),
    [
        (ECR, {"login": "ecr"}, EcrLogin),
        (ECR, {"login": "ecr", "username": "AKID", "password": SecretStr("s")}, EcrLogin),
        ("gcr.io", {"login": "google", "key_file": "/key.json"}, GoogleLogin),
        (
            "team.azurecr.io",
            {"login": "acr", "tenant": "t", "username": "app", "token_file": "/token"},
            AcrLogin,
        ),
    ],
)
def test_each_login_has_its_way(host: str, table: dict[str, Any], kind: type) -> None:
    """Nothing is asked of anybody yet."""
    made = way(host, **table)
    assert type(made) is kind
    assert made.hosts == (host,)


@pytest.mark.parametrize("login", ["ecr", "google"])
def test_a_providers_login_for_a_strange_host_is_refused_at_the_start(login: str) -> None:
    """Not in the middle of a job."""
    with pytest.raises(ConfigInvalid, match=f"login: {login}"):
        way("registry.example.com", login=login)


def test_user_and_password_come_from_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever is not set is named."""
    table = {"username_env": "HUB_USER", "password_env": "HUB_PASSWORD"}
    monkeypatch.setenv("HUB_PASSWORD", "pw")
    with pytest.raises(ConfigInvalid, match="HUB_USER is not set"):
        way("a.example", **table)
    monkeypatch.setenv("HUB_USER", "me")
    found = way("a.example", **table).open("a.example", "a.example")
    assert (found.username, found.password) == ("me", "pw")


def test_user_and_password_come_from_files_at_each_use(tmp_path: Path) -> None:
    """A rotated pair needs no restart."""
    user, password = tmp_path / "user", tmp_path / "password"
    user.write_text("me\n")
    password.write_text("one\n")
    made = way("a.example", username_file=str(user), password_file=str(password))
    assert made.open("a.example", "x").password == "one"
    password.write_text("two\n")
    assert made.open("a.example", "x").password == "two"


def test_github_takes_the_token_of_its_workflows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless there is another one; without any it says which variable is missing."""
    with pytest.raises(ConfigInvalid, match="GITHUB_TOKEN is not set"):
        way("ghcr.io", login="github")
    monkeypatch.setenv("GITHUB_TOKEN", "workflow")
    found = way("ghcr.io", login="github").open("ghcr.io", "x")
    assert (found.username, found.password) == ("x-access-token", "workflow")
    found = way("ghcr.io", login="github", username="me", password=SecretStr("own")).open("ghcr.io", "x")
    assert (found.username, found.password) == ("me", "own")


def test_a_local_run_reads_the_users_files_in_their_order(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers' before docker's, the session's before the home's; a named one replaces containers'."""
    hosts = [f"{name}.example" for name in "abcd"]
    docker(home / ".dockercfg", "old", *hosts)
    docker(home / ".docker/config.json", "docker", *hosts[:3])
    docker(home / ".config/containers/auth.json", "containers", *hosts[:2])
    docker(tmp_path / "run/containers/auth.json", "session", *hosts[:1])
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))

    def users() -> list[str]:
        mine = source(Settings(), local=True)
        return [found.username for host in hosts if (found := mine.find(host))]

    assert users() == ["session", "containers", "docker", "old"]
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(docker(tmp_path / "named.json", "named", hosts[0])))
    assert users() == ["named", "docker", "docker", "old"]
    monkeypatch.setenv("DOCKER_CONFIG", str(docker(tmp_path / "d/config.json", "other", hosts[1]).parent))
    monkeypatch.delenv("REGISTRY_AUTH_FILE")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert users() == ["session", "other", "old", "old"]


def test_a_service_reads_no_home_and_named_files_replace_the_users(home: Path, tmp_path: Path) -> None:
    """Whoever names files means those."""
    docker(home / ".docker/config.json", "docker", "a.example")
    named = docker(tmp_path / "named.json", "named", "b.example")
    first = docker(tmp_path / "first.json", "first", "b.example")
    assert source(Settings(), local=False).find("a.example") is None
    settings = Settings(auth_files=(str(named),), docker_config=str(first))
    for local in (True, False):
        found = source(settings, local=local)
        assert found.find("a.example") is None
        login = found.find("b.example")
        assert login is not None
        assert login.username == "first"


def test_helpers_run_for_a_service_only_by_name_and_for_a_user_by_his_own_files(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They see where programs and their files are, and a desktop's keychain; never our own variables."""
    program = tmp_path / "bin" / "docker-credential-test"
    program.parent.mkdir()
    seen = tmp_path / "seen"
    program.write_text(f'#!/bin/sh\nenv > {seen}\necho \'{{"Username": "helped", "Secret": "pw"}}\'\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/bus")
    monkeypatch.setenv("HUB_PASSWORD", "SECRET-PASSWORD")
    file = docker(home / ".docker/config.json", "docker", credHelpers={"a.example": "test"})
    with pytest.raises(ConfigInvalid, match="credential_helpers"):
        source(Settings(auth_files=(str(file),)), local=False).find("a.example")
    assert not seen.exists()
    allowed = Settings(auth_files=(str(file),), credential_helpers=("test",))
    for settings, local, desktop in ((allowed, False, False), (Settings(), True, True)):
        found = source(settings, local=local).find("a.example")
        assert found is not None
        assert found.username == "helped"
        text = seen.read_text()
        assert f"HOME={home}" in text
        assert ("unix:path=/bus" in text) is desktop
        assert "SECRET" not in text


def test_marks_differ_with_every_part_of_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker with another key, user, file or helper is found out; where a secret lies does not count."""
    for name in ("key", "same", "other", "user"):
        (tmp_path / name).write_text(name.replace("same", "key"))
    monkeypatch.setenv("GITHUB_TOKEN", "one")

    def mark(settings: Settings | None = None, **table: Any) -> str:
        return fingerprints(Config(settings or Settings(), {"gcr.io": RegistrySettings(**table)}, {}))[
            "credentials"
        ]

    def google(name: str) -> str:
        return mark(login="google", key_file=str(tmp_path / name))

    assert google("key") == google("same") != google("other")
    plain = {"password": SecretStr("p")}
    assert mark(username="user", **plain) == mark(username_file=str(tmp_path / "user"), **plain)
    assert mark(username="user", **plain) != mark(username="me", **plain)
    first = mark(login="github")
    monkeypatch.setenv("GITHUB_TOKEN", "two")
    assert mark(login="github") != first
    files = [mark(Settings(auth_files=(str(tmp_path / name),))) for name in ("key", "same", "other")]
    assert files[0] == files[1] != files[2]
    assert mark(Settings(credential_helpers=("pass",))) != mark(Settings())


def test_providers_that_no_table_uses_cost_nothing() -> None:
    """Starting a local run loads neither boto3 nor cryptography."""
    code = (
        "import sys; from distworker.service.wiring import build_registries\n"
        "from distworker.settings import Config, Settings\n"
        "from distworker.settings_registry import RegistrySettings as Table\n"
        "tables = {'ghcr.io': Table(username='u', password='p')}\n"
        "build_registries(Config(Settings(), tables, {}), local=True)\n"
        "print([name for name in ('boto3', 'botocore', 'cryptography', 'yaml') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
