"""The vault that workers share, in memory and in a real Redis: what it keeps, for how long, in what form."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from distworker.registry.sharedtokens import Vault
from distworker.state.connection import Connection
from distworker.state.vault import RedisVault
from tests.contracts.vault_client import FLEET_SECRET
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import Answer
from tests.fakes.registry_token import FakeTokenServer
from tests.fakes.vault import MemoryVault

ROOT = Path(__file__).parents[2]


@pytest.fixture
def redis(redis_url: str) -> Iterator[Connection]:
    """An empty database."""
    connection = Connection(redis_url)
    yield connection
    connection.close()


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.servers)])
def open_vault(request: pytest.FixtureRequest) -> Callable[[], Vault]:
    """Makes vaults that see the same values, as two workers have them."""
    if request.param == "memory":
        vault = MemoryVault(time.monotonic)
        return lambda: vault
    redis = request.getfixturevalue("redis")
    return lambda: RedisVault(redis, FLEET_SECRET)


def dump(redis: Connection) -> str:
    """Every key and value, as the server has them and with base64 taken off."""
    found = []
    for key in redis.client.scan_iter("*"):
        value = str(redis.client.get(key))
        found += [str(key), value]
        try:
            found.append(base64.b64decode(value).decode("latin-1"))
        except ValueError:
            continue
    return "\n".join(found)


# --- what it promises -------------------------------------------------------------------------------------
def test_a_value_is_seen_by_all_until_its_time_is_over(open_vault: Callable[[], Vault]) -> None:
    """With the time it has left; a later one replaces it."""
    one, other = open_vault(), open_vault()
    assert one.read("a") is None
    one.write("a", b"\x00\xff first", 60.0)
    one.write("a", b"second", 30.0)
    found = other.read("a")
    assert found is not None
    assert found[0] == b"second"
    assert 0 < found[1] <= 30
    assert other.read("b") is None
    other.erase("a")
    assert one.read("a") is None
    one.erase("a")


def test_a_turn_is_taken_by_one_and_freed_by_that_one(open_vault: Callable[[], Vault]) -> None:
    """A token of somebody else frees nothing."""
    one, other = open_vault(), open_vault()
    token = one.claim("t", 30.0)
    assert token
    assert other.claim("t", 30.0) == ""
    assert other.claim("u", 30.0)
    other.free("t", "somebody's")
    assert other.claim("t", 30.0) == ""
    one.free("t", token)
    later = other.claim("t", 30.0)
    assert later not in {"", token}
    one.free("t", token)
    assert one.claim("t", 30.0) == "", "it belongs to the other one now"


@pytest.mark.servers
def test_everything_in_redis_has_an_end(redis: Connection) -> None:
    """Nothing outlives its use, and what is over already is not written."""
    vault = RedisVault(redis, FLEET_SECRET)
    vault.write("a", b"value", 60.0)
    vault.claim("t", 30.0)
    vault.write("b", b"value", 0.5)
    keys = list(redis.client.scan_iter("*"))
    assert len(keys) == 2
    lives = sorted(int(redis.client.pttl(key)) for key in keys)  # type: ignore[arg-type]
    assert 0 < lives[0] <= 30_000 < lives[1] <= 60_000


@pytest.mark.servers
def test_redis_sees_neither_names_nor_values(redis: Connection) -> None:
    """The same value under another name, or twice under the same, looks different each time."""
    vault = RedisVault(redis, FLEET_SECRET)
    looks = set()
    for name in ("token of team/app", "token of team/app", "token of team/other"):
        vault.write(name, b"SECRET-TOKEN", 60.0)
        looks.add(dump(redis))
    vault.claim("token of team/app", 30.0)
    assert len(looks) == 3
    for word in ("SECRET", "team/app", "team/other", "token of"):
        assert word not in dump(redis)


@pytest.mark.servers
def test_a_value_counts_only_where_and_as_it_was_written(redis: Connection) -> None:
    """Moved to another name, changed, cut, or written with another secret, it is none; nothing raises."""
    vault = RedisVault(redis, FLEET_SECRET)
    vault.write("a", b"mine", 60.0)
    (at_a,) = redis.client.scan_iter("*")
    text = str(redis.client.get(at_a))
    vault.write("b", b"yours", 60.0)
    (at_b,) = [key for key in redis.client.scan_iter("*") if key != at_a]
    redis.client.set(at_b, text, px=60_000)
    assert vault.read("b") is None
    assert vault.read("a") is not None
    assert RedisVault(redis, "SECRET-of-another-fleet").read("a") is None
    sealed = bytearray(base64.b64decode(text))
    sealed[-1] ^= 1
    for damaged in (base64.b64encode(sealed).decode(), text[:20], "", "%", "é", "AAAA"):
        redis.client.set(at_a, damaged, px=60_000)
        assert vault.read("a") is None
    redis.client.set(at_a, text)
    assert vault.read("a") is None, "one without an end is not ours"
    redis.client.delete(at_a)
    redis.client.lpush(at_a, "x")
    assert vault.read("a") is None, "nor one of another kind"


# --- several processes ------------------------------------------------------------------------------------
def workers(stack: ExitStack, *lines: tuple[str, ...]) -> list[str]:
    """What worker processes with these arguments say, all told to ask at the same moment."""
    command = [sys.executable, "-m", "tests.contracts.vault_client"]
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    started = [stack.enter_context(subprocess.Popen([*command, *line], **options)) for line in lines]
    for one in started:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in started:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    return [one.communicate(timeout=60)[0].strip() for one in started]


@pytest.mark.servers
def test_a10_shared_token_single_flight_processes_share_one_token_and_logins_share_none(
    redis_url: str, redis: Connection
) -> None:
    """Five workers of one login cost one token request, two of another one more; Redis shows none of it."""
    tokens = FakeTokenServer({"me": "SECRET-PASSWORD", "you": "SECRET-OTHER"})
    fake = FakeRegistry(tokens=tokens)
    fake.put_blob("team/app", b"a layer")
    with ExitStack() as stack:
        stack.enter_context(tokens)
        stack.enter_context(fake)
        where = (redis_url, fake.host, tokens.host, "team/app")
        mine, theirs = (*where, "me", "SECRET-PASSWORD"), (*where, "you", "SECRET-OTHER")
        assert workers(stack, *[mine] * 5, *[theirs] * 2) == ["True"] * 7
    # One token request for each login, and each token used by the workers of its login only
    assert len(tokens.seen) == 2
    used = [seen.authorization for seen in fake.seen if seen.authorization]
    assert sorted(used.count(one) for one in set(used)) == [2, 5]
    # What is in Redis now, the tokens among it, cannot be read there
    shown = dump(redis)
    assert shown.count("vt:") >= 2
    for word in ("SECRET", "team/app", fake.host, tokens.host, "fake-registry", "Bearer", "repository"):
        assert word not in shown
    # No turn is left behind
    assert "vl:" not in shown


@pytest.mark.servers
def test_a11_bad_credentials_no_hammer_processes_learn_from_each_other(redis_url: str) -> None:
    """A wrong password is tried by one worker of six; another login is not held back by it."""
    tokens = FakeTokenServer({"me": "SECRET-PASSWORD"})
    fake = FakeRegistry(tokens=tokens)
    fake.put_blob("team/app", b"a layer")
    with ExitStack() as stack:
        stack.enter_context(tokens)
        stack.enter_context(fake)
        wrong = [
            (redis_url, fake.host, tokens.host, f"team/app{number}", "me", "SECRET-WRONG")
            for number in range(6)
        ]
        assert workers(stack, *wrong) == ["unauthorized"] * 6
        assert len(tokens.seen) == 2, "with the scope, and without"
        right = (redis_url, fake.host, tokens.host, "team/app", "me", "SECRET-PASSWORD")
        assert workers(stack, right, wrong[0]) == ["True", "unauthorized"]
        assert len(tokens.seen) == 3


@pytest.mark.servers
def test_a_token_refused_for_one_worker_is_replaced_for_all(redis_url: str) -> None:
    """Nobody takes the dead token out of the vault again."""
    tokens = FakeTokenServer({"me": "SECRET-PASSWORD"})
    fake = FakeRegistry(tokens=tokens)
    fake.put_blob("team/app", b"a layer")
    with ExitStack() as stack:
        stack.enter_context(tokens)
        stack.enter_context(fake)
        me = (redis_url, fake.host, tokens.host, "team/app", "me", "SECRET-PASSWORD")
        assert workers(stack, me) == ["True"]
        tokens.issued.clear()
        assert workers(stack, me, me) == ["True", "True"]
        assert len(tokens.seen) == 2
        tokens.always("GET", "/token", Answer(503))
        assert workers(stack, me) == ["True"], "the token server is not needed"
