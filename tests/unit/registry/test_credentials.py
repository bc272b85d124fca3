"""Credentials are found by host or id, bound to origins, made anew when refused, and shown to nobody."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from distworker.errors import ConfigInvalid, RealmRefused
from distworker.registry.credentials import (
    ConfiguredCredentials,
    Credential,
    CredentialSource,
    Login,
    NoCredentials,
)
from distworker.registry.urls import Origin
from tests.unit.registry.conftest import MARK, texts

HOME = Origin("https", "r.example", 443)
ALL = Credential("SECRET-USER", "SECRET-PASSWORD", "SECRET-IDENTITY", "SECRET-TOKEN")


@dataclass
class Numbered:
    """A `Way` whose login has a number, and one more each time it was refused."""

    hosts: tuple[str, ...]
    number: int = 1
    opened: list[tuple[str, str]] = field(default_factory=list)

    def open(self, host: str, name: str) -> Credential:
        """The login of the moment."""
        self.opened.append((host, name))
        return Credential("me", f"pw{self.number}")

    def refused(self, host: str, credential: Credential) -> None:
        """The next one has the next number."""
        self.number += credential.password == f"pw{self.number}"


@dataclass
class Shelf:
    """A `LoginFile` with one login for one host and repository, or a reason why it has none."""

    host: str
    repository: str = ""
    login: Credential | None = None
    reason: str = ""
    told: list[Credential] = field(default_factory=list)

    def find(self, host: str, repository: str) -> Credential | None:
        """The login, for exactly this place."""
        return self.login if (host, repository) == (self.host, self.repository) else None

    def blocked(self, host: str, repository: str) -> str:
        """The reason, for this host."""
        return self.reason if host == self.host else ""

    def refused(self, host: str, credential: Credential) -> None:
        """Kept in `told`."""
        self.told.append(credential)


def test_a_password_file_is_read_at_use(tmp_path: Path) -> None:
    """A rotated secret is seen; the final newline is not part of it, nor is a mark of the byte order."""
    path = tmp_path / "secret"
    path.write_bytes(b"\xef\xbb\xbfone\r\n")
    source = ConfiguredCredentials({"r": Login(("r.example",), "me", password_file=str(path))})
    first = source.find("r.example")
    path.write_text("two\n")
    second = source.find("r.example")
    assert first and second
    assert (first.password, second.password) == ("one", "two")


def test_a_user_file_is_read_at_use_too(tmp_path: Path) -> None:
    """Secrets of a cluster come as a pair of files."""
    user, password = tmp_path / "user", tmp_path / "password"
    user.write_text("me\n")
    password.write_text("pw\n")
    login = Login(("r.example",), username_file=str(user), password_file=str(password))
    found = login.open("r.example", "r")
    assert (found.username, found.password) == ("me", "pw")


def test_a_missing_password_file_is_named(tmp_path: Path) -> None:
    """The operator learns which file of which credential."""
    source = ConfiguredCredentials({"r": Login(("r.example",), "me", password_file=str(tmp_path / "gone"))})
    with pytest.raises(ConfigInvalid, match=r"'r'.*gone"):
        source.find("r.example")


def test_an_empty_password_file_is_not_an_empty_password(tmp_path: Path) -> None:
    """It is being written just now, or was never filled; a login with it would count as a wrong one."""
    (tmp_path / "empty").write_text("\n")
    login = Login(("r.example",), "me", password_file=str(tmp_path / "empty"))
    with pytest.raises(ConfigInvalid, match="is empty"):
        login.open("r.example", "r")


def test_a_user_with_a_colon_is_refused() -> None:
    """The server would take its end for the beginning of the password (RFC 7617)."""
    with pytest.raises(ConfigInvalid, match="colon"):
        Login(("r.example",), "a:b", "pw").open("r.example", "r")


@pytest.mark.parametrize("field", ["username", "password", "identity_token", "registry_token"])
def test_what_is_no_text_is_refused_before_it_is_sent(field: str) -> None:
    """A variable with bytes of another encoding, for example; Python's own error would quote it."""
    with pytest.raises(ConfigInvalid, match="no text") as info:
        Credential(**{field: f"{MARK}\udcff"})
    assert MARK not in " ".join(texts(info.value))
    assert Credential(**{field: "pässwörd-密"}).fingerprint


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
    assert NoCredentials().find("a.example") is None


def test_names_are_checked_without_making_a_login() -> None:
    """A client is made before it is used, and a provider must not be asked meanwhile."""
    way = Numbered(("a.example",))
    source: CredentialSource = ConfiguredCredentials({"team": way})
    source.check("a.example", "team")
    source.check("a.example", "")
    for host, name in (("evil.example", "team"), ("a.example", "nobody")):
        with pytest.raises(ConfigInvalid):
            source.check(host, name)
    with pytest.raises(ConfigInvalid):
        NoCredentials().check("a.example", "team")
    assert way.opened == []


@pytest.mark.parametrize("host", ["docker.io", "registry-1.docker.io", "index.docker.io", "Docker.IO"])
def test_a_login_for_any_name_of_docker_hub_is_for_all(host: str) -> None:
    """They are one registry."""
    for named in ("docker.io", "registry-1.docker.io"):
        assert ConfiguredCredentials({"hub": Login((named,), "me", "pw")}).find(host) is not None


def test_configured_logins_come_before_files_and_files_in_their_order() -> None:
    """What the operator wrote for distworker beats what other tools left behind."""
    first = Shelf("r.example", "a/b", Credential("first", "pw"))
    second = Shelf("r.example", "a/b", Credential("second", "pw"))
    files = ConfiguredCredentials({}, [first, second])
    both = ConfiguredCredentials({"r": Login(("r.example",), "written", "pw")}, [first, second])
    for source, user in ((files, "first"), (both, "written")):
        found = source.find("r.example", repository="a/b")
        assert found is not None
        assert found.username == user
    assert files.find("r.example", repository="a/c") is None


def test_a_login_that_cannot_be_had_is_told_only_where_nothing_else_is() -> None:
    """A helper that may not run stops nobody who has another login."""
    shelf = Shelf("r.example", reason="the helper may not run; allow it")
    with pytest.raises(ConfigInvalid, match="allow it") as info:
        ConfiguredCredentials({}, [shelf]).find("r.example")
    assert info.value.fields["field"] == "credential_helpers"
    other = Shelf("r.example", "", Credential("me", "pw"))
    assert ConfiguredCredentials({}, [shelf, other]).find("r.example") is not None
    assert ConfiguredCredentials({}, [shelf]).find("other.example") is None


def test_a_refused_login_is_made_anew() -> None:
    """The way that made it and the files hear of it; a login that was replaced meanwhile stays."""
    way, shelf = Numbered(("r.example",)), Shelf("r.example")
    source = ConfiguredCredentials({"r": way}, [shelf])
    first = source.find("r.example", "r", "a/b")
    assert first is not None
    source.refused("r.example", "r", "a/b", first)
    second = source.find("r.example")
    source.refused("r.example", "", "a/b", first)
    third = source.find("r.example")
    assert second and third
    assert (first.password, second.password, third.password) == ("pw1", "pw2", "pw2")
    assert way.opened == [("r.example", "r")] * 3
    assert shelf.told == [first, first]
    NoCredentials().refused("r.example", "", "", first)


def test_a_credential_goes_to_its_origins_only() -> None:
    """Another port, scheme or host is refused, whatever is asked."""
    credential = Credential("me", "pw", identity_token="idt", registry_token="rt").bound_to(frozenset({HOME}))
    assert credential.basic(HOME) == "Basic bWU6cHc="
    assert (credential.bearer(HOME), credential.refresh_token(HOME)) == ("Bearer rt", "idt")
    for other in (
        Origin("http", "r.example", 80),
        Origin("https", "r.example", 444),
        Origin("https", "e.example", 443),
    ):
        for use in (credential.basic, credential.bearer, credential.refresh_token):
            with pytest.raises(RealmRefused):
                use(other)


def test_a_credential_that_was_never_bound_goes_nowhere() -> None:
    """Nothing leaves by accident."""
    with pytest.raises(RealmRefused) as info:
        ALL.basic(HOME)
    assert MARK not in " ".join(texts(info.value))


def test_a_bound_credential_cannot_be_given_more_places() -> None:
    """Binding narrows; whoever holds a bound one cannot redirect it."""
    evil = Origin("https", "evil.example", 443)
    both = frozenset({HOME, Origin("https", "auth.example", 443)})
    bound = ALL.bound_to(both)
    assert bound.bound_to(frozenset({HOME})).origins == {HOME}
    with pytest.raises(RealmRefused, match=r"evil\.example"):
        bound.bound_to(frozenset({HOME, evil}))


@pytest.mark.parametrize("one", [ALL, ALL.bound_to(frozenset({HOME}))])
def test_a_credential_shows_nothing(one: Credential) -> None:
    """However it is printed; the user too, since GitHub takes a token in its place."""
    shown = [repr(one), str(one), f"{one}", f"{one!r:>5}", repr([one]), one.fingerprint]
    shown.append(repr(Login(("r.example",), "me", "SECRET", identity_token="SECRET")))
    assert [text for text in shown if MARK in text] == []


def test_a_credential_does_not_travel() -> None:
    """Not into a message, not into a store, not into a copy that nobody watches."""
    for send in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="does not travel"):
            send(ALL)  # type: ignore[operator]


def test_fingerprints_tell_secrets_apart() -> None:
    """A changed password is another credential to every cache."""
    assert Credential("me", "a").fingerprint != Credential("me", "b").fingerprint
