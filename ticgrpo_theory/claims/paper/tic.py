"""Sec. 4: the objective of TIC-GRPO, its gradient and clip, and Algorithm 2."""

from functools import partial

import torch
from flint import arb, fmpq

from ticgrpo_theory.claims import printed_objectives
from ticgrpo_theory.claims.certified import terms
from ticgrpo_theory.claims.certified.definitions import weighed
from ticgrpo_theory.claims.certified.enclosures import Drawn, Matrix, difference, expectation, score_sum
from ticgrpo_theory.claims.certified.rational import product
from ticgrpo_theory.claims.claim import Claim, Finding, holds, judge, shown, vanishes
from ticgrpo_theory.claims.decompositions import at_drift, in_balls
from ticgrpo_theory.claims.paper.grpo import HIGH, G, differentiated
from ticgrpo_theory.claims.witnesses import ANSWERS, TIC, TIC_EQ11, axes, norm, size
from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.clipping import upper_only
from ticgrpo_theory.exact.expectation import expected_gradient
from ticgrpo_theory.exact.reuse.followed_groups import reuse_bias

NOW, OLD = ANSWERS.now, ANSWERS.old


def enclosed_with(factor) -> arb:
    """||E[sum_it (factor - 1) c[i,t] psi]|| of TIC, `factor` a number for each response."""

    def value(group: Drawn) -> Matrix:
        found = weighed(TIC, group.members, NOW, OLD, group.moments, ANSWERS.mdp.horizon)
        return score_sum([(each.response, factor(each) - 1, each.weights) for each in found], NOW)

    return norm(expectation(ANSWERS.mdp, OLD, G, value))


def range_of_the_sum() -> Finding:
    target = ANSWERS.expected(TIC, G)
    over_tokens = size(differentiated(printed_objectives.eq9(HIGH)) - target)
    witness = ANSWERS.witness(
        "||E[gradient of Eq. 9, t = 1..T] - E[gradient of Eq. 9, t = 1..|s_i|]||",
        lambda: enclosed_with(lambda each: arb(fmpq(ANSWERS.mdp.horizon, len(each.ratio)))),
        size(
            differentiated(printed_objectives.eq9(HIGH, printed_objectives.horizon(ANSWERS.mdp.horizon)))
            - target
        ),
        TIC,
        G,
    )
    return judge(
        witness,
        f"the sums to T and to |s_i| differ by {witness.shown}; the latter has the weights 1_D w' A / G "
        f"up to {shown(over_tokens)}",
        correction="t runs over the |s_i| tokens; the summand has no t, so that 1/|s_i| cancels",
        corrected=vanishes(over_tokens),
    )


def gradient_of_eq9() -> Finding:
    gap = size(differentiated(printed_objectives.eq9(HIGH)) - ANSWERS.expected(TIC, G))
    return holds(
        vanishes(gap),
        f"autograd of Eq. 9 minus 1_D w' A sum_t grad log pi / G, expected over groups: {shown(gap)}",
        "target: the gradient of the expected surrogate, responses of theta_old",
        stated=(str(ANSWERS.stated(TIC, G)),),
    )


def factor_of_the_length() -> Finding:
    of_eq9 = differentiated(printed_objectives.eq9(HIGH))
    repaired = size(
        differentiated(printed_objectives.eq9(HIGH, printed_objectives.alone)) - ANSWERS.expected(TIC_EQ11, G)
    )
    witness = ANSWERS.witness(
        "||E[Eq. 11 (*)] - E[gradient of Eq. 9]||",
        lambda: norm(difference(ANSWERS.enclosed(TIC_EQ11, G), ANSWERS.enclosed(TIC, G))),
        size(of_eq9 - ANSWERS.expected(TIC_EQ11, G)),
        TIC_EQ11,
        G,
        f"norm(E() - E('{axes(TIC)}'))",
    )
    T = ANSWERS.mdp.horizon
    to_horizon = differentiated(printed_objectives.eq9(HIGH, printed_objectives.horizon(T)))
    factor = size(to_horizon - T * ANSWERS.expected(TIC_EQ11, G))
    return judge(
        witness,
        f"as printed, t = 1..T, the gradient of Eq. 9 is T = {T} times Eq. 11 (*), up to {shown(factor)}; "
        "with t "
        f"over the tokens of a response |s_i| times, off by {witness.shown}; with the summand taken once: "
        f"{shown(repaired)}",
        correction="Eq. 9 without its sum over t; as printed its gradient is T times as large, |s_i| times "
        "after the correction of E9",
        corrected=vanishes(repaired, factor),
    )


def bounds_both_signs() -> Finding:
    w = torch.arange(1, 400, 2, dtype=torch.float64) / 100
    ends = [
        float(upper_only(HIGH).bounds(torch.tensor([sign]), torch.tensor([3]))[1].exp())
        for sign in (True, False)
    ]
    over = [float(differentiated_slope(w, A).abs()[w > 1 + HIGH].max()) for A in (1.0, -1.0)]
    return holds(
        vanishes(*over, *(end - 1 - HIGH for end in ends)),
        f"largest weight kept {shown(ends[0])} where A >= 0, {shown(ends[1])} where A < 0; slope of the "
        f"minimum beyond it {shown(max(over))}",
        "w' <= 1 + eps_high for either sign of A, where the clip of Eq. 5 leaves A < 0 unbounded",
        stated=(str(ANSWERS.stated(TIC)),),
    )


def differentiated_slope(w: torch.Tensor, A: float) -> torch.Tensor:
    """d/dw of min(w, 1 + eps_high) A, by autograd."""
    ratio = w.clone().requires_grad_()
    return torch.autograd.grad((ratio.clamp(max=1 + HIGH) * A).sum(), ratio)[0]


def difference_of(group: Drawn, setting: terms.Setting) -> Matrix:
    """Sampling error 1 with the gate at the prefix, minus sampling error 1."""
    pairs = []
    for each in weighed(TIC_EQ11, group.members, NOW, OLD, group.moments, ANSWERS.mdp.horizon):
        token = [
            p / q for p, q in zip(each.response.token_probs(NOW), each.response.token_probs(OLD), strict=True)
        ]
        on = [product(token[: t + 1]) <= fmpq(128, 100) for t in range(len(token))]
        z = (arb(each.response.reward) - setting.mean) / setting.sigma_bar
        factor = setting.inverse_length * (each.advantage - z) * arb(fmpq(1, len(group.members)))
        switched = [arb(int(a) - int(b)) * w for a, b, w in zip(on, each.inside, each.ratio, strict=True)]
        pairs.append((each.response, factor, switched))
    return score_sum(pairs, NOW)


def event_at_the_end() -> Finding:
    """The gate of sampling error 1 read at every prefix, s_t, and at the response, s_T."""
    found = at_drift(TIC_EQ11)
    known, name = found.constants[0], "sampling_error_1"

    def weighted(batch: Batch, gated_by: ratios.Ratio) -> torch.Tensor:
        whole = ratios.trajectory(batch.log_ratio, batch.mask).exp()
        on = gated_by(batch.log_ratio, batch.mask).exp() <= 1 + HIGH
        short = printed_objectives.advantages(batch) - known.z(batch.reward)
        c = known.inverse_length * short[:, None] * on * whole / len(short)
        return (c.detach() * batch.logp).where(batch.mask, 0.0).sum()

    world = (ANSWERS.mdp, ANSWERS.theta, ANSWERS.theta_old)
    at_prefix, at_end = (
        expected_gradient(*world, partial(weighted, gated_by=ratio), 4)
        for ratio in (ratios.prefix, ratios.trajectory)
    )

    def enclosed() -> arb:
        setting = in_balls(TIC_EQ11)
        return norm(expectation(ANSWERS.mdp, OLD, 4, lambda group: difference_of(group, setting)))

    witness = ANSWERS.witness(
        "||E[sampling error 1 with 1_D at s_t] - E[sampling error 1 with 1_D at s_T]||",
        enclosed,
        size(at_prefix - at_end),
        TIC_EQ11,
        4,
    )
    gap = size(at_end - found.terms[name])
    return judge(
        witness,
        f"read at s_t sampling error 1 changes by {witness.shown}; read at s_T it is the term, "
        f"up to {shown(gap)}",
        correction="D(theta, theta_old, s_T) in sampling error 1, away from ties w' = 1 + eps",
        corrected=vanishes(gap),
    )


def algorithm_2() -> Finding:
    steps, eta, world = 2, 0.5, (ANSWERS.mdp, ANSWERS.theta_old)
    ours, literal = (
        reuse_bias(*world, estimator, G, steps, eta) for estimator in (TIC, printed_objectives.eq9(HIGH))
    )
    gap = float((ours.expected_return - literal.expected_return).abs().max())
    gain = float(ours.expected_return[-1] - ours.expected_return[0])
    return holds(
        vanishes(gap),
        f"E J after {steps} inner steps of Algorithm 2 and of autograd on Eq. 9 differ by {shown(gap)}; gain "
        f"{shown(gain)}",
        "beta = 0, delta = 0; line 11 lost the overline of its clip, which has two arguments, and line 9 the "
        "index of its product",
        stated=(str(ANSWERS.stated(TIC, G, steps, eta)),),
    )


CLAIMS = (
    Claim(
        "E9",
        "The surrogate of TIC-GRPO: one clipped trajectory ratio for all tokens of a response",
        "Eq. 9",
        range_of_the_sum,
        "ticgrpo_theory.estimators.catalogue.tic_grpo",
        "test_expected_terms.py::test_the_literal_objective_of_eq9_does_not_have_the_gradient_of_eq11",
    ),
    Claim(
        "E9.clip",
        "The upper clip bounds the weight for either sign of A",
        "Eq. 9, upper clip",
        bounds_both_signs,
        "ticgrpo_theory.estimators.clipping.upper_only",
        "test_clipping.py::test_bounds_by_hand",
        "clip_effect.py",
    ),
    Claim(
        "E10",
        "Eq. 10 is the gradient of Eq. 9: unbiased for the gradient of the expected surrogate (target: that, "
        "not grad J)",
        "Eq. 10",
        gradient_of_eq9,
        "ticgrpo_theory.exact.expectation.expected_gradient",
        "test_literal.py::test_token_weights_are_the_derivative_of_the_printed_objective",
    ),
    Claim(
        "E11.scale",
        "Eq. 11 (*), with 1/|s_i|, is the gradient of Eq. 9",
        "Eq. 11 (*)",
        factor_of_the_length,
        "ticgrpo_theory.estimators.catalogue.tic_grpo_eq11",
        "test_expected_terms.py::test_the_literal_objective_of_eq9_does_not_have_the_gradient_of_eq11",
        "length_bias.py",
    ),
    Claim(
        "E11.event",
        "The event D says where the clipped trajectory ratio still has a gradient",
        "event D, and Eq. 11, sampling error 1",
        event_at_the_end,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_group_terms.py::test_every_term_is_what_loops_over_the_group_give",
    ),
    Claim(
        "Alg2",
        "Algorithm 2 takes K steps along the gradient of Eq. 9 on one group of theta_old",
        "Algorithm 2",
        algorithm_2,
        "ticgrpo_theory.exact.reuse.followed_groups.reuse_bias",
        "test_followed_groups.py::test_every_group_followed_by_loops_gives_the_same_numbers",
        "reuse_bias.py",
    ),
)
