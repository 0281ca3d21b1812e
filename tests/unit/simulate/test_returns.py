"""returns.py: J and grad J of compiled passes against the exact engine, and moments of the reward."""

import math

import numpy as np
import pytest
import torch

from tests.properties.tolerances import EXACT
from ticgrpo_theory.exact import expected_return, policy_gradient
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.simulate.passes.returns import outcome_moments, whole_gradient
from ticgrpo_theory.simulate.prompt_graphs import graphs_of
from ticgrpo_theory.worlds import WORLDS


@pytest.mark.parametrize("world", ["xor", "bigram", "long-answers", "two-prompts"])
def test_return_and_gradient_are_those_of_the_exact_engine(world):
    mdp = WORLDS[world].build()
    theta, graphs = WORLDS[world].theta_old(mdp), graphs_of(mdp)
    values = np.concatenate([np.zeros(graphs.row.size), graphs.reward])
    gradient = np.full(tuple(theta.shape), np.nan)
    J = whole_gradient(graphs, theta.numpy(), values, gradient)
    assert J == pytest.approx(expected_return(mdp, theta), rel=1e-13)
    torch.testing.assert_close(torch.from_numpy(gradient), policy_gradient(mdp, theta), **EXACT)


def test_the_gradient_of_one_token_is_pi_times_reward_minus_J():
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[0.0, 1.0])
    graphs, gradient = graphs_of(mdp), np.empty((1, 2))
    values = np.concatenate([np.zeros(1), graphs.reward])
    assert whole_gradient(graphs, np.array([[0.0, math.log(3.0)]]), values, gradient) == pytest.approx(0.75)
    np.testing.assert_allclose(gradient, [[-3 / 16, 3 / 16]], rtol=1e-14)


def test_moments_are_those_of_each_prompt_and_exact_where_all_rewards_are_equal():
    one, same = (
        TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=reward) for reward in ([0.0, 4.0], [0.1, 0.1])
    )
    graphs = graphs_of(TokenMDP.mixture([one, same], [0.5, 0.5], share_rows=True))
    mean, std = np.empty(2), np.empty(2)
    outcome_moments(graphs, np.array([[math.log(3.0), 0.0]]), mean, std)
    assert mean[0] == pytest.approx(1.0) and std[0] == pytest.approx(4 * math.sqrt(3 / 16))
    assert mean[1] == 0.1 and std[1] == 0.0
