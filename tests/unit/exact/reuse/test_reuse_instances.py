"""Printed values of what reusing a group does: bias of the gradient and gain of four steps."""

import math

import pytest

from tests.instances.reuse_world import FREE_TIC, MATCH, SIGMA, START, J, Z, c_G, close, norms
from ticgrpo_theory.estimators import Estimator
from ticgrpo_theory.estimators import ratios as pooling
from ticgrpo_theory.estimators.advantages import population
from ticgrpo_theory.estimators.catalogue import grpo, stale, tic_grpo_eq11
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.scales import sequence_mean
from ticgrpo_theory.exact import reuse_bias
from ticgrpo_theory.exact.reuse.leading_order import leading_order
from ticgrpo_theory.mdp import TokenMDP


def test_the_world_of_the_printed_instances():
    close([J, SIGMA], [0.5045766245, 0.4999790541], 10)


@pytest.mark.parametrize(
    "G, bias, ratio",
    [
        (2, 1.4471199177e-4, 0.99925),
        (4, 7.2346135080e-5, 0.99912),
        (8, 3.6170607142e-5, 0.99905),
        (16, 1.8084689071e-5, 0.99902),
    ],
)
def test_reuse_makes_the_trajectory_ratio_biased_by_eta_k_over_G(G, bias, ratio):
    eta = 0.00625
    steps = reuse_bias(MATCH, START, Z, group_size=G, inner_steps=1, learning_rate=eta, scale=0.5 / SIGMA)
    found = norms(steps.bias)
    close(found[0], 0.0, 14)
    close(found[1], bias, 14)
    close(found[1] / (eta / G * leading_order(MATCH, START, Z).norm()), ratio, 5)


@pytest.mark.parametrize(
    "G, first, third", [(2, 2.2880950033e-3, 6.5238204335e-3), (4, 1.1418533107e-3, 3.2669042727e-3)]
)
def test_reuse_bias_at_a_larger_step(G, first, third):
    found = norms(reuse_bias(MATCH, START, Z, G, 3, 0.1, scale=0.5 / SIGMA).bias)
    close(found[[1, 3]], [first, third], 13)


@pytest.mark.parametrize(
    "G, bias", [(2, 6.1151861876e-5), (4, 5.8884548373e-5), (8, 3.5250429699e-5), (16, 1.7982682575e-5)]
)
def test_reuse_bias_with_group_statistics(G, bias):
    close(norms(reuse_bias(MATCH, START, FREE_TIC, G, 1, 0.00625, scale=0.5 * c_G(G)).bias)[1], bias, 14)


SHARED = TokenMDP.automaton(
    [[[1, 2]] + [[0, 0]] * 2, [[0, 0], [1, 0], [0, 1]]], 2, 2, reward=[0.0, 1.0, 0.0], rows=[0, 0, 0]
)
"""The same rewards with one row of logits for both tokens."""

AT_SEVEN_TENTHS = [[math.log(7 / 3) / 2, -math.log(7 / 3) / 2]]
FREE_GRPO = Estimator(pooling.token, FREE_TIC.advantage, unclipped(), sequence_mean)
CLIPPED_TIC, CLIPPED_GRPO = tic_grpo_eq11(eps_high=0.2, delta=0.0), grpo(0.2, 0.2, delta=0.0)
FIXED = stale(delta=0.0)


@pytest.mark.parametrize(
    "estimator, gains",
    [
        (FREE_TIC, {2: 0.06642035, 4: 0.10475269, 16: 0.12210678}),
        (FREE_GRPO, {2: 0.06273524, 4: 0.10227165, 16: 0.12248251}),
        (FIXED, {2: 0.06314742, 4: 0.10255771, 16: 0.12271299}),
        (CLIPPED_TIC, {2: 0.04508811, 4: 0.08060215, 16: 0.10797879}),
        (CLIPPED_GRPO, {2: 0.04379087, 4: 0.08026832, 16: 0.10590440}),
    ],
)
def test_expected_gain_of_four_steps_on_one_group(estimator, gains):
    for G, gain in gains.items():
        returns = reuse_bias(MATCH, START, estimator, G, 4, 0.5).expected_return
        close(returns[0], J, 12)
        close(returns[4] - returns[0], gain, 8)


@pytest.mark.parametrize(
    "estimator, gain",
    [
        (FREE_TIC, 0.13003536),
        (FREE_GRPO, 0.10811890),
        (FIXED, 0.12201997),
        (CLIPPED_TIC, 0.10085735),
        (CLIPPED_GRPO, 0.07427668),
    ],
)
def test_expected_gain_where_both_tokens_share_a_row(estimator, gain):
    returns = reuse_bias(SHARED, AT_SEVEN_TENTHS, estimator, 16, 4, 0.5).expected_return
    close(returns[0], 0.58, 12)
    close(returns[4] - returns[0], gain, 8)


@pytest.mark.parametrize("G, difference", [(2, -4.6250807692e-9), (4, -6.0293884891e-9)])
def test_second_order_difference_of_trajectory_and_token_ratio(G, difference):
    token = Estimator(pooling.token, population(), unclipped(), sequence_mean)
    ends = [reuse_bias(MATCH, START, e, G, 4, 0.001).expected_return[4] for e in (Z, token)]
    close(ends[0] - ends[1], difference, 15)
