"""Checker and watcher find what is planted, one plant at a time, and find nothing in what is right."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from deploy.demo.servers import DockerRegistry, Swift, wait_until
from tests.chaos import checker, watcher
from tests.chaos.checker import Checker, Expected, s3_client
from tests.chaos.content import Image, Maker, digest_of, push
from tests.chaos.ledger import PREFIX, LedgerKeys
from tests.chaos.watcher import Watcher

pytestmark = pytest.mark.servers

STATES = ("done", "unchanged", "superseded")


@dataclass
class Arrived:
    """Two images at both ends and in the store, and a ledger in which their job is over."""

    source: DockerRegistry
    destination: DockerRegistry
    images: list[Image]
    s3: Any
    bucket: str
    url: str

    def judge(self) -> list[str]:
        """Kinds of everything that the checker finds."""
        judge = Checker()
        expected = [Expected(image.name, [image.digest]) for image in self.images]
        judge.registry(self.source.port, self.destination.port, expected)
        judge.uploads(self.destination.folder)
        judge.store(self.s3, self.bucket, [name for image in self.images for name in image.blobs])
        with LedgerKeys(self.url) as keys:
            judge.ledger(keys)
            judge.job(keys, "j1", len(self.images), STATES)
        return [finding.kind for finding in judge.findings]

    def own(self, number: int) -> tuple[str, bytes]:
        """The largest blob that only this image has."""
        mine, other = self.images[number].blobs, self.images[1 - number].blobs
        return max((one for one in mine.items() if one[0] not in other), key=lambda one: len(one[1]))

    def file(self, digest: str) -> Path:
        """Where the destination keeps those bytes."""
        name = digest.removeprefix("sha256:")
        folder = self.destination.folder / "data/docker/registry/v2/blobs/sha256"
        return folder / name[:2] / name / "data"

    def object(self, digest: str) -> str:
        """Where the store keeps those bytes."""
        return f"default/blobs/sha256/{digest.removeprefix('sha256:')}"


@pytest.fixture
def ledger(redis_url: str) -> Iterator[redis.Redis]:
    """A ledger in which a job of two images is over."""
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    client.hset(f"{PREFIX}job:j1", mapping={"st": "done", "total": 2, "c:done": 1, "c:unchanged": 1})
    closed = [json.dumps([f"j1-{n}", state, "{}"]) for n, state in enumerate(("done", "unchanged"))]
    client.rpush(f"{PREFIX}out:j1", *closed)
    for name in ("job:j1", "out:j1"):
        client.expire(f"{PREFIX}{name}", 1000)
    client.hset(f"{PREFIX}caps", "host", 4)
    yield client
    client.close()


@pytest.fixture
def arrived(
    new_registry: Callable[..., DockerRegistry],
    swift: Swift,
    redis_url: str,
    ledger: redis.Redis,
    tmp_path: Path,
) -> Iterator[Arrived]:
    """What a good run leaves behind, made by hand."""
    source, destination = new_registry(), new_registry()
    maker = Maker("checker", large=200_000, base=50_000)
    images = [maker.image("team/one", 1), maker.image("team/two", 2)]
    push(source.port, images)
    push(destination.port, images)
    s3 = s3_client(swift.endpoint, swift.access_key, swift.secret_key)
    bucket = f"checker-{tmp_path.name.replace('_', '-').lower()[:40]}-{destination.port}"
    s3.create_bucket(Bucket=bucket)
    here = Arrived(source, destination, images, s3, bucket, redis_url)
    for image in images:
        for digest, data in image.blobs.items():
            s3.put_object(Bucket=bucket, Key=here.object(digest), Body=data)
    yield here
    s3.close()


def test_what_is_right_has_no_findings(arrived: Arrived) -> None:
    """Otherwise nothing that the checker finds would mean anything."""
    assert arrived.judge() == []


def flip(data: bytes) -> bytes:
    """The same with one byte changed."""
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


def test_a_flipped_byte_at_the_destination_is_found(arrived: Arrived) -> None:
    """The size is right, the digest is not."""
    digest, data = arrived.own(0)
    arrived.file(digest).write_bytes(flip(data))
    assert arrived.judge() == [checker.WRONG_BYTES]


def test_a_blob_and_a_tag_that_did_not_arrive_are_found(arrived: Arrived) -> None:
    """The registry was given both and one was taken away again."""
    digest, _ = arrived.own(0)
    arrived.destination.stop()
    repositories = arrived.destination.folder / "data/docker/registry/v2/repositories/team"
    (repositories / "one/_layers/sha256" / digest.removeprefix("sha256:") / "link").unlink()
    (repositories / "two/_manifests/tags/1/current/link").unlink()
    arrived.destination.start()
    assert arrived.judge() == [checker.MISSING, checker.MISSING]


def test_a_tag_that_leads_elsewhere_is_found(arrived: Arrived) -> None:
    """A whole image, and not the one that was asked for."""
    push(arrived.destination.port, [Maker("other").image("team/one", 1)])
    assert checker.WRONG_TAG in arrived.judge()


def test_a_flipped_byte_and_a_hole_in_the_store_are_found(arrived: Arrived) -> None:
    """Every object is reread."""
    digest, data = arrived.own(0)
    arrived.s3.put_object(Bucket=arrived.bucket, Key=arrived.object(digest), Body=flip(data))
    gone, _ = arrived.own(1)
    arrived.s3.delete_object(Bucket=arrived.bucket, Key=arrived.object(gone))
    assert arrived.judge() == [checker.WRONG_OBJECT, checker.MISSING]


def test_what_a_dead_worker_left_in_the_store_is_found(arrived: Arrived) -> None:
    """A multipart that nobody completes, and a staged file."""
    key = arrived.object(digest_of(b"never finished"))
    arrived.s3.create_multipart_upload(Bucket=arrived.bucket, Key=key)
    arrived.s3.put_object(Bucket=arrived.bucket, Key="default/staging/abc/part", Body=b"x")
    assert arrived.judge() == [checker.STAGED, checker.MULTIPART]


def test_an_upload_session_that_nobody_ends_is_found(arrived: Arrived) -> None:
    """The registry itself would keep it for a week. Each kind may be explained, so many times."""
    uploads = arrived.destination.folder / "data/docker/registry/v2/repositories/team/one/_uploads"
    (uploads / "0123").mkdir(parents=True)
    assert arrived.judge() == [checker.SESSION]
    judge = Checker()
    judge.uploads(arrived.destination.folder, explained=1)
    assert (judge.findings, judge.sessions) == ([], 1)
    (uploads / "0123" / "data").write_bytes(b"bytes")
    judge.uploads(arrived.destination.folder, explained=1)
    assert [finding.kind for finding in judge.findings] == [checker.SESSION]
    judge = Checker()
    judge.uploads(arrived.destination.folder, explained=1, unwritten=1)
    assert (judge.findings, judge.unwritten) == ([], 1)
    with closing(http.client.HTTPConnection(arrived.destination.host)) as client:
        client.request("DELETE", "/v2/team/one/blobs/uploads/0123")  # it refuses: that is no state of its own
        assert client.getresponse().status == 404
    wait_until(lambda: "DELETE" in arrived.destination.access_log.read_text(), 10, "the log says it")
    judge = Checker()
    judge.uploads(arrived.destination.folder)
    assert (judge.findings, judge.refused) == ([], 1)


@pytest.mark.parametrize(
    ("kind", "plant"),
    [
        ("lease", lambda r: r.zadd(f"{PREFIX}due", {"d:default/sha256:00": 1})),
        ("slot", lambda r: r.sadd(f"{PREFIX}use:host|", "u:sha256:00@host")),
        ("subscription", lambda r: r.hset(f"{PREFIX}sub:d:default/sha256:00", "u:x", "{}")),
        ("barrier", lambda r: r.sadd(f"{PREFIX}rem:m:j1-0", "u:x")),
        ("finished needs", lambda r: r.hset(f"{PREFIX}got:m:j1-0", "u:x", "{}")),
        ("step", lambda r: r.set(f"{PREFIX}s:m:j1-0", "x")),
        ("ready ring", lambda r: r.rpush(f"{PREFIX}ring:u", "j1|host|")),
        ("ready step", lambda r: r.zadd(f"{PREFIX}rdy:u|j1|host|", {"u:x": 1})),
        ("ranks of subscriptions", lambda r: r.zadd(f"{PREFIX}rnk:d:default/sha256:00", {"u:x": 1})),
        ("step not yet told", lambda r: r.sadd(f"{PREFIX}draining", "d:default/sha256:00")),
        ("kept upload session", lambda r: r.zadd(f"{PREFIX}sessions", {"u:x": 1})),
        ("parked pairs", lambda r: r.sadd(f"{PREFIX}park:j|j1", "u5|j1|host|")),
        ("walk through a paused job", lambda r: r.hset(f"{PREFIX}walks", "j1", "0")),
        ("running set", lambda r: r.sadd(f"{PREFIX}run:j1", "u:x")),
        ("running step", lambda r: r.sadd(f"{PREFIX}fly:layers", "u:x")),
        ("open image", lambda r: r.sadd(f"{PREFIX}img:j1", "j1-0")),
        ("open job", lambda r: r.sadd(f"{PREFIX}open", "j1")),
        ("key without an end", lambda r: r.set(f"{PREFIX}lane:host/team/one:1", "1")),
    ],
)
def test_an_orphan_in_the_ledger_is_found(
    ledger: redis.Redis, redis_url: str, kind: str, plant: Callable[[redis.Redis], object]
) -> None:
    """One of each kind, and it is called by its name."""
    plant(ledger)
    judge = Checker()
    with LedgerKeys(redis_url) as keys:
        judge.ledger(keys)
    assert [finding.what.partition(":")[0] for finding in judge.findings] == [kind]


@pytest.mark.parametrize(
    ("kind", "plant"),
    [
        (checker.MISCOUNTED, lambda r: r.rpush(f"{PREFIX}out:j1", json.dumps(["j1-0", "done", "{}"]))),
        (checker.MISCOUNTED, lambda r: r.rpop(f"{PREFIX}out:j1")),
        (checker.MISCOUNTED, lambda r: r.hset(f"{PREFIX}job:j1", "c:done", 2)),
        (checker.MISCOUNTED, lambda r: r.hset(f"{PREFIX}job:j1", "total", 3)),
        (checker.MISCOUNTED, lambda r: r.delete(f"{PREFIX}job:j1")),
        (checker.NOT_DONE, lambda r: r.hset(f"{PREFIX}job:j1", "st", "running")),
        (checker.NOT_DONE, lambda r: r.lset(f"{PREFIX}out:j1", 0, json.dumps(["j1-0", "failed", "{}"]))),
    ],
    ids=["closed twice", "never closed", "counter", "total", "no job", "open", "failed"],
)
def test_an_image_that_is_not_accounted_for_exactly_once_is_found(
    ledger: redis.Redis, redis_url: str, kind: str, plant: Callable[[redis.Redis], object]
) -> None:
    """Records, counters and the list of the job must say the same."""
    plant(ledger)
    judge = Checker()
    with LedgerKeys(redis_url) as keys:
        judge.job(keys, "j1", 2, STATES)
    assert kind in {finding.kind for finding in judge.findings}


# --- the watcher --------------------------------------------------------------------------------------------


def test_a_tag_before_its_blob_is_early(registry: DockerRegistry) -> None:
    """At the first sight of the tag everything below it must be there; whatever comes later is too late."""
    image = Maker("early").image("team/app", 1)
    push(registry.port, [image])
    digest = max(image.blobs, key=lambda name: len(image.blobs[name]))
    registry.stop()
    link = registry.folder / "data/docker/registry/v2/repositories/team/app/_layers/sha256"
    (link / digest.removeprefix("sha256:") / "link").unlink()
    registry.start()
    watching = Watcher(registry.port, {image.name: [image.digest]})

    watching.look()

    watching.close()
    assert [(one.kind, digest in one.what) for one in watching.findings] == [(watcher.EARLY, True)]


def test_a_tag_that_goes_back_vanishes_or_is_strange_is_found(registry: DockerRegistry) -> None:
    """Older, gone, unknown; and a tag that only went forward is none of these."""
    maker = Maker("back")
    old, new = (maker.image("team/app", 1, version=version) for version in (1, 2))
    strange = maker.image("team/app", 1, version=3)
    watching = Watcher(registry.port, {old.name: [old.digest, new.digest]})
    watching.look()
    for image in (old, new):
        push(registry.port, [image])
        watching.look()
    assert watching.findings == []
    for image in (old, strange):
        push(registry.port, [image])
        watching.look()
    registry.stop()
    (
        registry.folder / "data/docker/registry/v2/repositories/team/app/_manifests/tags/1/current/link"
    ).unlink()
    registry.start()
    watching.close()
    watching.look()

    watching.close()
    assert [one.kind for one in watching.findings] == [watcher.BACK, watcher.STRANGE, watcher.GONE]
