"""The connection to Redis or Valkey: runs scripts, knows what is on disk, turns errors into ours.

It promises that a caller sees `StateUnavailable` with a sentence that says what to do (`StateRefused` where
waiting does not help), never a redis exception and never the URL's password. Which servers are fit for the
ledger is `fitness.py`'s to say, how they are reached `client.py`'s.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

import redis
from redis import exceptions
from redis.sentinel import MasterNotFoundError

from distworker import names
from distworker.errors import ConfigInvalid, InternalError, StateRefused, StateUnavailable
from distworker.state.address import Access, parse_address
from distworker.state.client import open_client
from distworker.state.keys import DEFAULT_PREFIX, key, lua_table
from distworker.state.rules import Rules

#: Heads that every script starts with, in this order.
HEADS = ("_common", "_ready", "_subs", "_graph", "_ends", "_back")

#: What the server says first → what a person should know and do.
REMEDIES: Mapping[str, str] = {
    "OOM": "is out of memory: raise maxmemory or let running jobs finish",
    "READONLY": "is a read-only replica: point the URL at the primary",
    "MISCONF": "cannot save to its disk and refuses writes: look at its log, free disk space",
    "LOADING": "is still loading its data: try again in a moment",
    "NOAUTH": "wants a password: put it into the URL",
    "WRONGPASS": "refused the user or password in the URL",
    "NOPERM": "does not let this user run what the ledger needs: allow EVALSHA and the keys of its prefix",
    "MASTERDOWN": "has lost its primary",
    "UNBLOCKED": "became a read-only replica just now",
    "NOREPLICAS": "has fewer replicas than min-replicas-to-write wants: check them",
    "BUSY": "is busy with a script that does not end",
}
#: Answers that no waiting changes: a person must.
REFUSALS: Final = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})

#: Longest wait for the disk. With `appendfsync everysec` it is asked once a second; a disk that needs longer
#: is in trouble.
SETTLE_SECONDS: Final = 2.5
#: Answers by which a server says that it cannot tell what is on its disk: too old, no AOF, or not allowed.
_CANNOT_TELL: Final = ("unknown command", "appendonly is disabled", "NOPERM", "no permissions")

#: Answers whose code redis-py cuts off and turns into a class.
STRIPPED: tuple[tuple[type[redis.ResponseError], str], ...] = (
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.NoPermissionError, "NOPERM"),
)


@lru_cache(maxsize=64)
def script_text(name: str) -> str:
    """The whole script: the key table, the shared heads, the operation."""
    folder = files("distworker.state") / "scripts"
    return lua_table() + "\n".join((folder / f"{part}.lua").read_text("utf-8") for part in (*HEADS, name))


class Connection:
    """Runs the scripts and plain commands. `clock` (Unix seconds) stands for the server's time in tests."""

    def __init__(
        self,
        url: str,
        prefix: str = DEFAULT_PREFIX,
        rules: Rules | None = None,
        clock: Callable[[], float] | None = None,
        access: Access | None = None,
    ) -> None:
        try:
            self.address = parse_address(url)
        except ValueError as error:
            raise ConfigInvalid(f"redis_url: {error}", field="redis_url") from None
        self.place = self.address.place
        self.rules = rules or Rules()
        self.prefix = prefix
        self._clock = clock
        self.client: redis.Redis = open_client(self.address, access or Access())
        self._tells = True
        self._scripts: dict[str, Any] = {}

    def key(self, name: str, suffix: str = "") -> str:
        """The key of a row of `keys.TABLE`."""
        return key(self.prefix, name, suffix)

    def run(self, script: str, *args: str | int) -> Any:
        """Run a script by its hash; the server is sent the text when it does not know it."""
        with self.errors():
            if script not in self._scripts:
                self._scripts[script] = self.client.register_script(script_text(script))
            return self._scripts[script](keys=(), args=(self.prefix, self._rules_json(), *args))

    def _rules_json(self) -> str:
        return rules_json(self.rules, int(self._clock() * 1000) if self._clock else None)

    def now(self) -> float:
        """The time the ledger goes by, in Unix seconds."""
        if self._clock:
            return self._clock()
        with self.errors():
            seconds, micros = self.client.time()
        return int(seconds) + int(micros) / 1e6

    def settle(self) -> bool:
        """Wait until what was written before is on the primary's disk and, where Sentinels may put a replica
        in its place, in one replica's memory.

        False: not within `SETTLE_SECONDS`. A server that cannot tell (older than Redis 7.2, no AOF) is taken
        at its word.
        """
        with self.errors(), self.client.pipeline(transaction=False) as pipe:
            # Both commands count what their own connection wrote last; a pipeline has one for all three.
            pipe.set(self.key("settle"), "1", px=1000)
            if self._tells:
                pipe.waitaof(1, 0, int(SETTLE_SECONDS * 1000))
            if self.address.by_sentinel:
                pipe.wait(1, int(SETTLE_SECONDS * 1000))
            _, *answers = pipe.execute(raise_on_error=False)
            kept = [self._kept(answer) for answer in answers]
        return all(kept)

    def _kept(self, answer: Any) -> bool:
        if isinstance(answer, redis.ResponseError) and any(part in str(answer) for part in _CANNOT_TELL):
            self._tells = False
            return True
        if isinstance(answer, Exception):
            raise answer
        return int(answer[0] if isinstance(answer, list) else answer) >= 1

    def close(self) -> None:
        """Give up the sockets."""
        self.client.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what redis-py raises into our errors."""
        try:
            yield
        except exceptions.BusyLoadingError as error:
            raise self.unavailable(REMEDIES["LOADING"]) from error
        except redis.AuthenticationError as error:
            raise self._told("WRONGPASS" if self.address.password else "NOAUTH") from error
        except redis.ResponseError as error:
            raise self._answer_error(error) from error
        except (redis.TimeoutError, TimeoutError) as error:
            raise self.unavailable("did not answer in time") from error
        except (redis.ConnectionError, OSError) as error:
            raise self._no_connection(error) from error
        except redis.RedisError as error:
            raise self.unavailable(f"failed ({type(error).__name__})") from error

    def _answer_error(self, error: redis.ResponseError) -> Exception:
        text = str(error)
        for kind, word in STRIPPED:
            if isinstance(error, kind):
                return self._told(word)
        for word in REMEDIES:
            # an error raised inside a script keeps the answer's code behind a dash
            if text.startswith(f"{word} ") or f"-{word} " in text:
                return self._told(word)
        if "DB index is out of range" in text:
            return self.refused("has no database of that number: correct the end of redis_url")
        return InternalError(f"Redis at {self.place} refused a ledger command: {text}")

    def _no_connection(self, error: BaseException) -> StateUnavailable:
        if isinstance(error, MasterNotFoundError):
            # Also what a name that no Sentinel knows looks like: they say nothing of what they do not watch.
            return self.unavailable(
                "has no primary just now that its Sentinels agree on: check that they run, their login, and"
                " the name after ?master="
            )
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return self.refused(
                    f"shows a certificate that is not accepted ({cause.verify_message}): trust its authority"
                    " with redis_ca_file, and use the name it is made for"
                )
            if isinstance(cause, ssl.SSLError):
                return self.unavailable("does not agree on TLS: check the port, redis_client_cert, its log")
            cause = cause.__cause__ or cause.__context__
        return self.unavailable("cannot be reached: check that it runs, and its URL")

    def _told(self, word: str) -> StateUnavailable:
        return (self.refused if word in REFUSALS else self.unavailable)(REMEDIES[word])

    def unavailable(self, what: str) -> StateUnavailable:
        """The error that says so of this server; waiting may help."""
        return StateUnavailable(f"Redis at {self.place} {what}", phase="state")

    def refused(self, what: str) -> StateRefused:
        """The error that says so of this server; somebody must do something about it."""
        return StateRefused(f"Redis at {self.place} {what}", phase="state")


@lru_cache(maxsize=16)
def rules_json(rules: Rules, clock: int | None) -> str:
    """The rules as the scripts read them, times in milliseconds; `clock` replaces the server's time."""
    times = {rule.name for rule in fields(rules) if rule.type == "float"}
    record = {name: int(value * 1000) if name in times else value for name, value in asdict(rules).items()}
    record |= {"live": int(rules.live * 1000), "v": names.VERSION}
    return json.dumps(record if clock is None else {**record, "clock": clock})
