"""Counted limits as registries tell them in headers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distworker.errors import RateLimited
from distworker.registry.budget import Budget, BudgetGauge, read_budget
from tests.fakes.registry_server import Answer, FakeServer, Twist
from tests.unit.registry.conftest import Rig, fails

RigMaker = Callable[..., Rig]


def header(limit: str = "", remaining: str = "", source: str = "") -> Callable[[str], str]:
    """The headers of an answer."""
    values = {
        "ratelimit-limit": limit,
        "ratelimit-remaining": remaining,
        "docker-ratelimit-source": source,
    }
    return lambda name: values.get(name.lower(), "")


@pytest.mark.parametrize(
    ("limit", "remaining", "budget"),
    [
        ("100;w=21600", "20;w=21600", Budget(100, 20, 21_600)),
        ("100; w=21600", " 0 ;w=21600", Budget(100, 0, 21_600)),
        ("100", "20;w=60", Budget(100, 20, 60)),
        ("100", "20", Budget(100, 20)),
        ("0", "0", Budget(0, 0)),
    ],
)
def test_numbers_and_windows_are_read(limit: str, remaining: str, budget: Budget) -> None:
    """`N;w=S`, or the number alone."""
    assert read_budget(header(limit, remaining), 0.0) == budget


@pytest.mark.parametrize(
    ("limit", "remaining"),
    [
        ("", ""),
        ("100;w=21600", ""),
        ("", "5"),
        ("x", "5"),
        ("-1", "5"),
        ("1.5", "1"),
        ("100;q=1", "5"),
        ("9" * 30, "1"),
        ("\u0661", "1"),
    ],
)
def test_other_words_are_no_budget(limit: str, remaining: str) -> None:
    """Nothing is counted then, or we cannot tell."""
    assert read_budget(header(limit, remaining), 0.0) is None


@given(st.text(), st.text(), st.text())
def test_no_header_raises(limit: str, remaining: str, source: str) -> None:
    """And who is counted is printable and short."""
    found = read_budget(header(limit, remaining, source), 0.0)
    assert found is None or (found.source.isprintable() and len(found.source) <= 60)


def test_the_share_that_is_left() -> None:
    """From nothing to all, also when the numbers disagree."""
    assert [Budget(*pair).share for pair in ((100, 20), (100, 200), (0, 0), (10, 0))] == [0.2, 1.0, 0.0, 0.0]


def test_a_gauge_keeps_the_newest_word() -> None:
    """Answers without headers (blobs) change nothing."""
    now = [1.0]
    gauge = BudgetGauge(lambda: now[0])
    assert gauge.value is None
    gauge.see(header("100;w=60", "7;w=60", "192.0.2.7"))
    now[0] = 2.0
    gauge.see(header())
    assert gauge.value == Budget(100, 7, 60, "192.0.2.7", 1.0)
    gauge.see(header("100;w=60", "6;w=60"))
    assert gauge.value == Budget(100, 6, 60, "", 2.0)


def limited(remaining: int) -> Twist:
    """What Docker Hub adds to a manifest."""
    return Twist(headers={"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": f"{remaining};w=21600"})


def test_a_client_shows_the_budget_after_head_and_refusals(rig: RigMaker) -> None:
    """HEAD is not counted and tells it; a 429 tells that it is spent."""
    r = rig()
    digest = r.fake.put_manifest("a/b", b"{}", "x/y", "v1")
    assert r.client.budget() is None  # type: ignore[attr-defined]
    r.fake.on("HEAD", "/manifests/", limited(20))
    r.client.head_manifest("a/b", digest)
    assert r.client.budget().remaining == 20  # type: ignore[attr-defined]
    spent = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600", "Retry-After": "3600"}
    r.fake.on(
        "GET", "/manifests/", Answer(429, spent, b"toomanyrequests: You have reached your pull rate limit")
    )
    with fails(RateLimited):
        r.client.get_manifest("a/b", digest)
    assert r.client.budget().share == 0.0  # type: ignore[attr-defined]


def test_another_host_does_not_tell_the_budget(
    rig: RigMaker, serve: Callable[[FakeServer], FakeServer]
) -> None:
    """Storage behind a redirect has headers of its own."""
    r = rig(storage=True)
    digest = r.fake.put_blob("a/b", b"x")
    r.fake.storage.always("GET", "", limited(1))
    with r.client.read_blob("a/b", digest, 1) as blob:
        assert b"".join(bytes(piece) for piece in blob) == b"x"
    assert r.client.budget() is None  # type: ignore[attr-defined]
