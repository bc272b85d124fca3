"""What an operator reads in Flower, through its API, with a real worker on a real Valkey."""

from __future__ import annotations

import base64
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from deploy.demo.servers import CeleryWorker, DockerRegistry, Flower, Valkey, write_private
from distworker import names

pytestmark = pytest.mark.servers

#: Stands in every secret of this test: in passwords, in URLs, in a stranger's payload.
MARK = "m4rkedsecret"
#: Longest wait for something to show; it is there within a second or two.
GUARD = 60.0


@dataclass
class Fleet:
    """A worker with its dashboard, and a stranger's way to its queues."""

    worker: CeleryWorker
    flower: Flower
    producer: Celery
    source: DockerRegistry

    def get(self, path: str) -> Any:
        """An answer of Flower's API."""
        login = base64.b64encode(f"op:{MARK}".encode()).decode()
        request = urllib.request.Request(self.flower.url + path, headers={"Authorization": f"Basic {login}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def send(self, task: str, queue: str, **payload: Any) -> str:
        """Send a message as another application would; returns the task's id."""
        return str(self.producer.send_task(task, kwargs=payload, queue=queue).id)

    def task(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first task that Flower shows and that is as wanted, once there is one."""
        deadline = time.monotonic() + GUARD
        while True:
            tasks = self.get("/api/tasks")
            for uuid, task in tasks.items():
                if wanted({**task, "uuid": uuid}):
                    return dict(task)
            assert time.monotonic() < deadline, f"not shown: {tasks}\n{self.worker.tail(30)}"
            time.sleep(0.2)

    def finished(self, uuid: str) -> dict[str, Any]:
        """The task of that id, once it has ended."""
        return self.task(lambda task: task["uuid"] == uuid and task["state"] in {"SUCCESS", "FAILURE"})


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One worker and one Flower for all tests here; every password in their settings is marked."""
    folder = tmp_path_factory.mktemp("flower")
    with Valkey(folder / "valkey", password=MARK) as valkey, DockerRegistry(folder / "source") as source:
        settings = {"DISTWORKER_CONFIG": str(_config(folder, valkey, source))}
        login = {"DISTWORKER_FLOWER_AUTH": f"op:{MARK}"}
        worker = CeleryWorker(folder, "one", settings, concurrency=2)
        with worker, Flower(folder, settings | login) as flower:
            producer = Celery("stranger", broker=valkey.url(0), set_as_current=False)
            producer.conf.broker_transport_options = {"global_keyprefix": "distworker:"}
            yield Fleet(worker, flower, producer, source)
            producer.close()


def _config(folder: Path, valkey: Valkey, source: DockerRegistry) -> Path:
    config = folder / "config"
    store = f'[store]\nkind = "local"\nfolder = "{folder / "store"}"\n'
    text = f'redis_url = "{valkey.url(1)}"\nbroker_url = "{valkey.url(0)}"\n\n{store}'
    write_private(config / "distworker.toml", text)
    table = f'["{source.host}"]\nplain_http = true\nprivate = true\nusername = "me"\npassword = "{MARK}"\n'
    write_private(config / "registries.toml", table)
    return config


def test_a_failed_step_is_shown_as_failure_with_its_typed_error(fleet: Fleet) -> None:
    """The tag is missing at the source, so the image's planning fails."""
    host = fleet.source.host
    job = fleet.send(
        names.SUBMIT_JOB, names.QUEUE_CONTROL, v=1, source=f"{host}/app:none", destination=f"{host}/copy:1"
    )

    assert fleet.finished(job)["state"] == "SUCCESS"
    plan = fleet.task(lambda task: task["name"] == names.PLAN_IMAGE and task["state"] == "FAILURE")
    assert plan["exception"].startswith("manifest_unknown: ")
    assert "app" in plan["args"], "the argument column holds the sentence about the step"


def test_a_stale_message_is_shown_as_superseded(fleet: Fleet) -> None:
    """Nobody wants this step: the message came twice, or long after its time."""
    uuid = fleet.send(
        names.DOWNLOAD_LAYER, names.QUEUE_LAYERS, v=1, step=names.download_id("default", "sha256:" + "0" * 64)
    )

    task = fleet.finished(uuid)
    assert task["state"] == "SUCCESS"
    assert task["result"].strip("'\"").startswith("superseded")


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        ({"v": 1, "source": "a.example/x:1", "destination": "b.example/x:1", "password": MARK}, "password"),
        ({"v": 1, "source": f"https://me:{MARK}@a.example/x:1", "destination": "b.example/x:1"}, "source"),
        ({"v": 7, "source": "a.example/x:1", "destination": "b.example/x:1"}, "upgrade the worker"),
        ({"v": 1, "source": 7, "destination": "b.example/x:1"}, "source"),
        ({}, "version"),
    ],
)
def test_a_bad_payload_is_a_failure_that_names_the_field(
    fleet: Fleet, payload: dict[str, Any], named: str
) -> None:
    """And the worker goes on to the next message."""
    task = fleet.finished(fleet.send(names.SUBMIT_JOB, names.QUEUE_CONTROL, **payload))

    assert task["state"] == "FAILURE"
    assert named in task["exception"]
    assert fleet.worker.running


def test_a_message_that_is_none_does_not_end_the_worker(fleet: Fleet) -> None:
    """Not the triple of Celery's protocol, and a task that nobody knows."""
    with fleet.producer.producer_pool.acquire() as producer:
        for body in ([], {"a": 1}, "text"):
            producer.publish(
                body,
                exchange="",
                routing_key=names.QUEUE_CONTROL,
                serializer="json",
                headers={"id": "1", "task": names.SUBMIT_JOB, "lang": "py"},
            )
    fleet.send("distworker.no_such_task", names.QUEUE_CONTROL, v=1)

    uuid = fleet.send(names.DOWNLOAD_LAYER, names.QUEUE_LAYERS, v=1, step="d:default/x")
    fleet.send(names.SUBMIT_JOB, names.QUEUE_CONTROL)

    assert fleet.finished(uuid)["state"] == "SUCCESS"
    last = fleet.send(names.SUBMIT_JOB, names.QUEUE_CONTROL)
    assert fleet.finished(last)["state"] == "FAILURE"


def test_no_secret_is_shown_or_logged_anywhere(fleet: Fleet) -> None:
    """Not in tasks, not in the workers' settings that Flower asks for, not in any log."""
    fleet.finished(fleet.send(names.SUBMIT_JOB, names.QUEUE_CONTROL, v=1, token=MARK, source=f"u:{MARK}@h/x"))

    shown = {path: json.dumps(fleet.get(path)) for path in ("/api/tasks", "/api/workers?refresh=true")}
    shown |= {"worker log": fleet.worker.text(), "Flower's log": fleet.flower.text()}

    assert [place for place, text in shown.items() if MARK in text] == []
    assert "SUBMIT" in shown["/api/tasks"].upper(), "the tasks were really there"
