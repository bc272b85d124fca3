"""The connection to Redis or Valkey: time-outs, retries, the checks made before any work, errors as ours.

It promises that a caller sees `StateUnavailable` with a sentence that says what to do, never a redis
exception and never the URL's password. It refuses servers on which the ledger would lose work: Cluster (its
scripts touch many slots), versions before 6.2 (LMOVE, ZADD GT), and any eviction policy but `noeviction`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import redis
from redis import exceptions
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from distworker import names
from distworker.errors import ConfigInvalid, InternalError, StateUnavailable
from distworker.state.keys import DEFAULT_PREFIX, key, lua_table
from distworker.state.rules import Rules

CONNECT_TIMEOUT = 5.0  #: seconds; a server that is there answers at once
#: Seconds; longer than any script of ours. One connection that hangs must not cost the leases of a process:
#: beat (4 s), this, and the retry fit into a lease (12 s).
SOCKET_TIMEOUT = 5.0
HEALTH_CHECK = 25  #: seconds a connection may idle before it is tried with a PING (half-open connections)
RETRIES = 2  #: at once, after a dropped connection; longer outages are the callers' (they wait and beat on)
OLDEST = (6, 2)

#: Heads that every script starts with, in this order.
HEADS = ("_common", "_ready", "_graph", "_back")

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
    "BUSY": "is busy with a script that does not end",
}

#: Answers whose code redis-py cuts off and turns into a class.
STRIPPED: tuple[tuple[type[redis.ResponseError], str], ...] = (
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.NoPermissionError, "NOPERM"),
)


def place_of(url: str) -> str:
    """`host:port/db` of a Redis URL: what may be shown of it."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}{parts.path}"


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
    ) -> None:
        self.place = place_of(url)
        self._has_password = bool(urlsplit(url).password)
        self.rules = rules or Rules()
        self.prefix = prefix
        self._clock = clock
        tcp: dict[str, Any] = {"socket_connect_timeout": CONNECT_TIMEOUT, "socket_keepalive": True}
        try:
            self.client: redis.Redis = redis.Redis.from_url(
                url,
                decode_responses=True,
                socket_timeout=SOCKET_TIMEOUT,
                **({} if url.startswith("unix:") else tcp),
                health_check_interval=HEALTH_CHECK,
                retry=Retry(ExponentialBackoff(cap=0.2, base=0.05), RETRIES),
                retry_on_error=[redis.ConnectionError],
            )
        except ValueError as error:
            raise ConfigInvalid("the Redis URL must start with redis://, rediss:// or unix://") from error
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

    def close(self) -> None:
        """Give up the sockets."""
        self.client.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what redis-py raises into our errors."""
        try:
            yield
        except exceptions.BusyLoadingError as error:
            raise self._unavailable(REMEDIES["LOADING"]) from error
        except redis.AuthenticationError as error:
            word = "WRONGPASS" if self._has_password else "NOAUTH"
            raise self._unavailable(REMEDIES[word]) from error
        except redis.ResponseError as error:
            raise self._answer_error(error) from error
        except (redis.TimeoutError, TimeoutError) as error:
            raise self._unavailable("did not answer in time") from error
        except (redis.ConnectionError, OSError) as error:
            raise self._unavailable("cannot be reached: check that it runs, and its URL") from error
        except redis.RedisError as error:
            raise self._unavailable(f"failed ({type(error).__name__})") from error

    def _answer_error(self, error: redis.ResponseError) -> Exception:
        text = str(error)
        for kind, word in STRIPPED:
            if isinstance(error, kind):
                return self._unavailable(REMEDIES[word])
        for word, remedy in REMEDIES.items():
            # an error raised inside a script keeps the answer's code behind a dash
            if text.startswith(f"{word} ") or f"-{word} " in text:
                return self._unavailable(remedy)
        if "DB index is out of range" in text:
            return self._unavailable("has no database of that number: correct the end of redis_url")
        return InternalError(f"Redis at {self.place} refused a ledger command: {text}")

    def _unavailable(self, what: str) -> StateUnavailable:
        return StateUnavailable(f"Redis at {self.place} {what}", phase="state")

    def check(self) -> Mapping[str, Any]:
        """What the server is; raises StateUnavailable with the remedy when the ledger must not run on it."""
        with self.errors():
            info: Mapping[str, Any] = self.client.info("default")
        version = str(info.get("redis_version", "0"))
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
            raise self._unavailable(f"is version {version}; 6.2 or newer, or Valkey, is needed")
        if int(info.get("cluster_enabled", 0)) or info.get("redis_mode") == "cluster":
            raise self._unavailable(
                "runs in cluster mode, which is not supported: use one primary (with replicas)"
            )
        policy = str(info.get("maxmemory_policy") or self._policy())
        if policy not in ("noeviction", "unknown"):
            raise self._unavailable(
                f"evicts keys when full (maxmemory-policy {policy}): "
                "run CONFIG SET maxmemory-policy noeviction and put it into its configuration"
            )
        append = bool(int(info.get("aof_enabled", 0)))
        return {
            "server": "valkey" if info.get("valkey_version") else "redis",
            "version": str(info.get("valkey_version") or version),
            "persistence": "aof" if append else "rdb" if info.get("rdb_last_save_time") else "none",
            "policy": policy,
            "role": str(info.get("role", "unknown")),
            "used_memory": int(info.get("used_memory", 0)),
            "maxmemory": int(info.get("maxmemory", 0)),
        }

    def _policy(self) -> str:
        """Some INFO answers leave the policy out; CONFIG may be refused as well."""
        try:
            answer: Mapping[Any, Any] = self.client.config_get("maxmemory-policy")
        except redis.RedisError:
            return "unknown"
        return str(answer.get("maxmemory-policy", "unknown"))


@lru_cache(maxsize=16)
def rules_json(rules: Rules, clock: int | None) -> str:
    """The rules as the scripts read them, times in milliseconds; `clock` replaces the server's time."""
    times = (
        "lease",
        "resend",
        "resend_cap",
        "newer",
        "gap",
        "reap_every",
        "keep",
        "answer",
        "hint",
        "patience",
        "idle",
    )
    record = {name: int(value * 1000) if name in times else value for name, value in asdict(rules).items()}
    record |= {"live": int(rules.live * 1000), "v": names.VERSION}
    return json.dumps(record if clock is None else {**record, "clock": clock})
