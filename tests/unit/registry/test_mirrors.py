"""Reading through mirrors: their order, what goes wrong with them, and what they never get to see."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distworker.digest import Digest
from distworker.errors import (
    AddressRefused,
    AuthRequired,
    BlobUnknown,
    DigestMismatch,
    ManifestUnknown,
    Unavailable,
)
from distworker.registry.waits import MIRROR_REST
from tests.fakes.mirrors import DATA, MIRROR, OCI, SECOND, Site, read
from tests.fakes.registry_server import Answer, Twist
from tests.fakes.world import REG, REG2
from tests.unit.registry.conftest import Sent, fails


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


def test_without_mirrors_a_source_is_the_client_itself(site: Site) -> None:
    """Nothing is paid for what is not used."""
    pool = site.pool()
    assert pool.source(REG) is pool.client(REG)


def test_a_login_that_only_the_registry_needs_is_told_as_ever(site: Site) -> None:
    """The error of the last in the row is the one that an operator can act on."""
    site.world.reg.user, site.world.reg.password = "me", "SECRET-ORIGIN"
    with fails(AuthRequired, registry=REG):
        site.source().get_manifest("team/app", "v1")
