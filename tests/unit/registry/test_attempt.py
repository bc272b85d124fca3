"""One request's way through 401 and 403, without sockets: who is asked, how often, and what it means."""

from __future__ import annotations

import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from distworker.errors import (
    AuthRequired,
    Denied,
    DistworkerError,
    ProtocolError,
    RealmRefused,
    Unauthorized,
    Unavailable,
)
from distworker.registry import scopes
from distworker.registry.attempt import Attempt
from distworker.registry.auth import Authenticator, Logins, Wire
from distworker.registry.challenge import Challenge, parse
from distworker.registry.credentials import Credential
from distworker.registry.faults import Problem, Where
from distworker.registry.tokencache import MemoryTokenCache
from distworker.registry.tokens import TokenRequest
from distworker.registry.urls import Origin
from distworker.registry.waits import BAD_LOGIN_MEMORY

REG, AUTH = Origin("https", "reg.example", 443), Origin("https", "auth.example", 443)
WHERE = Where("get manifest", "reg.example", "team/app", "v1")
BASIC = parse(['Basic realm="x"'])
EXPIRED = Problem("DENIED", "Your authorization token has expired. Reauthenticate and try again.")


def bearer(error: str = "", scope: str = "", realm: str = "https://auth.example/token") -> list[Challenge]:
    """A Bearer challenge."""
    return parse([f'Bearer realm="{realm}",service="s",error="{error}",scope="{scope}"'])


@dataclass
class Outside:
    """A registry and its token server as an `Authenticator` sees them.

    `tokens`: answers to token requests in order, the last one for ever (an int: that status; a text: that
    token). `pings`: the same for `/v2/`. `logins`: what the source has, one after another as it is renewed.
    """

    logins: list[Credential | None] = field(default_factory=lambda: [Credential("me", "SECRET")])
    tokens: list[str | int] = field(default_factory=lambda: [f"t{number}" for number in range(9)])
    pings: list[tuple[int, list[Challenge]]] = field(default_factory=lambda: [(200, [])])
    asked: list[TokenRequest] = field(default_factory=list)
    pinged: list[str] = field(default_factory=list)
    looked: list[str] = field(default_factory=list)
    clock: float = 1000.0

    def __post_init__(self) -> None:
        self.auth = Authenticator(
            REG,
            frozenset({REG, AUTH}),
            logins=Logins(self._find, self._renew),
            wire=Wire(self._send, self._probe),
            clock=lambda: self.clock,
        )

    def attempt(self, *needed: scopes.Scope) -> Attempt:
        """One request."""
        return Attempt(self.auth, needed or (scopes.pull("team/app"),), WHERE)

    def _find(self, repository: str) -> Credential | None:
        self.looked.append(repository)
        return self.logins[0]

    def _renew(self, repository: str, credential: Credential) -> None:
        if len(self.logins) > 1:
            self.logins.pop(0)

    def _send(self, request: TokenRequest, where: Where) -> tuple[int, bytes]:
        self.asked.append(request)
        answer = self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
        if isinstance(answer, int):
            return answer, b""
        return 200, json.dumps({"token": answer, "expires_in": 300}).encode()

    def _probe(self, authorization: str, where: Where) -> tuple[int, list[Challenge]]:
        self.pinged.append(authorization)
        return self.pings.pop(0) if len(self.pings) > 1 else self.pings[0]


def test_nothing_is_sent_before_it_is_asked_for() -> None:
    """A login is not looked up either."""
    outside = Outside()
    assert outside.attempt().header() == ""
    assert outside.looked == []


def test_the_login_of_the_repository_is_used() -> None:
    """Two repositories of one host may have two logins; the registry as such has its own."""
    outside = Outside()
    outside.attempt().answer(bearer())
    Attempt(outside.auth, (), Where("ping", "reg.example")).header()
    assert outside.looked == ["team/app", ""]


def test_a_token_of_another_worker_is_used_instead_of_asking_and_may_be_refused_too() -> None:
    """Both lost their token at the same moment; a second refusal then asks, once, and a third ends it."""
    outside = Outside()
    outside.attempt().answer(bearer())
    mine, other = outside.attempt(), outside.attempt()
    assert mine.header() == other.header() == "Bearer t0"
    assert other.answer(bearer("invalid_token")) == "Bearer t1"
    assert mine.answer(bearer("invalid_token")) == "Bearer t1"
    assert len(outside.asked) == 2
    assert mine.answer(bearer("invalid_token")) == "Bearer t2"
    with pytest.raises(Unauthorized, match="does not take the token"):
        mine.answer(bearer("invalid_token"))
    assert len(outside.asked) == 3


def test_others_cannot_keep_one_request_busy_for_ever() -> None:
    """However many new tokens others get, there is an end."""
    outside = Outside()
    outside.attempt().answer(bearer())
    mine = outside.attempt()
    mine.header()
    with pytest.raises(Denied):
        for _ in range(9):
            other = outside.attempt()
            other.header()
            other.answer(bearer("invalid_token"))
            mine.answer(bearer())


@pytest.mark.parametrize(
    ("login", "error", "kind"),
    [
        (Credential("me", "SECRET"), "", Denied),
        (Credential("me", "SECRET"), "insufficient_scope", Denied),
        (Credential("me", "SECRET"), "invalid_token", Unauthorized),
        (None, "insufficient_scope", AuthRequired),
    ],
)
def test_a_fresh_token_that_fails_is_no_reason_to_ask_again(
    login: Credential | None, error: str, kind: type[Exception]
) -> None:
    """What it means depends on what the registry says of it."""
    outside = Outside(logins=[login])
    attempt = outside.attempt()
    attempt.answer(bearer())
    with pytest.raises(kind):
        attempt.answer(bearer(error))
    assert len(outside.asked) == 1


def test_another_realm_is_another_question() -> None:
    """The registry moved its token server: asked there once, if the realm may be asked."""
    outside = Outside()
    attempt = outside.attempt()
    attempt.answer(bearer())
    assert attempt.answer(bearer(realm="https://auth.example/v2/token")) == "Bearer t1"
    assert [request.url.partition("?")[0] for request in outside.asked] == [
        "https://auth.example/token",
        "https://auth.example/v2/token",
    ]


def test_a_refused_realm_is_not_remembered() -> None:
    """The next request logs in as before."""
    outside = Outside()
    outside.attempt().answer(bearer())
    with pytest.raises(RealmRefused):
        outside.attempt().answer(bearer(realm="https://evil.example/token"))
    assert outside.attempt().header() == "Bearer t0"


def test_a_realm_that_is_refused_later_is_looked_at_anew() -> None:
    """An anonymous request may go where a login may not; then the registry is asked what it wants now."""
    outside = Outside(logins=[None])
    outside.attempt().answer(bearer(realm="https://other.example/token"))
    outside.logins = [Credential("me", "SECRET")]
    attempt = outside.attempt()
    assert attempt.header() == ""
    assert attempt.answer(bearer()) == "Bearer t1"


def test_a_ready_made_token_goes_to_the_registry_only() -> None:
    """It is no login for a token server; refused is refused."""
    outside = Outside(logins=[Credential(registry_token="SECRET-READY")])
    attempt = outside.attempt()
    assert attempt.answer(bearer(realm="https://evil.example/token")) == "Bearer SECRET-READY"
    with pytest.raises(Unauthorized):
        attempt.answer(bearer())
    assert outside.attempt().header() == "Bearer SECRET-READY"
    assert outside.asked == []


@pytest.mark.parametrize("status", [400, 401])
def test_a_refused_login_is_tried_without_scope_and_then_left_alone(status: int) -> None:
    """Two requests in ten minutes, whatever is asked for."""
    outside = Outside(tokens=[status])
    for repository in ("a", "b", "c"):
        with pytest.raises(Unauthorized):
            outside.attempt(scopes.pull(repository)).answer(bearer())
    assert ["scope" in request.url for request in outside.asked] == [True, False]
    assert {request.method for request in outside.asked} == {"GET"}
    outside.clock += BAD_LOGIN_MEMORY
    outside.tokens = ["t"]
    assert outside.attempt().answer(bearer()) == "Bearer t"


def test_a_login_gone_bad_is_found_out() -> None:
    """It worked before, so the registry had taken it; now it is refused, and left alone too."""
    outside = Outside(tokens=["t0", 401])
    outside.attempt().answer(bearer())
    for repository in ("b", "c"):
        with pytest.raises(Unauthorized):
            outside.attempt(scopes.pull(repository)).answer(bearer())
    assert len(outside.asked) == 3


@pytest.mark.parametrize(
    ("login", "status", "kind"),
    [
        (Credential("me", "SECRET"), 403, Denied),
        (Credential("me", "SECRET"), 404, ProtocolError),
        (None, 403, AuthRequired),
        (None, 401, AuthRequired),
        (None, 400, ProtocolError),
    ],
)
def test_what_a_token_server_s_refusal_means(
    login: Credential | None, status: int, kind: type[Exception]
) -> None:
    """Only 400 and 401 are about the login."""
    outside = Outside(logins=[login], tokens=[status])
    for _ in range(2):
        with pytest.raises(kind):
            outside.attempt().answer(bearer())
    assert len(outside.asked) == 2, "and it is not remembered"


def test_a_login_that_works_for_less_is_denied_more() -> None:
    """The token server says 401 to the wider scope only: that is no bad login, and no third request."""
    outside = Outside(tokens=["t0", 401])
    attempt = outside.attempt()
    attempt.answer(bearer())
    with pytest.raises(Denied):
        attempt.answer(bearer("insufficient_scope", "repository:team/app:pull,push"))
    assert len(outside.asked) == 2
    assert outside.attempt().header() == "Bearer t0"


def test_an_identity_token_without_a_user_has_no_second_form() -> None:
    """`<token>` is no user name for Basic."""
    outside = Outside(logins=[Credential("<token>", identity_token="SECRET-I")], tokens=[404])
    with pytest.raises(ProtocolError):
        outside.attempt().answer(bearer())
    assert [request.method for request in outside.asked] == ["POST"]
    outside.tokens = [401]
    with pytest.raises(Unauthorized):
        outside.attempt().answer(bearer())
    assert [request.method for request in outside.asked] == ["POST"] * 3


def test_a_made_login_that_is_over_is_made_again_and_the_request_may_be_retried() -> None:
    """The token server refused the old one; the next try of the same request has the new one."""
    logins: list[Credential | None] = [Credential("me", "SECRET-1"), Credential("me", "SECRET-2")]
    outside = Outside(logins=logins, tokens=[401, 401, "t"])
    with pytest.raises(Unauthorized) as caught:
        outside.attempt().answer(bearer())
    assert caught.value.retry
    assert outside.attempt().answer(bearer()) == "Bearer t"
    outside = Outside(tokens=[401])
    with pytest.raises(Unauthorized) as caught:
        outside.attempt().answer(bearer())
    assert not caught.value.retry, "a written one stays as it is"


def test_those_who_wait_behind_a_failure_share_it() -> None:
    """A token server that is down is found out by one of fifty, not by one after the other; then it is tried
    again.
    """
    outside, waiting = Outside(), threading.Semaphore(0)
    cache, send = MemoryTokenCache(lambda: outside.clock), outside._send

    def watched(name: str) -> contextlib.AbstractContextManager[None]:
        waiting.release()
        return MemoryTokenCache.turn(cache, name)

    def down(request: TokenRequest, where: Where) -> tuple[int, bytes]:
        outside.asked.append(request)
        for _ in range(10):
            assert waiting.acquire(timeout=30)
        outside.clock += 1
        raise Unavailable("the token server is away", delay=5.0, **where.fields)

    def answer(_: int) -> DistworkerError | str:
        try:
            return outside.attempt().answer(bearer())
        except DistworkerError as error:
            return error

    outside.attempt().answer(bearer())  # the login is proven
    cache.turn = watched  # type: ignore[method-assign,assignment]
    outside.auth.cache = cache
    outside.auth.wire = Wire(down, outside._probe)
    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(answer, range(10)))
    assert [type(one) for one in outcomes] == [Unavailable] * 10
    assert {one.delay for one in outcomes if isinstance(one, Unavailable)} == {5.0}
    assert len(outside.asked) == 2
    outside.auth.wire = Wire(send, outside._probe)
    outside.clock += 1
    assert str(answer(0)).startswith("Bearer ")


def test_what_a_registry_wants_is_told_to_others_once() -> None:
    """Another scope is nothing new, another realm is."""
    outside, told = Outside(), []
    outside.auth.cache.learn = lambda _, challenge: told.append(challenge.realm)  # type: ignore[method-assign]
    outside.attempt().answer(bearer())
    outside.attempt(scopes.pull("b")).answer(bearer(scope="repository:b:pull"))
    assert told == ["https://auth.example/token"]
    outside.attempt(scopes.pull("c")).answer(bearer(realm="https://auth.example/v2"))
    assert told == ["https://auth.example/token", "https://auth.example/v2"]


# --- Basic ------------------------------------------------------------------------------------------------
def test_a_basic_login_is_proven_once() -> None:
    """On ping, before anything else sees it."""
    outside = Outside()
    first, second = outside.attempt(), outside.attempt()
    header = first.answer(BASIC)
    assert header.startswith("Basic ")
    assert second.answer(BASIC) == outside.attempt().header() == header
    assert outside.pinged == [header]


def test_a_known_way_does_not_spare_a_basic_login_its_proof() -> None:
    """While one caller finds out that a login is bad, or another process told how this registry wants it, the
    next caller's request does not carry the login as well: each time would count as a try.
    """
    # Given a registry that is known to want Basic, and a bad login that nobody tried yet
    outside = Outside(pings=[(401, BASIC)])
    outside.auth.remember(BASIC[0])
    # When two requests want to log in before they are asked to
    for _ in range(2):
        with pytest.raises(Unauthorized):
            outside.attempt().header()
    # Then it was tried once, on ping
    assert len(outside.pinged) == 1


def test_without_a_login_nothing_is_sent_to_a_registry_that_wants_basic() -> None:
    """Nor is a token asked for: there may be things that anybody may read."""
    outside = Outside()
    outside.attempt().answer(BASIC)
    outside.logins = [None]
    assert outside.attempt().header() == ""
    assert outside.asked == []


def test_a_basic_login_gone_bad_is_found_out() -> None:
    """A refusal is confirmed on ping, then the login is left alone."""
    outside = Outside(pings=[(200, []), (401, BASIC)])
    outside.attempt().answer(BASIC)
    attempt = outside.attempt()
    attempt.header()
    with pytest.raises(Unauthorized):
        attempt.answer(BASIC)
    for step in (outside.attempt().header, lambda: outside.attempt().answer(BASIC)):
        with pytest.raises(Unauthorized):
            step()
    assert len(outside.pinged) == 2


def test_a_ping_that_wants_bearer_or_fails_does_not_judge_basic() -> None:
    """Only a 401 to Basic itself is a bad login; a ping that does not say is asked once."""
    for ping in ((401, bearer()), (404, []), (403, [])):
        outside = Outside(pings=[ping])
        assert outside.attempt().answer(BASIC).startswith("Basic ")
        assert outside.attempt().answer(BASIC).startswith("Basic ")
        assert outside.attempt().header().startswith("Basic ")
        assert len(outside.pinged) == 1


def test_a_made_basic_login_that_is_over_before_its_first_use_is_made_again() -> None:
    """The next try of the same request has another one."""
    logins: list[Credential | None] = [Credential("AWS", "SECRET-1"), Credential("AWS", "SECRET-2")]
    outside = Outside(logins=logins, pings=[(401, BASIC), (200, [])])
    with pytest.raises(Unauthorized) as caught:
        outside.attempt().answer(BASIC)
    assert caught.value.retry
    assert outside.attempt().answer(BASIC).startswith("Basic ")


def test_a_made_basic_login_that_is_over_is_made_again() -> None:
    """401 to what was taken before: the next one is proven and used in the same request."""
    logins: list[Credential | None] = [Credential("AWS", "SECRET-1"), Credential("AWS", "SECRET-2")]
    outside = Outside(logins=logins)
    attempt = outside.attempt()
    old = attempt.answer(BASIC)
    new = attempt.answer(BASIC)
    assert old != new
    assert outside.pinged == [old, new]
    with pytest.raises(Denied):
        attempt.answer(BASIC)


# --- 403 --------------------------------------------------------------------------------------------------
def test_a_403_that_says_expired_makes_a_new_login_once() -> None:
    """ECR's way of saying 401."""
    logins: list[Credential | None] = [Credential("AWS", f"SECRET-{number}") for number in range(4)]
    outside = Outside(logins=logins)
    attempt = outside.attempt()
    old = attempt.answer(BASIC)
    new = attempt.expired(EXPIRED)
    assert new.startswith("Basic ")
    assert new != old
    assert attempt.expired(EXPIRED) == "", "once"
    assert outside.attempt().header() == new


def test_no_login_is_made_anew_without_need() -> None:
    """Not for another 403, and not when no login was sent."""
    logins: list[Credential | None] = [Credential("AWS", "SECRET-1"), Credential("AWS", "SECRET-2")]
    outside = Outside(logins=logins)
    attempt = outside.attempt()
    attempt.answer(BASIC)
    assert attempt.expired(Problem("DENIED", "requested access to the resource is denied")) == ""
    assert outside.attempt().expired(EXPIRED) == ""
    assert len(outside.logins) == 2


@pytest.mark.parametrize(
    ("problem", "login"),
    [
        (Problem("DENIED", "requested access to the resource is denied"), Credential("me", "SECRET")),
        (EXPIRED, Credential("me", "SECRET")),
        (EXPIRED, None),
    ],
    ids=["another 403", "a written login", "no login"],
)
def test_any_other_403_is_final(problem: Problem, login: Credential | None) -> None:
    """Nothing is made, nothing is sent again."""
    outside = Outside(logins=[login])
    attempt = outside.attempt()
    assert attempt.expired(problem) == "", "nothing was sent"
    attempt.answer(BASIC if login else bearer())
    assert attempt.expired(problem) == ""
