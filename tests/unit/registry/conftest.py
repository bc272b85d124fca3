"""Shared by the registry tests: a fake registry with a client on it, and a watch over secrets.

Everything secret in these tests is spelled with `SECRET` in it; `fails` and the log watch prove that it never
reaches an error, a repr, a pickle, a traceback or a log line.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pytest

from distworker.errors import DistworkerError, from_dict
from distworker.registry.base import Chunk, Registry
from distworker.registry.client import RegistryPool
from distworker.registry.credentials import ConfiguredCredentials, Login
from distworker.registry.profiles import HostProfile
from distworker.retrying import Backoff
from tests.fakes.registry import FakeRegistry, FakeStorage
from tests.fakes.registry_server import FakeServer
from tests.fakes.registry_token import FakeTokenServer

MARK = "SECRET"


class Sent:
    """A body of given chunks, as steps hand them to `upload_blob`."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks

    def __len__(self) -> int:
        return sum(len(chunk) for chunk in self.chunks)

    def __iter__(self) -> Iterator[Chunk]:
        yield from self.chunks


@dataclass
class Rig:
    """A fake registry, what stands around it, and a client on it that waits for nothing."""

    fake: FakeRegistry
    client: Registry
    pool: RegistryPool
    sleeps: list[float] = field(default_factory=list)


@pytest.fixture
def serve() -> Iterator[Callable[[FakeServer], FakeServer]]:
    """Start a fake server; it is stopped after the test."""
    with contextlib.ExitStack() as stack:
        yield stack.enter_context


@pytest.fixture
def rig(serve: Callable[[FakeServer], FakeServer]) -> Iterator[Callable[..., Rig]]:
    """Make a `Rig`. `login`: user and password the client has; other words go to the fake registry or
    profile."""
    pools: list[RegistryPool] = []

    def make(
        *,
        login: tuple[str, str] | None = None,
        tokens: FakeTokenServer | None = None,
        trust: bool = True,
        storage: bool = False,
        chunk: int = 4096,
        upload_mode: str = "auto",
        identity: str = "",
        **fake_options: object,
    ) -> Rig:
        if tokens is not None:
            serve(tokens)
        fake = FakeRegistry(tokens=tokens, **fake_options)  # type: ignore[arg-type]
        serve(fake)
        if storage:
            fake.storage = FakeStorage(fake)
            serve(fake.storage)
        realms = (tokens.host,) if tokens and trust else ()
        profile = HostProfile(plain_http=True, token_realms=realms, upload_mode=upload_mode)  # type: ignore[arg-type]
        user, password = login or ("", "")
        entry = Login((fake.host,), user, password, identity_token=identity)
        logins = ConfiguredCredentials({"main": entry} if login or identity else {})
        sleeps: list[float] = []
        pool = RegistryPool(
            {fake.host: profile}, logins, chunk=chunk, backoff=Backoff(tries=4), sleep=sleeps.append
        )
        pools.append(pool)
        return Rig(fake, pool.client(fake.host), pool, sleeps)

    yield make
    for pool in pools:
        pool.close()


def texts(error: BaseException) -> Iterable[str]:
    """Every way in which an error may be shown or stored."""
    yield str(error)
    yield repr(error)
    yield "".join(traceback.format_exception(error))
    seen: list[BaseException] = [error]
    for one in seen:
        yield f"{one!r} {one.args!r} {vars(one)!r}"
        seen += [
            cause for cause in (one.__cause__, one.__context__) if cause is not None and cause not in seen
        ]
    if isinstance(error, DistworkerError):
        yield repr(error.to_dict())
        yield pickle.dumps(error).decode("latin-1")


@contextlib.contextmanager
def fails(kind: type[DistworkerError], **fields: object) -> Iterator[list[DistworkerError]]:
    """The block raises exactly `kind` with these fields, naming where it happened and no secret."""
    caught: list[DistworkerError] = []
    with pytest.raises(kind) as info:
        yield caught
    error = info.value
    caught.append(error)
    assert type(error) is kind
    assert {name: error.fields.get(name) for name in fields} == fields
    assert error.fields["phase"]
    assert error.fields["registry"]
    assert MARK not in " ".join(texts(error))
    assert from_dict(error.to_dict()).to_dict() == error.to_dict()


@pytest.fixture(autouse=True)
def secrets_stay_out_of_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No log line of any library holds a secret."""
    caplog.set_level(logging.INFO)
    yield
    assert MARK not in caplog.text
