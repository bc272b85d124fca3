"""Mirrors that files of other tools name: rules of registries.conf and hosts.toml, kept on real sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from distworker.digest import Digest
from distworker.errors import (
    BlobUnknown,
    ConfigInvalid,
    Denied,
)
from distworker.registry.door import Target
from distworker.registry.hostfiles.router import HostFiles
from distworker.registry.waits import CONNECT_TIMEOUT
from tests.fakes.mirrors import DATA, MIRROR, SECOND, Site, read
from tests.fakes.network import Authority
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import Answer
from tests.fakes.world import REG, REG2
from tests.unit.registry.conftest import Sent, fails

# --- registries.conf ----------------------------------------------------------------------------------------
Conf = Callable[[str], HostFiles]


@pytest.fixture
def conf(tmp_path: Path) -> Conf:
    """Write a registries.conf."""

    def write(text: str) -> HostFiles:
        path = tmp_path / "registries.conf"
        path.write_text(text)
        return HostFiles(registries_conf=str(path))

    return write


def test_registries_conf_rewrites_names_for_mirrors_and_for_the_registry(site: Site, conf: Conf) -> None:
    """Longest prefix; the part below it is kept; the registry's own host is not asked at all."""
    files = conf(
        f'[[registry]]\nprefix = "{REG}"\nblocked = true\n'
        f'[[registry]]\nprefix = "{REG}/team"\nlocation = "{SECOND}/moved"\n'
        f'[[registry.mirror]]\nlocation = "{MIRROR}/cache/team"\n'
    )
    digest = site.second.put_blob("moved/app", DATA)
    assert read(site.pool(files).source(REG), digest, len(DATA)) == DATA
    assert site.asked() == {
        "mirror": [f"GET /v2/cache/team/app/blobs/{digest}"],
        "second": [f"GET /v2/moved/app/blobs/{digest}"],
    }
    assert site.mirror.seen[0].query == ""
    with fails(BlobUnknown, registry=SECOND, repository="moved/app"):
        read(site.pool(files).source(REG), Digest.of(b"x"), 1)


@pytest.mark.parametrize(
    ("rule", "by_tag", "by_digest"),
    [
        ("", "mirror", "mirror"),
        ('pull-from-mirror = "all"', "mirror", "mirror"),
        ('pull-from-mirror = "digest-only"', "reg", "mirror"),
        ('pull-from-mirror = "tag-only"', "mirror", "reg"),
    ],
)
def test_a_mirror_is_asked_for_what_its_rule_says(
    site: Site, conf: Conf, rule: str, by_tag: str, by_digest: str
) -> None:
    """Tags, digests or both."""
    manifest = site.image()
    files = conf(f'[[registry]]\nlocation = "{REG}"\n[[registry.mirror]]\nlocation = "{MIRROR}"\n{rule}\n')
    source = site.pool(files).source(REG)
    source.get_manifest("team/app", "v1")
    assert list(site.asked()) == [by_tag]
    for server in (site.mirror, site.world.reg):
        server.seen.clear()
    source.get_manifest("team/app", manifest)
    assert list(site.asked()) == [by_digest]


def test_what_is_blocked_is_neither_read_nor_written(site: Site, conf: Conf) -> None:
    """Not from its mirrors either; the sentence names the file and the prefix."""
    digest = site.blob()
    files = conf(
        f'[[registry]]\nlocation = "{REG}/team"\nblocked = true\n'
        f'[[registry.mirror]]\nlocation = "{MIRROR}/team"\n'
    )
    pool = site.pool(files)
    source, client = pool.source(REG), pool.client(REG)
    tries: list[Callable[[], object]] = [
        lambda: read(source, digest, len(DATA)),
        lambda: source.get_manifest("team/app", "v1"),
        lambda: client.upload_blob("team/app", digest, len(DATA), lambda offset: Sent(DATA[offset:])),
        lambda: list(client.tags("team/app")),
    ]
    for attempt in tries:
        with fails(Denied, registry=REG, repository="team/app") as caught:
            attempt()
        assert files.registries_conf in caught[0].message
        assert f"{REG}/team" in caught[0].message
        assert not caught[0].retry
    assert site.asked() == {}
    assert client.head_manifest("other/app", "v1") is None


def test_an_insecure_mirror_is_plain_http_and_only_that_one(site: Site, conf: Conf) -> None:
    """Never TLS without a check: the other mirror's certificate is checked as ever."""
    plain = FakeRegistry()
    site.world.add("inner.example", plain, "44.0.0.8", port=5000, tls=False)
    digest = plain.put_blob("team/app", DATA)
    files = conf(
        f'[[registry]]\nlocation = "{REG}"\n'
        f'[[registry.mirror]]\nlocation = "{MIRROR}"\n'
        '[[registry.mirror]]\nlocation = "inner.example:5000"\ninsecure = true\n'
    )
    source = site.pool(files, mirror={"ca_file": ""}).source(REG)
    assert read(source, digest, len(DATA)) == DATA
    assert plain.lines() == [f"GET /v2/team/app/blobs/{digest}"]
    assert site.mirror.seen == []


def test_an_insecure_registry_is_plain_http_for_writes_too(site: Site, conf: Conf) -> None:
    """The entry is about that host and port, whatever is done there."""
    plain = FakeRegistry()
    site.world.add("inner.example", plain, "44.0.0.8", port=5000, tls=False)
    files = conf('[[registry]]\nlocation = "inner.example:5000/team"\ninsecure = true\n')
    client = site.pool(files).client("inner.example:5000")
    client.upload_blob("team/app", Digest.of(DATA), len(DATA), lambda offset: Sent(DATA[offset:]))
    assert plain.holds["team/app"] == {Digest.of(DATA)}


# --- hosts.toml ---------------------------------------------------------------------------------------------
Hosts = Callable[..., HostFiles]


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    """Write a hosts.toml for a host."""

    def write(text: str, folder: str = REG) -> HostFiles:
        path = tmp_path / "hosts" / folder
        path.mkdir(parents=True)
        (path / "hosts.toml").write_text(text)
        return HostFiles(hosts_dirs=(str(tmp_path / "hosts"),))

    return write


@pytest.mark.parametrize("folder", [REG, "_default"])
def test_hosts_toml_gives_order_paths_and_the_server_last(site: Site, hosts: Hosts, folder: str) -> None:
    """With `override_path` names get a prefix; `server` is asked when no host has it."""
    files = hosts(
        f'server = "https://{SECOND}"\n'
        f'[host."https://{MIRROR}/v2/cache"]\ncapabilities = ["pull"]\noverride_path = true\n',
        folder,
    )
    digest = site.second.put_blob("team/app", DATA)
    source = site.pool(files).source(REG)
    assert read(source, digest, len(DATA)) == DATA
    assert site.asked() == {
        "mirror": [f"GET /v2/cache/team/app/blobs/{digest}"],
        "second": [f"GET /v2/team/app/blobs/{digest}"],
    }
    assert (site.mirror.seen[0].query, site.second.seen[0].query) == (f"ns={REG}", f"ns={REG}")


@pytest.mark.parametrize(
    ("capabilities", "by_tag", "by_digest"),
    [
        ('["pull", "resolve"]', "mirror", "mirror"),
        ('["pull"]', "reg", "mirror"),
        ('["resolve"]', "mirror", "reg"),
        ('["push"]', "reg", "reg"),
    ],
)
def test_capabilities_say_what_a_host_is_asked_for(
    site: Site, hosts: Hosts, capabilities: str, by_tag: str, by_digest: str
) -> None:
    """Resolve is for tags, pull for digests; a host that may only be pushed to is not asked."""
    manifest = site.image()
    files = hosts(f'[host."https://{MIRROR}"]\ncapabilities = {capabilities}\n')
    source = site.pool(files).source(REG)
    source.head_manifest("team/app", "v1")
    assert list(site.asked()) == [by_tag]
    for server in (site.mirror, site.world.reg):
        server.seen.clear()
    source.get_manifest("team/app", manifest)
    assert list(site.asked()) == [by_digest]


def test_writes_go_to_the_registry_whatever_hosts_toml_says_of_push(site: Site, hosts: Hosts) -> None:
    """A push that an operator did not expect cannot be taken back."""
    files = hosts(f'server = "https://{SECOND}"\n[host."https://{MIRROR}"]\ncapabilities = ["push"]\n')
    client = site.pool(files).client(REG)
    client.upload_blob("team/app", Digest.of(DATA), len(DATA), lambda offset: Sent(DATA[offset:]))
    assert list(site.asked()) == ["reg"]


def test_a_hosts_own_authority_is_trusted_there_and_nowhere_else(
    site: Site, hosts: Hosts, authority: Authority
) -> None:
    """`ca` of one host says nothing for the next."""
    digest = site.blob()
    files = hosts(f'[host."https://{SECOND}"]\n[host."https://{MIRROR}"]\nca = "{authority.ca_file}"\n')
    source = site.pool(files, mirror={"ca_file": ""}, mirror2={"ca_file": ""}).source(REG)
    assert read(source, digest, len(DATA)) == DATA
    assert list(site.asked()) == ["mirror"]


def test_a_hosts_path_that_is_not_below_v2_is_where_its_api_is(site: Site, hosts: Hosts) -> None:
    """As products with several registries under one host have it."""
    files = hosts(f'[host."https://{MIRROR}/api/docker/hub"]\n')
    digest = site.blob(at=(site.world.reg,))
    assert read(site.pool(files).source(REG), digest, len(DATA)) == DATA
    assert site.asked()["mirror"] == [f"GET /api/docker/hub/v2/team/app/blobs/{digest}"]


def test_a_broken_file_of_one_host_stops_only_that_host(site: Site, hosts: Hosts) -> None:
    """The others are not even looked at."""
    files = hosts("server = \n")
    with pytest.raises(ConfigInvalid, match=r"hosts\.toml: not valid TOML: .*line 1"):
        site.pool(files).source(REG)
    assert site.pool(files).source(REG2).head_manifest("team/app", "v1") is None


def test_all_ways_to_name_mirrors_are_asked_one_after_the_other(site: Site, hosts: Hosts, conf: Conf) -> None:
    """registries.toml first, then registries.conf, then hosts.toml."""
    text = f'[[registry]]\nlocation = "{REG}"\n[[registry.mirror]]\nlocation = "{SECOND}"\n'
    files = HostFiles(
        hosts_dirs=hosts('[host."https://other.example"]\n').hosts_dirs,
        registries_conf=conf(text).registries_conf,
    )
    other = FakeRegistry()
    site.world.add("other.example", other, "44.0.0.9")
    digest = site.blob(at=(site.world.reg,))
    assert read(site.pool(files, reg={"mirrors": (MIRROR,)}).source(REG), digest, len(DATA)) == DATA
    dialled = [address for address, _ in site.world.network.dialled]
    assert dialled == ["44.0.0.6", "44.0.0.7", "44.0.0.9", "44.0.0.1"]


def test_where_a_registry_moved_is_waited_for_like_the_registry(site: Site, conf: Conf) -> None:
    """Nobody comes after it, so a moment's fault is healed in place."""
    manifest = site.image(at=(site.mirror,))
    files = conf(f'[[registry]]\nprefix = "{REG}"\nlocation = "{MIRROR}"\n')
    site.mirror.on("GET", "/manifests/", Answer(503))
    assert site.pool(files).source(REG).get_manifest("team/app", manifest).digest == manifest
    assert len(site.world.sleeps) == 1
    assert list(site.asked()) == ["mirror"]


def test_hosts_toml_may_speak_of_the_registry_itself(site: Site, hosts: Hosts) -> None:
    """The usual file for a plain registry: it is http for writes too, and asked once."""
    plain = FakeRegistry()
    site.world.add("inner.example", plain, "44.0.0.8", port=5000, tls=False)
    url = "http://inner.example:5000"
    files = hosts(
        f'server = "{url}"\n[host."{url}"]\ncapabilities = ["pull", "resolve"]\n', "inner.example_5000_"
    )
    pool = site.pool(files)
    client = pool.client("inner.example:5000")
    client.upload_blob("team/app", Digest.of(DATA), len(DATA), lambda offset: Sent(DATA[offset:]))
    assert pool.source("inner.example:5000").head_manifest("team/app", "v1") is None
    assert plain.count("HEAD", "/manifests/") == 1
    assert plain.holds["team/app"] == {Digest.of(DATA)}


def test_plain_http_against_certificates_is_a_contradiction(site: Site, hosts: Hosts, conf: Conf) -> None:
    """Somebody means this registry to be https: no file of another tool takes that back in silence."""
    for files, name in (
        (conf(f'[[registry]]\nlocation = "{REG}"\ninsecure = true\n'), "registries.conf"),
        (hosts(f'server = "http://{REG}"\n'), "hosts.toml"),
    ):
        with pytest.raises(ConfigInvalid, match=f"{name}: plain http for {REG}, and certificates"):
            site.pool(files).client(REG)
    assert site.world.network.dialled == []


def test_hosts_toml_may_put_the_registry_before_its_mirrors(site: Site, hosts: Hosts) -> None:
    """It is asked in its place, not as a mirror of itself, and once more at the end."""
    files = hosts(f'[host."https://{REG}"]\n[host."https://{MIRROR}"]\n')
    digest = site.blob(at=(site.mirror,))
    source = site.pool(files).source(REG)
    assert read(source, digest, len(DATA)) == DATA
    with fails(BlobUnknown, registry=REG):
        read(source, Digest.of(b"x"), 1)
    assert [one.query for one in site.world.reg.seen] == ["", "", ""]
    dialled = [address for address, _ in site.world.network.dialled]
    assert dialled[:2] == ["44.0.0.1", "44.0.0.6"]


def test_the_authority_of_the_registry_itself_may_stand_in_hosts_toml(
    site: Site, hosts: Hosts, authority: Authority
) -> None:
    """It counts for writes too."""
    files = hosts(f'server = "https://{REG}"\nca = "{authority.ca_file}"\n')
    client = site.pool(files, reg={"ca_file": ""}).client(REG)
    client.upload_blob("team/app", Digest.of(DATA), len(DATA), lambda offset: Sent(DATA[offset:]))
    assert site.world.reg.holds["team/app"] == {Digest.of(DATA)}


def test_a_hosts_own_time_to_connect_is_kept(
    site: Site, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short for a mirror next door, the usual one for the others."""
    digest = site.blob(at=(site.world.reg,))
    given: list[float] = []
    connect = site.world.network.connect

    def watched(target: Target, timeout: float) -> socket.socket:
        given.append(timeout)
        return connect(target, timeout)

    monkeypatch.setattr(site.world.network, "connect", watched)
    files = hosts(f'[host."https://{MIRROR}"]\ndial_timeout = "1500ms"\n')
    assert read(site.pool(files).source(REG), digest, len(DATA)) == DATA
    assert given == [1.5, CONNECT_TIMEOUT]
