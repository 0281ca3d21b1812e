"""Sec. 3: the decomposition of GRPO, Eq. 7, term by term, and its constants, Eq. 8."""

import math

from flint import arb
from torch import Tensor

from ticgrpo_theory.claims import autograd_reference
from ticgrpo_theory.claims.certified import enclosures, terms
from ticgrpo_theory.claims.certified.enclosures import difference, score_sum
from ticgrpo_theory.claims.certified.rational import responses
from ticgrpo_theory.claims.claim import Claim, Finding, Witness, judge, near, shown, vanishes
from ticgrpo_theory.claims.decompositions import (
    FAR,
    NEARER,
    G,
    at_drift,
    biased_main,
    closes,
    falls_with_group,
    in_balls,
    main_bias,
    misses,
    sign_of_second,
)
from ticgrpo_theory.claims.witnesses import ANSWERS, GRPO, MATCH, norm, size
from ticgrpo_theory.estimators.catalogue import reinforce
from ticgrpo_theory.exact.decomposition.expected_terms import decompose
from ticgrpo_theory.exact.expectation import expected_gradient
from ticgrpo_theory.exact.known_scale import known_scale


def sum_of_terms() -> Finding:
    witness = misses(GRPO, "all as printed")
    one_alone = (
        misses(GRPO, "1_B dropped", "main", "gradient_error").shown,
        misses(GRPO, "sign corrected", "sampling_error_2").shown,
    )
    return judge(
        witness,
        f"the printed sum is off by {witness.shown} (without 1_B by {one_alone[0]}, with the sign by "
        f"{one_alone[1]}), the corrected one by {shown(closes(GRPO))}",
        correction="no 1_B in main term and gradient error, and minus sampling error 2: both are needed",
        corrected=vanishes(closes(GRPO)),
    )


def changed_by_the_clip(name: str) -> Witness:
    """What 1_B changes in the expectation of a term."""
    found = at_drift(GRPO)
    return ANSWERS.witness(
        f"||E[{name} with 1_B] - E[{name} without]||",
        lambda: norm(
            difference(*(terms.expected_term(in_balls(GRPO), G, name, done) for done in (False, True)))
        ),
        size(found.printed_terms[name] - found.terms[name]),
        GRPO,
        G,
    )


def main_term() -> Finding:
    witness = changed_by_the_clip("main")
    return judge(
        witness,
        f"1_B changes it by {witness.shown}; without it the sum closes, up to {shown(closes(GRPO))}",
        correction="without 1_B: what clips is the clip error",
        corrected=vanishes(closes(GRPO)),
    )


def gradient_error() -> Finding:
    witness = changed_by_the_clip("gradient_error")
    sizes = [size(at_drift(GRPO, math.inf, share).terms["gradient_error"]) for share in (1.0, FAR, NEARER)]
    left = sizes[2] / sizes[1]
    return judge(
        witness,
        f"1_B changes it by {witness.shown}; without it ||E|| = {shown(sizes[0])} at G = infinity, and half "
        f"of a small drift leaves {shown(left)} of it",
        correction="without 1_B; it falls like the drift, eta K, and not with G",
        corrected=near(left, 0.5),
    )


def unbiased() -> Finding:
    target = ANSWERS.at_old()
    witness = biased_main(GRPO, target, "||E[main term with 1_B] - (T1 / sigma_bar) grad J(theta_old)||")
    corrected = main_bias(GRPO, target, True)
    return judge(
        witness,
        f"biased by {witness.shown} with 1_B, by {shown(corrected)} without",
        correction="without 1_B, which the proof drops on its way: "
        "unbiased for (T1 / sigma_bar) grad J(theta_old)",
        corrected=vanishes(corrected),
    )


def average_of_the_proof() -> Finding:
    """The responses of the display under P_theta instead of P_theta_old, the score at theta_old."""
    drawn_now, drawn_old = (
        expected_gradient(ANSWERS.mdp, ANSWERS.theta_old, policy, reinforce(), 1)
        for policy in (ANSWERS.theta, ANSWERS.theta_old)
    )

    def enclosed() -> arb:
        wrong = score_sum(
            [
                (y, arb(y.prob(ANSWERS.now) * y.reward), [arb(1)] * len(y.tokens))
                for y in responses(ANSWERS.mdp)
            ],
            ANSWERS.old,
        )
        return norm(difference(wrong, enclosures.policy_gradient(ANSWERS.mdp, ANSWERS.old)))

    target = ANSWERS.gradient_old()
    witness = ANSWERS.witness(
        "||E_theta[r grad log P_theta_old] - grad J(theta_old)||", enclosed, size(drawn_now - target)
    )
    gap = size(drawn_old - target)
    return judge(
        witness,
        f"off by {witness.shown} under P_theta, by {shown(gap)} under P_theta_old",
        correction="P_theta_old for P_theta in the display",
        corrected=vanishes(gap),
    )


def sampling_error_1() -> Finding:
    return falls_with_group(GRPO)


def sampling_error_2() -> Finding:
    return sign_of_second(GRPO)


def clip_error() -> Finding:
    witness = misses(GRPO, "1_B and clip error both kept, the sign corrected", "sampling_error_2")
    small = size(at_drift(GRPO, share=FAR).terms["clip_error"])
    return judge(
        witness,
        f"counted twice: sum off by {witness.shown}; once: {shown(closes(GRPO))}; at {FAR:g} of the drift "
        f"||E|| = {shown(small)}",
        correction="clip error or 1_B in the other terms, not both; zero while no ratio meets the clip",
        corrected=vanishes(closes(GRPO), small),
    )


def constants() -> Finding:
    case = MATCH.at_old()
    known = decompose(case.mdp, case.theta, case.theta_old, GRPO, G).constants[0]
    c, _ = known_scale(case.mdp, case.theta_old, GRPO, G)
    mean, gradient = case.expected(GRPO, G), case.gradient()

    def enclosed() -> arb:
        """T1 (1/sigma_bar - sigma_bar/sigma^2) ||grad J||: c_G = sigma_bar / sigma^2 at delta = 0."""
        setting = terms.Setting.of(case.mdp, case.now, case.old, GRPO, G)
        _, sigma = enclosures.reward_moments(responses(case.mdp), case.old)
        off = setting.inverse_length * (1 / setting.sigma_bar - setting.sigma_bar / sigma**2)
        return off * norm(enclosures.policy_gradient(case.mdp, case.now))

    witness = case.witness(
        "||E[g_hat] - (T1 / sigma_bar) grad J|| before any drift",
        enclosed,
        size(known.inverse_length / known.sigma_bar * gradient - mean),
        GRPO,
        G,
    )
    gap = size(mean - c * gradient)
    of_transformed = size(
        case.expected(GRPO, math.inf) - autograd_reference.derivative(transformed, case.theta)
    )
    return judge(
        witness,
        f"off by {witness.shown} with 1/sigma_bar = {shown(1 / known.sigma_bar)}, by {shown(gap)} with "
        f"c_G = {shown(c / known.inverse_length)} (G = {G}); at G = infinity off the gradient of (2/T) "
        f"arcsin sqrt J by {shown(of_transformed)}",
        correction="c_G = E[sigma_G^2 / (sigma_G + delta)] / sigma^2 for 1/sigma_bar; for two rewards c_G "
        "is a function of J, and the target a transformed J",
        corrected=vanishes(gap, of_transformed),
    )


def transformed(theta: Tensor) -> Tensor:
    """(2/T) arcsin sqrt J, whose gradient is grad J / (T sigma)."""
    J = autograd_reference.expected_return(MATCH.mdp, theta)
    return 2 / MATCH.mdp.horizon * J.sqrt().asin()


CLAIMS = (
    Claim(
        "E7",
        "The gradient of GRPO is the sum of the five terms",
        "Eq. 7",
        sum_of_terms,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_claims.py::test_the_printed_residuals_of_eq_7_and_11",
        "decomposition_terms.py",
    ),
    Claim(
        "E7.main",
        "The main term leaves clipped tokens out",
        "Eq. 7, main term",
        main_term,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_expected_terms.py::test_keeping_the_indicator_and_dropping_the_clip_error_closes_eq7_too",
        "decomposition_terms.py",
    ),
    Claim(
        "E7.grad",
        "The gradient error is due to the drift from theta_old",
        "Eq. 7, gradient error",
        gradient_error,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_expected_terms.py::test_the_gradient_error_falls_with_the_drift_and_not_with_the_group",
        "decomposition_terms.py",
    ),
    Claim(
        "E7.se1",
        "Sampling error 1 is due to the statistics of a finite group",
        "Eq. 7, sampling error 1",
        sampling_error_1,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_expected_terms.py::test_sampling_error_1_falls_as_one_over_G",
        "decomposition_terms.py",
    ),
    Claim(
        "E7.se2",
        "Sampling error 2, due to unequal lengths, is added and small",
        "Eq. 7, sampling error 2",
        sampling_error_2,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_expected_terms.py::test_sampling_error_2_vanishes_with_neither_group_size_nor_drift",
        "length_bias.py",
    ),
    Claim(
        "E7.clip",
        "The clip error takes the clipped tokens out of the sum",
        "Eq. 7, clip error",
        clip_error,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_expected_terms.py::test_the_clip_error_is_zero_below_a_drift_and_does_not_fall_with_the_group",
        "clip_effect.py",
    ),
    Claim(
        "E7.unbiased",
        "The main term is unbiased (target: grad J(theta_old), as a multiple)",
        "below Eq. 7, and its proof",
        unbiased,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_expected_terms.py::test_the_main_term_of_eq7_is_unbiased_only_without_the_indicator",
        "decomposition_terms.py",
    ),
    Claim(
        "E7.proof",
        "In the proof of unbiasedness responses are averaged under P_theta (target: grad J(theta_old))",
        "proof of unbiasedness of the main term",
        average_of_the_proof,
        "ticgrpo_theory.exact.expectation.expected_gradient",
        "test_objective.py::test_value_and_gradient_are_the_sums_over_all_responses",
    ),
    Claim(
        "E8",
        "The gradient is estimated with the factor T1 / sigma_bar, T1 = E[1/|s|], sigma_bar = E[sigma_G]",
        "Eq. 8",
        constants,
        "ticgrpo_theory.exact.groups.conditional.scale_of_group_normalisation",
        "test_bias_vs_G.py::test_two_reward_values_are_unbiased_but_for_the_scale_at_every_group_size_and_delta",
        "bias_vs_G.py",
    ),
)
