"""What is remembered of tokens and refused logins, in one process and through a shared vault."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from distworker.registry import scopes
from distworker.registry.challenge import Challenge, parse
from distworker.registry.scopes import Scope
from distworker.registry.sharedtokens import SharedTokenCache
from distworker.registry.tokencache import MemoryTokenCache, TokenCache, TokenKey
from distworker.registry.tokens import Token
from distworker.registry.waits import CHALLENGE_MEMORY, TOKEN_TURN, TOKENS_KEPT
from tests.fakes.vault import MemoryVault

REALM = "https://auth.example/token"


class Clock:
    """Seconds that tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The time of one test."""
    return Clock()


@pytest.fixture
def vault(clock: Clock) -> MemoryVault:
    """What the caches of one test share."""
    return MemoryVault(clock)


@pytest.fixture(params=["memory", "shared"])
def cache(request: pytest.FixtureRequest, clock: Clock, vault: MemoryVault) -> TokenCache:
    """Both kinds keep the same promises."""
    memory = MemoryTokenCache(clock)
    return memory if request.param == "memory" else SharedTokenCache(memory, vault, clock=clock)


@pytest.fixture
def worker(clock: Clock, vault: MemoryVault) -> Callable[[], SharedTokenCache]:
    """Makes caches as several processes have them: nothing in common but the vault and the time."""
    return lambda: SharedTokenCache(MemoryTokenCache(clock), vault, clock=clock)


def key(*wanted: Scope, registry: str = "reg", realm: str = REALM, fingerprint: str = "f") -> TokenKey:
    """What a token is for."""
    return TokenKey(registry, realm, "service", fingerprint, wanted)


def token(value: str, *granted: Scope, until: float = 1100.0) -> Token:
    """A token asked for with these scopes."""
    return Token(value, granted, until)


A, B = scopes.push("a"), scopes.pull("b")


def test_a_token_serves_what_it_covers_and_nothing_else(cache: TokenCache) -> None:
    """Rights are never carried over to another repository, secret, registry, realm or service."""
    cache.put(key(A), token("t", A))
    assert cache.get(key(A)) == token("t", A)
    assert cache.get(key(scopes.pull("a"))) == token("t", A), "push covers pull"
    for other in (
        key(scopes.pull("b")),
        key(Scope("repository", "a", ("delete",))),
        key(A, B),
        key(),
        key(A, fingerprint="g"),
        key(A, fingerprint=""),
        key(A, registry="other"),
        key(A, realm="https://auth.example/other"),
    ):
        assert cache.get(other) is None


def test_the_newest_of_several_is_used(cache: TokenCache) -> None:
    """A token that was widened after a refusal is not hidden by the narrower one before it."""
    wide = Scope("repository", "a", ("delete", "pull", "push"))
    cache.put(key(A), token("narrow", A))
    cache.put(key(wide), token("wide", wide))
    assert cache.get(key(A)) == token("wide", wide)
    pulls = scopes.pull("a")
    cache.put(key(pulls), token("pull", pulls))
    assert cache.get(key(A)) == token("wide", wide), "one that does not cover it hides nothing"


def test_the_refused_token_is_forgotten_and_a_newer_one_used(cache: TokenCache) -> None:
    """Whoever was refused first has asked already."""
    cache.put(key(A), token("old", A))
    assert cache.get(key(A), "Bearer old") is None
    assert cache.get(key(A)) == token("old", A), "until whoever was refused takes its turn"
    cache.drop(key(A), "Bearer another")
    assert cache.get(key(A)) == token("old", A)
    cache.drop(key(A), "Bearer old")
    assert cache.get(key(A)) is None, "it is gone"
    cache.put(key(A), token("new", A))
    assert cache.get(key(A), "Bearer old") == token("new", A)


def test_a_token_refused_for_more_than_it_was_for_is_kept(cache: TokenCache) -> None:
    """It still is good for what it was asked for."""
    pulls = scopes.pull("a")
    cache.put(key(pulls), token("t", pulls))
    cache.drop(key(A), "Bearer t")
    assert cache.get(key(A)) is None
    assert cache.get(key(pulls)) == token("t", pulls)


def test_a_token_due_for_renewal_is_not_used(cache: TokenCache, clock: Clock) -> None:
    """It would die on the way."""
    cache.put(key(A), token("t", A))
    clock.now = 1099.9
    assert cache.get(key(A)) is not None
    clock.now = 1100.0
    assert cache.get(key(A)) is None


def test_scopes_that_look_alike_are_told_apart(cache: TokenCache) -> None:
    """No separator of a name can be forged."""
    one, other = Scope("repository", 'a", "b', ("pull",)), Scope("repository", "a", ("pull",))
    assert key(one).place != key(other).place
    cache.put(key(one), token("t", one))
    assert cache.get(key(other)) is None


def test_memory_is_bounded(clock: Clock) -> None:
    """The place that was not used for longest goes first."""
    cache = MemoryTokenCache(clock)
    for number in range(TOKENS_KEPT + 1):
        scope = scopes.pull(f"r{number}")
        cache.put(key(scope), token("t", scope))
        assert cache.get(key(scopes.pull("r0"))) is not None
    assert cache.get(key(scopes.pull("r1"))) is None


def test_refusals_are_remembered_for_a_time(cache: TokenCache, clock: Clock) -> None:
    """And forgotten when the login works."""
    cache.refuse("me", 600.0)
    assert cache.is_refused("me")
    assert not cache.is_refused("you")
    clock.now += 600
    assert not cache.is_refused("me")
    cache.refuse("me", 600.0)
    cache.clear("me")
    assert not cache.is_refused("me")
    assert not cache.is_refused("me", ask=False)


def test_a_turn_is_for_one_at_a_time_and_names_do_not_wait_for_each_other(cache: TokenCache) -> None:
    """Two names can be held within each other, by anybody, in any order of their hashes."""
    inside, most, guard = 0, 0, threading.Lock()

    def run(number: int) -> None:
        nonlocal inside, most
        with cache.turn(f"login {number % 2}"), cache.turn("place"):
            with guard:
                inside += 1
                most = max(most, inside)
            with guard:
                inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(64)))
    assert most == 1


def test_processes_share_tokens_and_refusals(
    worker: Callable[[], SharedTokenCache], vault: MemoryVault
) -> None:
    """What one got, the others use; what one was refused, the others do not try."""
    first, second = worker(), worker()
    first.put(key(A), token("t", A))
    assert second.get(key(scopes.pull("a"))) == token("t", A)
    vault.erase(f"token {key(A).place}")
    assert second.get(key(A)) == token("t", A), "it is remembered here, too"
    first.put(key(A), token("t", A))
    second.drop(key(A), "Bearer t")
    assert worker().get(key(A)) is None, "refused for one is refused for all"
    first.refuse("me", 600.0)
    assert second.is_refused("me")
    assert second.is_refused("me", ask=False), "known from now on"
    assert not worker().is_refused("me", ask=False)
    second.clear("me")
    assert not worker().is_refused("me")


def test_processes_share_what_a_registry_wants(
    worker: Callable[[], SharedTokenCache], vault: MemoryVault, clock: Clock
) -> None:
    """For ten minutes; the scope and error of one request are nobody else's."""
    (bearer,) = parse([f'Bearer realm="{REALM}",service="s",scope="repository:a:pull",error="invalid_token"'])
    worker().learn("reg", bearer)
    assert worker().recall("reg") == Challenge("bearer", {"realm": REALM, "service": "s"})
    assert worker().recall("other") is None
    worker().learn("reg", Challenge("basic"))
    assert worker().recall("reg") == Challenge("basic", {"realm": "", "service": ""})
    clock.now += CHALLENGE_MEMORY
    assert worker().recall("reg") is None
    for value in (b"", b"[]", b"{}", b'{"scheme": 7}', b'{"scheme": "bearer"}', b'{"scheme": "negotiate"}'):
        vault.write("challenge reg", value, 60.0)
        assert worker().recall("reg") is None


def test_memory_recalls_nothing_of_others(clock: Clock) -> None:
    """A process alone has nobody to learn from."""
    cache = MemoryTokenCache(clock)
    cache.learn("reg", Challenge("basic"))
    assert cache.recall("reg") is None


def test_what_is_no_token_of_ours_counts_as_none(
    worker: Callable[[], SharedTokenCache], vault: MemoryVault
) -> None:
    """Another version may write other things; the next `put` replaces them."""
    cache = worker()
    for value in (
        b"",
        b"{",
        b"[]",
        b'{"token": 7}',
        b'{"token": "t"}',
        b'{"token": "t", "scopes": ["x", 5]}',
    ):
        vault.write(f"token {key(A).place}", value, 60.0)
        assert cache.get(key(A)) is None
    cache.put(key(A), token("t", A))
    assert worker().get(key(A)) is not None


def test_a_turn_whose_holder_is_lost_ends(clock: Clock, vault: MemoryVault) -> None:
    """A worker that died in it costs the others its time and nothing more."""
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock.now += seconds

    cache = SharedTokenCache(MemoryTokenCache(clock), vault, clock=clock, sleep=sleep)
    assert vault.claim("turn x", TOKEN_TURN)
    with cache.turn("x"):
        assert sum(waits) == pytest.approx(TOKEN_TURN, abs=0.1)
    # One that never ends is not waited for for ever, and is not freed by whoever gave up waiting.
    vault.locks["turn x"] = ("theirs", float("inf"))
    with cache.turn("x"):
        pass
    assert vault.locks["turn x"][0] == "theirs"


def test_a_turn_is_given_back_whatever_happens_in_it(
    worker: Callable[[], SharedTokenCache], vault: MemoryVault
) -> None:
    """A token server that fails must not stop the others for half a minute."""
    with pytest.raises(ValueError, match="x"), worker().turn("x"):
        assert list(vault.locks) == ["turn x"]
        raise ValueError("x")
    assert vault.locks == {}
