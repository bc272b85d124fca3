"""Logins that are made: once for all threads, again before their end, and not again after a refusal."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from distworker.errors import DistworkerError, Unauthorized, Unavailable
from distworker.registry.credentials import Credential
from distworker.registry.logins.minted import FAULT_MEMORY, REFUSAL_MEMORY, Keeper, Minted


class Mint:
    """Makes logins with a number, for 100 seconds; or raises what it was given."""

    def __init__(self) -> None:
        self.now = 0.0
        self.made = 0
        self.failure: DistworkerError | None = None
        self.keeper: Keeper[str, Credential] = Keeper(lambda: self.now)

    def __call__(self) -> Minted[Credential]:
        self.made += 1
        if self.failure is not None:
            raise self.failure
        return Minted(Credential("me", f"pw{self.made}"), 100.0)

    def get(self, key: str = "r") -> str:
        """The password of the moment."""
        return self.keeper.get(key, self).password


def test_a_login_is_made_again_at_four_fifths_of_its_life() -> None:
    """Early enough that no transfer begins with one that is about to end."""
    mint = Mint()
    assert [mint.get(), mint.get()] == ["pw1", "pw1"]
    mint.now = 79.9
    assert mint.get() == "pw1"
    mint.now = 80.0
    assert mint.get() == "pw2"


def test_each_key_has_its_own() -> None:
    """A login for one registry says nothing of another."""
    mint = Mint()
    assert [mint.get("a"), mint.get("b"), mint.get("a")] == ["pw1", "pw2", "pw1"]


def test_many_threads_make_one_login() -> None:
    """The others wait for it."""
    mint = Mint()
    together = threading.Barrier(8)

    def run(_: int) -> str:
        together.wait(30)
        return mint.get()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(run, range(8))) == {"pw1"}
    assert mint.made == 1


def test_the_old_login_serves_to_its_end_when_it_cannot_be_renewed(caplog: pytest.LogCaptureFixture) -> None:
    """A provider that is away for a minute stops nobody, and somebody is told."""
    mint = Mint()
    mint.get()
    mint.now, mint.failure = 85.0, Unavailable("away", registry="r", phase="log in")
    assert [mint.get(), mint.get()] == ["pw1", "pw1"]
    assert mint.made == 2
    assert "could not be renewed" in caplog.text
    mint.now = 100.0
    with pytest.raises(Unavailable):
        mint.get()
    mint.failure = None
    mint.now += FAULT_MEMORY
    assert mint.get() == "pw4"


@pytest.mark.parametrize(
    ("failure", "seconds"),
    [
        (Unauthorized("no", registry="r"), REFUSAL_MEMORY),
        (Unavailable("away", registry="r"), FAULT_MEMORY),
        (Unavailable("no such host", retry=False, registry="r"), REFUSAL_MEMORY),
    ],
)
def test_a_failure_is_remembered_for_a_moment(failure: DistworkerError, seconds: float) -> None:
    """Two hundred waiting steps do not all ask a provider that said no."""
    mint = Mint()
    mint.failure = failure
    raised = []
    for now in (0.0, 0.0, seconds - 1, seconds):
        mint.now = now
        with pytest.raises(type(failure)) as info:
            mint.get()
        raised.append(info.value)
    assert mint.made == 2
    assert len({id(one) for one in raised}) == 4, "each thread raises its own"
    assert {(one.message, one.retry, one.fields["registry"]) for one in raised} == {
        (failure.message, failure.retry, "r")
    }


def test_a_dropped_login_is_made_anew_and_a_newer_one_is_not_dropped() -> None:
    """Two threads may hear of the same expired login."""
    mint = Mint()
    old = mint.keeper.get("r", mint)
    mint.keeper.drop(old, lambda key: key == "other")
    assert mint.get() == "pw1"
    mint.keeper.drop(old, lambda key: key == "r")
    assert mint.get() == "pw2"
    mint.keeper.drop(old, lambda key: key == "r")
    assert mint.get() == "pw2"


def test_no_more_logins_are_kept_than_anybody_needs() -> None:
    """The hosts of jobs are without end; what was used last stays."""
    mint = Mint()
    mint.get("first")
    for number in range(1023):
        mint.get(str(number))
    assert mint.get("first") == "pw1"
    mint.get("one more")
    assert mint.get("first") == "pw1"
    assert mint.get("0") == "pw1026"
