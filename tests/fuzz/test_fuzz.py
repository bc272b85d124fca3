"""A short run of the fuzz targets, and proof that a broken parser would be found."""

from __future__ import annotations

import pytest

from tests.fuzz import __main__ as fuzz
from tests.fuzz.runner import run, times
from tests.fuzz.targets import TARGETS, Target


@pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])
def test_a_parser_survives_changed_inputs(target: Target) -> None:
    """Typed errors only, and only sound answers; `make fuzz` does the same for ten minutes."""
    outcome = run(target, times(5_000))
    assert outcome.error is None, f"broken by {outcome.breaking!r}: {outcome.error!r}"
    assert outcome.executions > 5_000


def breaks(data: bytes) -> None:
    """A parser with a bug far from its corpus."""
    if b"@@" in data:
        raise ValueError("two of them")


def test_a_broken_parser_is_found_and_its_input_made_small(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run ends with 1 and shows what to feed to see it again."""
    monkeypatch.setenv("FUZZ_SECONDS", "60")  # it ends at the first failure
    assert fuzz.main([Target("broken", breaks, (KeyError,), (b"abc", b"def@"), (b"@",))]) == 1
    said = capsys.readouterr().out
    assert "BROKEN by b'@@'" in said
    assert "ValueError: two of them" in said


def test_a_corpus_that_breaks_is_told_at_once() -> None:
    """Before anything is changed."""
    outcome = run(Target("broken", breaks, (), (b"x", b"a@@b"), ()), times(10_000))
    assert (outcome.executions, outcome.breaking) == (2, b"@@")


def test_a_target_that_does_not_exist_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error must not look like a passed run."""
    monkeypatch.setenv("FUZZ_TARGETS", "manifset")
    assert fuzz.main() == 2
