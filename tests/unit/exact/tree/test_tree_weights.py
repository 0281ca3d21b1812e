"""exact/tree/tree_weights.py: which estimators the pass covers, and squared weights by hand."""

import math

import numpy as np
import pytest

from tests.instances.worlds_by_hand import OLD, THETA, coin, eos_tree, majority, odds
from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.estimators.catalogue import tic_grpo
from ticgrpo_theory.exact.problem import CheckedProblem
from ticgrpo_theory.exact.tree import tree_weights

WORLD = eos_tree([1.0, 0.25, 0.0, 0.75])
COVERED = {"tic_grpo": True, "gspo": True, "grpo": False, "trajectory_is": False, "gmpo": False}


@pytest.mark.parametrize(("name", "covered"), COVERED.items())
def test_pooled_and_clipped_ratios_are_covered(name, covered):
    assert tree_weights.covers(CheckedProblem(WORLD, THETA, OLD, name, 2).one) is covered


def test_an_automaton_is_no_prefix_tree():
    assert not tree_weights.covers(CheckedProblem(majority(3), odds(0.5), odds(0.5), "tic_grpo", 2).one)


def test_squared_weights_of_a_coin_by_hand():
    # w' = 3/2 and 1/2 under p_old = 1/2: P_old w'^k f, and nothing of token 0 where the clip is at 1.28.
    f = np.array([2.0, 4.0])
    for level, first in ((math.inf, 1.0), (0.28, 0.0)):
        estimator = tic_grpo(level) if level < math.inf else tic_grpo(9.0)
        problem = CheckedProblem(coin(), odds(0.75), odds(0.5), estimator, 2).one
        single = tree_weights.response_weights(problem, f, 0 * f)
        double = tree_weights.response_weights(problem, f, 0 * f, power=2)
        np.testing.assert_allclose(single, [[first * 3 / 2, 1.0]], **EXACT)
        np.testing.assert_allclose(double, [[first * 9 / 4, 1 / 2]], **EXACT)
        assert np.abs(np.asarray(single - double)).max() > VISIBLE


def test_a_part_that_adds_nothing_may_be_left_out():
    problem = CheckedProblem(WORLD, THETA, OLD, "tic_grpo", 2).one
    f = WORLD.graph.reward
    without = tree_weights.response_weights(problem, f, 0 * f)
    tiny = tree_weights.response_weights(problem, f, np.full(f.size, -1e-300))
    np.testing.assert_allclose(without, tiny, **EXACT)
