"""Verdicts follow from numbers; numbers behind the claims by hand, by loops and to the printed digits."""

import dataclasses
import math

import pytest
import torch
from flint import arb, fmpq

from tests.oracles.definitions import (
    GroupGradient,
    ordered_groups,
    policy_gradient,
    probabilities,
    tree_world,
)
from tests.properties.tolerances import EXACT, MOVES, PRINTED, VISIBLE
from ticgrpo_theory.claims import autograd_reference
from ticgrpo_theory.claims.certified.enclosures import precision
from ticgrpo_theory.claims.certified.rational import IntegerPolicy
from ticgrpo_theory.claims.claim import Verdict, Witness, contradicted, holds, judge, shown, uncheckable
from ticgrpo_theory.claims.every_sequence import gap_term, mean_square, noise_term
from ticgrpo_theory.claims.multiples import misses_gradient
from ticgrpo_theory.claims.paper import assumptions, practice
from ticgrpo_theory.claims.paper.targets import fixed_point
from ticgrpo_theory.claims.paper.tic_targets import after_one_step
from ticgrpo_theory.claims.witnesses import (
    ANSWERS,
    DAPO,
    FREE_GRPO,
    FREE_TIC,
    FREE_TIC_SUM,
    GRPO,
    MARKS,
    MATCH,
    NO_IS,
    STALE,
    TIC_EQ11,
    XOR,
    axes,
)
from ticgrpo_theory.estimators.catalogue import grpo, tic_grpo_eq11
from ticgrpo_theory.exact import expected_gradient, expected_return
from ticgrpo_theory.exact.decomposition.group_terms import decompose_group
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.training_logs.published import FIGURE_1, FIGURE_2, Run


def close(found, expected, digits: int) -> None:
    found, expected = (torch.as_tensor(x, dtype=torch.float64) for x in (found, expected))
    torch.testing.assert_close(found, expected, **PRINTED(digits))


def witness_of(value: fmpq | arb, float64: float) -> Witness:
    with precision():
        return Witness("a number", str(XOR.line), arb(value), float64)


# How a verdict follows


def test_zero_holds_and_a_positive_number_is_a_counter_example_or_a_correction():
    zero, third = witness_of(fmpq(0), 1e-17), witness_of(fmpq(1, 3), 1 / 3)
    assert judge(zero, "n").verdict is Verdict.HOLDS
    assert judge(third, "n", counter_example="why").verdict is Verdict.FAILS
    assert judge(third, "n", correction="which", corrected=True).verdict is Verdict.CORRECTED
    failed = judge((third, third), "n", correction="which", corrected=False)
    assert (failed.verdict, failed.reason, failed.witnesses) == (
        Verdict.FAILS,
        "even with: which",
        (third, third),
    )


@pytest.mark.parametrize(
    "witness",
    [
        witness_of(arb(0, 1e-3), 1e-4),  # the ball contains zero, float64 sees more than rounding
        witness_of(fmpq(-1, 3), -1 / 3),  # on the other side
    ],
    ids=["open", "negative"],
)
def test_what_is_neither_zero_nor_proved_to_be_above_it_is_refused(witness):
    with pytest.raises(
        ValueError, match="fewer than 9" if witness.float64 > 0 else "neither zero nor proved"
    ):
        judge(witness, "n")


def test_one_open_number_among_proved_ones_is_refused():
    with pytest.raises(ValueError, match="neither zero nor proved to be above it: a number"):
        judge((witness_of(fmpq(1, 3), 1 / 3), witness_of(fmpq(0), 0.0)), "n")


def test_engines_that_disagree_decide_nothing():
    with pytest.raises(ValueError, match="agree on 6 digits, fewer than 9: one of the two engines is wrong"):
        judge(witness_of(fmpq(1, 3), 1 / 3 + 1e-7), "n")


def test_a_ball_that_was_not_computed_at_working_precision_is_refused():
    wide = Witness("a number", str(XOR.line), arb(fmpq(1, 3)), 1 / 3)
    with pytest.raises(ValueError, match="above RADIUS = 1e-40"):
        judge(wide, "n")


def test_a_check_that_is_not_met_is_no_counter_example():
    with pytest.raises(ValueError, match="not met"):
        holds(False, "n")
    with pytest.raises(ValueError, match="not met"):
        holds(True, "n", proved=(witness_of(fmpq(-1), -1.0),))
    assert holds(True, "n", proved=(witness_of(fmpq(1), 1.0),)).verdict is Verdict.HOLDS
    assert uncheckable("why").verdict is Verdict.UNCHECKABLE


def test_noise_is_not_shown():
    assert shown(3e-17) == shown(-3e-13) == "below 1e-12"
    assert shown(1 / 3) == "0.333333"


def test_a_certificate_says_what_was_computed_to_thirty_digits():
    record = witness_of(fmpq(1, 3), 1 / 3).record()
    assert record["value"] == "0." + "3" * 30
    assert record["radius"] == "below 1e-40"
    assert record["line"] == "V=2 T=2 rows=one r=0,1,1,0 old=7/10 theta=3/5"
    assert record["float64_agrees_on_digits"] == 10
    assert witness_of(fmpq(2), 2.0).record()["radius"] == "0"


def test_lines_spell_their_estimators():
    assert axes(GRPO) == "token+std+two:1/5:7/25+mean"
    assert axes(STALE) == "none+std+none+mean+old"
    with pytest.raises(KeyError):
        axes(dataclasses.replace(GRPO, ratio=lambda log_ratio, mask: log_ratio))


def test_what_a_record_contradicts_needs_a_record_and_only_numbers_above_zero():
    third = witness_of(fmpq(1, 3), 1 / 3)
    assert contradicted("a log", "why", "n", (third,)).verdict is Verdict.FAILS
    for record, number in (("", third), ("a log", witness_of(fmpq(0), 0.0))):
        with pytest.raises(ValueError, match="name the record"):
            contradicted(record, "why", "n", (number,))


# The numbers behind single claims


def test_constants_of_one_token_by_hand():
    # p = 3/5: 2 p q = 12/25, and J = p bends at 2 p q |p - q| = 12/125.
    theta = IntegerPolicy(((3, 2),)).logits()
    close(autograd_reference.score_derivative(theta), 0.48, 12)
    close(autograd_reference.curvature(assumptions.COIN.mdp, theta), 0.096, 12)
    assert assumptions.half_range(MARKS.mdp) == 0.5
    assert autograd_reference.rewards(MARKS.mdp).tolist() == [1.0, 0.3, 0.0, 1.0]


def test_only_the_range_of_the_reward_matters():
    raised = TokenMDP.prefix_tree(vocab_size=2, horizon=3, eos=1, reward=[8.0, 7.0, 7.0, 8.0])
    doubled = TokenMDP.prefix_tree(vocab_size=2, horizon=3, eos=1, reward=[2.0, 0.0, 0.0, 2.0])
    estimator = grpo(0.2, 0.28, delta=0.1)
    before, lifted, scaled = (
        expected_gradient(mdp, ANSWERS.theta, ANSWERS.theta_old, estimator, 3)
        for mdp in (ANSWERS.mdp, raised, doubled)
    )
    torch.testing.assert_close(lifted, before, **EXACT)
    assert float((scaled - before).norm()) > VISIBLE


def test_the_part_of_the_hessian_between_tokens_to_the_printed_digits():
    # Four tokens of one row, right with exactly two tokens 1: g^T H g - g^T H_d g of the printed instance.
    moves = [[q, min(q + 1, 3)] for q in range(4)]
    mdp = TokenMDP.automaton(moves, 2, 4, [0.0, 0.0, 1.0, 0.0], rows=[0] * 4)
    theta = torch.tensor([[0.4, -0.4]], dtype=torch.float64)
    close(autograd_reference.between_tokens(mdp, theta), -1.329703e-2 - 1.380027e-2, 8)
    one_token = TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[1.0, 0.0])
    assert abs(autograd_reference.between_tokens(one_token, theta)) < EXACT["atol"]


def test_the_printed_residuals_of_eq_7_and_11():
    theta_old = [[0.2, -0.1], [0.3, 0.0], [-0.2, 0.4]]
    theta = [[0.9, -0.6], [-0.5, 0.6], [0.5, -0.3]]
    for estimator, digits in ((grpo(0.2, 0.28, delta=0.0), 0.3554956319), (TIC_EQ11, 0.3982558493)):
        found = decompose_group(ANSWERS.mdp, theta, theta_old, estimator, (0, 2, 3, 1))
        close(found.residual_printed, digits, 10)
        assert found.residual_corrected < EXACT["atol"]


@pytest.mark.parametrize("estimator", [GRPO, TIC_EQ11], ids=["grpo", "tic_grpo_eq11"])
def test_fixed_points_of_the_length_trap(estimator):
    for G in (2, 4, 16):
        close(fixed_point(estimator, G), [0.66135555568, 0.010447581223], 11)


def test_fixed_points_of_the_token_mean_in_the_length_trap():
    printed = {
        4: (0.5346245985, 5.936961e-4),
        16: (0.5089375334, 3.991423e-5),
        64: (0.5022335737, 2.494326e-6),
    }
    for G, (p, floor) in printed.items():
        root, left = fixed_point(DAPO, G)
        close(root, p, 10)
        close(left, floor, 10)


def test_only_the_sum_over_tokens_is_consistent():
    J = expected_return(ANSWERS.mdp, ANSWERS.theta_old)
    target = ANSWERS.gradient() / math.sqrt(J * (1 - J))
    torch.testing.assert_close(ANSWERS.expected(FREE_TIC_SUM, math.inf), target, **EXACT)
    mean = ANSWERS.expected(FREE_TIC, math.inf)
    cosine = float((mean * target).sum() / (mean.norm() * target.norm()))
    assert 1 - cosine > VISIBLE


def test_a_multiple_of_the_gradient_is_met_by_two_rewards_and_missed_by_three():
    assert misses_gradient(MATCH.at_old(), GRPO, 3, "two").zero
    assert misses_gradient(MARKS.at_old(), GRPO, 3, "three").positive
    assert misses_gradient(MATCH, FREE_GRPO, 3, "two, after a drift").positive


def test_a_new_group_for_the_second_step_leaves_no_bias():
    assert float(after_one_step(0.1, 2, "disjoint").norm()) < EXACT["atol"]
    assert float(after_one_step(0.1, 2, "reused").norm()) > MOVES


def test_the_average_over_outer_steps_is_that_of_groups_in_a_loop():
    # Two steps, groups of two, every ordered group written out with the oracles.
    world = tree_world(2, 2, lambda y: float(y[0] == y[1]))
    start, eta, G = [[0.3, -0.1], [0.2, 0.5], [-0.4, 0.1]], 2.0, 2
    probs = probabilities(world, start)
    gradient = GroupGradient(world, start, start, "no_is", {"delta": 0.0})
    expected = sum(x * x for row in policy_gradient(world, start) for x in row) / 2
    for group, chance in ordered_groups(probs, G):
        step = gradient(group)
        moved = [[a + eta * b for a, b in zip(*rows, strict=True)] for rows in zip(start, step, strict=True)]
        expected += chance * sum(x * x for row in policy_gradient(world, moved) for x in row) / 2
    found = mean_square(MATCH.mdp, torch.tensor(start, dtype=torch.float64), NO_IS, G, eta, 2)
    torch.testing.assert_close(found, expected, **EXACT)
    assert abs(mean_square(MATCH.mdp, torch.tensor(start).double(), NO_IS, G, eta, 1) - expected) > MOVES


def test_the_two_terms_of_the_repaired_bound_by_hand():
    assert gap_term(gain=0.08, c=0.75, outer_steps=4, eta=0.5) == pytest.approx(0.16 / 1.5)
    assert noise_term(L=1.0, c=0.75, eta=0.5, Q=0.25) == pytest.approx(1 / 6)


def test_relative_errors_grow_with_the_step_and_not_with_their_number():
    few_long, many_short = practice.drifted_by(0.1, 1), practice.drifted_by(0.01, 10)
    assert few_long == pytest.approx(many_short, rel=0.01)
    assert practice.drifted_by(0.1, 10) == pytest.approx(10 * few_long, rel=0.1)


def test_the_logged_runs_by_hand():
    assert (FIGURE_1.updates, FIGURE_1.uses) == (1, 1)
    assert (FIGURE_2.updates, FIGURE_2.uses) == (4, 1)
    assert Run(batch=128, mini_batch=32, epochs=4).updates == 16


def test_the_clip_of_eq_11_is_that_of_the_catalogue():
    assert tic_grpo_eq11(0.28, delta=0.0) == TIC_EQ11
