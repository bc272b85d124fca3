"""Upload sessions across runs: what a killed run left is gone on with or cancelled, and forgotten after."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any

import pytest

from distworker.blobstore.keys import blob_key
from distworker.digest import Digest, verify_bytes
from distworker.errors import Denied, DistworkerError, Draining, Lost, Unavailable
from distworker.registry.base import UploadSession
from distworker.state.base import Claim
from distworker.state.sessions import KeptSession
from distworker.steps.upload import upload
from tests.fakes.ports import FakeRegistry, Run, Site

BLOB = random.Random(4).randbytes(100_000)
DIGEST = Digest.of(BLOB)
STEP = f"u:{DIGEST}@dst.example"


@pytest.fixture
def run() -> Run:
    """A store that has the blob, and a destination that lacks it."""
    run = Run(Site("src.example"), Site("dst.example"))
    key = blob_key("default", DIGEST)
    with run.store.writer(key, DIGEST, len(BLOB), "t") as writer:
        writer.write(BLOB)
        writer.commit(verify_bytes(BLOB, DIGEST))
    return run


def claim(token: str) -> Claim:
    """A run of the upload, as the ledger gives it."""
    place = {"kind": "registry", "host": "dst.example", "repository": "team/app"}
    source = {"kind": "store", "host": "src.example", "repository": "team/app"}
    body: dict[str, Any] = {"v": 1, "tenant": "default", "digest": str(DIGEST), "size": len(BLOB)}
    return Claim(STEP, token, "j1", {**body, "source": source, "destination": place, "proven": True}, 1)


def left(run: Run, token: str, host: str = "dst.example", repository: str = "team/app") -> str:
    """A session that a killed run left open; its location."""
    location = f"{repository}/{token}"
    run.sites[host].sessions.add(location)
    run.context.sessions.keep(KeptSession(STEP, token, host, "", repository, location, started=time.time()))
    return location


def test_a_session_is_known_while_it_is_open_and_no_longer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written down before the first byte, moved with every Location, forgotten with the end."""
    seen: list[list[KeptSession]] = []
    given = FakeRegistry.upload_blob

    def noting(self: FakeRegistry, *args: Any) -> None:
        *_, session, notes = args
        opened = session or self.start_upload("team/app")
        notes(opened, 0)
        notes(replace(opened, location="team/app/moved"), 5_000)
        seen.append(list(run.context.sessions.of(STEP)))
        given(self, *args[:4], opened)

    monkeypatch.setattr(FakeRegistry, "upload_blob", noting)
    upload(run.context, claim("one"))

    [[kept]] = seen
    assert (kept.token, kept.host, kept.location) == ("one", "dst.example", "team/app/moved")
    assert run.watch.durable == 5_000
    assert list(run.context.sessions.of(STEP)) == []


def test_the_newest_session_of_the_place_is_handed_on_and_the_others_are_cancelled(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of another place (a re-homed step's) and an older one go; our own claim's is not an earlier one."""
    old, other = left(run, "old"), left(run, "other", "src.example")
    newest = left(run, "newest")
    handed: list[UploadSession] = []
    monkeypatch.setattr(FakeRegistry, "upload_blob", lambda self, *args: handed.append(args[4]))

    upload(run.context, claim("one"))

    assert [(one.location, one.begun) for one in handed] == [(newest, True)]
    assert old not in run.sites["dst.example"].sessions
    assert other not in run.sites["src.example"].sessions
    assert list(run.context.sessions.of(STEP)) == []


def test_what_is_there_already_needs_no_session(run: Run) -> None:
    """The killed run's commit was told to nobody: its session is cancelled."""
    run.sites["dst.example"].repository("team/app").blobs[DIGEST] = BLOB
    location = left(run, "old")
    upload(run.context, claim("one"))
    assert location not in run.sites["dst.example"].sessions
    assert list(run.context.sessions.of(STEP)) == []


@pytest.mark.parametrize(
    ("error", "kept"), [(Lost("other"), 1), (Draining("bye"), 1), (Denied("no"), 0)], ids=str
)
def test_only_a_run_that_was_stopped_leaves_its_session(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: DistworkerError, kept: int
) -> None:
    """Whoever fails has none open any more."""

    def failing(self: FakeRegistry, *args: Any) -> None:
        args[5](self.start_upload("team/app"), 0)
        raise error

    monkeypatch.setattr(FakeRegistry, "upload_blob", failing)
    with pytest.raises(type(error)):
        upload(run.context, claim("one"))
    assert len(run.context.sessions.of(STEP)) == kept


def test_a_session_whose_registry_is_not_there_to_be_told_stays_written_down(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry in its restart takes no DELETE either; the next run, or the sweep, sends it."""

    def failing(self: FakeRegistry, *args: Any) -> None:
        args[5](self.start_upload("team/app"), 0)
        raise Unavailable("connection refused")

    with monkeypatch.context() as patched:
        patched.setattr(FakeRegistry, "upload_blob", failing)
        patched.setattr(FakeRegistry, "cancel_upload", lambda self, session: False)
        with pytest.raises(Unavailable):
            upload(run.context, claim("one"))
        assert [kept.token for kept in run.context.sessions.of(STEP)] == ["one"]

    upload(run.context, claim("two"))
    assert list(run.context.sessions.of(STEP)) == []
    assert run.sites["dst.example"].sessions == set()
