"""Records of the store that a disk, a person or a copying tool spoiled: one error each, and only there."""

from __future__ import annotations

import pytest

from distworker.blobstore.keys import care_key, job_key
from distworker.errors import DistworkerError, InvalidRequest
from distworker.plan.folder import LIST_FILE, REQUEST_FILE, folder, folders, noted_origins, read_fleet
from distworker.plan.frozen import read_index
from distworker.service.reports import read_outcomes, read_view, sweep_reports
from distworker.service.upkeep import Bite
from tests.unit.service.test_recover import Fleet

DEEP = b"[" * 4_000
TENANT = "default"


@pytest.mark.parametrize("name", ["a copy of j1", "J1", ".j1", "j1_", "\u00e4"])
def test_a_folder_that_is_no_jobs_keeps_none_from_coming_back(name: str) -> None:
    """It sorts before the lost job, and is neither looked at nor touched."""
    fleet = Fleet()
    fleet.submit()
    fleet.store.put_bytes(f"{TENANT}/jobs/{name}/{REQUEST_FILE}", b"{}")
    fleet.lose_redis()

    assert fleet.recover() == {"j1": "opened"}
    assert [found.job for found in folders(fleet.store, TENANT)] == ["j1"]


def test_a_request_of_endless_length_keeps_no_other_job_from_coming_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is told as broken."""
    fleet = Fleet()
    fleet.submit("j1")
    fleet.submit("j2")
    fleet.store.put_bytes(job_key(TENANT, "j1", REQUEST_FILE), b" " * 5_000)
    monkeypatch.setattr("distworker.plan.folder.REQUEST_MAX", 4_000)
    fleet.lose_redis()

    assert fleet.recover() == {"j1": "broken", "j2": "opened"}


def test_a_report_is_kept_though_the_list_is_damaged() -> None:
    """Its own, and those of the jobs behind it; the shards stay for whoever mends the list."""
    fleet = Fleet()
    for job in ("j1", "j2"):
        fleet.submit(job)
    fleet.run.drain()
    fleet.store.put_bytes(job_key(TENANT, "j1", LIST_FILE), b"{")

    swept, _ = sweep_reports(fleet.ledger, fleet.store, TENANT, Bite(lambda: None))

    assert swept == {"reports": 2}
    assert any(name.startswith("list-") for name in folder(fleet.store, TENANT, "j1").names)


@pytest.mark.parametrize(
    "record",
    [
        DEEP,
        b'{"state":"done","counters":{"done":"x"}}',
        b'{"state":"done","counters":{"uploaded":null}}',
        b'{"state":"done","counters":[1]}',
        b'{"state":"failed","error":"x"}',
        b'{"state":"done","record":{"labels":5}}',
        b'{"state":"done","record":{"pairs":null}}',
        b'{"state":"done","record":[["a","b"]]}',
    ],
)
def test_a_damaged_end_of_a_job_is_one_error(record: bytes) -> None:
    """Whatever is wrong in it."""
    fleet = Fleet()
    fleet.store.put_bytes(job_key(TENANT, "j1", "closed.json"), record)
    with pytest.raises(InvalidRequest, match="damaged"):
        read_view(fleet.store, TENANT, "j1")


@pytest.mark.parametrize(
    "line",
    [
        DEEP,
        b"{}",
        b'{"image":"j1-x","state":"failed"}',
        b'{"image":"j1","state":"failed"}',
        b'{"image":"j1-0","state":5}',
        b'{"image":"j1-0","state":"failed","error":"x"}',
    ],
)
def test_a_damaged_outcome_is_one_error(line: bytes) -> None:
    """Those before it are given."""
    fleet = Fleet()
    good = b'{"image":"j1-0","state":"done"}\n'
    fleet.store.put_bytes(job_key(TENANT, "j1", "report-00000.jsonl"), good + line)
    outcomes = read_outcomes(fleet.store, TENANT, "j1")
    assert next(outcomes)["state"] == "done"
    with pytest.raises(InvalidRequest, match="part 0 of its report"):
        next(outcomes)


@pytest.mark.parametrize("fields", ['"total":1e999', '"total":-1', '"total":3,"name":"../x"', '"total":"3"'])
def test_a_damaged_list_is_one_error(fields: str) -> None:
    """Numbers that are none, and names that lead elsewhere."""
    fleet = Fleet()
    record = f'{{"v":1,"shard":1000,{fields}}}'.encode()
    fleet.store.put_bytes(job_key(TENANT, "j1", LIST_FILE), record)
    with pytest.raises(DistworkerError, match="damaged"):
        read_index(fleet.store, TENANT, "j1")


def test_damaged_notes_of_the_fleet_are_short_and_hold_nothing() -> None:
    """A registry that is none is not paused; a fleet's name that is endless is still another's."""
    fleet = Fleet()
    fleet.store.put_bytes(care_key(TENANT, "fleet"), b"x" * (2 << 20))
    fleet.store.put_bytes(care_key(TENANT, "held/a"), b"\xff not a host")
    fleet.store.put_bytes(care_key(TENANT, "held/b"), b"x" * (2 << 20))
    fleet.store.put_bytes(care_key(TENANT, "held/c"), b"r.example:5000")
    assert 0 < len(read_fleet(fleet.store, TENANT)) <= 500
    assert list(noted_origins(fleet.store, TENANT)) == ["r.example:5000"]
