"""What coupling through an update does to a gradient, and what it does not: each with its counter-example."""

import pytest
import torch

from tests.instances.two_prompts import OLD, THETA, two_prompts
from tests.properties.tolerances import EXACT, MOVES, PRINTED, VISIBLE
from ticgrpo_theory.estimators.advantages import batch_standardised, centred, raw, standardised
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.filters import drop_equal, overlong
from ticgrpo_theory.estimators.penalties import k3, kl_loss
from ticgrpo_theory.estimators.ratios import token
from ticgrpo_theory.estimators.scales import (
    batch_token_mean,
    micro_batch_token_mean,
    sequence_sum,
    token_mean,
)
from ticgrpo_theory.exact import expected_gradient
from ticgrpo_theory.exact.problem import CheckedProblem
from ticgrpo_theory.exact.updates.one_row.rows import rows_of
from ticgrpo_theory.exact.updates.one_row.token_means import TokenMeans
from ticgrpo_theory.exact.updates.update import Update
from ticgrpo_theory.mdp import TokenMDP


def of(advantage, scale=sequence_sum, filter=None, penalty=None):
    return Estimator(token, advantage, unclipped(), scale, filter=filter, penalty=penalty)


def mean_of(estimator, prompts, **options):
    return expected_gradient(two_prompts(), THETA, OLD, estimator, 2, prompts=prompts, **options)


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a * b).sum() / a.norm() / b.norm())


def one_length_each() -> TokenMDP:
    """A prompt whose responses have one token, and one whose responses have three; equally likely."""
    stop = [[0, 0]]
    short = TokenMDP.automaton(stop, 2, 1, [0.0], rows=[0])
    long = TokenMDP.automaton(stop, 2, 3, [0.0], rows=[0])
    return TokenMDP.mixture([short, long], [0.5, 0.5], share_rows=True)


def test_lengths_mix_by_group_and_not_by_response():
    check_mixing_by_group()
    assert abs(0.1875 - (1 / 16 + 1 / 12 + 1 / 32)) > VISIBLE


def check_mixing_by_group() -> None:
    """P = G = 2, two tokens of the own group: E[1 / (2 + tokens of the other)] = (1/4 + 1/8) / 2 = .1875.

    Responses that chose their prompts one by one would give 1/4 (1/4) + 1/2 (1/6) + 1/4 (1/8) = .1771.
    """
    logits = torch.zeros(1, 2, dtype=torch.float64)
    problem = CheckedProblem(one_length_each(), logits, logits, of(centred(), batch_token_mean), 2, prompts=2)
    update = Update(problem.parts)
    means = TokenMeans(update, rows_of(update), update.B)
    u, weight = means.nodes
    found = float(weight @ (torch.exp(torch.tensor(-2.0 * u)).numpy() * means.rest()[0]))
    assert abs(found - 0.1875) < 1e-12


def test_a_refill_keeps_the_direction_where_every_group_has_its_own_normaliser():
    for scale in (sequence_sum, token_mean):
        plain = mean_of(of(standardised(0.0), scale), 2)
        refilled = mean_of(of(standardised(0.0), scale, drop_equal("refill")), 2)
        assert abs(1 - cosine(plain, refilled)) < 1e-14
        # By the overall probability of a group of unequal rewards, the mean of .4422 and .4889.
        ratio = (refilled / plain)[0, 0]
        expected = torch.tensor(2 / (0.4421892590 + 0.4889166234), dtype=torch.float64)
        torch.testing.assert_close(ratio, expected, **PRINTED(9))


def test_with_a_token_mean_over_the_update_a_refill_turns_the_direction():
    plain = mean_of(of(centred(), batch_token_mean), 2)
    refilled = mean_of(of(centred(), batch_token_mean, drop_equal("refill")), 2)
    assert 1e-7 < 1 - cosine(plain, refilled) < 1e-6


def test_the_same_prompt_again_turns_the_direction():
    plain = mean_of(of(standardised(0.0)), 2)
    again = mean_of(of(standardised(0.0), filter=drop_equal("same_prompt")), 2)
    assert 1 - cosine(plain, again) > MOVES
    # Not so where both prompts are mixed equally often: one prompt alone.
    alone = TokenMDP.prefix_tree(vocab_size=2, horizon=2, eos=1, reward=[1.0, 0.0, 0.0])
    found = [
        expected_gradient(alone, THETA, OLD, of(standardised(0.0), filter=filter), 2, prompts=2)
        for filter in (None, drop_equal("same_prompt"))
    ]
    assert abs(1 - cosine(*found)) < 1e-14


def test_a_term_without_an_advantage_is_dropped_with_its_group_and_turns_the_direction():
    penalty = kl_loss(k3, 0.5)
    reference = OLD + torch.tensor([[0.0, 0.5], [1.0, 0.0]], dtype=torch.float64)
    plain = mean_of(of(standardised(0.0), penalty=penalty), 2, theta_ref=reference)
    refilled = mean_of(
        of(standardised(0.0), filter=drop_equal("refill"), penalty=penalty), 2, theta_ref=reference
    )
    assert 1 - cosine(plain, refilled) > MOVES


def test_dropped_groups_that_count_in_the_normaliser_change_nothing():
    for scale in (sequence_sum, token_mean, batch_token_mean):
        plain = mean_of(of(centred(), scale), 2)
        torch.testing.assert_close(
            mean_of(of(centred(), scale, drop_equal("divide_by_all")), 2), plain, **EXACT
        )


def test_dividing_by_the_groups_kept_is_a_scale_for_drawn_prompts_and_not_for_each_prompt_once():
    plain, kept = of(standardised(0.0)), of(standardised(0.0), filter=drop_equal("divide_by_kept"))
    assert abs(1 - cosine(mean_of(plain, 2), mean_of(kept, 2))) < 1e-14
    assert 1 - cosine(mean_of(plain, "each"), mean_of(kept, "each")) > MOVES / 10


def test_an_advantage_that_is_not_0_in_groups_of_equal_rewards_moves_when_they_are_dropped():
    plain = mean_of(of(raw()), 2)
    dropped = mean_of(of(raw(), filter=drop_equal("divide_by_all")), 2)
    assert float((plain - dropped).abs().max()) > MOVES


def test_one_group_is_a_group():
    world = two_prompts()
    for whole, group in ((batch_token_mean, token_mean), (micro_batch_token_mean(2), token_mean)):
        found = expected_gradient(world, THETA, OLD, of(standardised(), whole), 2)
        torch.testing.assert_close(
            found, expected_gradient(world, THETA, OLD, of(standardised(), group), 2), **EXACT
        )
    found = expected_gradient(world, THETA, OLD, of(batch_standardised()), 2, prompts=1)
    torch.testing.assert_close(found, expected_gradient(world, THETA, OLD, of(standardised()), 2), **EXACT)


def test_the_longest_responses_are_masked_or_penalised():
    masked = mean_of(of(centred(), filter=overlong("mask")), 2)
    # 00 is cut: it is out of the loss, and its reward stays in the means.
    listed = mean_of(of(centred(), filter=overlong("mask")), 2, method="groups")
    torch.testing.assert_close(masked, listed, **EXACT)
    shorter = mean_of(of(centred(), filter=overlong("penalty", cache=1)), 2)
    moved = [
        TokenMDP.prefix_tree(vocab_size=2, horizon=2, eos=1, reward=r) for r in ([0.0, -1, 0], [0.0, 0, 0])
    ]
    world = TokenMDP.mixture(moved, [0.5, 0.5], share_rows=True)
    torch.testing.assert_close(shorter, expected_gradient(world, THETA, OLD, of(centred()), 2), **EXACT)


def test_weights_that_are_not_read_are_said():
    world = two_prompts((0.25, 0.75))
    for estimator in ("grpo", of(batch_standardised())):
        found = expected_gradient(world, THETA, OLD, estimator, 2, prompts="each", explain=True)
        assert found.assumed.startswith(
            "every prompt is in every update once and counts alike, 1/2 each: the weights 0.25, 0.75 of "
            "the world"
        )
        alike = expected_gradient(two_prompts(), THETA, OLD, estimator, 2, prompts="each", explain=True)
        assert alike.assumed == ""
        torch.testing.assert_close(found.value, alike.value, **EXACT)


@pytest.mark.parametrize("prompts", [2, "each"])
def test_a_constant_in_all_rewards_costs_no_digit(prompts):
    worlds = []
    for constant in (0.0, 2.0**40):
        rewards = ([1.0, 0.0, 0.0], [1.0, 1.0, 0.0])
        each = [
            TokenMDP.prefix_tree(vocab_size=2, horizon=2, eos=1, reward=[x + constant for x in r])
            for r in rewards
        ]
        worlds.append(TokenMDP.mixture(each, [0.5, 0.5], share_rows=True))
    for estimator in (of(batch_standardised()), of(centred(), batch_token_mean)):
        a, b = (expected_gradient(w, THETA, OLD, estimator, 2, prompts=prompts) for w in worlds)
        torch.testing.assert_close(a, b, **EXACT)


def test_where_every_response_has_one_token_the_tokens_kept_are_the_rows_kept():
    """64 groups of which one may be all that is left: totals of 2 to 128 tokens."""
    each = [
        TokenMDP.automaton([[0, 1], [0, 1]], 2, 1, reward, rows=[0, 0]) for reward in ([1.0, 0.0], [0.0, 0.5])
    ]
    world = TokenMDP.mixture(each, [0.25, 0.75], share_rows=True)
    old = torch.tensor([[3.0, 0.0]], dtype=torch.float64)
    kept = drop_equal("divide_by_kept")
    tokens, rows = (
        expected_gradient(world, old + 0.1, old, of(centred(), scale, kept), 2, prompts=64)
        for scale in (batch_token_mean, sequence_sum)
    )
    torch.testing.assert_close(tokens, rows, **EXACT)
