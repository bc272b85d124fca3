"""Settings of the property tests: no deadlines, because a busy machine is not a bug."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("distworker", deadline=None, max_examples=200, derandomize=True)
settings.load_profile("distworker")
