"""exact/problem.py: moments of the reward by hand, prompts, and what is refused when a problem is made."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from tests.instances.worlds_by_hand import coin, eos_tree, odds
from tests.properties.tolerances import EXACT
from ticgrpo_theory.estimators.advantages import population
from ticgrpo_theory.estimators.catalogue import grpo
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.penalties import k3, kl_loss
from ticgrpo_theory.estimators.ratios import token
from ticgrpo_theory.estimators.scales import sequence_sum
from ticgrpo_theory.exact.problem import CheckedProblem
from ticgrpo_theory.mdp import TokenMDP


def test_the_moments_of_the_reward_by_hand():
    one = CheckedProblem(coin(), odds(0.5), odds(0.75), "grpo", 2).one
    np.testing.assert_allclose(one.outcome_prob, [3 / 4, 1 / 4], **EXACT)
    assert one.reward_mean == pytest.approx(3 / 4) and one.reward_std == pytest.approx(math.sqrt(3) / 4)


def test_equal_rewards_have_no_spread_though_a_rounded_mean_would_give_one():
    even = [[0.1, -0.2], [0.3, 0.0], [-0.2, 0.4]]
    assert CheckedProblem(eos_tree([0.1] * 4), even, even, "grpo", 2).one.reward_std == 0.0
    masked = [[-math.inf, 0.0], *even[1:]]
    assert CheckedProblem(eos_tree([1.0, 0.5, 0.0, 0.3]), masked, masked, "grpo", 2).one.reward_std == 0.0


def test_the_spread_of_a_nearly_certain_reward_has_its_digits():
    """sigma = sqrt(p (1 - p)), p = 1e-36: the probabilities of the others add to 1 but for rounding."""
    world = TokenMDP.prefix_tree(vocab_size=5, horizon=1, reward=[1.0, 1.0, 1.0, 1.0, 0.0])
    theta = [[2.404, -1.531, 0.796, -2.004, -80.0]]
    one = CheckedProblem(world, theta, theta, "grpo", 2).one
    assert one.reward_std == pytest.approx(math.sqrt(one.outcome_prob[-1]), rel=1e-12)
    assert one.reward_mean == 1.0


def test_population_moments_are_those_of_theta_old():
    estimator = Estimator(token, population(), unclipped(), sequence_sum)
    one = CheckedProblem(coin(), odds(0.5), odds(0.75), estimator, 2).one
    found = one.axes.advantage(torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    std = math.sqrt(3) / 4
    np.testing.assert_allclose(found, [[1 / 4 / std, -3 / 4 / std]], **EXACT)


def test_every_prompt_has_its_weight_and_parts_are_made_anew():
    world = TokenMDP.mixture([coin(), coin()], [0.25, 0.75], share_rows=True)
    problem = CheckedProblem(world, odds(0.5), odds(0.5), "grpo", 2)
    assert [weight for weight, _ in problem.parts] == [0.25, 0.75]
    assert problem.parts[0][1] is not problem.parts[0][1]
    assert problem.parts[0][1].options is problem.options


REFUSED = [
    (dict(theta_old=[[-800.0, 0.0]]), r"probability 0 in float64"),
    (dict(theta_old=[[-math.inf, 0.0]], theta_sampler=[[0.0, 0.0]]), r"probability zero under theta_old"),
    (dict(group_size=0), r"group_size"),
    (dict(estimator="nothing"), r"nothing"),
    (
        dict(estimator=dataclasses.replace(grpo(), penalty=kl_loss(k3, 0.1))),
        r"compares with a reference policy: give theta_ref",
    ),
    (dict(theta_ref=[[-math.inf, 0.0]]), r"row 0, token 0 has probability zero under theta_ref"),
]


@pytest.mark.parametrize(("change", "text"), REFUSED)
def test_what_no_method_can_answer_is_refused_at_once(change, text):
    given = dict(theta=odds(0.5), theta_old=odds(0.5), estimator="grpo", group_size=2) | change
    with pytest.raises(ValueError, match=text):
        CheckedProblem(coin(), **given)
