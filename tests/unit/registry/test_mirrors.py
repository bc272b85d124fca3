"""Reading through mirrors: their order, what goes wrong with them, and what they never get to see."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distworker.digest import Digest
from distworker.errors import (
    AddressRefused,
    AuthRequired,
    BlobUnknown,
    ConfigInvalid,
    Denied,
    DigestMismatch,
    ManifestUnknown,
    Unavailable,
)
from distworker.registry.addresses import AddressPolicy
from distworker.registry.base import Registry
from distworker.registry.client import RegistryPool
from distworker.registry.credentials import ConfiguredCredentials, Login
from distworker.registry.door import Target
from distworker.registry.hostfiles.router import HostFiles
from distworker.registry.profiles import HostProfile
from distworker.registry.waits import CONNECT_TIMEOUT, MIRROR_REST
from distworker.retrying import Backoff
from tests.fakes.network import Authority, make_authority
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import Answer, Twist
from tests.fakes.world import NAMES, REG, REG2, World
from tests.unit.registry.conftest import Sent, fails

MIRROR, SECOND = "mirror.example", "mirror2.example"
OCI = "application/vnd.oci.image.manifest.v1+json"
DATA = bytes(range(256)) * 64


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One certificate authority for all servers here."""
    return make_authority(tmp_path_factory.mktemp("authority"), *NAMES)


class Site:
    """A world with two mirrors of `reg.example`, which all have the same image unless told otherwise."""

    def __init__(self, world: World, authority: Authority) -> None:
        self.world = world
        self._authority = authority
        self._stack: list[RegistryPool] = []
        self.mirror, self.second = FakeRegistry(), FakeRegistry()
        world.add(MIRROR, self.mirror, "44.0.0.6")
        world.add(SECOND, self.second, "44.0.0.7")

    def pool(
        self,
        files: HostFiles | None = None,
        logins: Mapping[str, tuple[str, str]] | None = None,
        **profiles: Mapping[str, Any],
    ) -> RegistryPool:
        """`reg`, `reg2`, `mirror`, `mirror2`: what `registries.toml` says of these hosts. `logins`: host or
        id to user and password."""
        said = {
            f"{name}.example": HostProfile(
                **{"ca_file": str(self._authority.ca_file), **profiles.get(name, {})}
            )
            for name in ("reg", "reg2", "mirror", "mirror2")
        }
        entries = {
            name: Login((REG if name == "own" else name,), *login) for name, login in (logins or {}).items()
        }
        made = RegistryPool(
            said,
            ConfiguredCredentials(entries),
            chunk=4096,
            backoff=Backoff(tries=4),
            sleep=self.world.sleeps.append,
            clock=self.world.clock,
            policy=AddressPolicy(),
            wires=self.world.network,
            files=files,
        )
        self._stack.append(made)
        return made

    def source(self, **reg: Any) -> Registry:
        """`reg.example` read through both mirrors."""
        return self.pool(reg={"mirrors": (MIRROR, SECOND), **reg}).source(REG)

    def blob(self, data: bytes = DATA, *, at: tuple[FakeRegistry, ...] | None = None) -> Digest:
        """Have a blob of `team/app` everywhere, or there only."""
        for server in at or (self.mirror, self.second, self.world.reg):
            server.put_blob("team/app", data)
        return Digest.of(data)

    def image(self, *, at: tuple[FakeRegistry, ...] | None = None) -> Digest:
        """Have an image of one layer (`DATA`) as `team/app:v1`, everywhere or there only."""
        places = at or (self.mirror, self.second, self.world.reg)
        layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": len(DATA)}
        layer["digest"] = self.blob(at=places)
        config = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2}
        config["digest"] = self.blob(b"{}", at=places)
        raw = json.dumps({"schemaVersion": 2, "mediaType": OCI, "config": config, "layers": [layer]}).encode()
        for server in places:
            server.put_manifest("team/app", raw, OCI, "v1")
        return Digest.of(raw)

    def asked(self) -> dict[str, list[str]]:
        """What came to whom, pings left out."""
        servers = {"mirror": self.mirror, "second": self.second, "reg": self.world.reg}
        found = {name: [line for line in one.lines() if line != "GET /v2/"] for name, one in servers.items()}
        return {name: lines for name, lines in found.items() if lines}

    def close(self) -> None:
        """Close all connections."""
        for pool in self._stack:
            pool.close()


@pytest.fixture
def site(tmp_path: Path, authority: Authority) -> Iterator[Site]:
    """Servers and network of one test; what holds for every case of `World` holds here too."""
    with contextlib.ExitStack() as stack:
        world = World(tmp_path, authority, stack)
        made = Site(world, authority)
        stack.callback(made.close)
        yield made
        world.closed()


def read(registry: Registry, digest: Digest, size: int, repository: str = "team/app") -> bytes:
    """The whole blob."""
    with registry.read_blob(repository, digest, size) as blob:
        got = b"".join(bytes(piece) for piece in blob)
        assert blob.verified.digest == digest
    return got


# --- who is asked -------------------------------------------------------------------------------------------
def test_mirrors_are_asked_in_order_and_the_registry_last(site: Site) -> None:
    """Each is told which registry it stands for; only the last one has it."""
    digest = site.blob(at=(site.world.reg,))
    assert read(site.source(), digest, len(DATA)) == DATA
    line = f"GET /v2/team/app/blobs/{digest}"
    assert site.asked() == {"mirror": [line], "second": [line], "reg": [line]}
    queries = [server.seen[-1].query for server in (site.mirror, site.second, site.world.reg)]
    assert queries == [f"ns={REG}", f"ns={REG}", ""]
    assert site.world.sleeps == []


def test_the_first_that_has_it_is_enough(site: Site) -> None:
    """Neither the other mirror nor the registry hears of it."""
    digest, manifest = site.blob(), site.image()
    source = site.source()
    assert read(source, digest, len(DATA)) == DATA
    assert source.get_manifest("team/app", manifest).digest == manifest
    assert source.has_blob("team/app", digest)
    assert list(site.asked()) == ["mirror"]
    assert {one.query for one in site.mirror.seen} == {f"ns={REG}"}


def test_tags_are_the_registrys_business_unless_it_is_said_otherwise(site: Site) -> None:
    """A mirror may be behind; what has a digest cannot be."""
    manifest = site.image()
    source = site.source()
    head = source.head_manifest("team/app", "v1")
    assert head is not None
    assert source.get_manifest("team/app", head.digest).digest == manifest
    assert source.get_manifest("team/app", "v1").digest == manifest
    assert site.asked() == {
        "mirror": [f"GET /v2/team/app/manifests/{manifest}"],
        "reg": ["HEAD /v2/team/app/manifests/v1", "GET /v2/team/app/manifests/v1"],
    }
    assert site.source(mirror_tags=True).head_manifest("team/app", "v1") == head
    assert site.mirror.count("HEAD", "/manifests/v1") == 1


def test_what_nobody_has_is_the_registrys_answer(site: Site) -> None:
    """Its error, with its name in it, and None for a HEAD."""
    digest, source = Digest.of(b"none"), site.source()
    with fails(BlobUnknown, registry=REG, repository="team/app"), source.read_blob("team/app", digest, 4):
        pass
    with fails(ManifestUnknown, registry=REG):
        source.get_manifest("team/app", digest)
    assert source.head_manifest("team/app", digest) is None
    assert not source.has_blob("team/app", digest)


def test_names_get_a_prefix_where_the_mirror_wants_one(site: Site) -> None:
    """A cache for several registries keeps each below a name of its own."""
    digest = site.mirror.put_blob("cache/hub/team/app", DATA)
    source = site.pool(reg={"mirrors": (f"{MIRROR}/cache/hub",)}).source(REG)
    assert read(source, digest, len(DATA)) == DATA
    assert site.asked() == {"mirror": [f"GET /v2/cache/hub/team/app/blobs/{digest}"]}


# --- what goes wrong ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "answer",
    [
        Answer(404),
        Answer(401, {"WWW-Authenticate": 'Basic realm="m"'}),
        Answer(403),
        Answer(429, {"Retry-After": "3600"}),
        Answer(500),
        Answer(503, {"Retry-After": "5"}),
        Answer(hangup=True),
        Answer(200, {"Content-Type": "text/html"}, b"<html>log in</html>"),
        Answer(200, {"Content-Type": OCI}, b'{"schemaVersion": 2}'),
        Answer(302, {"Location": "http://evil.example/"}),
        Answer(302, {"Location": "https://10.0.0.1/"}),
    ],
    ids=lambda one: f"{one.status}-{one.headers}",
)
def test_whatever_a_mirror_answers_the_next_one_has_its_turn(site: Site, answer: Answer) -> None:
    """At once, without waiting, for manifests and for blobs."""
    manifest, digest = site.image(), site.blob()
    for part in ("/manifests/", "/blobs/"):
        site.mirror.always("GET", part, answer)
    assert site.source().get_manifest("team/app", manifest).digest == manifest
    assert read(site.source(), digest, len(DATA)) == DATA
    assert list(site.asked()) == ["mirror", "second"]
    assert site.world.sleeps == []


def test_a_mirror_that_is_away_costs_its_time_once(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """It is left alone for a while, which the log says, and asked again after that."""
    digest = site.blob()
    site.world.network.serve("44.0.0.6", 443, TimeoutError("timed out"))
    source = site.source()
    for _ in range(3):
        assert read(source, digest, len(DATA)) == DATA
    assert site.world.network.dialled.count(("44.0.0.6", 443)) == 1
    assert caplog.text.count(f"mirror {MIRROR} is not asked for 300 s") == 1
    site.world.network.serve("44.0.0.6", 443, site.mirror)
    site.world.clock.forward(MIRROR_REST + 1)
    assert read(source, digest, len(DATA)) == DATA
    assert site.mirror.count("GET", "/blobs/") == 1


def test_a_mirror_that_says_when_to_come_back_is_left_alone_that_long(site: Site) -> None:
    """A counted limit of one hour is not tried every five minutes."""
    digest = site.blob()
    site.mirror.always("GET", "/blobs/", Answer(429, {"Retry-After": "3600"}))
    source = site.source()
    for seconds, asked in ((0, 1), (MIRROR_REST + 1, 1), (3600 - MIRROR_REST, 2)):
        site.world.clock.forward(seconds)
        assert read(source, digest, len(DATA)) == DATA
        assert site.mirror.count("GET", "/blobs/") == asked


def test_a_mirror_that_lacks_something_is_asked_for_the_rest(site: Site) -> None:
    """404 says nothing against it."""
    there, lacking = site.blob(), site.blob(b"elsewhere", at=(site.world.reg,))
    source = site.source()
    assert read(source, lacking, 9) == b"elsewhere"
    assert read(source, there, len(DATA)) == DATA
    assert site.mirror.count("GET", "/blobs/") == 2


def test_wrong_bytes_that_nobody_saw_are_read_elsewhere(site: Site) -> None:
    """A blob of one piece is proven before it is handed out."""
    digest = site.blob(b"right")
    site.mirror.always("GET", "/blobs/", Twist(body=b"wrong"))
    assert read(site.source(), digest, 5) == b"right"
    assert site.second.count("GET", "/blobs/") == 1


def test_a_blob_that_is_too_long_at_a_mirror_is_read_elsewhere(site: Site) -> None:
    """The first bytes would be right; what comes behind them is not the blob's."""
    digest = site.blob(b"right")
    site.mirror.always("GET", "/blobs/", Twist(body=b"right and more", drop=("Content-Length",)))
    assert read(site.source(), digest, 5) == b"right"
    assert site.second.count("GET", "/blobs/") == 1


def test_wrong_bytes_that_were_handed_out_fail_and_pass_the_mirror_by_next_time(site: Site) -> None:
    """They cannot be taken back; the same request succeeds later, so the error says so."""
    digest = site.blob()
    site.mirror.always("GET", "/blobs/", Twist(corrupt=100))
    source = site.source()
    with fails(DigestMismatch, repository="team/app") as caught:
        read(source, digest, len(DATA))
    assert caught[0].retry
    assert read(source, digest, len(DATA)) == DATA
    assert site.asked()["second"]


def test_a_wrong_registry_stays_wrong(site: Site) -> None:
    """Without a mirror's part in it a mismatch is final."""
    digest = site.blob(at=(site.world.reg,))
    site.world.reg.always("GET", "/blobs/", Twist(corrupt=100))
    with fails(DigestMismatch, registry=REG) as caught:
        read(site.source(), digest, len(DATA))
    assert not caught[0].retry


@pytest.mark.parametrize("how", [Twist(cut=9000), Twist(reset=9000)], ids=["cut", "reset"])
def test_a_blob_that_breaks_off_goes_on_elsewhere_at_the_same_byte(site: Site, how: Twist) -> None:
    """What came is not read again, and one hash covers both parts."""
    digest = site.blob()
    site.mirror.always("GET", "/blobs/", replace(how, headers={"ETag": '"of-the-mirror"'}))
    assert read(site.source(), digest, len(DATA)) == DATA
    (rest,) = [one for one in site.second.seen if one.method == "GET"]
    start = int((rest.headers["Range"] or "").removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= 9000
    assert rest.headers["If-Range"] is None  # the tag of one server means nothing at another
    assert site.second.blobs_served[digest] == len(DATA) - start
    assert site.world.sleeps == []


def test_parts_of_two_servers_that_do_not_make_the_blob_are_an_error(site: Site) -> None:
    """A mirror sends wrong bytes and breaks off: the rest from elsewhere does not hide it."""
    digest = site.blob()
    site.mirror.always("GET", "/blobs/", Twist(corrupt=10, cut=9000))
    with fails(DigestMismatch) as caught:
        read(site.source(), digest, len(DATA))
    assert caught[0].retry


def test_the_registry_itself_is_resumed_as_ever(site: Site) -> None:
    """The last in the row has nobody behind it, so it is asked again."""
    digest = site.blob(at=(site.world.reg,))
    site.world.reg.on("GET", "/blobs/", Twist(cut=9000))
    assert read(site.source(), digest, len(DATA)) == DATA
    assert site.world.reg.count("GET", "/blobs/") == 2
    site.world.reg.always("GET", "/blobs/", Answer(503))
    with fails(Unavailable, registry=REG):
        read(site.source(), digest, len(DATA))


# --- logins and addresses -----------------------------------------------------------------------------------
def test_a_mirror_never_sees_the_registrys_login(site: Site) -> None:
    """Though it asks for one in the registry's own way; the registry then gets its login itself."""
    site.world.reg.user, site.world.reg.password = "me", "SECRET-ORIGIN"
    digest = site.blob()
    for server in (site.mirror, site.second):
        server.always("GET", "/v2/", Answer(401, {"WWW-Authenticate": 'Basic realm="fake"'}))
    pool = site.pool(logins={REG: ("me", "SECRET-ORIGIN")}, reg={"mirrors": (MIRROR, SECOND)})
    assert read(pool.source(REG), digest, len(DATA)) == DATA
    assert [one.authorization for one in site.mirror.seen + site.second.seen] == ["", ""]
    assert any(one.authorization for one in site.world.reg.seen)


def test_a_mirror_gets_the_login_of_its_own_host(site: Site) -> None:
    """And the registry is not told that one either."""
    site.mirror.user, site.mirror.password = "cache", "SECRET-MIRROR"
    digest = site.blob()
    pool = site.pool(
        logins={MIRROR: ("cache", "SECRET-MIRROR"), REG: ("me", "SECRET-ORIGIN")},
        reg={"mirrors": (MIRROR,)},
    )
    assert read(pool.source(REG), digest, len(DATA)) == DATA
    assert site.mirror.count("GET", "/blobs/") == 2  # challenged, then answered
    assert site.asked().keys() == {"mirror"}


def test_a_mirror_cannot_have_the_registrys_token(site: Site) -> None:
    """It names the token server that the registry's login is for: asked as by a stranger, and in vain."""
    site.mirror.tokens = site.world.auth
    digest = site.blob()
    pool = site.pool(
        logins={REG: ("me", "SECRET-PASSWORD")},
        reg={"mirrors": (MIRROR,), "token_realms": ("auth.example",)},
    )
    assert read(pool.source(REG), digest, len(DATA)) == DATA
    assert [one.authorization for one in site.world.auth.seen] == [""]
    assert list(site.world.auth.issued.values()) == [set()]


def test_a_job_with_a_credential_of_its_own_reads_from_the_registry_itself(site: Site) -> None:
    """A mirror would hand out content without asking for that credential."""
    digest = site.blob()
    pool = site.pool(logins={"own": ("me", "SECRET-OWN")}, reg={"mirrors": (MIRROR,)})
    assert read(pool.source(REG, "own"), digest, len(DATA)) == DATA
    assert list(site.asked()) == ["reg"]


def test_a_named_mirror_may_be_private_and_stays_closed_to_everybody_else(site: Site) -> None:
    """An operator named it for this; a job that names it as its source is refused."""
    site.world.network.name(MIRROR, "10.0.0.7")
    site.world.network.serve("10.0.0.7", 443, site.mirror)
    site.world.private.add(("10.0.0.7", 443))
    digest = site.blob()
    pool = site.pool(reg={"mirrors": (MIRROR,)})
    assert read(pool.source(REG), digest, len(DATA)) == DATA
    assert list(site.asked()) == ["mirror"]
    dialled = len(site.world.network.dialled)
    with fails(AddressRefused, registry=MIRROR):
        pool.source(MIRROR).get_manifest("team/app", "v1")
    assert len(site.world.network.dialled) == dialled


def test_a_mirrors_storage_host_gets_no_login(site: Site) -> None:
    """The redirect is followed as for any registry."""
    site.mirror.user, site.mirror.password = "cache", "SECRET-MIRROR"
    digest = site.blob(at=(site.mirror, site.world.reg))
    site.mirror.storage = site.world.store
    pool = site.pool(logins={MIRROR: ("cache", "SECRET-MIRROR")}, reg={"mirrors": (MIRROR,)})
    assert read(pool.source(REG), digest, len(DATA)) == DATA
    assert [one.authorization for one in site.world.store.seen] == [""]


# --- writes -------------------------------------------------------------------------------------------------
def test_writes_and_what_is_looked_for_at_a_destination_never_meet_a_mirror(site: Site) -> None:
    """A mirror that has the blob would make us skip the upload that the registry needs."""
    digest = site.blob(at=(site.mirror, site.second))
    manifest = site.image(at=(site.mirror,))
    client = site.pool(reg={"mirrors": (MIRROR, SECOND), "mirror_tags": True}).client(REG)
    assert not client.has_blob("team/app", digest)
    assert client.head_manifest("team/app", manifest) is None
    client.upload_blob("team/app", digest, len(DATA), lambda offset: Sent(DATA[offset:]))
    assert client.has_blob("team/app", digest)
    with fails(ManifestUnknown):
        client.get_manifest("team/app", "v1")
    assert list(site.asked()) == ["reg"]


def test_an_image_is_copied_from_the_mirror_of_its_source_to_its_destination(site: Site) -> None:
    """The whole pipeline: content from the mirror, tag from the registry, nothing at the other mirror."""
    manifest = site.image()
    pool = site.pool(reg={"mirrors": (MIRROR,)}, reg2={"mirrors": (SECOND,)})
    view, outcomes = site.world.copy(f"{REG}/team/app:v1", f"{REG2}/team/app:v1", pool)
    assert view.state == "done", outcomes
    assert site.world.reg2.tag_lists["team/app"]["v1"] == manifest
    assert site.world.reg.count("GET", "/blobs/") == 0
    assert site.mirror.count("GET", f"/manifests/{manifest}") == 1
    assert site.mirror.blobs_served[Digest.of(DATA)] == len(DATA)
    assert site.second.seen == []


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


def test_without_mirrors_a_source_is_the_client_itself(site: Site) -> None:
    """Nothing is paid for what is not used."""
    pool = site.pool()
    assert pool.source(REG) is pool.client(REG)


def test_a_login_that_only_the_registry_needs_is_told_as_ever(site: Site) -> None:
    """The error of the last in the row is the one that an operator can act on."""
    site.world.reg.user, site.world.reg.password = "me", "SECRET-ORIGIN"
    with fails(AuthRequired, registry=REG):
        site.source().get_manifest("team/app", "v1")


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
