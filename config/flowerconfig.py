"""Settings of the dashboard, read by `celery -A tasks flower` (plain Python that Flower executes at its
start).

The dashboard can stop workers and shows what moves where, so it asks for a login unless only this machine
reaches it. The password comes from a file or the environment, never from the command line. Flower's own
options on the command line are stronger than this page. `/metrics` and `/healthcheck` never ask for a login:
keep the port away from strangers.

    DISTWORKER_FLOWER_ADDRESS    where to listen, 127.0.0.1 unless given
    DISTWORKER_FLOWER_PORT       5555 unless given
    DISTWORKER_FLOWER_AUTH       user:password
    DISTWORKER_FLOWER_AUTH_FILE  a file whose lines are user:password
"""

import ipaddress
import os
from pathlib import Path

from tornado.options import options

_AUTH, _AUTH_FILE = "DISTWORKER_FLOWER_AUTH", "DISTWORKER_FLOWER_AUTH_FILE"


def _logins():
    """The `user:password` lines the operator gave."""
    if os.environ.get(_AUTH_FILE):
        try:
            lines = Path(os.environ[_AUTH_FILE]).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise SystemExit(f"distworker: {_AUTH_FILE}: cannot be read: {error.strerror}") from None
        given = [line.strip() for line in lines if line.strip()]
    else:
        given = [os.environ[_AUTH]] if os.environ.get(_AUTH) else []
    if any(not user or not secret for user, _, secret in (line.partition(":") for line in given)):
        raise SystemExit(f"distworker: {_AUTH} and the lines of {_AUTH_FILE} are user:password")
    return given


def _only_this_machine(host):
    """Whether listening on `host` keeps other machines out. An empty host listens everywhere."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _port(text):
    """A port number, checked."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 0 < number < 65536:
        raise SystemExit("distworker: DISTWORKER_FLOWER_PORT: expected a port from 1 to 65535")
    return number


# Flower has read its command line by now, reads it once more after this page, and that wins.
address = options.address or os.environ.get("DISTWORKER_FLOWER_ADDRESS") or "127.0.0.1"
port = _port(os.environ.get("DISTWORKER_FLOWER_PORT") or options.port)
basic_auth = options.basic_auth or _logins()

if not _only_this_machine(address) and not (basic_auth or options.auth or options.unix_socket):
    raise SystemExit(
        f"distworker: the dashboard on {address} needs a login: set {_AUTH_FILE} (lines of user:password),"
        " or listen on 127.0.0.1"
    )

persistent = False  # tasks are a view of now; the truth about jobs is `distworker status`
max_tasks = 20_000  # about 60 MB; older ones leave the list
purge_offline_workers = 3600
natural_time = False
tasks_columns = "name,state,args,result,received,runtime,worker,uuid"


def format_task(task):
    """Lists show what went wrong where they show what came out. Flower does not escape its column
    `exception`, and a registry's words may be in there; it does escape `result`."""
    task.name = task.name.removeprefix("distworker.") if task.name else task.name
    if task.exception:
        task.result = task.exception
    return task
