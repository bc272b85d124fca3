"""What one worker learns of a registry holds for the fleet: its login, and its wish to be left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.demo.servers import DockerRegistry
from distworker.state.rules import admission_window
from tests.fakes.content import image, layer
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import Answer
from tests.fakes.registry_token import FakeTokenServer
from tests.images import digest_at, push_image
from tests.scenarios.fleet import Fleet, wait_for

pytestmark = pytest.mark.servers

TAGS = [f"t{number}" for number in range(8)]
WORKERS, SLOTS = 2, 2


@pytest.fixture
def source() -> Iterator[FakeRegistry]:
    """A registry with tokens and eight images in one repository."""
    with FakeTokenServer({"robot": "password"}) as tokens, FakeRegistry(tokens=tokens) as registry:
        for tag in TAGS:
            made = image(layer(tag))
            for blob in made.blobs:
                registry.put_blob("team/app", blob)
            registry.put_manifest("team/app", made.manifest.raw, made.manifest.media_type, tag)
        yield registry


def test_two_workers_fetch_one_token_and_heed_one_429(
    fleet: Fleet, ends: tuple[DockerRegistry, DockerRegistry], source: FakeRegistry, tmp_path: Path
) -> None:
    """After the first 429 nobody asks that registry any more, while jobs of other registries go on."""
    other, destination = ends
    tokens = source.tokens
    assert tokens is not None
    push_image(tmp_path, f"{other.host}/other:1")
    fleet.more = 'token_secret = "known to the whole fleet"\n'
    fleet.know(source.host, username="robot", password="password", token_realms=[tokens.host])
    fleet.know(other.host)
    fleet.know(destination.host)
    fleet.start_workers(WORKERS, slots=SLOTS)

    def moves(name: str) -> list[dict[str, str]]:
        return [
            {"source": f"{source.host}/team/app:{tag}", "destination": f"{destination.host}/{name}:{tag}"}
            for tag in TAGS
        ]

    # One token serves both workers
    ran = fleet.migrate(moves("first"))
    assert ran.done["state"] == "done", ran.text + fleet.logs()
    assert all("manifests, " in worker.text() for worker in fleet.workers), "both had a part in it"
    assert len(tokens.seen) == 1, [one.line for one in tokens.seen]

    # One 429 stops both
    source.always("*", "/manifests/", Answer(429, {"Retry-After": "600"}, b"Too Many Requests"))
    asked = len(source.seen)
    job = fleet.migrate(moves("second"), "--detach", name="second").events[0]["job"]
    wait_for(lambda: "given back for 600 s: throttled" in fleet.logs(), "the first is sent away")
    words = ("copy", f"{other.host}/other:1", f"{destination.host}/other:1")
    assert fleet.run(*words).code == 0, fleet.logs()
    met = len(source.seen) - asked
    assert met <= admission_window(WORKERS * SLOTS), "only what was on its way to a worker by then"
    for number in range(2):
        assert fleet.run(*words[:2], f"{destination.host}/again:{number}").code == 0, fleet.logs()
    assert len(source.seen) - asked == met, "nobody asked again"

    # And whoever asks is told why
    stuck = fleet.run("stuck", "--json")
    assert stuck.code == 1
    reasons = " ".join(event["reason"] for event in stuck.events)
    assert source.host in reasons
    assert "asked for a pause" in reasons
    assert fleet.run("cancel", job).code == 0
    assert fleet.until_over(job)["state"] == "cancelled"
    assert digest_at(f"{destination.host}/other:1") == digest_at(f"{other.host}/other:1")
