"""Eq. 7 and Eq. 11 of the paper: printed instances, what the printed sums lack, what makes a term vanish."""

import math

import pytest
import torch

from tests.instances.decomposed_world import (
    BOTH,
    EQ7,
    EQ11,
    GROUP,
    OLD,
    RESPONSES,
    REWARDS,
    THETA,
    TREE,
    close,
    every_group,
)
from tests.oracles import literal
from tests.oracles.definitions import token_logps, tree_world
from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.estimators.catalogue import grpo, tic_grpo_eq11
from ticgrpo_theory.exact import decompose, policy_gradient
from ticgrpo_theory.exact.decomposition.group_terms import decompose_group
from ticgrpo_theory.exact.decomposition.terms import TERMS
from ticgrpo_theory.mdp import TokenMDP


def residual(found, *repaired: str) -> float:
    """||total - sum of terms||, the named terms as corrected and the others as printed."""
    terms = found.printed_terms | {name: found.terms[name] for name in repaired}
    return float((found.total - sum(terms.values())).norm())


# Printed instances


def test_eq7_on_one_group():
    found = decompose_group(TREE, THETA, OLD, EQ7, GROUP)
    close(found.total[:, 0], [-0.14170929, 0.08221800, 0.0], 8)
    close(found.residual_printed, 0.3554956319, 10)
    close(residual(found, "sampling_error_2"), 0.2916580984, 10)
    close(residual(found, "main", "gradient_error"), 0.1240099371, 10)
    assert found.residual_corrected < 1e-15
    assert residual(found, "main", "gradient_error", "sampling_error_2") < 1e-15


def test_eq11_on_one_group():
    found = decompose_group(TREE, THETA, OLD, EQ11, GROUP)
    close(found.residual_printed, 0.3982558493, 10)
    close(residual(found, "main"), 0.2389723448, 10)
    close(residual(found, "sampling_error_2"), 0.2259994608, 10)
    assert found.residual_corrected < 1e-15
    assert residual(found, "main", "sampling_error_2") < 1e-15


def test_members_may_be_given_as_tokens_in_any_order():
    by_index = decompose_group(TREE, THETA, OLD, EQ7, GROUP)
    by_tokens = decompose_group(TREE, THETA, OLD, EQ7, [RESPONSES[i] for i in reversed(GROUP)])
    for name in TERMS:
        torch.testing.assert_close(by_tokens.terms[name], by_index.terms[name], **EXACT)


def in_units_of_the_gradient(found, term) -> torch.Tensor:
    (known,) = found.constants
    return known.sigma_bar / known.inverse_length * term


@pytest.mark.parametrize("G, distance", [(2, 0.0887849216), (3, 0.1000549652)])
def test_the_main_term_of_eq7_is_unbiased_only_without_the_indicator(G, distance):
    found, gradient = decompose(TREE, THETA, OLD, EQ7, G), policy_gradient(TREE, OLD)
    printed = in_units_of_the_gradient(found, found.printed_terms["main"])
    close((printed - gradient).norm(), distance, 10)
    torch.testing.assert_close(in_units_of_the_gradient(found, found.terms["main"]), gradient, **EXACT)


@pytest.mark.parametrize("G", [2, 5])
def test_the_main_term_of_eq11_is_unbiased_only_with_the_current_score(G):
    found, gradient = decompose(TREE, THETA, OLD, EQ11, G), policy_gradient(TREE, THETA)
    printed = in_units_of_the_gradient(found, found.printed_terms["main"])
    close((printed - gradient).norm(), 0.1587369438, 10)
    torch.testing.assert_close(in_units_of_the_gradient(found, found.terms["main"]), gradient, **EXACT)


def numerical_gradient(factor) -> torch.Tensor:
    """The derivative in theta of (1/G) sum_i factor(|s_i|) min(w'_i, 1.28) A_i on the group."""
    world = tree_world(2, 3, REWARDS.__getitem__, eos=1)
    A = literal.group_standardised([world.responses[i][2] for i in GROUP], 0.0)
    logp_old = token_logps(world, OLD)

    def objective(theta):
        logp = token_logps(world, theta)
        clipped = [min(math.exp(sum(logp[i]) - sum(logp_old[i])), 1.28) * factor(len(logp[i])) for i in GROUP]
        return sum(w * a for w, a in zip(clipped, A, strict=True)) / len(GROUP)

    return torch.tensor(literal.central_difference(objective, THETA), dtype=torch.float64)


@pytest.mark.parametrize(
    "factor, gap",
    [(lambda length: 1.0, 0.113505887), (lambda length: 3 / length, 0.147637629)],
    ids=["sum over the tokens of the response", "sum to T"],
)
def test_the_literal_objective_of_eq9_does_not_have_the_gradient_of_eq11(factor, gap):
    star = decompose_group(TREE, THETA, OLD, EQ11, GROUP).total
    close((numerical_gradient(factor) - star).abs().max(), gap, 9)


def test_one_over_the_length_in_the_objective_has_the_gradient_of_eq11():
    star = decompose_group(TREE, THETA, OLD, EQ11, GROUP).total
    close(numerical_gradient(lambda length: 1 / length), star, 9)


# Several prompts, equal rewards, long horizons


@BOTH
def test_several_prompts_are_weighted(estimator):
    other = TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=[0.0, 1.0, 0.5, 0.25], eos=1)
    mixed = TokenMDP.mixture([TREE, other], [0.25, 0.75], share_rows=True)
    parts = [decompose(mdp, THETA, OLD, estimator, 3) for mdp in (TREE, other)]
    found = decompose(mixed, THETA, OLD, estimator, 3)
    for name in TERMS:
        expected = 0.25 * parts[0].terms[name] + 0.75 * parts[1].terms[name]
        torch.testing.assert_close(found.terms[name], expected, **EXACT)
    assert found.constants == (*parts[0].constants, *parts[1].constants)


def test_a_prompt_whose_responses_all_have_one_reward_adds_nothing():
    flat = TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=[0.1] * 4, eos=1)
    found = decompose(flat, THETA, OLD, EQ7, 3)
    assert found.constants[0].sigma_bar == 0.0
    assert max(float(x.abs().max()) for x in (*found.terms.values(), *found.printed_terms.values())) == 0.0


def test_eq7_at_a_horizon_that_cannot_be_enumerated():
    parity = TokenMDP.automaton([[0, 1, 0], [1, 0, 1]], 3, 64, reward=[0.0, 1.0], rows=[0, 1], eos=2)
    theta, theta_old = [[0.75, 0.0, -2.0], [0.25, 0.5, -1.5]], [[0.25, 0.5, -2.0], [0.25, 0.0, -2.0]]
    found = decompose(parity, theta, theta_old, "grpo", 8)
    assert found.residual_corrected < 1e-12
    assert found.residual_printed > VISIBLE


# What the printed sums lack


def test_keeping_the_indicator_and_dropping_the_clip_error_closes_eq7_too():
    found = decompose_group(TREE, THETA, OLD, EQ7, GROUP)
    kept = found.printed_terms | {"sampling_error_2": found.terms["sampling_error_2"]}
    del kept["clip_error"]
    assert float((found.total - sum(kept.values())).norm()) < 1e-15
    assert residual(found, "sampling_error_2") > VISIBLE


@BOTH
def test_printed_sums_close_at_theta_old_with_responses_of_one_length(estimator):
    even = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[1.0, 0.0, 0.0, 1.0])
    assert decompose(even, OLD, OLD, estimator, 4).residual_printed < 1e-15
    # One thing at a time: lengths that differ, then a drift of theta.
    assert decompose(TREE, OLD, OLD, estimator, 4).residual_printed > VISIBLE
    assert decompose(even, THETA, OLD, estimator, 4).residual_printed > VISIBLE


# What makes a term vanish


def norms(found) -> dict[str, float]:
    return {name: float(term.norm()) for name, term in found.terms.items()}


@BOTH
def test_sampling_error_1_falls_as_one_over_G(estimator):
    found = {G: norms(decompose(TREE, THETA, OLD, estimator, G)) for G in (64, 128, 256, math.inf)}
    scaled = [G * found[G]["sampling_error_1"] for G in (64, 128, 256)]
    # G times a quantity a/G + b/G^2: successive differences halve.
    assert 1.7 < (scaled[0] - scaled[1]) / (scaled[1] - scaled[2]) < 2.3
    assert scaled[2] > VISIBLE
    assert found[math.inf]["sampling_error_1"] < 1e-15


@BOTH
def test_sampling_error_2_vanishes_with_neither_group_size_nor_drift(estimator):
    for theta in (THETA, OLD):
        sizes = [
            norms(decompose(TREE, theta, OLD, estimator, G))["sampling_error_2"] for G in (4, 64, math.inf)
        ]
        assert min(sizes) > VISIBLE
        assert sizes[2] > sizes[0]
    even = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[1.0, 0.0, 0.0, 1.0])
    assert norms(decompose(even, THETA, OLD, estimator, 4))["sampling_error_2"] < 1e-15


def drifted(size: float) -> torch.Tensor:
    start, end = (torch.tensor(x, dtype=torch.float64) for x in (OLD, THETA))
    return start + size * (end - start)


def test_the_gradient_error_falls_with_the_drift_and_not_with_the_group():
    far, near, nearer = (
        norms(decompose(TREE, drifted(x), OLD, EQ7, 4))["gradient_error"] for x in (1, 2e-3, 1e-3)
    )
    assert 1.99 < near / nearer < 2.01
    assert norms(decompose(TREE, OLD, OLD, EQ7, 4))["gradient_error"] == 0.0
    many = norms(decompose(TREE, THETA, OLD, EQ7, math.inf))["gradient_error"]
    assert min(far, many) > VISIBLE
    assert norms(decompose(TREE, THETA, OLD, EQ11, 4))["gradient_error"] == 0.0


@BOTH
def test_the_clip_error_is_zero_below_a_drift_and_does_not_fall_with_the_group(estimator):
    assert norms(decompose(TREE, drifted(0.1), OLD, estimator, 4))["clip_error"] < 1e-15
    for G in (4, 64, math.inf):
        assert norms(decompose(TREE, THETA, OLD, estimator, G))["clip_error"] > VISIBLE


@pytest.mark.parametrize("estimator", [grpo(0.5, 0.28, delta=0.0), EQ11], ids=["eq7", "eq11"])
def test_on_single_groups_sampling_error_1_is_of_order_one_over_root_G(estimator):
    """mu_G - mu is, and it multiplies a mean score that is not zero where the right answer is clipped."""
    one_token = TokenMDP.prefix_tree(vocab_size=3, horizon=1, reward=[1.0, 0.0, 0.0])
    mean_square = {}
    for G in (32, 64):
        prob, _, terms = every_group(one_token, [[0.9, -0.6, 0.0]], [[0.2, -0.1, 0.0]], estimator, G)
        error = terms.corrected["sampling_error_1"]
        mean_square[G] = float(prob @ error.flatten(1).square().sum(dim=1))
    assert 1.8 < mean_square[32] / mean_square[64] < 2.4


@pytest.mark.parametrize("changed", [grpo(0.9, 0.28, 0.0), grpo(0.2, 3.0, 0.0), grpo(0.2, 0.28, 0.125)])
def test_every_parameter_of_grpo_moves_the_terms(changed):
    before, after = (decompose_group(TREE, THETA, OLD, e, GROUP) for e in (EQ7, changed))
    assert max(float((after.terms[name] - before.terms[name]).abs().max()) for name in TERMS) > VISIBLE


@pytest.mark.parametrize("changed", [tic_grpo_eq11(3.0, 0.0), tic_grpo_eq11(0.28, 0.125)])
def test_every_parameter_of_tic_grpo_eq11_moves_the_terms(changed):
    before, after = (decompose_group(TREE, THETA, OLD, e, GROUP) for e in (EQ11, changed))
    assert max(float((after.terms[name] - before.terms[name]).abs().max()) for name in TERMS) > VISIBLE
