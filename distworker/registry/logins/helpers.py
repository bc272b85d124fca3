"""Credential helpers: programs named `docker-credential-<name>` that hold logins for docker and others.

Running a program that a file names is running code, so only helpers whose names the operator allowed run:
never through a shell, with a few variables of the environment, for at most ten seconds, and with bounded
output. They speak docker's protocol (docker/docker-credential-helpers): `get`, the server on stdin, JSON on
stdout. What a helper writes besides is never shown, since it may hold a secret. Answers are kept for five
minutes, "none" too.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from typing import IO, Any, Final

from distworker.errors import ConfigInvalid, RequestTimeout
from distworker.registry.credentials import Credential
from distworker.registry.logins.files import PHASE
from distworker.registry.logins.minted import Keeper, Minted

#: Seconds a helper may take; it may have to ask a server of its own.
HELPER_TIMEOUT: Final = 10.0
#: Bytes it may write; an answer is one small object.
HELPER_OUTPUT_MAX: Final = 64 * 1024
#: Seconds an answer is used; a helper does not say how long its secrets live.
HELPER_MEMORY: Final = 300.0

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
#: What docker's own helpers print, and end with a failure, when they have no login.
_NONE: Final = b"credentials not found in native keychain"
_READ: Final = 16 * 1024


class Helpers:
    """Those that may run: names, or None for whichever a file names. `environment` is all they get to see."""

    def __init__(
        self,
        allowed: Collection[str] | None = (),
        environment: Mapping[str, str] | None = None,
        *,
        timeout: float = HELPER_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowed = None if allowed is None else frozenset(allowed)
        self._environment = dict(environment or {})
        self._timeout = timeout
        self._kept: Keeper[tuple[str, str, str], Credential | None] = Keeper(clock)

    def allows(self, name: str) -> bool:
        """May it run?"""
        return bool(_NAME.fullmatch(name)) and (self._allowed is None or name in self._allowed)

    def find(self, name: str, server: str, host: str) -> Credential | None:
        """What helper `name` has for `server`, which is `host` in errors; None if it has nothing.

        Raises:
            ConfigInvalid: it is not installed, fails, or answers something else.
            RequestTimeout: it does not end in time.
        """
        return self._kept.get((name, server, host), lambda: self._ask(name, server, host))

    def refused(self, host: str, credential: Credential) -> None:
        """Ask again for `host`, if this is what was answered."""
        self._kept.drop(credential, lambda key: key[2] == host)

    def _ask(self, name: str, server: str, host: str) -> Minted[Credential | None]:
        program = f"docker-credential-{name}"
        problem = ""
        try:
            code, output, said = _run([program, "get"], server, self._environment, self._timeout)
        except FileNotFoundError:
            problem = "is not on PATH; install it, or take its name out of the file and of credential_helpers"
        except TimeoutError:
            raise RequestTimeout(
                f"the credential helper {program} did not answer within {self._timeout:g} s; run it by hand",
                phase=PHASE,
                registry=host,
            ) from None
        except OSError as error:
            problem = f"cannot be run: {error.strerror or type(error).__name__}; look at its file"
        except OverflowError:
            problem = f"wrote more than {HELPER_OUTPUT_MAX} bytes; run it by hand to see what it says"
        if problem:
            raise _unusable(program, host, problem)
        if code:
            if _NONE in output or _NONE in said:
                return Minted(None, HELPER_MEMORY)
            raise _unusable(
                program, host, f"ended with {code}; run `{program} get` by hand to see what it says"
            )
        return Minted(_read(output, program, host), HELPER_MEMORY)


def _read(output: bytes, program: str, host: str) -> Credential | None:
    document: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(output)
    username = document.get("Username") if isinstance(document, dict) else None
    secret = document.get("Secret") if isinstance(document, dict) else None
    if not isinstance(username, str) or not isinstance(secret, str) or ":" in username:
        raise _unusable(program, host, "answered no JSON with Username and Secret; run it by hand")
    if not secret:
        return None
    # docker's mark for "the secret is an identity token" (docker/docker-credential-helpers).
    return Credential(identity_token=secret) if username == "<token>" else Credential(username, secret)


def _run(
    command: list[str], text: str, environment: Mapping[str, str], timeout: float
) -> tuple[int, bytes, bytes]:
    """Exit code and what was written to stdout and stderr; TimeoutError, OverflowError or OSError if not."""
    deadline = time.monotonic() + timeout
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
    ) as process:
        try:
            assert process.stdin and process.stdout and process.stderr  # noqa: S101 - all three are pipes
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(text.encode())
            output, said = _collect(process.stdout, process.stderr, deadline)
            return process.wait(max(0.0, deadline - time.monotonic())), output, said
        except BaseException as error:
            # It was not waited for, so its number is still its own. With its children: one that keeps the
            # pipes open would go on. After a good end they may stay: `pass` leaves an agent behind.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise TimeoutError from None
            raise


def _collect(output: IO[bytes], said: IO[bytes], deadline: float) -> tuple[bytes, bytes]:
    read: dict[Any, bytearray] = {output: bytearray(), said: bytearray()}
    with selectors.DefaultSelector() as waiting:
        for stream in read:
            waiting.register(stream, selectors.EVENT_READ)
        while waiting.get_map():
            ready = waiting.select(deadline - time.monotonic())
            if not ready and time.monotonic() >= deadline:
                raise TimeoutError
            for key, _ in ready:
                piece = os.read(key.fd, _READ)
                read[key.fileobj] += piece
                if len(read[key.fileobj]) > HELPER_OUTPUT_MAX:
                    raise OverflowError
                if not piece:
                    waiting.unregister(key.fileobj)
    return bytes(read[output]), bytes(read[said])


def _unusable(program: str, host: str, what: str) -> ConfigInvalid:
    return ConfigInvalid(
        f"the credential helper {program} for {host} {what}",
        field="credential_helpers",
        phase=PHASE,
        registry=host,
    )
