"""The connection: what it refuses, and what it says instead of a redis exception."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis
from redis import exceptions
from redis.sentinel import MasterNotFoundError

from deploy.demo.servers import Valkey
from distworker.errors import ConfigInvalid, InternalError, StateUnavailable
from distworker.state.base import StepSpec
from distworker.state.connection import Connection
from distworker.state.ledger import RedisLedger

URL = "redis://user:s3cret@127.0.0.1:1/0"


def raised(error: Exception) -> str:
    """What a caller sees instead of it."""
    with pytest.raises(StateUnavailable) as seen, Connection(URL).errors():
        raise error
    return str(seen.value)


def test_a_database_that_the_server_does_not_have_is_the_urls_fault() -> None:
    """It is no fault of ours and worth a sentence."""
    assert "correct the end of redis_url" in raised(redis.ResponseError("DB index is out of range"))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (redis.ResponseError("OOM command not allowed when used memory > 'maxmemory'."), "out of memory"),
        (exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "out of memory"),
        (
            exceptions.ReadOnlyError("You can't write against a read only replica."),
            "point the URL at the primary",
        ),
        (redis.ResponseError("MISCONF Redis is configured to save RDB snapshots"), "free disk space"),
        (redis.ResponseError("NOREPLICAS Not enough good replicas to write."), "min-replicas-to-write"),
        (
            redis.ResponseError("UNBLOCKED force unblock from blocking operation"),
            "read-only replica just now",
        ),
        (redis.BusyLoadingError("Redis is loading the dataset in memory"), "try again in a moment"),
        (redis.AuthenticationError("invalid username-password pair"), "refused the user or password"),
        (exceptions.NoPermissionError("this user has no permissions"), "does not let this user"),
        (redis.TimeoutError("Timeout reading from socket"), "did not answer in time"),
        (MasterNotFoundError("No master found for 'm'"), "no primary just now"),
        (redis.ConnectionError("Error 111 connecting to user:s3cret@127.0.0.1"), "check that it runs"),
        (ConnectionResetError("reset"), "check that it runs"),
        (redis.RedisError("odd"), "RedisError"),
    ],
)
def test_errors_become_one_sentence_that_says_what_to_do(error: Exception, sentence: str) -> None:
    """It names the server, never the password."""
    text = raised(error)
    assert sentence in text
    assert "127.0.0.1:1/0" in text
    assert "s3cret" not in text


def test_an_error_inside_a_script_is_a_bug_of_ours() -> None:
    """It is not blamed on the server, and retrying does not help."""
    with pytest.raises(InternalError, match="nil value"), Connection(URL).errors():
        raise redis.ResponseError("ERR user_script:12: attempt to index a nil value")


def test_a_url_of_another_kind_is_refused() -> None:
    """Before anything is sent anywhere."""
    with pytest.raises(ConfigInvalid, match="redis://"):
        Connection("amqp://guest:guest@localhost")


def test_a_server_that_is_not_there_is_state_unavailable() -> None:
    """Port 1 answers nobody."""
    ledger = RedisLedger("redis://:s3cret@127.0.0.1:1/0")
    with pytest.raises(StateUnavailable, match="cannot be reached"):
        ledger.pump()
    with pytest.raises(StateUnavailable, match="cannot be reached"):
        ledger.hints("origin", "", ["digest"])
    ledger.close()


@pytest.mark.servers
def test_a_full_server_is_named_as_such_from_its_real_answer(tmp_path: Path) -> None:
    """The script's first write is refused; nothing of it is done."""
    with Valkey(tmp_path, maxmemory=1024 * 1024) as server:
        ledger = RedisLedger(server.url())
        filler = "x" * 100_000
        with pytest.raises(StateUnavailable, match="out of memory"):
            for number in range(100):
                ledger.open_job(f"J{number}", {"filler": filler}, StepSpec(f"j:J{number}", "J", {}))
        ledger.close()


@pytest.mark.servers
def test_a_wrong_password_is_named_as_such(tmp_path: Path) -> None:
    """And neither the right nor the wrong one is shown."""
    with Valkey(tmp_path, password="r1ght") as server:
        for url, sentence in (
            (server.url().replace("r1ght", "wr0ng"), "refused the user or password"),
            (server.url().replace(":r1ght@", ""), "wants a password"),
        ):
            ledger = RedisLedger(url)
            with pytest.raises(StateUnavailable, match=sentence) as seen:
                ledger.check()
            assert "r1ght" not in str(seen.value)
            assert "wr0ng" not in str(seen.value)
            ledger.close()


@pytest.mark.servers
def test_scripts_are_sent_again_to_a_server_that_forgot_them(redis_url: str) -> None:
    """After a restart or SCRIPT FLUSH."""
    ledger = RedisLedger(redis_url)
    assert list(ledger.pump()) == []
    ledger.redis.client.script_flush()
    assert list(ledger.pump()) == []
    ledger.close()


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ([1, 0], True),
        ([0, 0], False),
        (1, True),
        (0, False),
        (redis.ResponseError("unknown command 'WAITAOF', with args beginning with: '1'"), True),
        (exceptions.NoPermissionError("this user has no permissions to run the 'waitaof' command"), True),
    ],
)
def test_a_server_that_cannot_tell_what_is_on_disk_is_believed(answer: Any, kept: bool) -> None:
    """Servers before Redis 7.2 are; those that can tell are heard: files that have it, or replicas."""
    assert Connection(URL)._kept(answer) is kept


def test_trouble_while_the_disk_is_asked_is_no_confirmation() -> None:
    """The primary became a replica meanwhile, for example."""
    with pytest.raises(redis.ResponseError):
        Connection(URL)._kept(redis.ResponseError("UNBLOCKED force unblock from blocking operation"))
