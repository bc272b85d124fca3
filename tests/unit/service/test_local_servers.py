"""A whole copy in one process between two real registries: no Redis, no worker, no S3."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.accesslog import accesses
from deploy.demo.oci import Layout
from deploy.demo.servers import DockerRegistry, Htpasswd
from deploy.demo.verify import compare, skopeo
from distworker.service.wiring import build_local
from distworker.settings import load
from distworker.state.base import JobView
from tests.scenarios.fleet import wait_for

pytestmark = pytest.mark.servers


class Town:
    """Two registries, the source with images in it, and a local service between them."""

    def __init__(self, folder: Path, source: DockerRegistry, destination: DockerRegistry) -> None:
        self.folder, self.source, self.destination = folder, source, destination
        self.tables = dict.fromkeys((source.host, destination.host), "plain_http = true\n")
        layout = Layout(folder / "layout")
        base = layout.layer([("etc/base", os.urandom(300_000))])
        common = layout.layer([("etc/common", os.urandom(200_000))])
        top = layout.layer([("srv/top", b"small")])
        amd = layout.image("amd64", [base, common], ["sh"])
        arm = layout.image("arm64", [common, top], ["sh"])
        layout.tag("multi", layout.index([amd, arm]))
        layout.tag("single", layout.image("amd64", [base, top], ["true"]))
        layout.close()
        self.base = base.descriptor
        for name in ("multi", "single"):
            skopeo(
                "copy", "--all", "--dest-tls-verify=false", f"oci:{layout.folder}:{name}",
                f"docker://{source.host}/team/{name}:1",
            )  # fmt: skip

    def run(self, **fields: Any) -> tuple[JobView, list[Mapping[str, Any]]]:
        """Run one request to its end."""
        text = "".join(f'["{host}"]\n{table}' for host, table in self.tables.items())
        (self.folder / "registries.toml").write_text(text)
        config = load(self.folder)
        with build_local(config, self.folder / "store") as service:
            views = list(service.run(service.jobs.parse({"v": 1, **fields})))
            return views[-1], list(service.jobs.outcomes(views[-1].id))


@pytest.fixture
def town(tmp_path: Path, new_registry: Callable[..., DockerRegistry]) -> Town:
    """Two open registries."""
    (tmp_path / "distworker.toml").write_text("")
    return Town(tmp_path, new_registry(), new_registry())


def test_an_index_and_a_sharing_image_arrive_whole_and_shared_layers_move_once(town: Town) -> None:
    """Digests agree at both ends by another tool's reckoning; a second run moves nothing."""
    # When two images that share layers are copied in one job
    pairs = [
        {
            "source": f"{town.source.host}/team/{name}:1",
            "destination": f"{town.destination.host}/mirror/{name}:1",
        }
        for name in ("multi", "single")
    ]
    view, outcomes = town.run(pairs=pairs)
    # Then both are there, byte for byte
    assert (view.state, [outcome.get("error") for outcome in outcomes]) == ("done", [None, None])
    for pair in pairs:
        compare(pair["source"], pair["destination"], town.folder / "scratch")
    # And the source sent the shared layer once
    path = f"/v2/team/{{}}/blobs/{town.base['digest']}"
    sent = sum(
        access.sent
        for access in accesses(town.source.access_log)
        if access.agent.startswith("distworker/")
        and access.method == "GET"
        and access.path in (path.format("multi"), path.format("single"))
    )
    assert sent == town.base["size"]
    # When the same is asked again, then nothing moves
    again, _ = town.run(pairs=pairs)
    assert again.counters["unchanged"] == 2
    assert not again.counters.get("downloaded") and not again.counters.get("uploaded")


def test_pull_then_push_goes_through_the_store(town: Town) -> None:
    """What was pulled can be pushed without its registry."""
    reference = f"{town.source.host}/team/multi:1"
    pulled, _ = town.run(kind="pull", source=reference)
    assert pulled.state == "done"
    pushed, _ = town.run(kind="push", source=reference, destination=f"{town.destination.host}/mirror/multi:2")
    assert pushed.state == "done"
    compare(reference, f"{town.destination.host}/mirror/multi:2", town.folder / "scratch")


def test_all_tags_of_a_repository(town: Town) -> None:
    """One pair, as many images as there are tags."""
    copied, _ = town.run(
        source=f"{town.source.host}/team/single",
        destination=f"{town.destination.host}/all/single",
        all_tags=True,
    )
    assert (copied.state, copied.counters["done"]) == ("done", 1)


def test_a_missing_tag_is_one_clear_failure_and_the_other_image_arrives(town: Town) -> None:
    """One image's trouble is not the job's."""
    view, outcomes = town.run(
        pairs=[
            {
                "source": f"{town.source.host}/team/single:nope",
                "destination": f"{town.destination.host}/m/a:1",
            },
            {"source": f"{town.source.host}/team/single:1", "destination": f"{town.destination.host}/m/b:1"},
        ]
    )
    assert (view.counters["failed"], view.counters["done"]) == (1, 1)
    failed = next(outcome for outcome in outcomes if outcome["state"] == "failed")
    assert failed["error"]["code"] == "manifest_unknown"


def test_logins_come_from_registries_toml(
    tmp_path: Path, new_registry: Callable[..., DockerRegistry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a password in a file the copy works, with a wrong one it says that the login was refused."""
    (tmp_path / "distworker.toml").write_text("")
    town = Town(tmp_path, new_registry(), new_registry(auth=Htpasswd("robot", "hunter2")))
    (tmp_path / "password").write_text("hunter2\n")
    town.tables[town.destination.host] = 'plain_http = true\nusername = "robot"\npassword_file = "password"\n'
    fields = {"source": f"{town.source.host}/team/single:1", "destination": f"{town.destination.host}/m/b:1"}
    assert town.run(**fields)[0].state == "done"
    (tmp_path / "password").write_text("wrong\n")
    view, outcomes = town.run(**fields)
    assert view.counters["failed"] == 1
    assert outcomes[0]["error"]["code"] == "unauthorized"
    assert "hunter2" not in str(outcomes) and "wrong" not in str(outcomes[0]["error"]["message"])


def test_a_broken_download_that_nobody_went_on_with_is_removed_by_the_next_run(town: Town) -> None:
    """A young one stays: another process, or the next run, may go on with it."""
    staging = town.folder / "store/.staging"
    staging.mkdir(parents=True)
    key = "default%2Fblobs%2Fsha256%2F" + "a" * 64
    old, young = staging / f"t1@{'0' * 16}@{key}", staging / f"t2@{'1' * 16}@{key}"
    for path in (old, young):
        path.write_bytes(b"part of a layer")
    os.utime(old, (1, 1))
    town.run(source=f"{town.source.host}/team/single:1", destination=f"{town.destination.host}/m/b:1")
    wait_for(lambda: not old.exists(), "the old one is removed")
    assert young.exists()
