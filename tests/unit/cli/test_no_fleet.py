"""A fleet that is not there is told in time, in one line that says what to do."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from distworker.cli import work
from distworker.errors import (
    StateRefused,
    StoreUnavailable,
)
from distworker.service import wiring
from distworker.settings import Config
from tests.unit.cli.calls import Command, Fleet
from tests.unit.cli.fake_jobs import FakeJobs, view

ONE_DONE = [view("done", counters={"total": 1, "done": 1})]


def test_json_reports_a_wrong_command_line_as_an_event(run: Command, fleet: Fleet) -> None:
    """A program that reads stdout hears of its own mistakes there as well."""
    for words in (["a"], ["--priority", "11", "a", "b"], ["--nosuch"]):
        ran = run("copy", "--json", *words)

        assert ran.code == 2
        assert [(event["event"], event["code"], event["exit"]) for event in ran.events] == [
            ("error", "invalid_request", 2)
        ]


def test_a_redis_that_is_away_is_named_without_its_password(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 3 within five seconds, with the address that was tried and the way without Redis."""
    monkeypatch.setenv("DISTWORKER_REDIS_URL", "redis://:hunter2@127.0.0.1:9/0")

    ran = run("copy", "a", "b.example/a")

    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("state_unavailable: ")
    assert "127.0.0.1:9" in ran.err
    assert "--local" in ran.err
    assert "hunter2" not in ran.err


def test_a_redis_that_never_answers_is_given_up_in_time(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall that drops packets is told from a slow day by a deadline of our own."""

    class Silent:
        def check(self) -> None:
            threading.Event().wait(5)

    monkeypatch.setattr(work, "FIRST_ANSWER", 0.2)
    monkeypatch.setattr(wiring, "build_ledger", lambda settings: Silent())
    monkeypatch.setenv("DISTWORKER_REDIS_URL", "redis://:hunter2@redis.example:6379/1")

    ran = run("copy", "a", "b.example/a")

    assert ran.code == 3
    assert "no answer from Redis" in ran.err
    assert "redis://***@redis.example:6379/1" in ran.err


def test_a_redis_that_is_not_fit_is_refused_before_anything_is_recorded(
    run: Command, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 3 with the remedy, also with --detach, which needs no worker."""
    jobs = fleet(FakeJobs(ONE_DONE))

    def refuse(config: Config) -> None:
        raise StateRefused("Redis evicts keys: run CONFIG SET maxmemory-policy noeviction")

    monkeypatch.setattr(work, "require_redis", refuse)
    for options in ((), ("--detach",)):
        ran = run("copy", "a", "b.example/a", *options)
        assert (ran.code, jobs.created) == (3, [])
        assert ran.err.startswith("state_refused: Redis evicts keys: run CONFIG SET")


def test_a_folder_that_cannot_be_made_is_infrastructure(run: Command, tmp_path: Path) -> None:
    """Said before anything starts, with the folder's name."""
    (tmp_path / "file").write_text("in the way")

    ran = run("copy", "--local", "--store", str(tmp_path / "file" / "blobs"), "a", "b.example/a")

    assert ran.code == 3
    assert ran.err == f"store_unavailable: --store {tmp_path}/file/blobs: cannot be made: Not a directory\n"


def test_plain_http_is_said_for_single_registries(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of what is set for that registry stays, and so do the others."""
    given: list[Config] = []

    def build(config: Config, store: Path | None) -> None:
        given.append(config)
        raise StoreUnavailable("far enough")

    monkeypatch.setattr(wiring, "build_local", build)
    file = tmp_path / "registries.toml"
    file.write_text(
        '["r.example"]\nmax_concurrency = 7\nca_file = "ca.pem"\n["s.example"]\nupload_mode = "patch"\n'
    )
    monkeypatch.setenv("DISTWORKER_REGISTRIES", str(file))

    run("copy", "--local", "--plain-http", "r.example", "--plain-http", "localhost:5000", "a", "r.example/a")

    tables = given[0].registries
    assert {host: table.plain_http for host, table in tables.items()} == {
        "r.example": True,
        "s.example": False,
        "localhost:5000": True,
    }
    assert (tables["r.example"].max_concurrency, tables["s.example"].upload_mode) == (7, "patch")
