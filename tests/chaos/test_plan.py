"""Plans of faults: everything happens, as often as asked for, and the same seed says the same."""

from __future__ import annotations

import pytest

from tests.chaos.plan import CANCEL, FAULTS, LEAST_KILLS, NEWER, draw


@pytest.mark.parametrize("kills", [0, LEAST_KILLS, 20, 100])
@pytest.mark.parametrize("seed", ["a", "b", "c"])
def test_every_kind_of_fault_is_in_every_plan(seed: str, kills: int) -> None:
    """However short it is; and the people's part, too."""
    kinds = [action.what for action in draw(seed, kills)]
    assert set(kinds) == {*FAULTS, NEWER, CANCEL}
    assert (kinds.count(NEWER), kinds.count(CANCEL)) == (1, 1)


@pytest.mark.parametrize("kills", [LEAST_KILLS, 20, 100])
def test_a_plan_has_the_kills_it_was_asked_for(kills: int) -> None:
    """A kill of all workers counts for each of them."""
    assert sum(action.kills for action in draw("s", kills)) == kills


def test_a_seed_is_a_plan() -> None:
    """A run can be repeated, and another seed is another run."""
    assert draw("s", 20) == draw("s", 20)
    assert draw("s", 20) != draw("t", 20)
