"""K inner steps on every group, the logits followed as balls: E[J(theta_K)], E[g_hat_k - c grad J(theta_k)].

    theta_0 = theta_old,   theta_{k+1} = theta_k + eta g_hat_k

An infinite group is one step along E[g_hat]: its advantage is z = (r - mu) / sigma, and every response enters
alone.
"""

import dataclasses
import math
from collections.abc import Iterator

from flint import arb

from ticgrpo_theory.claims.certified.enclosures import (
    Drawn,
    Matrix,
    difference,
    drawn_groups,
    expected_gradient,
    expected_return,
    group_gradient,
    policy_gradient,
    scaled,
    total,
)
from ticgrpo_theory.claims.certified.rational import BallPolicy, IntegerPolicy, fraction
from ticgrpo_theory.estimators.advantages import population, standardised
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.worlds.mdp import TokenMDP


def stepped(policy: BallPolicy, gradient: Matrix, eta: float) -> BallPolicy:
    """theta + eta g_hat."""
    step = scaled(arb(fraction(eta)), gradient)
    return BallPolicy(
        [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(policy.logits, step, strict=True)]
    )


def path_of_group(
    mdp: TokenMDP, start: IntegerPolicy, estimator: Estimator, group: Drawn, eta: float
) -> Iterator[tuple[BallPolicy, Matrix]]:
    """(theta_k, g_hat_k), k = 0, 1, ..., one group reused."""
    theta = BallPolicy.at(start)
    while True:
        g_hat = group_gradient(mdp, theta, start, estimator, group)
        yield theta, g_hat
        theta = stepped(theta, g_hat, eta)


def expected_return_after(
    mdp: TokenMDP, start: IntegerPolicy, estimator: Estimator, group_size: int | float, steps: int, eta: float
) -> arb:
    """E[J(theta_K)]."""
    if group_size == math.inf:
        return expected_return(mdp, infinite_path(mdp, start, estimator, steps, eta))
    found = arb(0)
    for group in drawn_groups(mdp, start, int(group_size)):
        path = path_of_group(mdp, start, estimator, group, eta)
        theta = next(theta for k, (theta, _) in enumerate(path) if k == steps)
        found += group.probability * expected_return(mdp, theta)
    return found


def infinite_path(
    mdp: TokenMDP, start: IntegerPolicy, estimator: Estimator, steps: int, eta: float
) -> BallPolicy:
    """theta_K of an infinite group. Raises ValueError for advantages other than `standardised`."""
    if not isinstance(estimator.advantage, standardised):
        raise ValueError(f"no infinite group is stated for the advantage {estimator.advantage!r}")
    alone = dataclasses.replace(estimator, advantage=population(estimator.advantage.delta))
    theta = BallPolicy.at(start)
    for _ in range(steps):
        theta = stepped(theta, expected_gradient(mdp, theta, start, alone, 1), eta)
    return theta


def reuse_bias(
    mdp: TokenMDP,
    start: IntegerPolicy,
    estimator: Estimator,
    group_size: int,
    step: int,
    eta: float,
    scale: arb,
) -> Matrix:
    """E[g_hat_k - c grad J(theta_k)] at k = `step`, c = `scale`."""

    def gap(group: Drawn) -> Matrix:
        path = path_of_group(mdp, start, estimator, group, eta)
        theta, g_hat = next(at for k, at in enumerate(path) if k == step)
        return scaled(group.probability, difference(g_hat, scaled(scale, policy_gradient(mdp, theta))))

    return total(gap(group) for group in drawn_groups(mdp, start, group_size))
