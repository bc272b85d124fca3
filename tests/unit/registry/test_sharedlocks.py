"""One worker of the fleet at a time changes a list of referrers; and never is anybody kept for ever."""

from __future__ import annotations

import threading

import pytest

from distworker.registry.sharedlocks import VaultLocks
from distworker.registry.waits import SUBJECT_TURN
from tests.fakes.vault import MemoryVault
from tests.fakes.world import Clock

NAME = "reg.example/team/app@sha256:00"


def test_two_workers_take_turns() -> None:
    """The second one waits until the first one is done, and then has it."""
    clock, order = Clock(), []
    vault = MemoryVault(clock)
    held, waiting = threading.Event(), threading.Event()

    def second() -> None:
        held.wait(10)
        with VaultLocks(vault, clock=clock, sleep=lambda _: waiting.set()).hold(NAME):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with VaultLocks(vault, clock=clock).hold(NAME):
        held.set()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert vault.locks == {}


def test_the_lock_of_a_dead_worker_ends_by_itself() -> None:
    """Its time is over while the next one waits; nothing of it is freed by mistake."""
    clock = Clock()
    vault = MemoryVault(clock)
    vault.claim(f"referrers {NAME}", SUBJECT_TURN)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.forward(10.0)

    with VaultLocks(vault, clock=clock, sleep=sleep).hold(NAME):
        assert len(slept) == 3
        assert vault.locks
    assert vault.locks == {}


def test_whoever_waited_long_enough_goes_on_without_it() -> None:
    """Another one keeps renewing it: the list is read back anyway. The lock stays the other's."""
    clock = Clock()
    vault = MemoryVault(clock)

    def sleep(seconds: float) -> None:
        vault.locks[f"referrers {NAME}"] = ("other", clock.now + 1e6)
        clock.forward(20.0)

    sleep(0.0)
    with VaultLocks(vault, clock=clock, sleep=sleep).hold(NAME):
        pass
    assert vault.locks[f"referrers {NAME}"][0] == "other"


def test_it_is_given_back_whatever_happens() -> None:
    """Also when the change fails."""
    vault = MemoryVault(Clock())
    with pytest.raises(OSError, match="broke"), VaultLocks(vault).hold(NAME):
        raise OSError("broke")
    assert vault.locks == {}
