"""Of what TIC-GRPO is an unbiased or consistent estimator, and what reuse does to it."""

import math

from flint import arb
from torch import Tensor

from ticgrpo_theory.claims.certified import enclosures, inner_steps
from ticgrpo_theory.claims.certified.rational import responses
from ticgrpo_theory.claims.claim import Claim, Finding, Witness, judge, near, shown, vanishes
from ticgrpo_theory.claims.decompositions import (
    G,
)
from ticgrpo_theory.claims.multiples import misses_gradient
from ticgrpo_theory.claims.paper.targets import downhill
from ticgrpo_theory.claims.witnesses import (
    ANSWERS,
    FREE_TIC,
    FREE_TIC_SUM,
    MARKS,
    MATCH,
    TIC,
    TIC_EQ11,
    axes,
    infinite,
    norm,
    size,
)
from ticgrpo_theory.estimators.catalogue import trajectory_is
from ticgrpo_theory.exact.known_scale import known_scale
from ticgrpo_theory.exact.objective import expected_return
from ticgrpo_theory.exact.reuse.followed_groups import reuse_bias
from ticgrpo_theory.exact.reuse.leading_order import leading_order


def consistent() -> Finding:
    """An infinite group, no clip: Eq. 11 in the length trap, Eq. 9 everywhere."""
    J = expected_return(ANSWERS.mdp, ANSWERS.theta_old)
    sigma = math.sqrt(J * (1 - J))
    gap = size(ANSWERS.expected(FREE_TIC_SUM, math.inf) - ANSWERS.gradient() / sigma)
    witness = downhill(infinite(TIC_EQ11), 1, +1)
    return judge(
        witness,
        f"E g_hat . grad J = -({witness.shown}) at G = infinity for Eq. 11; for Eq. 9 without clip E g_hat "
        "is "
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
        f"norm(reused('{axes(alone)}', {group}, 1 / 2 / sigma()))",
        eta=eta,
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
