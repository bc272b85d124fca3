"""Files of logins that other tools write: docker's, containers', Kubernetes secrets, the old .dockercfg."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from distworker.errors import ConfigInvalid
from distworker.registry.credentials import Credential
from distworker.registry.logins.authfile import AuthFile
from distworker.registry.logins.entries import parse, read_entry
from distworker.registry.logins.keys import Dialect, read_key
from tests.unit.registry.conftest import MARK, texts


def auth(user: str, password: str) -> dict[str, str]:
    """An entry as `docker login` writes it."""
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write(path: Path, document: Any) -> AuthFile:
    """A login file with this content."""
    path.write_text(json.dumps(document))
    return AuthFile(path)


def docker(folder: Path, auths: dict[str, Any], **more: Any) -> AuthFile:
    """A docker config.json with these auths."""
    return write(folder / "config.json", {"auths": auths, **more})


def users(file: AuthFile, host: str, *repositories: str) -> list[str | None]:
    """The user found for each repository."""
    found = [file.find(host, repository) for repository in repositories]
    return [one.username if one else None for one in found]


def pair(found: Credential | None) -> tuple[str, str]:
    """User and password."""
    assert found is not None
    return found.username, found.password


@pytest.mark.parametrize(
    "key", ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io", "index.docker.io"]
)
def test_the_names_of_docker_hub_are_one(tmp_path: Path, key: str) -> None:
    """Whatever Hub is called in the file, the entry is found."""
    assert users(docker(tmp_path, {key: auth("me", "pw")}), "docker.io", "library/alpine") == ["me"]


@pytest.mark.parametrize(
    ("key", "host", "matches"),
    [
        ("registry.example.com", "registry.example.com", True),
        ("Registry.Example.com", "registry.example.com", True),
        ("registry.example.com:5000", "registry.example.com:5000", True),
        ("https://registry.example.com/v1/", "registry.example.com", True),
        ("http://registry.example.com:5000/v2", "registry.example.com:5000", True),
        ("registry.example.com/v1/", "registry.example.com", True),
        ("registry.example.com", "registry.example.com:5000", False),
        ("registry.example.com:5000", "registry.example.com", False),
        ("example.com", "registry.example.com", False),
        ("registry.example.com", "registry.example.com.evil.example", False),
        ("registry.example.com/team", "registry.example.com", False),
        ("*.example.com", "registry.example.com", False),
        ("*", "registry.example.com", False),
        ("[2001:db8::1]:5000", "[2001:db8::1]:5000", True),
        ("", "registry.example.com", False),
    ],
)
def test_host_and_port_match_exactly(tmp_path: Path, key: str, host: str, matches: bool) -> None:
    """No suffix, no wildcard, no namespace stands for a host."""
    assert (docker(tmp_path, {key: auth("me", "pw")}).find(host, "") is not None) is matches


def test_a_plain_key_beats_its_old_spelling(tmp_path: Path) -> None:
    """Both may be there; the order in the file does not count."""
    auths = {"https://r.example/v1/": auth("old", "pw"), "r.example": auth("new", "pw")}
    assert users(docker(tmp_path, auths), "r.example", "") == ["new"]
    assert users(docker(tmp_path, dict(reversed(auths.items()))), "r.example", "") == ["new"]


def test_a_password_may_hold_colons(tmp_path: Path) -> None:
    """`auth` is split at the first colon and its NULs are dropped."""
    encoded = base64.b64encode(b"robot$x:a:b:c\0\0").decode()
    file = docker(tmp_path, {"r.example": {"auth": encoded}})
    assert pair(file.find("r.example", "")) == ("robot$x", "a:b:c")


def test_user_and_password_may_stand_by_themselves(tmp_path: Path) -> None:
    """As Kubernetes writes them; `auth` wins when both are there."""
    plain = {"username": "me", "password": "pw"}
    file = docker(tmp_path, {"a.example": plain, "b.example": {**plain, **auth("you", "other")}})
    assert pair(file.find("a.example", "")) == ("me", "pw")
    assert pair(file.find("b.example", "")) == ("you", "other")


def test_tokens_are_kept_apart_from_passwords(tmp_path: Path) -> None:
    """One is for the token server, the other for the registry as it is."""
    entry = {**auth("me", ""), "identitytoken": "idt", "registrytoken": "rt", "email": "me@example.com"}
    found = docker(tmp_path, {"r.example": entry}).find("r.example", "")
    assert found is not None
    assert (found.identity_token, found.registry_token, found.password) == ("idt", "rt", "")


def test_an_empty_entry_is_no_login(tmp_path: Path) -> None:
    """`{}` means that a helper has it; without one there is nothing."""
    file = docker(tmp_path, {"r.example": {}})
    assert file.find("r.example", "") is None
    assert file.blocked("r.example", "") == ""


def test_namespaces_match_by_whole_parts_the_longest_first(tmp_path: Path) -> None:
    """containers-auth.json(5): `host/a/b/c`, `host/a/b`, `host/a`, `host`."""
    auths = {
        "r.example": auth("host", "pw"),
        "r.example/a": auth("a", "pw"),
        "r.example/a/b": auth("ab", "pw"),
        "r.example/v1": auth("v1", "pw"),
        "docker.io/library": auth("lib", "pw"),
    }
    file = write(tmp_path / "auth.json", {"auths": auths})
    asked = ("a/b/c", "a/b", "a/bc", "a", "ab", "x", "v1/x", "")
    assert users(file, "r.example", *asked) == ["ab", "ab", "a", "a", "host", "host", "v1", "host"]
    assert users(file, "docker.io", "library/alpine", "other/x", "") == ["lib", None, None]


SECRETS = {"auths": {"r.example": auth("me", "SECRET-PASSWORD")}}


def secret(**data: str) -> dict[str, Any]:
    """A manifest as the API server keeps it."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull"}, **data}


@pytest.mark.parametrize("as_text", [json.dumps, yaml.safe_dump], ids=["json", "yaml"])
@pytest.mark.parametrize("key", [".dockerconfigjson", ".dockercfg"])
@pytest.mark.parametrize("field", ["data", "stringData"])
def test_a_secret_is_read_as_it_is_kept(tmp_path: Path, as_text: Any, key: str, field: str) -> None:
    """The manifest itself, of the new type or the old one, in JSON or YAML."""
    inner = json.dumps(SECRETS if key == ".dockerconfigjson" else SECRETS["auths"])
    value = inner if field == "stringData" else base64.encodebytes(inner.encode()).decode()
    path = tmp_path / "pull-secret"
    path.write_text(as_text(secret(**{field: {key: value}})))
    assert pair(AuthFile(path).find("r.example", "")) == ("me", "SECRET-PASSWORD")


@pytest.mark.parametrize("name", [".dockercfg", "config.json"])
def test_the_old_file_has_its_hosts_at_the_top(tmp_path: Path, name: str) -> None:
    """What docker wrote before 1.7, and legacy secrets hold."""
    file = write(tmp_path / name, {"https://r.example/v1/": {**auth("me", "pw"), "email": "x"}})
    assert pair(file.find("r.example", "")) == ("me", "pw")


def test_a_config_without_logins_has_none(tmp_path: Path) -> None:
    """Docker keeps other settings in the same file."""
    file = write(tmp_path / "config.json", {"proxies": {"default": {"httpProxy": "x"}}, "HttpHeaders": {}})
    assert file.find("r.example", "") is None


def test_patterns_of_a_secret_match_label_by_label(tmp_path: Path) -> None:
    """As the kubelet does; the longest that fits is used, an exact host before a pattern."""
    auths = {
        "*.example.com": auth("any", "pw"),
        "*.example.com/team": auth("team", "pw"),
        "r?.eu-*.example.com:5000": auth("port", "pw"),
        "exact.example.com": auth("exact", "pw"),
    }
    file = write(tmp_path / ".dockerconfigjson", {"auths": auths})
    assert users(file, "r.example.com", "team/app", "teams/app", "") == ["team", "any", "any"]
    assert users(file, "exact.example.com", "x", "team/x") == ["exact", "team"]
    assert users(file, "r1.eu-west.example.com:5000", "x") == ["port"]
    for host in ("example.com", "a.b.example.com", "r.example.com:5000", "rx.example.com.evil.example"):
        assert users(file, host, "x") == [None], host


@pytest.mark.parametrize("key", ["*", "*.*", "*.com", "*.*.com", "r.*", "*:5000", "r.example.*", "[a-z].b.c"])
def test_a_pattern_that_fits_strangers_is_refused(tmp_path: Path, key: str) -> None:
    """A job's author could bring a host that it fits, and would be sent the login."""
    file = write(tmp_path / ".dockerconfigjson", {"auths": {key: auth("me", "SECRET-PASSWORD")}})
    if key.startswith("["):  # the spelling of an IPv6 address; it can match nothing else
        assert file.find("a.b.c", "") is None
        return
    with pytest.raises(ConfigInvalid, match=r"spell out|write it out"):
        file.find("r.example.com", "")


def test_a_missing_file_is_no_error_and_a_new_one_is_seen(tmp_path: Path) -> None:
    """`docker login` after the start counts without a restart; so does `docker logout`."""
    file = AuthFile(tmp_path / "folder" / "config.json")
    assert file.find("r.example", "") is None
    (tmp_path / "folder").mkdir()
    docker(tmp_path / "folder", {"r.example": auth("me", "pw")})
    assert file.find("r.example", "") is not None
    (tmp_path / "folder" / "config.json").unlink()
    assert file.find("r.example", "") is None


@pytest.mark.parametrize("settled", [False, True])
def test_a_changed_file_is_read_again(tmp_path: Path, settled: bool) -> None:
    """Written in place, renamed over, or behind a link that turns, as a mounted secret's does; also when
    size and time are the same.
    """
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        docker(tmp_path / name, {"r.example": auth(name, "pw")})
        if settled:
            os.utime(tmp_path / name / "config.json", (1_000_000, 1_000_000))
    link, path = tmp_path / "current", tmp_path / "current" / "config.json"
    link.symlink_to("one")
    file = AuthFile(path)
    assert users(file, "r.example", "", "") == ["one", "one"]
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(link)
    assert users(file, "r.example", "") == ["two"]
    docker(tmp_path, {"r.example": auth("six", "pw")})
    (tmp_path / "config.json").rename(path)
    assert users(file, "r.example", "") == ["six"]
    docker(tmp_path / "two", {"r.example": auth("ten", "pw")})
    assert users(file, "r.example", "") == ["ten"]


def test_a_file_changed_twice_within_one_tick_is_read_again(tmp_path: Path) -> None:
    """Clocks of file systems are coarse: size and time may be the same after a second change."""
    file, path = docker(tmp_path, {"r.example": auth("one", "pw")}), tmp_path / "config.json"
    time = path.stat().st_mtime_ns
    assert users(file, "r.example", "") == ["one"]
    docker(tmp_path, {"r.example": auth("two", "pw")})
    os.utime(path, ns=(time, time))
    assert users(file, "r.example", "") == ["two"]


def test_an_empty_file_has_no_logins(tmp_path: Path) -> None:
    """Some tools make it before they fill it."""
    (tmp_path / "config.json").write_text("\n")
    assert AuthFile(tmp_path / "config.json").find("r.example", "") is None


BROKEN = {
    "no JSON": '{"auths": SECRET',
    "not UTF-8": '{"auths": {"SECRET\xff": {}}}',
    "a list": '["SECRET"]',
    "auths is a list": '{"auths": ["SECRET"]}',
    "an entry is text": '{"auths": {"r.example": "SECRET"}}',
    "auth is no base64": '{"auths": {"r.example": {"auth": "SECRET%"}}}',
    "auth has no colon": '{"auths": {"r.example": {"auth": "U0VDUkVU"}}}',
    "auth is a number": '{"auths": {"r.example": {"auth": 5, "password": "SECRET"}}}',
    "a user with a colon": '{"auths": {"r.example": {"username": "a:SECRET", "password": "SECRET"}}}',
    "a token with a newline": '{"auths": {"r.example": {"registrytoken": "SECRET\\nX: y"}}}',
    "half a character": '{"auths": {"r.example": {"username": "me", "password": "SECRET\\ud800"}}}',
    "credHelpers is a list": '{"auths": {}, "credHelpers": ["SECRET"]}',
    "a helper is a number": '{"auths": {}, "credHelpers": {"r.example": 5}, "x": "SECRET"}',
    "credsStore is a list": '{"auths": {}, "credsStore": ["SECRET"]}',
    "a secret without logins": '{"kind": "Secret", "data": {"password": "SECRET"}}',
    "a secret with no base64": '{"kind": "Secret", "data": {".dockerconfigjson": "SECRET%"}}',
    "a secret with no config": '{"kind": "Secret", "stringData": {".dockerconfigjson": "SECRET"}}',
    "a secret of numbers": '{"kind": "Secret", "stringData": {".dockerconfigjson": 5}, "x": "SECRET"}',
    "YAML that is none": "kind: Secret\ndata: [SECRET",
    "too deep": "[" * 100_000 + '"SECRET"',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_named_and_not_quoted(tmp_path: Path, text: str) -> None:
    """Parsers keep the text they failed on; neither it nor they get into our error."""
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigInvalid, match=str(path)) as info:
        AuthFile(path).find("r.example", "")
    assert MARK not in " ".join(texts(info.value))


def test_one_broken_entry_does_not_take_the_others_along(tmp_path: Path) -> None:
    """Only who needs it is told."""
    file = docker(tmp_path, {"a.example": {"auth": "%"}, "b.example": auth("me", "pw")})
    assert file.find("b.example", "") is not None
    with pytest.raises(ConfigInvalid, match=r"a\.example"):
        file.find("a.example", "")


def test_what_is_no_small_file_is_not_read(tmp_path: Path) -> None:
    """A pipe would hang the worker, a disk image would fill its memory."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(b" " * ((1 << 20) + 1))
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("folder", "irectory|regular"), ("large", "larger"), ("pipe", "not a regular file")):
        with pytest.raises(ConfigInvalid, match=reason):
            AuthFile(tmp_path / name).find("r.example", "")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["auths", "credHelpers", "credsStore", "kind", "data", "auth", "r.example", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(text=JSON.map(json.dumps) | st.text(max_size=60), name=st.sampled_from(["auth.json", "config.json"]))
def test_no_file_raises_anything_but_the_typed_error(text: str, name: str) -> None:
    """Whatever stands in it."""
    path = Path(name)
    try:
        entries = parse(text, path)
        for _, key, entry in entries.entries:
            read_entry(entry, key, path)
    except ConfigInvalid as error:
        assert name in error.message


@given(key=st.text(max_size=30), dialect=st.sampled_from(["docker", "containers", "kubernetes"]))
def test_no_key_matches_a_host_that_it_does_not_hold(key: str, dialect: Dialect) -> None:
    """Nothing but a pattern ever matches another host than the one it spells."""
    try:
        found = read_key(key, dialect)
    except ValueError:
        return
    if found is not None and not found.wild and found.matches("victim.example", "team/app"):
        assert "victim.example" in key.lower()


def test_a_pattern_of_many_stars_is_matched_at_once() -> None:
    """Each star may stand for any length, but not all lengths of all stars are tried; the host is a
    stranger's."""
    key = read_key("a*" * 12 + "b.reg.example", "kubernetes")
    assert key is not None
    assert not key.matches("a" * 400 + ".reg.example", "team/app")
    assert key.matches("a" * 400 + "b.reg.example", "team/app")
