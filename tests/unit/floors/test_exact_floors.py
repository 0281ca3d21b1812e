"""exact_floors.py: the first order of a floor, by digits, by another formula, by a stationary density."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from numpy.polynomial import Chebyshev

from tests.properties.tolerances import EXACT, PRINTED
from tests.thinned import only
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.advantages import population, standardised
from ticgrpo_theory.exact import policy_gradient
from ticgrpo_theory.exact.fixed_points import policy
from ticgrpo_theory.exact.known_scale import known_scale
from ticgrpo_theory.exact.moments.estimator_moments import gradient_moments
from ticgrpo_theory.floors.exact_floors import first_order, floor_at_fixed_point, interpolated, probability
from ticgrpo_theory.worlds import WORLDS

XOR, LENGTHS = (WORLDS[name].build() for name in ("xor", "length-trap"))


def by_std(name: str, delta: float = 0.0):
    return dataclasses.replace(ESTIMATORS[name], advantage=standardised(delta))


# G, then lambda tr(G Cov g_hat) / (2 c_G / T) with lambda = 1/2.
COEFFICIENTS = [(4, 0.06768), (16, 0.06463), (64, 0.06300)]


@pytest.mark.parametrize("G, coefficient", only([COEFFICIENTS[1]], COEFFICIENTS))
@pytest.mark.parametrize("name", ["stale", "grpo", "tic_grpo_eq11"])
def test_the_coefficient_of_eta_K_over_G_to_the_printed_digits(name, G, coefficient):
    here = floor_at_fixed_point(XOR, by_std(name), G)
    np.testing.assert_allclose(here.noise * G, coefficient, **PRINTED(5))
    assert here.point == pytest.approx(0.5, abs=EXACT["atol"]) and here.root < EXACT["atol"]


def test_the_coefficient_of_infinite_groups():
    """One response with the moments of theta_old is what a group of any size averages then: 1/16."""
    one = dataclasses.replace(ESTIMATORS["stale"], advantage=population(0.0))
    assert floor_at_fixed_point(XOR, one, 1).noise == pytest.approx(1 / 16, abs=EXACT["atol"])
    literal = dataclasses.replace(ESTIMATORS["tic_grpo"], advantage=population(0.0))
    np.testing.assert_allclose(floor_at_fixed_point(LENGTHS, literal, 1).noise, 0.015787, **PRINTED(6))


@pytest.mark.parametrize("name, G", [("grpo", 4), ("tic_grpo", 8)])
def test_the_coefficient_is_curvature_times_noise_over_twice_the_scale(name, G):
    """lambda tr Cov / (2 c) with the Hessian of J by differences, listed groups, and c from elsewhere."""
    theta, x = torch.zeros(1, 2, dtype=torch.float64), 1e-4
    ahead = policy_gradient(XOR, torch.tensor([[x, -x]], dtype=torch.float64) / math.sqrt(2))
    curvature = -float(ahead[0, 0]) * math.sqrt(2) / x
    c, kind = known_scale(XOR, theta, by_std(name), G)
    noise = gradient_moments(XOR, theta, theta, by_std(name), G, method="groups").variance
    assert kind == "known" and curvature == pytest.approx(0.5, abs=1e-6)
    assert floor_at_fixed_point(XOR, by_std(name), G).noise == pytest.approx(
        0.5 * noise / (2 * c), abs=EXACT["atol"]
    )


def test_more_groups_in_a_step_divide_the_noise_and_nothing_else():
    one, four = (
        floor_at_fixed_point(LENGTHS, by_std("dapo"), 4),
        floor_at_fixed_point(LENGTHS, by_std("dapo"), 4, groups=4),
    )
    assert (four.point, four.rate, four.root) == (one.point, one.rate, one.root)
    assert four.noise == pytest.approx(one.noise / 4, abs=EXACT["atol"])


@pytest.mark.parametrize("name, G", [("grpo", 16), ("dapo", 4), ("tic_grpo", 64)])
def test_the_root_is_the_gradient_at_the_fixed_point(name, G):
    here = floor_at_fixed_point(LENGTHS, by_std(name), G)
    square = float(policy_gradient(LENGTHS, policy(LENGTHS, here.point)).square().sum())
    assert here.root == pytest.approx(square, abs=EXACT["atol"])


M = Chebyshev.interpolate(lambda x: 0.5 - 0.8 * x - 0.3 * x**2 + 0.1 * x**3, 3, domain=[-3, 3])
SQUARED = Chebyshev.interpolate(lambda x: 0.4 + 0.7 * x - 0.5 * x**2, 2, domain=[-3, 3])
NOISE = 0.25


def stationary(h: float) -> float:
    """E g(x)^2 under the density exp(2 int m / (h D)), stationary for dx = m dt + sqrt(h D) dW."""
    x = np.linspace(-1.5, 2.0, 20001)
    log = 2 / (h * NOISE) * M.integ()(x)
    weight = np.exp(log - log.max())
    return float((weight * SQUARED(x) ** 2).sum() / weight.sum())


def missed(h: float, slope: float) -> float:
    root = float(min(M.roots().real, key=abs))
    return abs(stationary(h) - float(SQUARED(root)) ** 2 - slope * h)


def test_first_order_is_that_of_the_stationary_density():
    """Where m is curved and g is not 0: what is left falls with h^2."""
    root = float(min(M.roots().real, key=abs))
    square, slope = first_order(M, SQUARED, root, NOISE)
    assert square == pytest.approx(float(SQUARED(root)) ** 2, abs=EXACT["atol"])
    assert missed(0.02, slope) / missed(0.01, slope) == pytest.approx(4, rel=0.05)
    # Partner: without the shift of the mean by the curvature of m, what is left falls with h.
    tangent = float(M.deriv(1)(root))
    straight = Chebyshev.interpolate(lambda x: tangent * (x - root), 1, domain=[-3, 3])
    _, other = first_order(straight, SQUARED, root, NOISE)
    assert missed(0.02, other) / missed(0.01, other) == pytest.approx(2, rel=0.2)


def test_a_probability_is_the_softmax_of_the_coordinate():
    for x in (-0.75, 0.0, 0.5):
        theta = torch.tensor([x, -x], dtype=torch.float64) / math.sqrt(2)
        assert probability(x) == pytest.approx(float(torch.softmax(theta, 0)[0]), abs=EXACT["atol"])


def test_an_interval_too_wide_for_the_polynomial_is_refused():
    assert interpolated(math.exp, -1.0, 1.0)(0.3) == pytest.approx(math.exp(0.3), abs=EXACT["atol"])
    with pytest.raises(ValueError, match=r"misses exact values for x in \[-9, 9\] .* take a smaller eta K"):
        interpolated(lambda x: 1 / (1 + x**2), -9.0, 9.0)
