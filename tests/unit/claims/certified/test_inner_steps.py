"""certified/inner_steps.py: K steps on every group, the logits followed as balls."""

import dataclasses
import math

import pytest
import torch
from flint import arb, fmpq

from tests.properties.tolerances import EXACT, MOVES
from ticgrpo_theory.claims.certified import inner_steps
from ticgrpo_theory.claims.certified.enclosures import precision
from ticgrpo_theory.claims.certified.rational import IntegerPolicy
from ticgrpo_theory.estimators.advantages import population
from ticgrpo_theory.estimators.catalogue import grpo, reinforce, stale, tic_grpo_eq11
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.exact import expected_gradient, expected_return, reuse_bias
from ticgrpo_theory.mdp import TokenMDP

OLD = IntegerPolicy(((3, 2), (5, 4), (2, 3)))


MDP = TokenMDP.prefix_tree(vocab_size=2, horizon=3, eos=1, reward=[1, 0.3, 0, 1])


EQ7, EQ11 = grpo(0.2, 0.28, delta=0.0), tic_grpo_eq11(0.28, delta=0.0)

FREE = dataclasses.replace(EQ11, clip=unclipped())


def floats(matrix) -> torch.Tensor:
    return torch.tensor([[float(x) for x in row] for row in matrix], dtype=torch.float64)


@pytest.mark.parametrize("estimator", [EQ7, EQ11, stale(delta=0.0)], ids=["grpo", "tic", "stale"])
def test_returns_after_inner_steps_lie_in_the_ball(estimator):
    found = reuse_bias(MDP, OLD.logits(), estimator, 2, 3, 0.25).expected_return
    with precision():
        for k in (0, 1, 3):
            ball = inner_steps.expected_return_after(MDP, OLD, estimator, 2, k, 0.25)
            assert abs(float(ball) - float(found[k])) < EXACT["atol"]
            assert bool(ball.rad() < 1e-40)
        other = inner_steps.expected_return_after(MDP, OLD, estimator, 2, 3, 0.3)
    assert abs(float(other) - float(found[3])) > MOVES


def test_an_infinite_group_follows_its_mean():
    theta = OLD.logits()
    for _ in range(2):
        theta = theta + 0.5 * expected_gradient(MDP, theta, OLD.logits(), EQ7, math.inf)
    with precision():
        ball = inner_steps.expected_return_after(MDP, OLD, EQ7, math.inf, 2, 0.5)
    assert abs(float(ball) - expected_return(MDP, theta)) < EXACT["atol"]
    with precision(), pytest.raises(ValueError, match="no infinite group is stated for the advantage raw"):
        inner_steps.infinite_path(MDP, OLD, reinforce(), 1, 0.5)


def test_the_bias_of_a_reused_group_lies_in_the_ball():
    estimator = dataclasses.replace(FREE, advantage=population())
    found = reuse_bias(MDP, OLD.logits(), estimator, 2, 2, 0.25, scale=0.75).bias
    with precision():
        for k in (0, 2):
            ball = floats(inner_steps.reuse_bias(MDP, OLD, estimator, 2, k, 0.25, arb(fmpq(3, 4))))
            torch.testing.assert_close(ball, found[k], **EXACT)
