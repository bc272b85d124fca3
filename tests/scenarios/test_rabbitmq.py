"""RabbitMQ as broker: messages go through it, the truth stays in the ledger; any Celery app may enqueue."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from deploy.demo.servers import ROOT, DockerRegistry, RabbitMQ
from tests.images import copy_out, digest_at, push_image, push_index
from tests.scenarios.fleet import Fleet, wait_for
from tests.scenarios.traffic import blob_bytes

pytestmark = pytest.mark.servers

LAYER = 300_000


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A node of its own."""
    with RabbitMQ(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


def documented_sender(broker: str, request: dict[str, Any]) -> None:
    """Run the example of docs/enqueue.md as it stands there, with this broker and this request."""
    page = (ROOT / "docs" / "enqueue.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "send_task" in block)
    code, urls = re.subn(r'broker="[^"]+"', f'broker="{broker}"', code)
    code, calls = re.subn(r"kwargs=\{.*?\n    \}", f"kwargs={request!r}", code, flags=re.S)
    assert (urls, calls) == (1, 1), "the example is not what this test knows"
    if broker.startswith("amqp"):  # "RabbitMQ needs no such line"
        code = re.sub(r"^app\.conf\.broker_transport_options.*$", "", code, flags=re.M)
    space: dict[str, Any] = {}
    exec(compile(code, "docs/enqueue.md", "exec"), space)
    app = space["app"]
    assert isinstance(app, Celery)
    app.close()


def test_jobs_from_the_command_line_and_from_another_celery_app_run_over_rabbitmq(
    new_fleet: Callable[..., Fleet],
    rabbitmq: RabbitMQ,
    ends: tuple[DockerRegistry, DockerRegistry],
    tmp_path: Path,
) -> None:
    """A multi-platform image by `copy`, another image by `send_task`; two workers; the doctor is content."""
    source, destination = ends
    index = push_index(tmp_path, f"{source.host}/team/app:1", LAYER)
    single = push_image(tmp_path, f"{source.host}/team/tool:2", ["shared", "tool"], LAYER)
    fleet = new_fleet(broker=rabbitmq.url)
    fleet.know(source.host)
    fleet.know(destination.host)
    fleet.start_workers(2)

    copied = fleet.run("copy", index.reference, f"{destination.host}/mirror/app:1", "--json")
    request = {"v": 1, "id": "release-2", "source": single.reference}
    documented_sender(rabbitmq.url, {**request, "destination": f"{destination.host}/mirror/tool"})
    wait_for(lambda: fleet.run("status", "release-2", "--json").code == 0, "job release-2 is known")
    view = fleet.until_over("release-2")

    assert copied.code == 0, copied.text
    assert view["state"] == "done", view
    assert digest_at(f"{destination.host}/mirror/app:1") == index.digest
    assert digest_at(f"{destination.host}/mirror/tool:2") == single.digest
    copy_out(f"{destination.host}/mirror/app:1", tmp_path / "back")
    assert blob_bytes(source) == {**index.blobs, **single.blobs}, "each blob was read once"
    doctor = fleet.run("doctor", "--json")
    assert doctor.code == 0, doctor.text
    broker = next(event for event in doctor.events if event["name"] == "broker")
    assert broker["ok"]
    assert f"127.0.0.1:{rabbitmq.port}" in broker["detail"]


def test_a_refused_request_over_rabbitmq_names_its_field_and_the_worker_works_on(
    new_fleet: Callable[..., Fleet],
    rabbitmq: RabbitMQ,
    ends: tuple[DockerRegistry, DockerRegistry],
    tmp_path: Path,
) -> None:
    """The wrong message comes first; the right one behind it is done all the same."""
    source, destination = ends
    image = push_image(tmp_path, f"{source.host}/app:1", size=LAYER)
    fleet = new_fleet(broker=rabbitmq.url)
    fleet.know(source.host)
    fleet.know(destination.host)
    fleet.start_workers(1)
    good = {"v": 1, "id": "good", "source": image.reference, "destination": f"{destination.host}/app"}

    documented_sender(rabbitmq.url, {**good, "id": "bad", "platforms": "linux/amd64"})
    documented_sender(rabbitmq.url, good)

    wait_for(lambda: fleet.run("status", "good", "--json").code == 0, "job good is known")
    assert fleet.until_over("good")["state"] == "done"
    assert 'platforms: expected a list such as ["linux/amd64", "linux/arm64"]' in fleet.logs()
    assert fleet.run("status", "bad").code == 2, "nothing was started"
    assert digest_at(f"{destination.host}/app:1") == image.digest
