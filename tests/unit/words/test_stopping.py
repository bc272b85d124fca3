"""A stop reaches a run wherever it waits, and leaves alone what must come to its end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from distworker import stopping
from distworker.errors import Cancelled, Draining, Lost
from distworker.stopping import Stopper

GUARD = 30.0


def waiting(stopper: Stopper, wait: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """A thread of that run which waits; what became of it is the list's only entry."""
    ended: list[object] = []
    begun = threading.Event()

    def work() -> None:
        with stopper.bound():
            begun.set()
            try:
                ended.append(wait())
            except (Cancelled, OSError) as error:
                ended.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert begun.wait(GUARD)
    return thread, ended


def test_a_read_of_a_silent_socket_ends_with_the_run() -> None:
    """The peer sends nothing and closes nothing; without the stop this would wait for ever."""
    ours, theirs = socket.socketpair()
    stopper = Stopper()
    attended = threading.Event()

    def read() -> object:
        stopping.attend(ours)
        attended.set()
        return ours.recv(1)

    with ours, theirs:
        thread, ended = waiting(stopper, read)
        assert attended.wait(GUARD)
        stopper.stop(Cancelled("not wanted"))
        thread.join(GUARD)
        assert ended == [b""]


def test_a_pause_ends_with_the_run_and_says_why() -> None:
    """Registries ask for pauses of many seconds."""
    stopper = Stopper()
    thread, ended = waiting(stopper, lambda: stopping.sleep(3600))
    stopper.stop(Cancelled("not wanted"))
    thread.join(GUARD)
    assert [str(error) for error in ended] == ["cancelled: not wanted"]


def test_a_socket_opened_after_the_stop_is_of_no_use() -> None:
    """It may come between the last question and the first byte."""
    ours, theirs = socket.socketpair()
    stopper = Stopper()
    with ours, theirs, stopper.bound():
        stopper.stop(Cancelled("not wanted"))
        stopping.attend(ours)
        assert ours.recv(1) == b""


def test_what_is_shielded_goes_on() -> None:
    """A tag's PUT is looked after, an upload session is taken back."""
    ours, theirs = socket.socketpair()
    stopper = Stopper()
    with ours, theirs, stopper.bound():
        stopping.attend(ours)
        with stopping.shielded():
            stopper.stop(Cancelled("not wanted"))
            stopping.check()
            theirs.sendall(b"x")
            assert ours.recv(1) == b"x"
        with pytest.raises(Cancelled):
            stopping.check()


def test_a_connection_outlives_the_run_that_opened_it() -> None:
    """Threads keep their connections for the next step: a late stop of the last one must not break it."""
    ours, theirs = socket.socketpair()
    before, after = Stopper(), Stopper()
    with ours, theirs:
        with before.bound():
            stopping.attend(ours)
        with after.bound():
            before.stop(Cancelled("not wanted"))
            theirs.sendall(b"x")
            assert ours.recv(1) == b"x"


def test_the_first_reason_stays() -> None:
    """A run that is lost stays lost, although its worker stops as well."""
    stopper = Stopper()
    stopper.stop(Lost("taken over"))
    stopper.stop(Draining("this worker is stopping"))
    with pytest.raises(Lost):
        stopper.check()


def test_a_shield_does_not_hide_that_the_step_is_gone() -> None:
    """Behind a tag's PUT stands the list of referrers, which is asked for by itself."""

    def gone() -> None:
        raise Lost("taken over")

    with Stopper(gone).bound(), stopping.shielded(), pytest.raises(Lost):
        stopping.fence()


def test_what_is_put_right_is_not_refused() -> None:
    """A run that came too late brings the later image's tag back although it holds nothing any more."""

    def gone() -> None:
        raise Lost("taken over")

    with Stopper(gone).bound(), stopping.shielded(fenced=False):
        stopping.fence()


def test_nobody_needs_a_run() -> None:
    """The client of registries works without one."""
    stopping.check()
    stopping.fence()
    stopping.sleep(0)
