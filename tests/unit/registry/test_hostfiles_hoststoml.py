"""containerd's hosts.toml: where it is looked for, what is read of it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from distworker.errors import ConfigInvalid
from distworker.registry.hostfiles.hoststoml import Host, Hosts, hosts_for
from distworker.registry.hostfiles.toml import read_toml
from distworker.registry.tls import TLSFiles

HOST = "r.example"
Write = Callable[..., list[str]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a hosts.toml; gives the roots."""

    def make(text: str, folder: str = HOST) -> list[str]:
        path = tmp_path / folder
        path.mkdir(parents=True)
        (path / "hosts.toml").write_text(text)
        return [str(tmp_path)]

    return make


def only(roots: list[str], host: str = HOST) -> Host:
    """The one host that is named."""
    (found,) = hosts_for(roots, host).hosts
    return found


def test_folders_are_looked_for_as_containerd_does(write: Write) -> None:
    """`host_port_` where a colon is no file name, then `host:port`, then `_default`."""
    for folder in ("_default", "r.example:5000", "r.example_5000_", "docker.io"):
        roots = write(f'server = "https://{folder.strip("_").replace("_", "-").replace(":", "-")}"\n', folder)
    names = {
        "r.example:5000": "r.example-5000",
        "r.example": "default",
        "r.example:5001": "default",
        "registry-1.docker.io": "docker.io",
    }
    for host, server in names.items():
        found = hosts_for(roots, host).server
        assert found is not None
        assert found.host == server
    assert "_5000_" in hosts_for(roots, "r.example:5000").path
    assert hosts_for([], "r.example") == Hosts()


def test_everything_that_may_be_said(write: Write, tmp_path: Path) -> None:
    """Paths count from the file's folder; hosts keep their order."""
    roots = write(
        'server = "https://up.example"\nca = "/etc/up.pem"\n'
        '[host."https://m.example:5000"]\n'
        'capabilities = ["pull", "resolve"]\nca = ["one.pem", "/two.pem"]\n'
        'client = [["c.cert", "c.key"]]\nskip_verify = false\ndial_timeout = "1m2.5s"\n'
        '[host."http://n.example"]\nclient = "both.pem"\n'
    )
    found = hosts_for(roots, HOST)
    folder = tmp_path / HOST
    first = Host(
        host="m.example:5000",
        plain_http=False,
        root="/v2",
        prefix="",
        pulls=True,
        resolves=True,
        files=TLSFiles((f"{folder}/one.pem", "/two.pem"), ((f"{folder}/c.cert", f"{folder}/c.key"),)),
        connect_timeout=62.5,
    )
    assert found.hosts[0] == first
    assert (found.hosts[1].host, found.hosts[1].plain_http) == ("n.example", True)
    assert found.hosts[1].files == TLSFiles(pairs=((f"{folder}/both.pem", ""),))
    assert found.server is not None
    assert found.server.files == TLSFiles(("/etc/up.pem",))


@pytest.mark.parametrize(
    ("url", "override", "root", "prefix"),
    [
        ("https://m.example", False, "/v2", ""),
        ("https://m.example/", False, "/v2", ""),
        ("m.example", False, "/v2", ""),
        ("https://m.example/v2", False, "/v2", ""),
        ("https://m.example/v2/", True, "/v2", ""),
        ("https://m.example/v2/cache/hub", True, "/v2", "cache/hub"),
        ("https://m.example/v2/cache", False, "/v2", "cache/v2"),
        ("https://m.example/v2/Cache", True, "/v2/Cache", ""),
        ("https://m.example/api/hub", False, "/api/hub/v2", ""),
        ("https://m.example/api/hub", True, "/api/hub", ""),
        ("https://m.example", True, "", ""),
    ],
)
def test_where_the_api_begins(write: Write, url: str, override: bool, root: str, prefix: str) -> None:
    """`/v2` is added unless it is there or overridden; below `/v2/` a path is part of the names."""
    said = "override_path = true" if override else ""
    found = only(write(f'[host."{url}"]\n{said}\n'))
    assert (found.host, found.root, found.prefix) == ("m.example", root, prefix)


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ('[host."https://m.example"]\nskip_verify = true', "skip_verify", "always checked"),
        ("skip_verify = true", "skip_verify", "always checked"),
        ('[host."https://m.example".header]\nx = "SECRET"', "header", "registries.toml"),
        ('[host."https://m.example"]\nskip_verify = "no"', "skip_verify", "true or false"),
        ('[host."https://m.example"]\ndial_timeout = "soon"', "dial_timeout", "5s"),
        ('[host."https://m.example"]\ndial_timeout = 5', "dial_timeout", "quotes"),
        ('[host."https://m.example"]\nclient = 5', "client", r"\[certificate, key\]"),
        ('[host."https://m.example"]\nclient = [["a", "b", "c"]]', "client", r"\[certificate, key\]"),
        ('[host."https://m.example"]\nclient = ["a", "b"]', "client", "keep one"),
        ('[host."https://m.example"]\ncapabilities = [5]', "capabilities", "list of texts"),
        ('[host."ftp://m.example"]', "host", "neither http nor https"),
        ('[host."https://me:SECRET@m.example"]', "host", "user name"),
        ('[host."https://m.example/../x"]', "host", "characters"),
        ('[host."https://m.example/?a=b"]', "host", "characters"),
        ('server = "https://"', "server", "neither http nor https"),
        ("host = 5", "host", "tables such as"),
        ("[host]\nx = 5", "host", "tables such as"),
    ],
)
def test_what_is_refused_names_file_key_and_remedy(write: Write, text: str, key: str, reason: str) -> None:
    """Nothing that would weaken a connection is skipped in silence, and no secret is repeated."""
    with pytest.raises(ConfigInvalid, match=rf"hosts\.toml: .*{key}: .*{reason}") as caught:
        hosts_for(write(text), HOST)
    assert caught.value.fields["field"] == key
    assert "SECRET" not in caught.value.message


def test_broken_toml_names_the_line(write: Write) -> None:
    """As every file of settings does."""
    with pytest.raises(ConfigInvalid, match=r"hosts\.toml: not valid TOML: .*line 2"):
        hosts_for(write('server = "https://m.example"\n[host\n'), HOST)


def test_unknown_keys_and_capabilities_are_told_once(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    """containerd grows; a file for a newer one must not stop us."""
    roots = write('new = 1\n[host."https://m.example"]\nnewer = 2\ncapabilities = ["pull", "newest"]\n')
    assert only(roots) == only(roots)
    assert [caplog.text.count(f": {key}: this key") for key in ("new", "newer", "newest")] == [1, 1, 1]


def test_a_folder_without_a_file_holds_certificates(tmp_path: Path) -> None:
    """containerd reads docker's way there too."""
    (tmp_path / HOST).mkdir()
    assert hosts_for([str(tmp_path)], HOST) == Hosts(folder=f"{tmp_path}/{HOST}")


def test_a_file_that_is_no_text_is_named(write: Write, tmp_path: Path) -> None:
    """Or that cannot be opened."""
    roots = write("")
    (tmp_path / HOST / "hosts.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigInvalid, match="not UTF-8"):
        hosts_for(roots, HOST)
    with pytest.raises(ConfigInvalid, match="cannot be read: Is a directory"):
        read_toml(tmp_path)
