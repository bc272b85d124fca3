"""A store that is full, fails or is not ours: one clear line, the old tag stands, other images arrive.

The store is a real S3 server behind a proxy that refuses what a test tells it to; each test names the blob of
one image, so that the rest of the same job shows that it is not touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from deploy.demo.servers import Swift
from distworker.blobstore.s3 import S3Options, S3Store
from tests.conftest import swift_options
from tests.fakes.s3_proxy import S3Proxy
from tests.images import Pushed, digest_at
from tests.scenarios.conftest import s3_table
from tests.scenarios.fleet import Fleet, Ran, wait_for
from tests.scenarios.site import Site, images, site
from tests.scenarios.traffic import kept_blobs

pytestmark = pytest.mark.servers


@dataclass
class Shop:
    """A fleet whose store may refuse, and a second way into that store."""

    site: Site
    proxy: S3Proxy
    options: S3Options

    def run(self, *names: str) -> tuple[Ran, Mapping[str, dict[str, Any]]]:
        """A job over `{name}` of the source; returns it with its closed images."""
        here = self.site
        ran = here.fleet.migrate([here.pair(f"{here.source.host}/{name}:1", name) for name in names])
        return ran, images(ran)

    def stranger(self, **changes: Any) -> Fleet:
        """The same fleet as seen by somebody whose settings of the store are wrong."""
        fleet = self.site.fleet
        wrong = replace(self.options, endpoint=self.proxy.endpoint, **changes)
        return Fleet(fleet.folder / "stranger", fleet.valkey, s3_table(wrong), fleet.registries)

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """Every job that is known."""
        events = self.site.fleet.run("status", "--json").events
        return [event for event in events if event["event"] == "job"]

    @property
    def kept(self) -> Mapping[str, int]:
        """The blobs of the store, each proved to hash to its name."""
        store = S3Store(self.options)
        try:
            return kept_blobs(store)
        finally:
            store.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, swift: Swift) -> Iterator[Shop]:
    """One installation for all tests here."""
    options = swift_options(swift, prefix="store-faults")
    with S3Proxy(swift.endpoint) as proxy:
        table = s3_table(replace(options, endpoint=proxy.endpoint))
        with site(tmp_path_factory.mktemp("shop"), table) as here:
            here.fleet.start_workers(2)
            yield Shop(here, proxy, options)


@pytest.fixture
def shop(shared: Shop) -> Iterator[Shop]:
    """The installation with a store that refuses nothing yet."""
    yield shared
    shared.proxy.forgive()


def layer(image: Pushed) -> str:
    """The hex of the image's largest blob, as it stands in the store's keys."""
    return max(image.blobs, key=lambda one: image.blobs[one]).partition(":")[2]


def test_what_the_store_does_not_take_waits_until_it_does(shop: Shop) -> None:
    """The typed line says what to mend; old tags stand; other images arrive; no attempt is charged."""
    here = shop.site
    refusals = {
        "full": (507, "InsufficientStorage", "store_full: ", "no room", "free some space or raise its quota"),
        "quota": (403, "QuotaExceeded", "store_full: ", "no room", "free some space or raise its quota"),
        "broken": (500, "InternalError", "store_unavailable: ", "the server failed", "(500 InternalError)"),
        "slow": (503, "SlowDown", "store_unavailable: ", "it is overloaded", "(503 SlowDown)"),
        "expired": (400, "ExpiredToken", "store_unavailable: ", "token has expired; give a new one"),
        "skewed": (403, "RequestTimeTooSkewed", "store_unavailable: ", "clock and this machine's differ"),
        "denied": (403, "AccessDenied", "store_unavailable: ", "access is denied", "the key needs to"),
    }
    wanted = {name: here.image(name, name) for name in (*refusals, "good")}
    old = {name: here.old(name) for name in refusals}
    for name, (status, code, *_) in refusals.items():
        shop.proxy.refuse("PUT", layer(wanted[name]), status, code)
    pairs = [here.pair(f"{here.source.host}/{name}:1", name) for name in wanted]

    # When the store refuses the layers of all images but one
    job = here.fleet.migrate(pairs, "--detach").events[0]["job"]
    here.fleet.until(job, lambda view: view["images"]["done"] == 1, "the last one arrives")

    # Then the others wait, each with its reason
    def said(name: str) -> bool:
        lines = [line for line in here.fleet.logs().splitlines() if layer(wanted[name]) in line]
        return any(
            "given back" in line and all(part in line for part in refusals[name][2:]) for line in lines
        )

    wait_for(lambda: all(said(name) for name in refusals), "the log says what each waits for")
    assert here.fleet.look(job)["images"]["failed"] == 0
    kept = shop.kept
    for name in refusals:
        assert digest_at(f"{here.destination.host}/{name}:1") == old[name].digest
        assert here.whole(here.destination, name, wanted[name])
        assert f"sha256:{layer(wanted[name])}" not in kept

    # And arrive when the store is well
    shop.proxy.forgive()
    view = here.fleet.until_over(job)
    assert view["state"] == "done", here.fleet.logs()
    assert {name: digest_at(f"{here.destination.host}/{name}:1") for name in wanted} == {
        name: image.digest for name, image in wanted.items()
    }
    assert "tries again" not in here.fleet.logs(), "no attempt was charged"


def test_a_store_that_fails_for_a_while_costs_nothing_but_time(shop: Shop) -> None:
    """More failures in a row than the S3 client tries in place: the step comes back and the job succeeds."""
    here = shop.site
    image = here.image("shaky", "shaky")
    writing = shop.proxy.refuse("PUT", layer(image), 500, "InternalError", times=4)
    reading = shop.proxy.refuse("GET", layer(image), 503, "SlowDown", times=2)

    ran, _ = shop.run("shaky")

    assert ran.code == 0, ran.text
    assert digest_at(f"{here.destination.host}/shaky:1") == image.digest
    assert set(image.blobs) <= set(shop.kept)
    assert writing.met == 4
    assert reading.met <= 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"bucket": "nobody-made-this"},
            ("store_unavailable: ", "the bucket does not exist", "nobody-made-this"),
        ),
        ({"secret_key": "wrong"}, ("store_unavailable: ", "access key and secret key do not fit together")),
        ({"access_key": "nobody:here"}, ("store_unavailable: ", "access key")),
    ],
)
def test_a_submit_that_cannot_write_the_store_is_exit_3_and_starts_nothing(
    shop: Shop, changes: dict[str, str], words: tuple[str, ...]
) -> None:
    """The job is written to the store before anybody hears of it."""
    here = shop.site
    before = shop.jobs

    ran = shop.stranger(**changes).run("copy", f"{here.source.host}/any:1", f"{here.destination.host}/any:1")

    print(ran.err)
    assert ran.code == 3, ran.text
    assert len(ran.err.splitlines()) == 1, ran.text
    assert [part for part in words if part not in ran.err] == []
    assert shop.jobs == before


def test_a_submit_to_a_full_store_is_exit_3_and_starts_nothing(shop: Shop) -> None:
    """Said at once, by the command itself."""
    here = shop.site
    shop.proxy.refuse("PUT", "/jobs/", 507, "InsufficientStorage")
    before = shop.jobs

    ran = here.fleet.run("copy", f"{here.source.host}/any:1", f"{here.destination.host}/any:1")

    assert ran.code == 3, ran.text
    assert ran.err.startswith("store_full: "), ran.text
    assert "free some space or raise its quota" in ran.err
    assert shop.jobs == before
