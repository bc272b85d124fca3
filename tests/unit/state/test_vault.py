"""The vault without a server: it never stands in anybody's way."""

from __future__ import annotations

import logging

import pytest

from distworker.state.connection import Connection
from distworker.state.sealed import AWAY
from distworker.state.vault import RedisVault

SECRET = "SECRET-of-the-fleet"


def test_a_vault_that_is_away_knows_nothing_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Everyone may go on by himself; the log says so once, without a secret."""
    caplog.set_level(logging.INFO)
    now = [0.0]
    redis = Connection("redis://:SECRET-PASSWORD@127.0.0.1:1/0")
    vault = RedisVault(redis, SECRET, clock=lambda: now[0])
    for _ in range(3):
        assert vault.read("a token") is None
        vault.write("a token", b"SECRET-TOKEN", 60.0)
        vault.erase("a token")
        token = vault.claim("a token", 30.0)
        assert token
        assert vault.claim("a token", 30.0) not in {"", token}
        vault.free("a token", token)
        now[0] += AWAY
    (record,) = caplog.records
    assert "not shared" in record.getMessage()
    assert "SECRET" not in caplog.text
    redis.close()
