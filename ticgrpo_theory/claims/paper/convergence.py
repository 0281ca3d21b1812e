"""Sec. 5: the recursions, and Theorems 5.1 and 5.2."""

import math

from ticgrpo_theory.claims.certified import enclosures
from ticgrpo_theory.claims.claim import Claim, Finding, Witness, holds, judge, shown, vanishes
from ticgrpo_theory.claims.every_sequence import gap_term, mean_square, noise_term
from ticgrpo_theory.claims.paper.races import return_after
from ticgrpo_theory.claims.paper.targets import downhill
from ticgrpo_theory.claims.witnesses import (
    FREE_GRPO,
    FREE_TIC,
    GRPO,
    MATCH,
    STALE,
    TIC,
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


def steps_of_a_round(estimator: Estimator) -> Finding:
    K, eta, group = 2, 0.5, 2
    # K steps of a gradient that is held are one step of K eta.
    held = return_after(MATCH, STALE, group, K, eta) - return_after(MATCH, STALE, group, 1, K * eta)
    return holds(
        vanishes(held),
        f"K steps of a held gradient are one of K eta, up to {shown(held)}",
        "s = 0..K defines theta_{n,K+1}, which theta_{n,0} = theta_{n-1,K} never uses: s = 0..K-1 is meant",
        stated=(str(MATCH.at_old().stated(estimator, group, K, eta)),),
    )


def recursion_of_grpo() -> Finding:
    return steps_of_a_round(FREE_GRPO)


def recursion_of_tic() -> Finding:
    return steps_of_a_round(FREE_TIC)


def start_stays() -> Witness:
    """N = 1: the left-hand side is ||grad J(theta_1)||^2 whatever eta K and G."""
    return XOR.at_old().witness(
        "||grad J(theta_1)||^2, the left-hand side at N = 1 for every eta K and G",
        lambda: enclosures.squared_norm(enclosures.policy_gradient(XOR.mdp, XOR.old)),
        size(XOR.gradient_old()) ** 2,
        formula="dot(grad('old'), grad('old'))",
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
        "norm(E())",
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
        "dot(E(), grad('old'))",
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


def theorem(estimator: Estimator, kappa: float, remark: str = "") -> Finding:
    start, two_prompts = start_stays(), optimum_left(estimator)
    # Between p = 3/5 and 7/10 lies a fixed point of 1/|s|, and grad J is not zero there.
    turns = (downhill(estimator, 2, +1), uphill_from_above(estimator))
    met, left, right = bound_holds(estimator, kappa)
    return judge(
        (start, two_prompts, *turns),
        f"||grad J||^2 = {start.shown} at N = 1 for all eta K and G; <E g_hat, grad J> = -({turns[0].shown}) "
        "at p = "
        f"0.6 and {turns[1].shown} at 0.7 of the length trap: a fixed point of 1/|s| in between, where grad "
        "J is not "
        f"0; if 'the full dataset' of the algorithms means several prompts (Sec. 2 fixes one): ||E g_hat|| = "
        f"{two_prompts.shown} at the maximum of J of two, G = 4; repaired, on two tokens from one row with G "
        "= 4, N = "
        f"3, eta K = 0.5: {shown(left)} <= {shown(right)}; not sharp: at G = infinity nothing is left at eta "
        "K = 0.5 "
        f"after 100 steps ({shown(left_of_infinite_groups(estimator, 0.5, 100))}){remark}",
        counter_example=f"at N = 1 the left side does not depend on eta K and G; "
        f"{'repaired' if met else 'not repaired'}: {CONDITIONS}",
    )


def theorem_of_grpo() -> Finding:
    return theorem(GRPO, 1 / 2)


def theorem_of_tic() -> Finding:
    left = size(length_trap(1, 1).expected(TIC, 4))
    remark = (
        f"; Eq. 9, t over the tokens, needs no condition on lengths: ||E g_hat|| at p = 1/2 is {shown(left)}"
    )
    return theorem(TIC_EQ11, 1 / 2, remark)


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
