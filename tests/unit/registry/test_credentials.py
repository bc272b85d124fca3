"""Credentials are found by exact host, read from files at use, and shown to nobody."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from distworker.errors import ConfigInvalid, RealmRefused
from distworker.registry.credentials import ConfiguredCredentials, Credential, Login, NoCredentials
from distworker.registry.urls import Origin
from tests.unit.registry.conftest import MARK, texts


def config(folder: Path, auths: dict[str, Any]) -> Path:
    """A docker config.json with these auths."""
    path = folder / "config.json"
    path.write_text(json.dumps({"auths": auths}))
    return path


def auth(user: str, password: str) -> dict[str, str]:
    """An entry as `docker login` writes it."""
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    "key", ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io", "index.docker.io"]
)
@pytest.mark.parametrize("host", ["docker.io", "registry-1.docker.io", "index.docker.io"])
def test_the_names_of_docker_hub_are_one(tmp_path: Path, key: str, host: str) -> None:
    """Whatever Hub is called in the file and in the reference, the entry is found."""
    found = ConfiguredCredentials(files=[config(tmp_path, {key: auth("me", "pw")})]).find(host)
    assert found is not None
    assert (found.username, found.password) == ("me", "pw")


@pytest.mark.parametrize(
    ("key", "host", "matches"),
    [
        ("registry.example.com", "registry.example.com", True),
        ("registry.example.com:5000", "registry.example.com:5000", True),
        ("https://registry.example.com/v1/", "registry.example.com", True),
        ("registry.example.com", "registry.example.com:5000", False),
        ("registry.example.com:5000", "registry.example.com", False),
        ("example.com", "registry.example.com", False),
        ("registry.example.com/team", "registry.example.com", False),
    ],
)
def test_host_and_port_match_exactly(tmp_path: Path, key: str, host: str, matches: bool) -> None:
    """No suffix, no wildcard, no namespace stands for a host."""
    found = ConfiguredCredentials(files=[config(tmp_path, {key: auth("me", "pw")})]).find(host)
    assert (found is not None) is matches


def test_a_password_may_hold_colons(tmp_path: Path) -> None:
    """`auth` is split at the first colon and its NULs are dropped."""
    encoded = base64.b64encode(b"robot$x:a:b:c\0\0").decode()
    found = ConfiguredCredentials(files=[config(tmp_path, {"r.example": {"auth": encoded}})]).find(
        "r.example"
    )
    assert found is not None
    assert (found.username, found.password) == ("robot$x", "a:b:c")


def test_an_empty_entry_is_no_login(tmp_path: Path) -> None:
    """`{}` means that a helper has it, and helpers are not run."""
    assert ConfiguredCredentials(files=[config(tmp_path, {"r.example": {}})]).find("r.example") is None


def test_an_identity_token_is_kept(tmp_path: Path) -> None:
    """It is for the token server, not for Basic."""
    entry = {**auth("me", ""), "identitytoken": "idt"}
    found = ConfiguredCredentials(files=[config(tmp_path, {"r.example": entry})]).find("r.example")
    assert found is not None
    assert found.identity_token == "idt"


def test_a_missing_file_is_no_error_and_a_new_one_is_seen(tmp_path: Path) -> None:
    """`docker login` after the start counts without a restart."""
    source = ConfiguredCredentials(files=[tmp_path / "config.json"])
    assert source.find("r.example") is None
    config(tmp_path, {"r.example": auth("me", "pw")})
    assert source.find("r.example") is not None


@pytest.mark.parametrize("text", ["{", "\xff", '{"auths": {"r.example": {"auth": "%%%"}}}'])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    """The error says which file, and not what is in it."""
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigInvalid, match=str(path)):
        ConfiguredCredentials(files=[path]).find("r.example")


def test_a_password_file_is_read_at_use(tmp_path: Path) -> None:
    """A rotated secret is seen; the final newline is not part of it."""
    path = tmp_path / "secret"
    path.write_text("one\n")
    source = ConfiguredCredentials({"r": Login(("r.example",), "me", password_file=str(path))})
    first = source.find("r.example")
    path.write_text("two\n")
    second = source.find("r.example")
    assert first and second
    assert (first.password, second.password) == ("one", "two")


def test_a_missing_password_file_is_named(tmp_path: Path) -> None:
    """The operator learns which file of which credential."""
    source = ConfiguredCredentials({"r": Login(("r.example",), "me", password_file=str(tmp_path / "gone"))})
    with pytest.raises(ConfigInvalid, match=r"'r'.*gone"):
        source.find("r.example")


def test_a_named_credential_serves_its_own_hosts_only() -> None:
    """A job cannot carry a secret to a host that the operator did not name."""
    source = ConfiguredCredentials({"team": Login(("a.example", "b.example"), "me", "pw")})
    assert source.find("b.example", "team") is not None
    with pytest.raises(ConfigInvalid, match=r"not for evil\.example"):
        source.find("evil.example", "team")
    with pytest.raises(ConfigInvalid, match="'nobody'"):
        source.find("a.example", "nobody")
    with pytest.raises(ConfigInvalid):
        NoCredentials().find("a.example", "team")


def test_a_credential_goes_to_its_origins_only() -> None:
    """Another port, scheme or host is refused, whatever is asked."""
    home = Origin("https", "r.example", 443)
    credential = Credential("me", "pw", identity_token="idt", registry_token="rt").bound_to(frozenset({home}))
    assert credential.basic(home) == "Basic bWU6cHc="
    for other in (
        Origin("http", "r.example", 80),
        Origin("https", "r.example", 444),
        Origin("https", "e.example", 443),
    ):
        for use in (credential.basic, credential.bearer, credential.refresh_token):
            with pytest.raises(RealmRefused):
                use(other)


def test_reprs_are_masked() -> None:
    """Neither a credential nor its configuration shows a secret."""
    secret = Credential("me", "SECRET", "SECRET", "SECRET")
    assert "SECRET" not in repr(secret)
    assert "SECRET" not in repr(Login(("r.example",), "me", "SECRET", identity_token="SECRET"))
    assert "SECRET" not in secret.fingerprint


def test_fingerprints_tell_secrets_apart() -> None:
    """A changed password is another credential to every cache."""
    assert Credential("me", "a").fingerprint != Credential("me", "b").fingerprint


@pytest.mark.parametrize(
    "text",
    ['{"auths": SECRET', '{"auths": {"r.example": {"auth": "SECRET%"}}}', '{"auths": {"SECRET\xff": {}}}'],
)
def test_no_error_carries_what_a_credential_file_holds(tmp_path: Path, text: str) -> None:
    """Parsers keep the text they failed on; theirs must not hang below our error."""
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigInvalid) as info:
        ConfiguredCredentials(files=[path]).find("r.example")
    assert MARK not in " ".join(texts(info.value))
