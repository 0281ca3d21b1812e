"""The variance of updates whose rows are coupled, by pairs of rows, against every update there is."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from tests.instances.two_prompts import OLD, THETA, two_prompts
from tests.thinned import one_in
from tests.unit.exact.updates.update_parts import PARTS
from ticgrpo_theory.estimators.advantages import (
    batch_standardised,
    group_centred_batch_std,
    length_weighted,
    standardised,
    token_whitened,
)
from ticgrpo_theory.estimators.clipping import two_sided, unclipped
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.ratios import token, trajectory
from ticgrpo_theory.estimators.scales import (
    batch_token_mean,
    constant,
    micro_batch_token_mean,
    sequence_mean,
    sequence_sum,
    token_mean,
)
from ticgrpo_theory.exact import expected_gradient, gradient_moments
from ticgrpo_theory.exact.groups.every_group import NotAffordable
from ticgrpo_theory.exact.problem import CheckedProblem
from ticgrpo_theory.exact.updates.mean import CoupledUpdate
from ticgrpo_theory.exact.updates.one_row import integer_sums as sums
from ticgrpo_theory.exact.updates.two_rows.statistics_spread import PairsOfRows
from ticgrpo_theory.mdp import TokenMDP

PAIRS = [
    "batch",
    "batch, sequence mean",
    "batch, tokens",
    "whitened",
    "whitened, tokens",
    "lengths",
    "lengths, tokens",
    "squares",
    "squares, tokens",
    "spread",
    "masked, whitened",
]


def check_every_update(name, ratio, clip, prompts) -> None:
    entry = PARTS[name]
    estimator = Estimator(ratio, entry.advantage, clip, entry.scale, filter=entry.filter)
    given = (two_prompts((0.25, 0.75)), THETA, OLD, estimator, 2)
    pairs = gradient_moments(*given, prompts=prompts)
    listed = gradient_moments(*given, "groups", prompts=prompts)
    assert pairs.method in ("dynamic_programming", "enumeration")
    assert abs(pairs.variance - listed.variance) <= 1e-14 * listed.second_moment
    assert abs(pairs.variance - listed.variance) <= pairs.variance_rounding + listed.variance_rounding


CASES = [
    *((name, token, two_sided(0.1, 0.2), prompts) for name in PAIRS for prompts in (2, "each")),
    *((name, trajectory, unclipped(), 3) for name in PAIRS[::3]),
]


@pytest.mark.parametrize("name, ratio, clip, prompts", one_in(5, CASES), ids=range(len(CASES)))
def test_pairs_of_rows_against_every_update(name, ratio, clip, prompts):
    """Weights of prompts that differ; clips that tell the signs of A apart, and none."""
    check_every_update(name, ratio, clip, prompts)


FILTERED = [
    *((name, 3) for name in ("refill, tokens", "same prompt, tokens", "divided by kept, tokens", "alone")),
    *((name, "each") for name in ("same prompt, tokens", "masked", "masked, tokens", "masked, sequence")),
]


@pytest.mark.parametrize("name, prompts", FILTERED, ids=range(len(FILTERED)))
def test_filters_of_groups_and_of_responses_against_every_update(name, prompts):
    check_every_update(name, token, two_sided(0.1, 0.2), prompts)


REWARDS = {"lattice": [0.0, 1.0, 3.0], "no lattice": [0.0, 0.3, 1.0 / np.pi], "binary": [0.0, 1.0]}


def check_three_in_a_group(rewards: str, advantage, scale, prompts=2) -> None:
    """Groups of three, so that a group has rows besides a pair; rewards of three kinds."""
    rng, kinds = np.random.default_rng(5), REWARDS[rewards]
    worlds = []
    for n in range(2):
        reward = {y: kinds[(i + n) % len(kinds)] for i, y in enumerate([(0, 0), (0, 1), (1,)])}
        worlds.append(TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=reward.__getitem__, eos=1))
    world = TokenMDP.mixture(worlds, [0.3, 0.7], share_rows=False)
    theta, old = (torch.from_numpy(rng.normal(size=(world.num_rows, 2))) for _ in range(2))
    estimator = Estimator(token, advantage, two_sided(0.1, 0.2), scale)
    pairs = gradient_moments(world, theta, old, estimator, 3, prompts=prompts)
    listed = gradient_moments(world, theta, old, estimator, 3, "groups", prompts=prompts)
    assert pairs.method != "groups"
    assert abs(pairs.variance - listed.variance) <= 1e-14 * listed.second_moment


THREE = list(
    itertools.product(
        REWARDS,
        [batch_standardised(), token_whitened(0.1, 1), group_centred_batch_std(0.1, of="rewards")],
        [sequence_mean, batch_token_mean],
    )
)


@pytest.mark.parametrize("rewards, advantage, scale", one_in(5, THREE), ids=range(len(THREE)))
def test_groups_of_three_and_rewards_of_three_kinds(rewards, advantage, scale):
    check_three_in_a_group(rewards, advantage, scale)


def test_squares_about_the_means_of_groups_of_three():
    check_three_in_a_group("lattice", group_centred_batch_std(0.1), sequence_mean)


@pytest.mark.parametrize("prompts", [2, "each"])
def test_micro_batches_of_whole_groups_are_updates_of_their_own(prompts):
    scale = micro_batch_token_mean(2)
    estimator = Estimator(token, standardised(0.25), two_sided(0.1, 0.2), scale)
    given = (two_prompts((0.25, 0.75)), THETA, OLD, estimator, 2)
    pieces = gradient_moments(*given, prompts=prompts)
    listed = gradient_moments(*given, "groups", prompts=prompts)
    torch.testing.assert_close(pieces.mean, listed.mean, rtol=0, atol=1e-15)
    assert pieces.method != "groups" and abs(pieces.variance - listed.variance) < 1e-15


def binary_world(prompts: int) -> TokenMDP:
    """Lengths up to 32, and a reward of 0 or 1 that the parity of a token and the length decide."""
    worlds = [
        TokenMDP.automaton(
            [[0, 1, 0], [1, 0, 1]], 3, 32, lambda s, n, k=k: float((s + k + n) % 2), eos=2, rows="state"
        )
        for k in range(prompts)
    ]
    return worlds[0] if prompts == 1 else TokenMDP.mixture(worlds, [0.4, 0.6], share_rows=False)


@pytest.mark.parametrize("of", [batch_standardised, group_centred_batch_std])
def test_the_variance_of_64_prompts_with_16_responses(of):
    """One row in two: both rewards are as likely, so that the statistics of so many rows hardly vary.

    The variance is then that of independent rows with A = (r - 1/2) / (1/2), to about 1/B.
    """
    world = binary_world(2)
    generator = torch.Generator().manual_seed(0)
    theta = 0.3 * torch.randn(world.num_rows, 3, generator=generator, dtype=torch.float64)
    found = [
        gradient_moments(world, theta, theta, Estimator(token, of(), unclipped(), scale), 16, prompts=64)
        for scale in (sequence_mean, batch_token_mean)
    ]
    for moments in found:
        assert moments.method == "dynamic_programming" and 0 < moments.variance < 1
        assert moments.variance_rounding < 1e-9 * moments.variance
    wider = gradient_moments(
        world, theta, theta, Estimator(token, of(), unclipped(), sequence_mean), 16, prompts=128
    )
    # A mean of twice as many rows.
    assert 1.9 < found[0].variance / wider.variance < 2.1


def test_what_is_no_pair_of_rows_says_so():
    world = binary_world(1)
    theta = torch.zeros(world.num_rows, 3, dtype=torch.float64)
    estimator = Estimator(token, batch_standardised(), unclipped(), token_mean)
    with pytest.raises(NotAffordable, match="a token mean for each group have two normalisers"):
        gradient_moments(world, theta, theta, estimator, 16, prompts=8)
    problem = CheckedProblem(
        world, theta, theta, dataclasses.replace(estimator, scale=batch_token_mean), 16, prompts=8
    )
    update = CoupledUpdate(problem.parts)
    with pytest.raises(NotAffordable, match=r"sums over pairs of the B = P G = 128 rows .* take about"):
        PairsOfRows(update, "dynamic_programming").tables.check(10**8)


def test_one_response_for_one_prompt_has_no_spread():
    for advantage in (batch_standardised(0.1, 1), group_centred_batch_std(0.1, 1, "rewards")):
        estimator = Estimator(token, advantage, unclipped(), sequence_sum)
        found = gradient_moments(two_prompts(), THETA, OLD, estimator, 1, prompts=1)
        assert found.second_moment == 0.0
        assert not expected_gradient(two_prompts(), THETA, OLD, estimator, 1, prompts=1).any()


def test_a_convolution_by_halves_is_one_row_after_the_other():
    rng = np.random.default_rng(1)
    for offsets, count in itertools.product(([0, 1], [0, 3, 7], [2, 900]), range(9)):
        one = sums.spread_of(np.array(offsets), rng.random(len(offsets)))
        found, wanted = sums.times(one, count), sums.plus_times(sums.NOTHING, one, count)
        np.testing.assert_array_equal(found.index, wanted.index)
        np.testing.assert_allclose(found.prob, wanted.prob, rtol=1e-14)


def test_a_baseline_by_lengths_of_64_prompts_is_that_of_one_group():
    """Nothing but the normaliser couples groups: E[g_hat] is that of one, its variance that of one over P."""
    world = binary_world(2)
    generator = torch.Generator().manual_seed(0)
    old = 0.3 * torch.randn(world.num_rows, 3, generator=generator, dtype=torch.float64)
    estimator = Estimator(token, length_weighted(), two_sided(0.1, 0.2), sequence_mean)
    given = (world, old + 0.1, old, estimator, 16)
    one, many = (gradient_moments(*given, prompts=P) for P in (1, 64))
    assert one.method == many.method == "dynamic_programming"
    torch.testing.assert_close(one.mean, many.mean, rtol=1e-12, atol=1e-15)
    assert abs(many.variance - one.variance / 64) <= 1e-9 * one.variance


def test_tilted_sums_that_no_float_holds_are_lost_and_nothing_else():
    """A prompt of one token beside two of 400: at the largest nodes long groups weigh less than 1e-308."""

    def long(T: int) -> TokenMDP:
        return TokenMDP.automaton([[0, 1], [1, 0]], 2, T, [0.0, 1.0], rows="state")

    world = TokenMDP.mixture([long(1), long(400), long(400)], [0.2, 0.4, 0.4], share_rows=True)
    old = torch.tensor([[0.3, 0.0], [0.0, 0.2]], dtype=torch.float64)
    estimator = Estimator(token, batch_standardised(0.1), unclipped(), batch_token_mean)
    exact = gradient_moments(world, old, old, estimator, 2, prompts="each")
    # Every update has 2 (1 + 400 + 400) tokens: a normaliser that is a number, as 1 / (B T) is.
    number = dataclasses.replace(estimator, scale=constant)
    factor = 400 * 6 / (2 * 801)
    plain = gradient_moments(world, old, old, number, 2, prompts="each")
    torch.testing.assert_close(exact.mean, factor * plain.mean, rtol=1e-12, atol=1e-16)
    assert exact.variance == pytest.approx(factor**2 * plain.variance, rel=1e-10)
