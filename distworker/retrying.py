"""Retry arithmetic: how long to wait before asking again, and how long a server asked us to wait.

Pure functions of their arguments; nothing here sleeps or reads a clock, so every case can be tabled. Waits
are seconds (RFC 9110, 10.2.3).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from random import random as _random

from distworker.limits import RETRY_AFTER_MAX, RETRY_AFTER_MIN

#: A larger integer is a point in time (some registries send one), not a wait of 30 years.
_UNIX_TIME = 10**9
_INTEGER = re.compile(r"[0-9]{1,18}")
# The three HTTP-date forms of RFC 9110 5.6.7 start with a weekday; email.utils alone takes far stranger
# things.
_DATE = re.compile(r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? .{16,32}")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter: many workers that failed together do not come back together."""

    base: float = 0.5
    factor: float = 2.0
    cap: float = 60.0
    tries: int = 6  #: runs in all, the first one included

    def ceiling(self, attempt: int) -> float:
        """The longest wait after the `attempt`-th failed run (1 for the first)."""
        wait = self.base
        for _ in range(attempt - 1):
            wait *= self.factor
            if wait >= self.cap:
                break
        return min(wait, self.cap)

    def delay(self, attempt: int, random: Callable[[], float] = _random) -> float:
        """Seconds to wait after the `attempt`-th failed run; `random` gives a number in [0, 1)."""
        return random() * self.ceiling(attempt)

    def exhausted(self, attempt: int) -> bool:
        """Was the `attempt`-th run the last one?"""
        return attempt >= self.tries


def parse_retry_after(value: str | None, date_header: str | None, now: float) -> float | None:
    """The wait a `Retry-After` header asks for, between 1 s and 6 h; None when it is missing or makes no
    sense.

    `value`: whole seconds, an HTTP-date, or a Unix time. A point in time is taken relative to the response's
    own `Date` (`date_header`), so that a wrong clock on either side cancels out, else relative to `now` (Unix
    seconds).
    """
    text = (value or "").strip()
    if _INTEGER.fullmatch(text):
        seconds = float(text)
        if seconds > _UNIX_TIME:
            seconds -= _reference_time(date_header, now)
    else:
        moment = _http_date(text)
        if moment is None:
            return None
        seconds = moment - _reference_time(date_header, now)
    return min(max(seconds, RETRY_AFTER_MIN), RETRY_AFTER_MAX)


def _reference_time(date_header: str | None, now: float) -> float:
    moment = _http_date((date_header or "").strip())
    return now if moment is None else moment


def _http_date(text: str) -> float | None:
    if not _DATE.fullmatch(text):
        return None
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
