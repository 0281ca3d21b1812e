"""Sec. 4: the decomposition of TIC-GRPO, Eq. 11, and of what the estimator is unbiased."""

import math

from flint import arb
from torch import Tensor

from ticgrpo_theory.claims.certified import enclosures, inner_steps, terms
from ticgrpo_theory.claims.certified.enclosures import difference
from ticgrpo_theory.claims.certified.rational import responses
from ticgrpo_theory.claims.claim import Claim, Finding, Witness, judge, near, shown, vanishes
from ticgrpo_theory.claims.decompositions import (
    FAR,
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
from ticgrpo_theory.claims.multiples import misses_gradient
from ticgrpo_theory.claims.paper.targets import downhill, fixed_point, turned
from ticgrpo_theory.claims.witnesses import (
    ANSWERS,
    FREE_TIC,
    FREE_TIC_SUM,
    MARKS,
    MATCH,
    TIC,
    TIC_EQ11,
    infinite,
    norm,
    size,
)
from ticgrpo_theory.estimators.catalogue import trajectory_is
from ticgrpo_theory.exact.known_scale import known_scale
from ticgrpo_theory.exact.objective import expected_return
from ticgrpo_theory.exact.reuse.followed_groups import reuse_bias
from ticgrpo_theory.exact.reuse.leading_order import leading_order


def sum_of_terms() -> Finding:
    witness = misses(TIC_EQ11, "all as printed")
    one_alone = (
        misses(TIC_EQ11, "current score", "main").shown,
        misses(TIC_EQ11, "sign corrected", "sampling_error_2").shown,
    )
    return judge(
        witness,
        f"the printed sum is off by {witness.shown} (with the current score by {one_alone[0]}, with the "
        f"sign by {one_alone[1]}), the corrected one by {shown(closes(TIC_EQ11))}",
        correction="the score of theta in the main term, and minus sampling error 2: both are needed",
        corrected=vanishes(closes(TIC_EQ11)),
    )


def main_term() -> Finding:
    found, name = at_drift(TIC_EQ11), "main"
    witness = ANSWERS.witness(
        "||E[main term with the score of theta_old] - E[main term with that of theta]||",
        lambda: norm(
            difference(*(terms.expected_term(in_balls(TIC_EQ11), G, name, done) for done in (False, True)))
        ),
        size(found.printed_terms[name] - found.terms[name]),
        TIC_EQ11,
        G,
    )
    return judge(
        witness,
        f"the score changes it by {witness.shown}; with that of theta the sum closes "
        f"up to {shown(closes(TIC_EQ11))}",
        correction="grad log pi_theta beside w', not grad log pi_theta_old",
        corrected=vanishes(closes(TIC_EQ11)),
    )


def main_unbiased() -> Finding:
    witness = biased_main(
        TIC_EQ11, ANSWERS, "||E[main term with the score of theta_old] - (T1 / sigma_bar) grad J(theta)||"
    )
    corrected = main_bias(TIC_EQ11, ANSWERS, True)
    return judge(
        witness,
        f"biased by {witness.shown} with the score of theta_old, by {shown(corrected)} with that of theta",
        correction="with grad log pi_theta, to which the proof changes "
        "half-way: unbiased for (T1 / sigma_bar) grad J(theta)",
        corrected=vanishes(corrected),
    )


def sampling_error_1() -> Finding:
    return falls_with_group(TIC_EQ11)


def sampling_error_2() -> Finding:
    return sign_of_second(TIC_EQ11)


def clip_error() -> Finding:
    """Eq. 11 has no 1_D in its main term, so that nothing is counted twice."""
    found = at_drift(TIC_EQ11)
    whole, small = (size(at_drift(TIC_EQ11, share=share).terms["clip_error"]) for share in (1.0, FAR))
    gap = size(found.terms["clip_error"] - found.printed_terms["clip_error"])
    witness = misses(TIC_EQ11, "clip error as printed, the rest corrected", "main", "sampling_error_2")
    return judge(
        witness,
        f"the sum closes with it ({witness.shown}); ||E|| = {shown(whole)}, at {FAR:g} of "
        f"the drift {shown(small)}",
        reason="as printed, zero while no w' meets the clip" if vanishes(gap, small) else "as printed",
    )


def errors_vanish() -> Finding:
    witness = downhill(TIC_EQ11, 2, +1)
    floors = [fixed_point(TIC_EQ11, group)[1] for group in (4, 64)]
    return judge(
        witness,
        f"E g_hat . grad J = -{witness.shown} at G = 2, direction the same at G = 4, 16, 64 up to "
        f"{shown(turned(TIC_EQ11, (2, 4, 16, 64)))}; ||grad J||^2 at the fixed point {shown(floors[0])}, "
        f"{shown(floors[1])} at G = 4, 64",
        counter_example="they are three, and sampling error 2 stays at every G, before any drift",
    )


def consistent() -> Finding:
    """An infinite group, no clip: Eq. 11 in the length trap, Eq. 9 everywhere."""
    J = expected_return(ANSWERS.mdp, ANSWERS.theta_old)
    sigma = math.sqrt(J * (1 - J))
    gap = size(ANSWERS.expected(FREE_TIC_SUM, math.inf) - ANSWERS.gradient() / sigma)
    witness = downhill(infinite(TIC_EQ11), 1, +1)
    return judge(
        witness,
        f"E g_hat . grad J = -{witness.shown} at G = infinity for Eq. 11; for Eq. 9 without clip E g_hat is "
        f"{shown(1 / sigma)} grad J(theta), up to {shown(gap)}",
        correction="Eq. 9, without 1/|s_i| and without clip, one prompt: grad J(theta) / sigma as G grows",
        corrected=vanishes(gap),
    )


def unbiased() -> Finding:
    clipped = misses_gradient(MATCH, TIC, G, "two rewards, with the clip")
    normalised = misses_gradient(MARKS, FREE_TIC_SUM, G, "three rewards, without clip")
    two_rewards = misses_gradient(MATCH, FREE_TIC_SUM, G, "two rewards, without clip")
    exact = size(ANSWERS.expected(trajectory_is(), G) - ANSWERS.gradient())
    return judge(
        (clipped, normalised),
        f"off by {clipped.shown} through the clip and by {normalised.shown} through sigma_G of three rewards "
        f"({two_rewards.shown} of two); leave-one-out without clip: {shown(exact)}",
        correction="grad J(theta) itself with leave-one-out rewards, w' unclipped, no 1/|s_i|, theta "
        "independent of the group; with A standardised a multiple c_G of it, for two rewards",
        corrected=vanishes(exact) and two_rewards.zero,
    )


def bias_of_reuse(eta: float, group: int) -> Witness:
    """||E[g_hat_1 - grad J(theta_1) / (2 sigma)]|| on MATCH, A = z, one step on the same group."""
    alone = infinite(FREE_TIC)

    def enclosed() -> arb:
        _, sigma = enclosures.reward_moments(responses(MATCH.mdp), MATCH.old)
        return norm(inner_steps.reuse_bias(MATCH.mdp, MATCH.old, alone, group, 1, eta, 1 / (2 * sigma)))

    return MATCH.at_old().witness(
        f"||E[g_hat_1 - grad J(theta_1) / (2 sigma)]|| after one step of eta = {eta:g} on the same group",
        enclosed,
        size(after_one_step(eta, group, "reused")),
        alone,
        group,
    )


def after_one_step(eta: float, group: int, batches: str) -> Tensor:
    """E[g_hat_1 - grad J(theta_1) / (2 sigma)]."""
    alone = infinite(FREE_TIC)
    scale, _ = known_scale(MATCH.mdp, MATCH.theta_old, alone, group)
    return reuse_bias(MATCH.mdp, MATCH.theta_old, alone, group, 1, eta, scale, batches=batches).bias[1]


def reused() -> Finding:
    eta = 0.1
    bias = {G: bias_of_reuse(eta, G) for G in (2, 4)}
    afresh = size(after_one_step(eta, 2, "disjoint"))
    predicted = eta / 2 * size(leading_order(MATCH.mdp, MATCH.theta_old, infinite(FREE_TIC)))
    return judge(
        tuple(bias.values()),
        f"at k = 1, eta = {eta:g}: {bias[2].shown} at G = 2 (to first order {shown(predicted)}), "
        f"{bias[4].shown} at G = 4; with a new group {shown(afresh)}",
        correction="with a new group at every inner step; on one group the bias is of order eta k / G",
        corrected=vanishes(afresh) and near(bias[4].float64 / bias[2].float64, 0.5),
    )


CLAIMS = (
    Claim(
        "E11",
        "The gradient of TIC-GRPO is the sum of the four terms",
        "Eq. 11",
        sum_of_terms,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_claims.py::test_the_printed_residuals_of_eq_7_and_11",
        "decomposition_terms.py",
    ),
    Claim(
        "E11.main",
        "The main term pairs the ratio w' with the score of theta_old",
        "Eq. 11, main term",
        main_term,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_claims.py::test_the_printed_residuals_of_eq_7_and_11",
        "decomposition_terms.py",
    ),
    Claim(
        "E11.unbiased",
        "The main term is unbiased (target: grad J(theta), as a multiple)",
        "below Eq. 11, and its proof",
        main_unbiased,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_expected_terms.py::test_the_main_term_of_eq11_is_unbiased_only_with_the_current_score",
        "decomposition_terms.py",
    ),
    Claim(
        "E11.se1",
        "Sampling error 1 is due to the statistics of a finite group",
        "Eq. 11, sampling error 1",
        sampling_error_1,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_expected_terms.py::test_sampling_error_1_falls_as_one_over_G",
        "decomposition_terms.py",
    ),
    Claim(
        "E11.se2",
        "Sampling error 2, due to unequal lengths, is added and small",
        "Eq. 11, sampling error 2",
        sampling_error_2,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_expected_terms.py::test_sampling_error_2_vanishes_with_neither_group_size_nor_drift",
        "length_bias.py",
    ),
    Claim(
        "E11.clip",
        "The clip error takes the clipped responses out of the sum",
        "Eq. 11, clip error",
        clip_error,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_expected_terms.py::test_the_clip_error_is_zero_below_a_drift_and_does_not_fall_with_the_group",
        "clip_effect.py",
    ),
    Claim(
        "E11.vanish",
        "The remaining two error terms vanish",
        "below Eq. 11",
        errors_vanish,
        "ticgrpo_theory.exact.expectation.expected_gradient",
        "test_length_bias.py::test_one_over_the_length_rests_at_the_printed_point_for_every_group_size_and_delta",
        "length_bias.py",
    ),
    Claim(
        "E11.consistent",
        "The estimator is consistent and asymptotically unbiased (target: grad J(theta), as G grows)",
        "below Eq. 11",
        consistent,
        "ticgrpo_theory.exact.expectation.expected_gradient",
        "test_claims.py::test_only_the_sum_over_tokens_is_consistent",
        "bias_vs_G.py",
    ),
    Claim(
        "TIC.unbiased",
        "TIC-GRPO is an unbiased estimate of the current policy gradient (target: grad J(theta))",
        "Abstract, Eq. 11",
        unbiased,
        "ticgrpo_theory.estimators.catalogue.trajectory_is",
        "test_expectation.py::test_the_trajectory_ratio_is_unbiased_for_the_current_policy",
        "bias_vs_K.py",
    ),
    Claim(
        "TIC.reuse",
        "It stays unbiased over the K inner steps on one group (target: grad J(theta_k), as a multiple)",
        "Algorithm 2",
        reused,
        "ticgrpo_theory.exact.reuse.followed_groups.reuse_bias",
        "test_followed_groups.py::test_a_new_group_for_every_step_leaves_the_trajectory_ratio_unbiased",
        "reuse_bias.py",
    ),
)
