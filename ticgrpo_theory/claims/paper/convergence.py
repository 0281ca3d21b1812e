"""Sec. 5: the recursions, and Theorems 5.1 and 5.2."""

import math

from flint import arb

from ticgrpo_theory.claims.certified import enclosures, inner_steps
from ticgrpo_theory.claims.claim import Claim, Finding, Witness, judge, shown, vanishes
from ticgrpo_theory.claims.every_sequence import gap_term, mean_square, noise_term
from ticgrpo_theory.claims.paper.races import return_after
from ticgrpo_theory.claims.paper.targets import downhill
from ticgrpo_theory.claims.witnesses import (
    FREE_GRPO,
    FREE_TIC,
    GRPO,
    MATCH,
    STALE,
    TIC_EQ11,
    XOR,
    length_trap,
    norm,
    prompt_trap,
    size,
)
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.exact.expectation import expected_gradient
from ticgrpo_theory.exact.objective import expected_return, policy_gradient


def one_step_too_many(estimator: Estimator, name: str) -> Finding:
    K, eta, group = 2, 0.5, 2

    def enclosed() -> arb:
        ends = [
            inner_steps.expected_return_after(MATCH.mdp, MATCH.old, estimator, group, steps, eta)
            for steps in (K, K + 1)
        ]
        return ends[1] - ends[0]

    ends = [return_after(MATCH, estimator, group, steps, eta) for steps in (K, K + 1)]
    witness = MATCH.at_old().witness(
        "E[J] after the steps s = 0..K minus E[J] after K steps, K = 2, eta = 1/2",
        enclosed,
        ends[1] - ends[0],
        estimator,
        group,
    )
    # K steps of a gradient that is held are one step of K eta.
    held = return_after(MATCH, STALE, group, K, eta) - return_after(MATCH, STALE, group, 1, K * eta)
    return judge(
        witness,
        f"s = 0..K changes E J by {witness.shown} at K = 2 ({name}); K steps of a held gradient are one of "
        f"K eta, up to {shown(held)}",
        correction="s = 0..K-1, as theta_{n,0} = theta_{n-1,K} and the algorithms have it",
        corrected=vanishes(held),
    )


def recursion_of_grpo() -> Finding:
    return one_step_too_many(FREE_GRPO, "Eq. 12")


def recursion_of_tic() -> Finding:
    return one_step_too_many(FREE_TIC, "Eq. 13")


def start_stays() -> Witness:
    """N = 1: the left-hand side is ||grad J(theta_1)||^2 whatever eta K and G."""
    return XOR.at_old().witness(
        "||grad J(theta_1)||^2, the left-hand side at N = 1 for every eta K and G",
        lambda: enclosures.squared_norm(enclosures.policy_gradient(XOR.mdp, XOR.old)),
        size(XOR.gradient_old()) ** 2,
    )


def optimum_left(estimator: Estimator) -> Witness:
    """Two prompts on shared rows: the estimator moves at the maximum of J."""
    case = prompt_trap(3, 1)
    return case.witness(
        "||E[g_hat]|| where grad J = 0",
        lambda: norm(case.enclosed(estimator, 4)),
        size(case.expected(estimator, 4)),
        estimator,
        4,
    )


def uphill_from_above(estimator: Estimator) -> Witness:
    """<E[g_hat], grad J> in the length trap at p = 7/10, where E[g_hat] turns back."""
    case = length_trap(7, 3)
    return case.witness(
        "<E[g_hat], grad J(theta)> at theta = theta_old",
        lambda: enclosures.inner(case.enclosed(estimator, 2), enclosures.policy_gradient(case.mdp, case.now)),
        float((case.expected(estimator, 2) * case.gradient()).sum()),
        estimator,
        2,
    )


def bound_holds(estimator: Estimator, kappa: float) -> tuple[bool, float, float]:
    """Whether the repaired bound holds on XOR for a few eta, G and N, and its two sides at the last."""
    rho, T, V, L = 0.5, 2, 2, 1.0
    J, best = expected_return(XOR.mdp, XOR.theta_old), 0.5
    sides = []
    for eta, group, outer in ((0.1, 2, 3), (0.5, 4, 3)):
        c = kappa * (1 - 1 / group) / rho
        left = mean_square(XOR.mdp, XOR.theta_old, estimator, group, eta, outer)
        right = gap_term(best - J, c, outer, eta) + noise_term(L, c, eta, kappa**2 * T * (1 - 1 / V))
        sides.append((left, right))
    return all(left <= right for left, right in sides), *sides[-1]


CONDITIONS = (
    "add 2 (J* - J(theta_1)) / (c N eta K), and ask for one length or no 1/|s|, one prompt or no sigma_G, "
    "and two rewards (else one more bias term)"
)


def left_of_infinite_groups(estimator: Estimator, eta: float, steps: int) -> float:
    """||grad J(theta_N)||^2 on XOR, every group infinite."""
    theta = XOR.theta_old
    for _ in range(steps):
        theta = theta + eta * expected_gradient(XOR.mdp, theta, theta, estimator, math.inf)
    return size(policy_gradient(XOR.mdp, theta)) ** 2


def theorem(estimator: Estimator, kappa: float, traps: tuple[Witness, ...]) -> Finding:
    witnesses = (start_stays(), optimum_left(estimator), *traps)
    met, left, right = bound_holds(estimator, kappa)
    return judge(
        witnesses,
        f"||grad J||^2 = {witnesses[0].shown} at N = 1 for all eta K and G; ||E g_hat|| = "
        f"{witnesses[1].shown} at the maximum of J of two prompts, G = 4; a fixed point of 1/|s| between p = "
        f"0.6 and 0.7 of the length trap, where grad J is not 0; repaired, on two tokens from one row with G "
        f"= 4, N = 3, eta K = 0.5: {shown(left)} <= {shown(right)}; not sharp: at G = infinity nothing is "
        f"left at eta K = 0.5 after 100 steps ({shown(left_of_infinite_groups(estimator, 0.5, 100))})",
        correction=CONDITIONS,
        corrected=met,
    )


def theorem_of_grpo() -> Finding:
    # Between p = 3/5 and 7/10 lies a fixed point of GRPO, and grad J is not zero there.
    return theorem(GRPO, 1 / 2, (downhill(GRPO, 2, +1), uphill_from_above(GRPO)))


def theorem_of_tic() -> Finding:
    return theorem(TIC_EQ11, 1 / 2, (downhill(TIC_EQ11, 2, +1), uphill_from_above(TIC_EQ11)))


CLAIMS = (
    Claim(
        "E12",
        "GRPO as a recursion over n and the inner steps s = 0..K",
        "Eq. 12",
        recursion_of_grpo,
        "ticgrpo_theory.exact.reuse.followed_groups.reuse_bias",
        "test_followed_groups.py::test_a_stale_gradient_makes_k_steps_one_long_step",
        "reuse_bias.py",
    ),
    Claim(
        "E13",
        "TIC-GRPO as a recursion over n and the inner steps s = 0..K",
        "Eq. 13",
        recursion_of_tic,
        "ticgrpo_theory.exact.reuse.followed_groups.reuse_bias",
        "test_followed_groups.py::test_every_group_followed_by_loops_gives_the_same_numbers",
        "reuse_bias.py",
    ),
    Claim(
        "T5.1",
        "GRPO: the average of E||grad J||^2 over N outer steps is O(eta K) + O(1/|G|)",
        "Theorem 5.1",
        theorem_of_grpo,
        "ticgrpo_theory.claims.every_sequence.mean_square",
        "test_claims.py::test_the_average_over_outer_steps_is_that_of_groups_in_a_loop",
        "missing_gap_term.py",
    ),
    Claim(
        "T5.2",
        "TIC-GRPO: the same bound (the text says: generated by GRPO)",
        "Theorem 5.2",
        theorem_of_tic,
        "ticgrpo_theory.claims.every_sequence.mean_square",
        "test_claims.py::test_the_average_over_outer_steps_is_that_of_groups_in_a_loop",
        "theorem_bounds.py",
    ),
)
