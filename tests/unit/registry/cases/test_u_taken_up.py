"""Upload sessions of an earlier run: gone on with between chunks where that is known, else cancelled."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from distworker.digest import Digest
from distworker.errors import Draining, Lost, Unavailable
from distworker.registry.base import Chunk, UploadSession
from distworker.registry.client import Client
from distworker.registry.quirks import Quirks
from tests.fakes.registry_server import Answer, Twist
from tests.fakes.world import World
from tests.unit.registry.conftest import Sent

DATA = random.Random(6).randbytes(100_000)
DIGEST = Digest.of(DATA)
CHUNK = 40_000
CHUNKED = {"quirks": Quirks(upload_mode="chunked", chunk_bytes=CHUNK)}
NAME = "team/app"
UPLOADS = f"/v2/{NAME}/blobs/uploads/"


class Breaking(Sent):
    """A body that ends with an error before its last piece."""

    def __init__(self, error: Exception, *chunks: bytes) -> None:
        super().__init__(*chunks)
        self.error = error

    def __len__(self) -> int:
        return len(DATA)

    def __iter__(self) -> Iterator[Chunk]:
        yield from self.chunks
        raise self.error


def broken(client: Client, error: Exception, first: int = 2 * CHUNK) -> list[tuple[UploadSession, int]]:
    """A run that is stopped after so many bytes; what it noted of its sessions."""
    noted: list[tuple[UploadSession, int]] = []

    def body(offset: int) -> Sent:
        return Breaking(error, *(DATA[at : at + 10_000] for at in range(offset, first, 10_000)))

    with pytest.raises(type(error)):
        client.upload_blob(NAME, DIGEST, len(DATA), body, None, lambda *note: noted.append(note))
    return noted


def begun(session: UploadSession) -> UploadSession:
    """The session as it comes back from where it was kept."""
    return UploadSession(session.repository, session.location, session.min_chunk, begun=True)


def go_on(client: Client, session: UploadSession) -> list[int]:
    """The next run, given that session; the offsets at which its body was opened."""
    opened: list[int] = []

    def body(offset: int) -> Sent:
        opened.append(offset)
        return Sent(*[DATA[at : at + 10_000] for at in range(offset, len(DATA), 10_000)])

    client.upload_blob(NAME, DIGEST, len(DATA), body, begun(session))
    return opened


@pytest.mark.parametrize("error", [Lost("other"), Draining("bye")], ids=["lost", "draining"])
def test_a_stopped_chunked_upload_is_gone_on_with(world: World, error: Exception) -> None:
    """Noted with every chunk and left open; the next run asks how far it got and sends only the rest."""
    client = world.client(**CHUNKED)
    noted = broken(client, error)
    assert [held for _, held in noted] == [0, CHUNK, 2 * CHUNK]
    assert len(world.reg.sessions) == 1

    assert go_on(client, noted[-1][0]) == [2 * CHUNK]

    assert b"".join(world.reg.blobs[DIGEST].open(0)) == DATA
    assert not world.reg.sessions
    assert world.reg.count("POST", UPLOADS) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404, {}, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}'),
        Answer(204, {"Range": "0-0"}),
        Answer(204, {}),
        Answer(204, {"Range": "0-999999"}),
        Answer(405, {}),
        Twist(hangup=True),
    ],
    ids=["unknown", "one byte or none", "says nothing", "too many", "not asked so", "hangs up"],
)
def test_what_cannot_be_known_starts_again(world: World, answer: Any) -> None:
    """The old session is cancelled, a new one opened, and the whole blob sent."""
    client = world.client(**CHUNKED)
    [*_, (session, _)] = broken(client, Lost("other"))
    world.reg.always("GET", UPLOADS, answer)

    assert go_on(client, session) == [0]

    assert b"".join(world.reg.blobs[DIGEST].open(0)) == DATA
    assert not world.reg.sessions
    assert world.reg.count("DELETE", UPLOADS) == 1


@pytest.mark.parametrize("mode", ["monolithic", "patch"])
def test_a_single_stream_is_never_gone_on_with(world: World, mode: Any) -> None:
    """What became of it is not known: the session is cancelled when the run stops, or by the next one."""
    client = world.client(quirks=Quirks(upload_mode=mode))
    [(session, held)] = broken(client, Draining("bye"))
    assert held == 0
    assert not world.reg.sessions

    assert go_on(client, session) == [0]

    assert not world.reg.sessions
    assert world.reg.count("POST", UPLOADS) == 2


def test_a_registry_whose_sessions_cannot_be_asked_starts_again(world: World) -> None:
    """Told by the table of registries, or by its Range that stands still."""
    for quirk in ({"upload_resumes": False}, {"range_is_stale": True}):
        client = world.client(quirks=Quirks(upload_mode="chunked", chunk_bytes=CHUNK, **quirk))
        asked = world.reg.count("GET", UPLOADS)
        assert go_on(client, client.start_upload(NAME)) == [0]
        assert world.reg.count("GET", UPLOADS) == asked
        assert not world.reg.sessions


def test_a_failed_upload_leaves_no_session(world: World) -> None:
    """Only a stop is followed by a run that may use it."""
    world.reg.always("PATCH", UPLOADS, Answer(503, {}))
    client = world.client(**CHUNKED)
    with pytest.raises(Unavailable):
        client.upload_blob(NAME, DIGEST, len(DATA), Sent(DATA).at, None, lambda *_: None)
    assert not world.reg.sessions
