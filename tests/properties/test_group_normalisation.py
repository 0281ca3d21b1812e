"""groups.py: the exact slope of group normalisation, its limits, and what infinite groups become."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.tolerances import EXACT, PRINTED, VISIBLE
from ticgrpo_theory.estimators import scales
from ticgrpo_theory.estimators.advantages import centred, leave_one_out, population, raw, standardised
from ticgrpo_theory.exact.groups import conditional as groups
from ticgrpo_theory.exact.groups.outcomes import outcomes

COIN = (np.array([1.0, 0.0]), np.array([1.0, 3.0]), np.array([0.25, 0.75]))
TERNARY = (np.array([0.0, 0.25, 1.0]), np.array([1.0, 4.0, 2.0]), np.array([0.5, 0.25, 0.25]))
"""Reward, length and probability of the outcomes."""


def conditional(drawn, G, advantage, scale) -> np.ndarray:
    """f+ and f-, one below the other."""
    return np.stack(groups.conditional_advantages(outcomes(advantage, scale, *drawn, G, 5)))


def close(found, expected) -> None:
    np.testing.assert_allclose(found, expected, **EXACT)


# (p, delta, G, c_G) for rewards 0 and 1.
SLOPES = [
    (0.5, 0.0, 2, 1.0),
    (0.5, 0.0, 4, 1.6160254038),
    (0.5, 0.0, 16, 1.9341226049),
    (0.5, 0.1, 2, 0.8333333333),
    (0.5, 0.1, 4, 1.3285479617),
    (0.5, 0.1, 16, 1.6028115619),
    (0.1, 0.0, 4, 1.6902816622),
    (0.1, 0.0, 16, 2.8478123621),
]


@pytest.mark.parametrize("p, delta, G, printed", SLOPES)
def test_slope_of_two_rewards_as_printed(p, delta, G, printed):
    reward, prob = np.array([0.0, 1.0]), np.array([1 - p, p])
    found = groups.scale_of_group_normalisation(standardised(delta), reward, prob, G)
    np.testing.assert_allclose(found, printed, **PRINTED(10))


@pytest.mark.parametrize("p, delta, G, printed", SLOPES)
def test_the_printed_slopes_reject_the_variance_with_one_degree_less(p, delta, G, printed):
    reward, prob = np.array([0.0, 1.0]), np.array([1 - p, p])
    found = groups.scale_of_group_normalisation(standardised(delta, ddof=1), reward, prob, G)
    assert abs(found - printed) > VISIBLE


@given(st.integers(1, 15), st.sampled_from([0.0, 0.125, 1.0]), st.integers(2, 12))
def test_slope_is_the_expected_share_of_the_standard_deviation(p16, delta, G):
    """c_G Var(r) = E[std_G^2 / (std_G + delta)]; at delta = 0 also 2 (1 - 1/G) <= c_G <= sqrt(G - 1)."""
    p, expected = p16 / 16, 0.0
    for k in range(1, G):
        variance = k / G * (1 - k / G)
        weight = math.comb(G, k) * p**k * (1 - p) ** (G - k)
        expected += weight * variance / (math.sqrt(variance) + delta)
    c = groups.scale_of_group_normalisation(
        standardised(delta), np.array([0.0, 1.0]), np.array([1 - p, p]), G
    )
    close(c * p * (1 - p), expected)
    if delta == 0:
        assert 2 * (1 - 1 / G) - 1e-12 <= c <= math.sqrt(G - 1) + 1e-12


def test_two_rewards_leave_no_bias_but_the_slope_and_three_do():
    """f(r) - c_G (r - mu): 0 for two reward values, whatever G and delta, and not for three."""

    def residual(reward, length, prob) -> float:
        case = outcomes(standardised(0.125), scales.sequence_sum, reward, length, prob, 4, None)
        f = groups.conditional_advantage_sum(case)
        c = groups.scale_of_group_normalisation(standardised(0.125), reward, prob, 4)
        return float(np.abs(f - c * (reward - prob @ reward)).max())

    close(residual(*COIN), 0.0)
    assert residual(*TERNARY) > VISIBLE


def test_equal_rewards_that_are_no_binary_fraction_have_no_advantage():
    drawn = (np.full(3, 0.1), np.arange(1.0, 4.0), np.array([0.25, 0.25, 0.5]))
    for scale in (scales.sequence_sum, scales.token_mean):
        for G in (2, 3, 7):
            assert not conditional(drawn, G, standardised(0.0), scale).any()


@pytest.mark.parametrize(
    "advantage", [standardised(0.0), standardised(0.5), centred(), leave_one_out(), raw()]
)
@pytest.mark.parametrize("scale", [scales.sequence_mean, scales.token_mean, scales.constant])
def test_an_infinite_group_is_the_limit_of_large_ones(advantage, scale):
    limit = conditional(TERNARY, math.inf, advantage, scale)
    gaps = [np.abs(conditional(TERNARY, G, advantage, scale) - limit).max() for G in (32, 128)]
    assert gaps[1] < gaps[0] / 3 or gaps[0] < 1e-12
    assert np.abs(limit).max() > VISIBLE


def test_an_infinite_group_normalises_by_the_distribution():
    reward, length, prob = TERNARY
    mu = prob @ reward
    z = (reward - mu) / math.sqrt(prob @ (reward - mu) ** 2)
    plus, minus = conditional(TERNARY, math.inf, standardised(0.0), scales.token_mean)
    close(plus + minus, z / (prob @ length))
    at = population().at(mu, 0.5)
    close(conditional(TERNARY, 4, at, scales.sequence_sum)[0], np.maximum((reward - mu) / 0.5, 0))
    infinite = outcomes(standardised(0.0), scales.sequence_sum, *TERNARY, math.inf, None)
    products = groups.conditional_products(infinite)
    close(products.cross.sum(axis=(0, 1)), np.outer(z, z))


def test_linear_advantages_take_any_number_of_reward_values():
    reward = np.sin(np.arange(5000.0))
    prob, length = np.full(5000, 1 / 5000), np.ones(5000)
    f = groups.conditional_advantage_sum(
        outcomes(centred(), scales.sequence_sum, reward, length, prob, 8, None)
    )
    close(f, (1 - 1 / 8) * (reward - reward.mean()))
    with pytest.raises(ValueError, match=r"with 5000 types .* lists .* groups"):
        groups.conditional_advantage_sum(
            outcomes(standardised(), scales.sequence_sum, reward, length, prob, 8, None)
        )


def test_equal_rewards_have_no_slope():
    with pytest.raises(ValueError, match=r"every response has reward 0.5: c_G .* is 0 / 0"):
        groups.scale_of_group_normalisation(standardised(), np.array([0.5, 0.5]), np.array([0.5, 0.5]), 4)
