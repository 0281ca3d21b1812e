"""Policies that are nearly certain, and groups of any size: against the definition in decimals of 600 digits.

One prompt, one token of three: E[g_hat] and the variance are sums of three terms each. Logits of +-17 leave
the other tokens 1e-15, where 1 - pi has no digit left in float64; +-150 leave them 1e-130.
"""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch

from ticgrpo_theory.estimators.catalogue import ESTIMATORS
from ticgrpo_theory.exact import expected_gradient, gradient_moments
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.worlds.policy import pull_back

REWARDS = (1.0, 2.0, 4.0)
WORLD = TokenMDP.prefix_tree(vocab_size=3, horizon=1, reward=list(REWARDS))
METHODS = ("dynamic_programming", "enumeration", "groups")
SAME = 1e-12


def softmax(row: list[float]) -> list[Decimal]:
    exponentials = [Decimal(x).exp() for x in row]
    return [x / sum(exponentials) for x in exponentials]


def by_definition(theta: list[float], theta_old: list[float], name: str) -> tuple[list[Decimal], Decimal]:
    """E[x] and E||x - E x||^2 of one response, whose baseline is 0 (reinforce) or mu (an infinite group)."""
    pi, old = softmax(theta), softmax(theta_old)
    r = [Decimal(x) for x in REWARDS]
    mu = sum(p * x for p, x in zip(old, r, strict=True)) if name != "reinforce" else Decimal(0)
    w = [p / q if name == "trajectory_is" else Decimal(1) for p, q in zip(pi, old, strict=True)]
    x = [[w[a] * (r[a] - mu) * ((a == b) - pi[b]) for b in range(3)] for a in range(3)]
    mean = [sum(old[a] * x[a][b] for a in range(3)) for b in range(3)]
    return mean, sum(old[a] * (x[a][b] - mean[b]) ** 2 for a in range(3) for b in range(3))


certain = pytest.mark.parametrize("size", [5.0, 17.0, 25.0, 150.0])


def policies(size: float, name: str) -> tuple[list[float], list[float]]:
    theta = [size, -size, -size / 2]
    return theta, theta if name == "reinforce" else [0.9 * size, -size, -size / 2]


@certain
@pytest.mark.parametrize("name", ["reinforce", "rloo", "trajectory_is"])
@pytest.mark.parametrize("method", METHODS)
def test_every_entry_of_the_mean_has_its_digits(size, name, method):
    theta, theta_old = policies(size, name)
    with localcontext(prec=600):
        expected, _ = by_definition(theta, theta_old, name)
        found = expected_gradient(WORLD, [theta], [theta_old], ESTIMATORS[name], 4, method)[0].tolist()
        errors = [abs((Decimal(x) - y) / y) for x, y in zip(found, expected, strict=True)]
    assert max(errors) <= SAME


@certain
@pytest.mark.parametrize("method", METHODS)
def test_the_variance_has_its_digits(size, method):
    theta, theta_old = policies(size, "reinforce")
    with localcontext(prec=600):
        _, expected = by_definition(theta, theta_old, "reinforce")
        found = gradient_moments(WORLD, [theta], [theta_old], ESTIMATORS["reinforce"], 4, method)
        error = abs(Decimal(found.variance) - expected / 4) / (expected / 4)
    assert error <= SAME
    assert found.variance > found.variance_rounding
    assert math.isfinite(found.signal_to_noise)


@pytest.mark.parametrize("name", ["reinforce", "trajectory_is"])
@pytest.mark.parametrize("group_size", [10**4, 10**8, 10**12])
def test_the_variance_of_a_group_of_any_size_has_its_digits(name, group_size):
    """G Var is that of one response; of the baseline of a group, whose scores add to 0, only 1/G is left."""
    theta, theta_old = [0.5, -0.25, 0.0], [0.0, 0.25, -0.5]
    with localcontext(prec=60):
        _, expected = by_definition(theta, theta_old, name)
        found = gradient_moments(WORLD, [theta], [theta_old], ESTIMATORS[name], group_size)
        error = abs(Decimal(found.variance) * group_size - expected) / expected
    assert error <= SAME + 10 / group_size * (name != "reinforce")


def test_a_variance_that_is_all_rounding_is_given_with_its_size():
    """A sampler that is nearly certain draws nearly always the same group: var = 1e-20 of E||g||^2."""
    theta, theta_old = [0.0, 0.5, -0.5], [46.0, 0.0, -46.0]
    found = gradient_moments(WORLD, [theta], [theta_old], ESTIMATORS["reinforce"], 4)
    with localcontext(prec=600):
        _, expected = by_definition(theta, theta_old, "reinforce")
    assert abs(found.variance - float(expected) / 4) <= found.variance_rounding
    assert float(expected) / 4 < found.variance_rounding < 1e-12
    assert math.isnan(found.signal_to_noise)
    assert not np.isnan(found.mse)


def check_pull_back() -> None:
    """M - pi sum M of M = (1, 0, 0) is (1 - pi_0, -pi_1, -pi_2), 1 - pi_0 = 4e-18 at logits of +-20."""
    logits = torch.tensor([[20.0, -20.0, -20.0]], dtype=torch.float64)
    found = pull_back(torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64), logits)[0].tolist()
    with localcontext(prec=80):
        pi = softmax([20.0, -20.0, -20.0])
        errors = [abs(Decimal(x) / y - 1) for x, y in zip(found, [1 - pi[0], -pi[1], -pi[2]], strict=True)]
    assert max(errors) <= SAME


def test_a_pull_back_has_every_digit():
    check_pull_back()
