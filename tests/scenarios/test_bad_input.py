"""What people and other systems get wrong: the field is named, nothing is started, the workers stay up.

Job files and command lines are refused by the command (exit 2) before any server is asked; a payload sent by
`send_task` is refused by a worker, which says so in one line and goes on. A missing fleet is told, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from deploy.demo.servers import Valkey, free_port
from distworker import names
from tests.images import digest_at
from tests.scenarios.fleet import Fleet, wait_for
from tests.scenarios.site import Site, site

pytestmark = pytest.mark.servers

PAIR = "pairs:\n  - source: src.example/app:1\n    destination: dst.example/app\n"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One installation with one worker, which must survive everything here."""
    with site(tmp_path_factory.mktemp("input")) as made:
        made.fleet.start_workers(1)
        yield made


@pytest.fixture(scope="module")
def stranger(here: Site) -> Iterator[Celery]:
    """Another Celery application, as docs/enqueue.md shows it."""
    app = Celery("stranger", broker=here.fleet.valkey.url(0), set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": "distworker:"}
    yield app
    app.close()


def jobs(fleet: Fleet) -> list[str]:
    """The ids of all jobs there are."""
    ran = fleet.run("status", "--json")
    assert ran.code == 0, ran.text
    return [event["job"] for event in ran.events if event["event"] == "job"]


def still_works(here: Site, name: str) -> None:
    """The same worker does the next job."""
    image = here.image(name, name)
    assert all(worker.running for worker in here.fleet.workers), here.fleet.logs()
    ran = here.fleet.migrate([here.pair(image.reference, name)])
    assert ran.code == 0, ran.text
    assert digest_at(f"{here.destination.host}/{name}:1") == image.digest


# --- job files ----------------------------------------------------------------------------------------------

FILES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "unknown key": (
        f"version: 1\n{PAIR}    all-tags: true\n".encode(),
        ("line 5", "pairs[0].all-tags", "did you mean all_tags"),
    ),
    "unknown key at the top": (
        f"version: 1\nretries: 3\n{PAIR}".encode(),
        ("line 2", "retries", "unknown key"),
    ),
    "wrong type": (
        f"version: 1\nplatforms: linux/amd64\n{PAIR}".encode(),
        ("line 2", "platforms", "expected a list"),
    ),
    "wrong type of a pair": (
        b"version: 1\npairs:\n  - src.example/app:1\n",
        ("line 3", "pairs[0]", "must have `source:`"),
    ),
    "missing field": (
        b"version: 1\npairs:\n  - source: src.example/app:1\n",
        ("line 3", "pairs[0].destination", "missing"),
    ),
    "bad reference": (
        b"version: 1\npairs:\n  - source: SRC.example/App:1\n    destination: d.example/a\n",
        ("line 3", "pairs[0].source"),
    ),
    "wrong version": (f"version: 2\n{PAIR}".encode(), ("line 1", "version", "must be 1")),
    "no version": (PAIR.encode(), ("version", "missing")),
    "not YAML": (b"version: 1\npairs: [\n", ("not valid YAML", "line 3")),
    "not text": (b"\xff\xfe\x00version", ("not UTF-8 text",)),
    "empty": (b"", ("begin it with `version: 1`",)),
    "a list": (b"- source: a\n", ("begin it with `version: 1`",)),
    "10 MB of one line": (b"version: 1\npairs: " + b"x" * 10_000_000, ("pairs", "must be a list")),
    "10 MB of pairs": (
        b"version: 1\npairs:\n" + b"  - {source: s.example/a:1, destination: d.example/b}\n" * 190_000,
        ("line 2", "pairs", "are 190000, one job takes 100000"),
    ),
    "40 MB": (b"# " * 20_000_000, ("larger than 32 MiB",)),
}


@pytest.mark.parametrize("case", FILES)
def test_a_wrong_job_file_is_refused_with_its_field(here: Site, tmp_path: Path, case: str) -> None:
    """Exit 2; file, line and field; nothing is started."""
    content, words = FILES[case]
    path = tmp_path / "images.yaml"
    path.write_bytes(content)
    before = jobs(here.fleet)

    ran = here.fleet.run("migrate", str(path))

    print(ran.err[:400])
    assert ran.code == 2, ran.text
    assert [part for part in (str(path), *words) if part not in ran.err] == [], ran.err
    assert max(len(line) for line in ran.err.splitlines()) < 1000, "no part of the file is poured out"
    assert "Traceback" not in ran.text
    assert jobs(here.fleet) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("copy", "src.example/App:1", "dst.example/app"), "source"),
        (("copy", "src.example/app:1", "dst.example/app@sha256:" + "0" * 64), "destination"),
        (("copy", "src.example/app:1"), "DST"),
        (("copy", "--platform", "linux", "src.example/app:1", "dst.example/app"), "platforms[0]"),
        (("copy", "--priority", "11", "src.example/app:1", "dst.example/app"), "priority"),
        (("copy", "--all-tags", "src.example/app:1", "dst.example/app"), "source"),
        (("pull", "src.example/app@sha256:" + "0" * 64), "source"),
        (("migrate", "/nonexistent/images.yaml"), "/nonexistent/images.yaml"),
        (("status", "no-such-job"), "no-such-job"),
        (("cancel", "no-such-job"), "no-such-job"),
        (("cpoy",), "cpoy"),
    ],
)
def test_a_wrong_command_line_names_what_is_wrong(here: Site, words: tuple[str, ...], said: str) -> None:
    """Exit 2 and one clear line."""
    ran = here.fleet.run(*words)
    print(ran.err)
    assert ran.code == 2, ran.text
    assert said in ran.err
    assert "Traceback" not in ran.text


def test_the_worker_does_the_next_job_after_wrong_files(here: Site) -> None:
    """It never heard of them."""
    still_works(here, "after-files")


# --- send_task ----------------------------------------------------------------------------------------------

GOOD = {"v": 1, "source": "src.example/app:1", "destination": "dst.example/app:1"}
PAYLOADS: dict[str, tuple[Any, str]] = {
    "no version": ({key: GOOD[key] for key in ("source", "destination")}, "send v: 1"),
    "version as text": ({**GOOD, "v": "1"}, "send v: 1"),
    "no source": ({"v": 1, "destination": "d.example/a"}, "source: missing"),
    "no destination": ({"v": 1, "source": "s.example/a"}, "destination: missing"),
    "source of a wrong type": ({**GOOD, "source": 7}, "source: expected text"),
    "bad source": ({**GOOD, "source": "s.example/UPPER"}, "source: "),
    "unknown field": ({**GOOD, "sauce": "x"}, "sauce: unknown field"),
    "bad pair": ({"v": 1, "pairs": [{"source": "s.example/a"}]}, "pairs[0].destination: missing"),
    "pairs of a wrong type": ({"v": 1, "pairs": "all"}, "pairs: expected a list"),
    "bad platform": ({**GOOD, "platforms": ["linux/amd64", 3]}, "platforms[1]: expected text"),
    "bad id": ({**GOOD, "id": "../../etc/passwd"}, "id: expected up to 48"),
    "bad labels": ({**GOOD, "labels": ["a"]}, "labels: expected a mapping"),
    "a secret for a credential": (
        {**GOOD, "source_credential": "user:pass word!"},
        "source_credential: expected the id",
    ),
}


@pytest.mark.parametrize("case", PAYLOADS)
def test_a_wrong_payload_is_refused_by_the_worker_with_its_field(
    here: Site, stranger: Celery, case: str
) -> None:
    """One line `invalid_…: field: …`; the worker stays."""
    payload, said = PAYLOADS[case]
    before = len(here.fleet.logs())

    stranger.send_task(names.SUBMIT_JOB, kwargs=payload, queue=names.QUEUE_CONTROL, ignore_result=True)

    def lines() -> list[str]:
        return [
            line for line in here.fleet.logs()[before:].splitlines() if "message refused: invalid_" in line
        ]

    wait_for(lambda: bool(lines()), f"a line about {case}")
    print(lines())
    assert said in lines()[0]


def test_messages_that_nobody_should_send_do_not_stop_the_worker(here: Site, stranger: Celery) -> None:
    """Positional arguments, steps that do not exist, unknown tasks, other encodings, 2 MB of label."""
    control, layers = names.QUEUE_CONTROL, names.QUEUE_LAYERS
    stranger.send_task(names.SUBMIT_JOB, args=["s.example/a", "d.example/b"], queue=control)
    stranger.send_task(names.PLAN_IMAGE, kwargs={"v": 1, "step": "p:nobody-0"}, queue=control)
    stranger.send_task(names.PLAN_IMAGE, kwargs={"v": 1, "step": "d:default/sha256:00"}, queue=control)
    stranger.send_task(names.DOWNLOAD_LAYER, kwargs={"v": 1, "step": ["x"]}, queue=layers)
    stranger.send_task("distworker.no_such_task", kwargs=GOOD, queue=control)
    stranger.send_task(names.SUBMIT_JOB, kwargs=GOOD, queue=control, serializer="yaml")
    stranger.send_task(names.SUBMIT_JOB, kwargs={**GOOD, "labels": {"a": "x" * 2_000_000}}, queue=control)

    still_works(here, "after-rubbish")


# --- no fleet -----------------------------------------------------------------------------------------------

NO_FLEET_GUARD = 30.0


def test_without_redis_the_command_says_so_and_names_local(tmp_path: Path) -> None:
    """Exit 3, the address that was tried, and what to do instead."""
    valkey = Valkey(tmp_path / "valkey")  # never started
    fleet = Fleet(tmp_path, valkey, f'[store]\nkind = "local"\nfolder = "{tmp_path / "store"}"\n')

    ran = fleet.run("copy", "src.example/app:1", "dst.example/app:1", within=NO_FLEET_GUARD)

    print(ran.err)
    assert ran.code == 3, ran.text
    assert ran.err.startswith("state_unavailable: ")
    assert f"127.0.0.1:{valkey.port}" in ran.err
    assert "--local" in ran.err


def test_without_a_worker_the_command_says_so_and_names_local(tmp_path: Path) -> None:
    """Exit 3; nothing is recorded, so nothing happens later by surprise."""
    with Valkey(tmp_path / "valkey") as valkey:
        fleet = Fleet(tmp_path, valkey, f'[store]\nkind = "local"\nfolder = "{tmp_path / "store"}"\n')

        ran = fleet.run("copy", "src.example/app:1", "dst.example/app:1", within=NO_FLEET_GUARD)

        print(ran.err)
        assert ran.code == 3, ran.text
        assert ran.err.startswith("no_worker: ")
        assert "celery -A tasks worker" in ran.err
        assert "--local" in ran.err
        assert jobs(fleet) == []


def test_a_redis_that_drops_every_packet_is_told_too(tmp_path: Path) -> None:
    """An address nobody answers from (RFC 5737): no socket of ours may wait for minutes."""
    valkey = Valkey(tmp_path / "valkey", port=free_port())
    more = '[store]\nkind = "local"\nfolder = "/nonexistent"\n'
    fleet = Fleet(tmp_path, valkey, more)
    fleet.write()
    path = fleet.config / "distworker.toml"
    text = path.read_text().replace(f"127.0.0.1:{valkey.port}", "192.0.2.1:6379")
    path.write_text(text)

    process = fleet.spawn("copy", "src.example/app:1", "dst.example/app:1")
    _, err = process.communicate(timeout=NO_FLEET_GUARD)

    print(err)
    assert process.returncode == 3, err
    assert "--local" in err
    assert "192.0.2.1" in err
