"""Sec. 2 and 3: the objective of GRPO, its gradient and clip, and Algorithm 1."""

from functools import partial

import torch
from flint import arb, fmpq

from ticgrpo_theory.claims import printed_objectives
from ticgrpo_theory.claims.certified import divergence as balls_of_kl
from ticgrpo_theory.claims.certified.enclosures import difference
from ticgrpo_theory.claims.claim import Claim, Finding, holds, judge, shown, vanishes
from ticgrpo_theory.claims.paper.setting import KL_CASE, NOW, OLD, REFERENCE
from ticgrpo_theory.claims.witnesses import ANSWERS, GRPO, norm, size
from ticgrpo_theory.estimators.catalogue import reinforce
from ticgrpo_theory.estimators.clipping import two_sided
from ticgrpo_theory.estimators.penalties import k3, kl_loss
from ticgrpo_theory.exact.expectation import expected_gradient
from ticgrpo_theory.exact.penalties.penalised import penalty_gradient
from ticgrpo_theory.exact.reuse.followed_groups import reuse_bias

LOW, HIGH = 0.2, 0.28
G = 2


def differentiated(objective: printed_objectives.Objective) -> torch.Tensor:
    """E of the derivative of a printed objective, by autograd on every group."""
    return expected_gradient(ANSWERS.mdp, ANSWERS.theta, ANSWERS.theta_old, objective, G)


def sum_to_the_horizon() -> Finding:
    objectives = (
        printed_objectives.eq5(LOW, HIGH),
        printed_objectives.eq5_to_horizon(LOW, HIGH, ANSWERS.mdp.horizon),
    )
    target = ANSWERS.expected(GRPO, G)
    gaps = [size(differentiated(objective) - target) for objective in objectives]
    return holds(
        vanishes(*gaps),
        f"t = 1..T, where padding has the ratio 1, and t over the tokens of the response have the gradient "
        f"Eq. 6 up to {shown(max(gaps))}",
        "|s_t| is a slip for |s_T|, which the text excludes: it calls it the length, and it stands outside "
        "the sum over t",
        stated=(str(ANSWERS.stated(GRPO, G)),),
    )


def gradient_of_eq5() -> Finding:
    gap = size(differentiated(printed_objectives.eq5(LOW, HIGH)) - ANSWERS.expected(GRPO, G))
    return holds(
        vanishes(gap),
        f"autograd of Eq. 5 minus Eq. 6, expected over groups: {shown(gap)}",
        "beta = 0; target: the gradient of the expected surrogate, responses of theta_old",
        stated=(str(ANSWERS.stated(GRPO, G)),),
    )


def minimum(w: torch.Tensor, A: float) -> torch.Tensor:
    """min(w A, clip(w) A)."""
    return torch.minimum(w * A, printed_objectives.clip(w, 1 - LOW, 1 + HIGH) * A)


def events() -> Finding:
    ratio = torch.arange(1, 400, 2, dtype=torch.float64).div(100).requires_grad_()  # no tie: odd hundredths
    mismatches = 0
    for A in (1.0, -1.0):
        (slope,) = torch.autograd.grad(minimum(ratio, A).sum(), ratio)
        lo, hi = two_sided(LOW, HIGH).bounds(torch.tensor([A > 0]), torch.tensor([1]))
        inside = (ratio.log() >= lo) & (ratio.log() <= hi)
        mismatches += int((slope != A * inside).sum())
    tie, h = 1 + HIGH, 0.01
    around = torch.tensor([tie - h, tie, tie + h], dtype=torch.float64)
    below, at, above = minimum(around, 1.0).tolist()
    witness = ANSWERS.witness(
        "slope of min(w A, clip(w) A) to the left of w = 1 + eps_high, minus that to the right, A = 1",
        lambda: one_sided_slopes(fmpq(128, 100), fmpq(1, 100)),
        (at - below) / h - (above - at) / h,
        GRPO,
    )
    return judge(
        witness,
        f"{mismatches} of {2 * len(ratio)} ratios and signs on the wrong side; slopes at the tie differ by "
        f"{witness.shown} times A",
        correction="away from ties w = 1 +- eps, where the minimum has no derivative",
        corrected=mismatches == 0,
    )


def one_sided_slopes(tie: fmpq, h: fmpq) -> arb:
    """The difference of the slopes of min(w, 1 + eps_high) left and right of the tie."""

    def f(w: fmpq) -> fmpq:
        return min(w, fmpq(128, 100))

    return arb((f(tie) - f(tie - h)) / h - (f(tie + h) - f(tie)) / h)


def clip_of_one_side() -> Finding:
    row, token = 2, 0  # after 00: 2/3 under theta, 2/5 under theta_old
    w = float((ANSWERS.theta.log_softmax(-1) - ANSWERS.theta_old.log_softmax(-1))[row, token].exp())
    sides = [two_sided(LOW, HIGH).bounds(torch.tensor([A > 0]), torch.tensor([1])) for A in (1.0, -1.0)]
    kept = [bool(lo.exp() <= w) and bool(w <= hi.exp()) for lo, hi in sides]
    return holds(
        kept == [False, True],
        f"w = {NOW.prob(row, token) / OLD.prob(row, token)} of token 0 after 00, {shown(w)}: switched off "
        "where "
        "A > 0, kept where A < 0",
        "a ratio above 1 + eps_high with A < 0 is not bounded by it",
        stated=(str(ANSWERS.stated(GRPO)),),
    )


def algorithm_1() -> Finding:
    steps, eta = 2, 0.5
    world = (ANSWERS.mdp, ANSWERS.theta_old)
    ours = reuse_bias(*world, GRPO, G, steps, eta)
    literal = reuse_bias(*world, printed_objectives.eq5(LOW, HIGH), G, steps, eta)
    gaps = ours.expected_return - literal.expected_return
    gain = float(ours.expected_return[-1] - ours.expected_return[0])
    return holds(
        vanishes(*gaps.tolist(), size(ours.gradient - literal.gradient)),
        f"E J after {steps} inner steps of Algorithm 1 and of autograd on Eq. 5 differ by "
        f"{shown(float(gaps.abs().max()))}; gain {shown(gain)}",
        "beta = 0, delta = 0, line by line over every group",
        stated=(str(ANSWERS.stated(GRPO, G, steps, eta)),),
    )


def kl_inside_or_outside() -> Finding:
    penalty, behaviour = kl_loss(k3, 1.0), ANSWERS.theta_old
    inside, outside = (
        penalty_gradient(ANSWERS.mdp, ANSWERS.theta, behaviour, REFERENCE.logits(), penalty, estimator, G)
        for estimator in (GRPO, reinforce())
    )
    enclosed = partial(balls_of_kl.k3_gradient, ANSWERS.mdp, NOW, OLD, REFERENCE)
    witness = KL_CASE.witness(
        "||E[gradient of the penalty inside 1/|s|] - E[gradient of the penalty outside]||, beta = 1",
        lambda: norm(difference(enclosed(lambda y: arb(fmpq(1, len(y.tokens)))), enclosed(lambda y: arb(1)))),
        size(inside - outside),
        formula="norm(k3('old', '1/|s|') - k3('old', '1'))",
    )
    cosine = float((inside * outside).sum()) / (size(inside) * size(outside))
    return judge(
        witness,
        f"their gradients differ by {witness.shown} at beta = 1; cosine {shown(cosine)}",
        counter_example="two objectives where lengths differ; at one length T they differ by the factor T",
    )


CLAIMS = (
    Claim(
        "E5",
        "The surrogate of GRPO: clipped token ratios, averaged over tokens and over the group",
        "Eq. 5",
        sum_to_the_horizon,
        "ticgrpo_theory.estimators.catalogue.grpo",
        "test_literal.py::test_token_weights_are_the_derivative_of_the_printed_objective",
    ),
    Claim(
        "E6",
        "Eq. 6 is the gradient of Eq. 5: unbiased for the gradient of the expected surrogate (target: that, "
        "not grad J)",
        "Eq. 6",
        gradient_of_eq5,
        "ticgrpo_theory.exact.expectation.expected_gradient",
        "test_expectation.py::test_every_estimator_by_every_method_is_the_sum_over_all_groups",
    ),
    Claim(
        "E6.clip",
        "The clip of Eq. 5 bounds the side that the sign of A selects",
        "Sec. 4, of the clip of Eq. 5",
        clip_of_one_side,
        "ticgrpo_theory.estimators.clipping.two_sided",
        "test_clipping.py::test_the_two_sided_weight_is_the_derivative_of_the_pessimistic_minimum",
        "clip_effect.py",
    ),
    Claim(
        "E6.events",
        "The events B+ and B- say where the clipped minimum still has a gradient",
        "below Eq. 6",
        events,
        "ticgrpo_theory.estimators.clipping.two_sided",
        "test_clipping.py::test_the_two_sided_weight_is_the_derivative_of_the_pessimistic_minimum",
    ),
    Claim(
        "Alg1",
        "Algorithm 1 takes K steps along the gradient of Eq. 5 on one group of theta_old",
        "Algorithm 1",
        algorithm_1,
        "ticgrpo_theory.exact.reuse.followed_groups.reuse_bias",
        "test_followed_groups.py::test_every_group_followed_by_loops_gives_the_same_numbers",
        "reuse_bias.py",
    ),
    Claim(
        "Alg1.kl",
        "Algorithm 1 ascends Eq. 5 also for beta > 0 (Eq. 5 has the KL outside 1/|s|, line 10 inside)",
        "Eq. 5 against Algorithm 1 line 10",
        kl_inside_or_outside,
        "ticgrpo_theory.exact.penalties.penalised.penalty_gradient",
        "test_penalised.py::test_one_over_length_turns_k1_into_a_pull_on_the_length",
        "kl_estimators.py",
    ),
)
