"""Credential helpers: real programs, run only if allowed, bounded, and never quoted."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from distworker.errors import ConfigInvalid, RequestTimeout
from distworker.registry.credentials import ConfiguredCredentials
from distworker.registry.logins.authfile import AuthFile
from distworker.registry.logins.helpers import HELPER_MEMORY, HELPER_OUTPUT_MAX, Helpers
from tests.unit.registry.conftest import MARK, fails, texts
from tests.unit.registry.logins.test_files import auth, write

HOST = "r.example"


class Bin:
    """A folder with helpers, and an environment that finds them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(folder)}

    def add(self, name: str, script: str) -> None:
        """A helper; each run adds what it was asked to `asked`."""
        path = self.folder / f"docker-credential-{name}"
        path.write_text(f'#!/bin/sh\nserver=$(cat)\necho "$1 $server" >> {self.folder}/asked\n{script}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def answers(self, name: str, username: str, secret: str) -> None:
        """A helper that has one login."""
        said = json.dumps({"ServerURL": "x", "Username": username, "Secret": secret})
        self.add(name, f"echo '{said}'")

    @property
    def asked(self) -> list[str]:
        """Verb and server of each run."""
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []

    def helpers(self, *allowed: str, **more: Any) -> Helpers:
        """Helpers that may run."""
        return Helpers(allowed or None, self.environment, **more)


@pytest.fixture
def programs(tmp_path: Path) -> Bin:
    """An empty folder for helpers."""
    (tmp_path / "bin").mkdir()
    return Bin(tmp_path / "bin")


def test_a_helper_is_asked_with_the_server_on_its_stdin(programs: Bin) -> None:
    """`get`, the server, JSON back; the answer is kept."""
    programs.answers("pass", "me", "SECRET-PASSWORD")
    helpers = programs.helpers("pass")
    for _ in range(3):
        found = helpers.find("pass", HOST, HOST)
        assert found is not None
        assert (found.username, found.password) == ("me", "SECRET-PASSWORD")
    assert programs.asked == [f"get {HOST}"]


def test_the_user_token_means_an_identity_token(programs: Bin) -> None:
    """`<token>` is docker's mark for it."""
    programs.answers("pass", "<token>", "SECRET-IDENTITY")
    found = programs.helpers("pass").find("pass", HOST, HOST)
    assert found is not None
    assert (found.username, found.password, found.identity_token) == ("", "", "SECRET-IDENTITY")


@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_helper_that_has_nothing_is_no_failure(programs: Bin, stream: str) -> None:
    """It says so and fails; that is remembered too."""
    programs.add("pass", f"echo 'credentials not found in native keychain' >&{stream}; exit 1")
    helpers = programs.helpers("pass")
    assert helpers.find("pass", HOST, HOST) is None
    assert helpers.find("pass", HOST, HOST) is None
    assert len(programs.asked) == 1


def test_an_answer_without_a_secret_is_none(programs: Bin) -> None:
    """Anonymous is better than a wrong password."""
    programs.answers("pass", "me", "")
    assert programs.helpers("pass").find("pass", HOST, HOST) is None


FAILING = {
    "fails": "echo SECRET-ON-STDERR >&2; echo SECRET-ON-STDOUT; exit 3",
    "no JSON": "echo SECRET-TEXT",
    "a list": """echo '["SECRET"]'""",
    "no user": """echo '{"Secret": "SECRET"}'""",
    "a secret that is a number": """echo '{"Username": "SECRET", "Secret": 5}'""",
    "a user with a colon": """echo '{"Username": "a:b", "Secret": "SECRET"}'""",
    "not UTF-8": r"""printf '{"Username": "\377SECRET", "Secret": "x"}'""",
    "endless": "while true; do echo SECRET-SECRET-SECRET-SECRET-SECRET; done",
    "endless on stderr": "while true; do echo SECRET-SECRET-SECRET-SECRET-SECRET >&2; done",
}


@pytest.mark.parametrize("script", FAILING.values(), ids=FAILING.keys())
def test_a_failing_helper_is_named_and_not_quoted(programs: Bin, script: str) -> None:
    """The operator is told to run it by hand; what it wrote may be a secret."""
    programs.add("pass", script)
    with fails(ConfigInvalid, field="credential_helpers", registry=HOST) as caught:
        programs.helpers("pass").find("pass", HOST, HOST)
    assert "docker-credential-pass" in caught[0].message


def test_the_most_a_helper_may_write_is_enough_for_any_answer(programs: Bin) -> None:
    """Tokens of clouds are a few KiB long."""
    programs.answers("pass", "me", "x" * (HELPER_OUTPUT_MAX // 2))
    assert programs.helpers("pass").find("pass", HOST, HOST) is not None


def test_a_helper_that_hangs_is_stopped(programs: Bin) -> None:
    """With everything it started; a child that keeps the pipes open is not waited for."""
    programs.add("pass", "sleep 600 & sleep 600")
    with fails(RequestTimeout, registry=HOST):
        programs.helpers("pass", timeout=0.2).find("pass", HOST, HOST)


def test_a_child_that_outlives_its_helper_is_stopped_too(programs: Bin) -> None:
    """It would hold the pipes open for as long as it likes."""
    programs.add("pass", "sleep 600 & exit 0")
    with fails(RequestTimeout, registry=HOST):
        programs.helpers("pass", timeout=0.2).find("pass", HOST, HOST)


def test_a_helper_that_closes_its_pipes_and_goes_on_is_stopped(programs: Bin) -> None:
    """Its answer counts when it has ended, and well."""
    programs.add("pass", """echo '{"Username": "me", "Secret": "pw"}'; exec >&- 2>&-; sleep 600""")
    with fails(RequestTimeout, registry=HOST):
        programs.helpers("pass", timeout=0.2).find("pass", HOST, HOST)


def test_a_helper_that_is_not_installed_is_named(programs: Bin) -> None:
    """Going on without it once sent logins to another registry (CVE-2021-41092)."""
    with fails(ConfigInvalid, field="credential_helpers", registry=HOST) as caught:
        programs.helpers("gone").find("gone", HOST, HOST)
    assert "docker-credential-gone" in caught[0].message
    assert "PATH" in caught[0].message


def test_a_helper_that_cannot_be_run_is_named(programs: Bin) -> None:
    """A file without the right to be run, for example."""
    (programs.folder / "docker-credential-flat").write_text("SECRET")
    with fails(ConfigInvalid, field="credential_helpers", registry=HOST) as caught:
        programs.helpers("flat").find("flat", HOST, HOST)
    assert "cannot be run" in caught[0].message


def test_a_helper_that_reads_nothing_is_fine(programs: Bin) -> None:
    """It may end before it was told the server."""
    path = programs.folder / "docker-credential-deaf"
    path.write_text("""#!/bin/sh\nexec 0<&-\necho '{"Username": "me", "Secret": "pw"}'\n""")
    path.chmod(0o755)
    assert programs.helpers("deaf").find("deaf", HOST, HOST) is not None


def test_a_helper_sees_only_what_it_needs(programs: Bin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's own variables hold secrets."""
    monkeypatch.setenv("DISTWORKER_STORE_SECRET_KEY", "SECRET-KEY")
    programs.add("pass", f'env > {programs.folder}/seen; echo \'{{"Username": "me", "Secret": "pw"}}\'')
    assert programs.helpers("pass").find("pass", HOST, HOST) is not None
    seen = (programs.folder / "seen").read_text()
    assert f"HOME={programs.folder}" in seen
    assert MARK not in seen


@pytest.mark.parametrize("name", ["", "../evil", "a b", "a;b", "ü", "a\n", "x" * 65])
def test_a_name_that_is_none_never_runs(programs: Bin, name: str) -> None:
    """Even where everything may run."""
    assert not programs.helpers().allows(name)
    assert programs.helpers().allows("ecr-login_2")
    assert not Helpers().allows("ecr-login")


def test_an_answer_gets_old_and_a_refused_one_is_dropped(programs: Bin) -> None:
    """A helper does not say how long its secrets live."""
    now = [0.0]
    helpers = programs.helpers("pass", clock=lambda: now[0])
    programs.answers("pass", "me", "one")
    first = helpers.find("pass", HOST, HOST)
    programs.answers("pass", "me", "two")
    assert first is not None
    helpers.refused("other.example", first)
    assert helpers.find("pass", HOST, HOST) is first
    helpers.refused(HOST, first)
    second = helpers.find("pass", HOST, HOST)
    programs.answers("pass", "me", "three")
    now[0] += HELPER_MEMORY
    third = helpers.find("pass", HOST, HOST)
    assert second and third
    assert (second.password, third.password) == ("two", "three")


# --- which helper, for which host ------------------------------------------------------------------------


def test_the_helper_of_a_host_beats_the_store_which_beats_the_entry(tmp_path: Path, programs: Bin) -> None:
    """As in the docker command; an empty name means the file itself."""
    for name in ("own", "store"):
        programs.answers(name, name, "pw")
    document = {
        "auths": {host: auth("file", "pw") for host in ("a.example", "b.example", "c.example")},
        "credHelpers": {"a.example": "own", "c.example": ""},
        "credsStore": "store",
    }
    write(tmp_path / "config.json", document)
    file = AuthFile(tmp_path / "config.json", programs.helpers("own", "store"))
    found = [file.find(host, "") for host in ("a.example", "b.example", "c.example", "d.example")]
    assert [one and one.username for one in found] == ["own", "store", "file", "store"]
    assert programs.asked == ["get a.example", "get b.example", "get d.example"]


def test_containers_know_no_store_and_ask_for_the_host_alone(tmp_path: Path, programs: Bin) -> None:
    """containers-auth.json(5): helpers are for hosts, whatever the repository."""
    programs.answers("own", "own", "pw")
    document = {"auths": {}, "credHelpers": {"r.example": "own", "docker.io": "own"}, "credsStore": "own"}
    write(tmp_path / "auth.json", document)
    file = AuthFile(tmp_path / "auth.json", programs.helpers("own"))
    assert file.find("r.example", "a/b") is not None
    assert file.find("docker.io", "library/alpine") is not None
    assert file.find("other.example", "a/b") is None
    assert programs.asked == ["get r.example", "get docker.io"]


def test_docker_calls_its_hub_by_an_old_name(tmp_path: Path, programs: Bin) -> None:
    """That is where `docker login` put it."""
    programs.answers("own", "own", "pw")
    write(tmp_path / "config.json", {"credsStore": "own"})
    assert AuthFile(tmp_path / "config.json", programs.helpers("own")).find("docker.io", "x") is not None
    assert programs.asked == ["get https://index.docker.io/v1/"]


def test_a_helper_that_may_not_run_is_passed_over_and_named_where_it_is_missed(
    tmp_path: Path, programs: Bin
) -> None:
    """A file cannot choose what code runs here; other logins go on, and other hosts stay anonymous."""
    programs.answers("own", "own", "SECRET")
    document = {
        "auths": {"a.example": {}, "b.example": auth("me", "pw")},
        "credHelpers": {"c.example": "own", "d.example": "../own"},
        "credsStore": "own",
    }
    write(tmp_path / "config.json", document)
    source = ConfiguredCredentials({}, [AuthFile(tmp_path / "config.json", programs.helpers("other"))])
    assert source.find("b.example") is not None
    assert source.find("e.example") is None
    for host in ("a.example", "c.example", "d.example"):
        with fails(ConfigInvalid, field="credential_helpers", registry=host) as caught:
            source.find(host)
        assert "credential_helpers in distworker.toml" in caught[0].message
    assert programs.asked == []


def test_a_store_that_fails_stops_only_hosts_it_was_promised_for(tmp_path: Path, programs: Bin) -> None:
    """It is asked for every host; a desktop's keychain that is away must not close public registries."""
    document = {"auths": {"a.example": {}}, "credsStore": "desktop"}
    write(tmp_path / "config.json", document)
    file = AuthFile(tmp_path / "config.json", programs.helpers())
    assert file.find("public.example", "") is None
    with pytest.raises(ConfigInvalid, match="docker-credential-desktop") as info:
        file.find("a.example", "")
    assert MARK not in " ".join(texts(info.value))


def test_a_refusal_reaches_the_helper_through_the_source(tmp_path: Path, programs: Bin) -> None:
    """An expired login of a helper is asked for again."""
    programs.answers("own", "me", "one")
    write(tmp_path / "config.json", {"credHelpers": {HOST: "own"}})
    source = ConfiguredCredentials({}, [AuthFile(tmp_path / "config.json", programs.helpers("own"))])
    first = source.find(HOST)
    assert first is not None
    source.refused(HOST, "", "", first)
    assert source.find(HOST) is not None
    assert len(programs.asked) == 2
