"""Shared by the registry tests: a fake registry with a client on it, and a watch over secrets.

Everything secret in these tests is spelled with `SECRET` in it; `fails` and the log watch prove that it never
reaches an error, a repr, a pickle, a traceback or a log line.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from distworker.registry.addresses import AddressPolicy, Allowed
from distworker.registry.base import Chunk, Registry
from distworker.registry.credentials import ConfiguredCredentials, Login
from distworker.registry.pool import RegistryPool
from distworker.registry.profiles import HostProfile
from distworker.registry.quirks import Quirks
from distworker.retrying import Backoff
from tests.fakes.mirrors import Site
from tests.fakes.network import Authority, make_authority
from tests.fakes.registry import FakeRegistry, FakeStorage
from tests.fakes.registry_server import FakeServer
from tests.fakes.registry_token import FakeTokenServer
from tests.fakes.typed import MARK, fails, texts
from tests.fakes.world import NAMES, World

__all__ = ["MARK", "Rig", "Sent", "fails", "texts"]


class Sent:
    """A body of given chunks, as steps hand them to `upload_blob`."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks

    def __len__(self) -> int:
        return sum(len(chunk) for chunk in self.chunks)

    def __iter__(self) -> Iterator[Chunk]:
        yield from self.chunks

    def at(self, offset: int) -> Sent:
        """The body from there on: what `upload_blob` is given."""
        return Sent(b"".join(self.chunks)[offset:]) if offset else self


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
    """Make a `Rig`. `login`: user and password the client has; `near`: servers that the operator named; other
    words go to the fake registry or profile."""
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
        near: Iterable[FakeServer] = (),
        quirks: Quirks | None = None,
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
        profile = HostProfile(
            plain_http=True,
            private=True,
            token_realms=realms,
            upload_mode=upload_mode,  # type: ignore[arg-type]
            quirks=quirks or Quirks(),
        )
        named = tuple(Allowed.parse(one.host) for one in (fake.storage, *near) if one)
        user, password = login or ("", "")
        entry = Login((fake.host,), user, password, identity_token=identity)
        logins = ConfiguredCredentials({"main": entry} if login or identity else {})
        sleeps: list[float] = []
        pool = RegistryPool(
            {fake.host: profile},
            logins,
            chunk=chunk,
            backoff=Backoff(tries=4),
            sleep=sleeps.append,
            policy=AddressPolicy(named),
        )
        pools.append(pool)
        return Rig(fake, pool.client(fake.host), pool, sleeps)

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture(autouse=True)
def every_line_is_watched(caplog: pytest.LogCaptureFixture) -> None:
    """The watch over secrets sees this room's debug lines too."""
    caplog.set_level(logging.DEBUG, logger="distworker")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One certificate authority for all fake servers that speak TLS."""
    return make_authority(tmp_path_factory.mktemp("authority"), *NAMES)


@pytest.fixture
def site(tmp_path: Path, authority: Authority) -> Iterator[Site]:
    """Servers and network of one test; what holds for every case of `World` holds here too."""
    with contextlib.ExitStack() as stack:
        world = World(tmp_path, authority, stack)
        made = Site(world, authority)
        stack.callback(made.close)
        yield made
        world.closed()
