"""Retry arithmetic: every form of Retry-After, and a backoff that stays inside its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distworker.retrying import Backoff, parse_retry_after

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
SIX_HOURS = 6 * 3600.0


@pytest.mark.parametrize(
    ("value", "date", "wait"),
    [
        ("5", None, 5.0),
        (" 120 ", None, 120.0),
        ("0", None, 1.0),
        ("21600", None, SIX_HOURS),
        ("86400", None, SIX_HOURS),
        ("1000000000", None, SIX_HOURS),
        ("1700000060", None, 60.0),
        ("1700000060", "Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("1600000000", None, 1.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", DATE, 60.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", None, 60.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", "nonsense", 60.0),
        # The server's clock is a day behind ours, yet the wait is the one it meant.
        ("Mon, 13 Nov 2023 22:14:20 GMT", "Mon, 13 Nov 2023 22:13:20 GMT", 60.0),
        ("Tuesday, 14-Nov-23 22:14:20 GMT", DATE, 60.0),
        ("Tue Nov 14 22:14:20 2023", DATE, 60.0),
        ("Tue, 14 Nov 2023 22:00:00 GMT", DATE, 1.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", DATE, SIX_HOURS),
        (None, DATE, None),
        ("", DATE, None),
        ("1.5", DATE, None),
        ("-5", DATE, None),
        ("+5", DATE, None),
        ("5s", DATE, None),
        ("1_0", DATE, None),
        ("٣", DATE, None),
        ("1e3", DATE, None),
        ("9" * 5000, DATE, None),
        ("soon", DATE, None),
        ("Tue, 99 Nov 2023 22:14:20 GMT", DATE, None),
        ("Tue, 14 Nov 99999999 22:14:20 GMT", DATE, None),
        ("2023-11-14T22:14:20Z", DATE, None),
    ],
)
def test_retry_after_is_read_in_every_form_and_nothing_else(
    value: str | None, date: str | None, wait: float | None
) -> None:
    """Seconds, HTTP-dates and Unix times give a wait between 1 s and 6 h; the rest gives none."""
    assert parse_retry_after(value, date, NOW) == wait


@given(st.one_of(st.none(), st.text()), st.one_of(st.none(), st.text()))
def test_no_header_raises_or_leaves_the_bounds(value: str | None, date: str | None) -> None:
    """A registry cannot make us crash or wait for ever."""
    wait = parse_retry_after(value, date, NOW)
    assert wait is None or 1.0 <= wait <= SIX_HOURS


def test_the_backoff_doubles_up_to_its_cap() -> None:
    """With the highest draw, the waits are the ceilings."""
    backoff = Backoff(base=0.5, factor=2, cap=60, tries=6)
    assert [backoff.delay(attempt, random=lambda: 1.0) for attempt in range(1, 10)] == [
        *(0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0)
    ]


def test_full_jitter_may_draw_no_wait_at_all() -> None:
    """Full jitter spreads from zero, so that workers do not come back together."""
    assert Backoff().delay(5, random=lambda: 0.0) == 0.0


@given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True))
def test_no_attempt_number_leaves_the_bounds(attempt: int, draw: float) -> None:
    """A step retried for weeks still waits at most the cap."""
    assert 0.0 <= Backoff().delay(attempt, random=lambda: draw) <= 60.0


def test_the_last_try_is_known_as_such() -> None:
    """tries counts runs, the first one included."""
    assert [Backoff(tries=3).exhausted(attempt) for attempt in (1, 2, 3, 4)] == [False, False, True, True]


def test_the_default_draw_differs_between_calls() -> None:
    """The real source of jitter is used unless a test brings its own."""
    assert len({Backoff(base=60).delay(1) for _ in range(8)}) > 1
