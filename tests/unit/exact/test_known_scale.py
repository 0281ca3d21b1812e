"""exact/known_scale.py: c by hand, for one prompt and for several, and where it is not known."""

import math

import numpy as np
import pytest

from tests.instances.worlds_by_hand import coin, eos_tree, odds
from tests.properties.tolerances import VISIBLE
from ticgrpo_theory.estimators.advantages import raw
from ticgrpo_theory.estimators.catalogue import grpo
from ticgrpo_theory.estimators.scales import sequence_sum
from ticgrpo_theory.exact import expected_gradient, policy_gradient
from ticgrpo_theory.exact.groups.conditional import scale_of_group_normalisation
from ticgrpo_theory.exact.known_scale import known_scale
from ticgrpo_theory.mdp import TokenMDP

GRPO = grpo(delta=0.0)


@pytest.mark.parametrize("p", [0.5, 0.75])
def test_a_pair_of_two_rewards_by_hand(p):
    # f(1) = P(the other fails), f(0) = -P(it succeeds): Cov(f, r) = p (1 - p) = Var(r).
    c, kind = known_scale(coin(), odds(p), GRPO, 2)
    assert (c, kind) == (pytest.approx(1.0), "known")


def test_an_infinite_group_divides_by_the_standard_deviation():
    c, kind = known_scale(coin(), odds(0.75), GRPO, math.inf)
    assert (c, kind) == (pytest.approx(1 / math.sqrt(3 / 16)), "known")


def test_a_mean_over_tokens_divides_by_the_length():
    first = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[1.0, 1.0, 0.0, 0.0])
    assert known_scale(first, [[0.0, 0.0]] * 3, GRPO, 2) == (pytest.approx(1 / 2), "known")


def test_prompts_of_one_scale_share_it_and_others_are_fitted():
    logits = [[0.0, 0.0], [math.log(3), 0.0]]
    alike = TokenMDP.mixture([coin(), coin()], [0.5, 0.5], share_rows=False)
    assert known_scale(alike, logits, GRPO, 2) == (pytest.approx(1.0), "known")
    c, kind = known_scale(alike, logits, GRPO, math.inf)
    assert kind == "least_squares" and 2 < c < 1 / math.sqrt(3 / 16)


def test_where_lengths_vary_c_is_fitted_to_the_mean():
    mdp, old = eos_tree([1.0, 0.25, 0.0, 0.75]), [[0.2, -0.1], [0.3, 0.0], [-0.2, 0.4]]
    c, kind = known_scale(mdp, old, GRPO, 3)
    mean, gradient = expected_gradient(mdp, old, old, GRPO, 3), policy_gradient(mdp, old)
    assert kind == "least_squares"
    assert abs(float(((mean - c * gradient) * gradient).sum())) < 1e-14
    assert float((mean - c * gradient).norm()) > VISIBLE


def test_equal_rewards_have_no_scale():
    assert known_scale(coin((0.5, 0.5)), odds(0.5), GRPO, 2) == (1.0, "none")


def test_another_scale_of_responses_moves_it():
    first = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[1.0, 1.0, 0.0, 0.0])
    longer = type(GRPO)(GRPO.ratio, GRPO.advantage, GRPO.clip, sequence_sum)
    assert known_scale(first, [[0.0, 0.0]] * 3, longer, 2) == (pytest.approx(1.0), "known")


@pytest.mark.parametrize("constant", [0.0, 1e6, 1e9])
def test_the_scale_of_raw_rewards_is_1_whatever_constant_they_share(constant):
    reward, prob = constant + np.array([0.0, 0.5, 1.0]), np.array([0.3, 0.3, 0.4])
    assert scale_of_group_normalisation(raw(), reward, prob, 2) == pytest.approx(1.0, rel=1e-12)
