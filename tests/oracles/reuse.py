"""K ascent steps on one group, for every group: what a reused group does to the gradient and to J."""

from dataclasses import dataclass

from tests.oracles.definitions import (
    GroupGradient,
    Groups,
    Matrix,
    Weights,
    World,
    add,
    expected_return,
    multiset_groups,
    policy_gradient,
    probabilities,
    squared_distance,
    zeros,
)


@dataclass(frozen=True)
class Reuse:
    """Index k = 0..K is the number of steps already taken on the group."""

    bias: list[Matrix]
    mse: list[float]
    expected_return: list[float]


def reuse(
    world: World,
    theta_old: Matrix,
    estimator: Weights,
    G: int,
    K: int,
    eta: float,
    groups: Groups = multiset_groups,
    target_scale: float = 1.0,
    **params: float,
) -> Reuse:
    """bias[k] = E[g_hat_k - c grad J(theta_k)], mse[k] = E||g_hat_k - c grad J(theta_k)||^2.

    theta_0 = theta_old and theta_{k+1} = theta_k + eta g_hat_k; g_hat_k is the gradient of the same group at
    theta_k, and c is `target_scale`.
    """
    bias, errors, returns = [zeros(world) for _ in range(K + 1)], [0.0] * (K + 1), [0.0] * (K + 1)
    for members, weight in groups(probabilities(world, theta_old), G):
        theta = [list(row) for row in theta_old]
        for k in range(K + 1):
            g_hat = GroupGradient(world, theta, theta_old, estimator, params)(members)
            target = zeros(world)
            add(target, policy_gradient(world, theta), target_scale)
            add(bias[k], g_hat, weight)
            add(bias[k], target, -weight)
            errors[k] += weight * squared_distance(g_hat, target)
            returns[k] += weight * expected_return(world, theta)
            add(theta, g_hat, eta)
    return Reuse(bias, errors, returns)
