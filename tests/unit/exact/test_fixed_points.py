"""exact/fixed_points.py: where mean steps vanish, by hand, and worlds that have no such point."""

import pytest

from tests.instances.worlds_by_hand import coin, eos_tree
from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.exact.fixed_points import fixed_point, mean_step, policy
from ticgrpo_theory.mdp import TokenMDP


def one_of_two() -> TokenMDP:
    """One row for two tokens; reward 1 where exactly one of them is token 0, 1/2 where both are."""
    count = [[min(q + 1, 2), q] for q in range(3)]
    return TokenMDP.automaton(count, 2, 2, [0.0, 1.0, 0.5], rows=[0, 0, 0])


def test_the_mean_step_of_a_coin_by_hand():
    # J = p, and d p / d logit = p (1 - p).
    assert mean_step(coin(), 0.25, "reinforce", 1) == pytest.approx(3 / 16, abs=EXACT["atol"])
    assert policy(coin(), 0.25).softmax(dim=-1).tolist() == [pytest.approx([0.25, 0.75])]


def test_the_maximum_of_a_parabola_is_found():
    # J = 2 p (1 - p) + p^2 / 2 has its maximum where 2 - 3 p = 0.
    assert fixed_point(one_of_two(), "reinforce", 1) == pytest.approx(2 / 3, abs=EXACT["atol"])
    assert abs(mean_step(one_of_two(), 0.5, "reinforce", 1)) > VISIBLE


def test_a_world_without_a_fixed_point_is_refused():
    with pytest.raises(ValueError, match=r"from up to down 0 times for p in \[0.02, 0.98\]"):
        fixed_point(coin(), "reinforce", 1)


def test_a_world_with_more_than_one_number_is_refused():
    with pytest.raises(ValueError, match="this world has 3 rows of 2 logits: only with one row of two"):
        mean_step(eos_tree([1.0, 0.0, 0.0, 0.0]), 0.5, "reinforce", 1)
