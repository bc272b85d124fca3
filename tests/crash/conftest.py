"""What all tests of killed workers need."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def quick_threads() -> Iterator[None]:
    """Hand over between the two threads of a tee at once, and log nothing: there are thousands of runs."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    sys.setswitchinterval(interval)
