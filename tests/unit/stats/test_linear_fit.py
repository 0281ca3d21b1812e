"""linear_fit.py: exact data give exact coefficients, noisy data intervals that hold the truth."""

import math

import numpy as np
import pytest

from tests.properties.tolerances import EXACT
from ticgrpo_theory.stats.linear_fit import log_slope, weighted_fit

H, G = (grid.ravel() for grid in np.meshgrid([0.05, 0.1, 0.2], [4.0, 16.0, 64.0]))
TERMS = {"eta K / G": H / G, "eta K": H, "1 / G": 1 / G, "1": np.ones(9)}
PRODUCT = 0.0625 * H / G
WIDTH = 1.959963984540054


def noisy(y: np.ndarray, error: np.ndarray, seed: int) -> np.ndarray:
    return y + error * np.random.default_rng(seed).standard_normal(len(y))


def test_a_weighted_mean_by_hand():
    """y = 1, 3 with errors 1, 2: weights 1, 1/4; mean (1 + 3/4) / (5/4) = 7/5; chi^2 = 4/25 + 16/25."""
    fit = weighted_fit({"1": np.ones(2)}, np.array([1.0, 3.0]), np.array([1.0, 2.0]))
    assert fit.coefficient["1"] == pytest.approx(7 / 5, abs=EXACT["atol"])
    assert (fit.chi_square, fit.freedom) == (pytest.approx(4 / 5, abs=EXACT["atol"]), 1)
    assert fit.half["1"] == pytest.approx(WIDTH * math.sqrt(4 / 5), abs=EXACT["atol"])


def test_points_farther_apart_than_their_errors_widen_the_interval():
    """y = 0, 4 with errors 1: mean 2, chi^2 = 8 on 1 degree, so sqrt 8 times the error 1 / sqrt 2."""
    fit = weighted_fit({"1": np.ones(2)}, np.array([0.0, 4.0]), np.ones(2))
    assert fit.half["1"] == pytest.approx(WIDTH * 2, abs=EXACT["atol"])


def test_exact_data_give_the_coefficients_that_made_them():
    made = {"eta K / G": 0.0625, "eta K": -3e-5, "1 / G": 2e-4, "1": 1e-6}
    y = sum(value * TERMS[name] for name, value in made.items())
    fit = weighted_fit(TERMS, y, 0.01 * PRODUCT)
    for name, value in made.items():
        assert fit.coefficient[name] == pytest.approx(value, abs=EXACT["atol"])
    assert fit.chi_square < EXACT["atol"]


@pytest.mark.parametrize("term, size", [("eta K", 1e-3), ("1 / G", 1e-3), ("1", 1e-4)])
def test_a_separate_term_is_detected_and_its_absence_too(term, size):
    error = 0.005 * PRODUCT
    found = weighted_fit(TERMS, noisy(PRODUCT + size * TERMS[term], error, 0), error)
    assert found.excludes_zero(term)
    assert abs(found.coefficient[term] - size) < 2 * found.half[term]
    # Partner: the product alone.
    alone = weighted_fit(TERMS, noisy(PRODUCT, error, 0), error)
    assert not alone.excludes_zero(term) and alone.excludes_zero("eta K / G")


def coverage(narrowed: float) -> float:
    """Share of 1,000 fits whose interval, times `narrowed`, holds the true coefficient."""
    error = 0.01 * PRODUCT
    fits = [weighted_fit(TERMS, noisy(PRODUCT, error, seed), error) for seed in range(1000)]
    held = [abs(f.coefficient["eta K / G"] - 0.0625) <= narrowed * f.half["eta K / G"] for f in fits]
    return float(np.mean(held))


def test_intervals_hold_the_truth_and_half_of_them_do_not():
    # Widening by sqrt(chi^2 / freedom) wherever that exceeds 1 makes them hold a little too often.
    assert 0.94 < coverage(1.0) < 0.99
    assert coverage(0.5) < 0.8


def test_a_power_law_has_its_exponent_as_slope():
    x = np.array([1.0, 2.0, 4.0, 8.0])
    fit = log_slope(x, 3 * x**-2, 0.01 * x**-2)
    assert fit.coefficient["slope"] == pytest.approx(-2, abs=EXACT["atol"])
    assert fit.coefficient["level"] == pytest.approx(math.log(3), abs=EXACT["atol"])
    assert log_slope(x, 3 * x**-1, 0.01 * x).coefficient["slope"] == pytest.approx(-1)


def test_what_cannot_be_fitted_is_refused_with_value_limit_and_way_out():
    one, two = np.ones(3), np.array([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"weights are 1 / error\^2, so each must be > 0"):
        weighted_fit({"1": one}, two, np.array([1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match=r"2 points for the 2 terms \['a', 'b'\]: add points or drop terms"):
        weighted_fit({"a": one[:2], "b": two[:2]}, one[:2], one[:2])
    with pytest.raises(ValueError, match=r"cannot tell the terms \['a', 'b'\] apart .* vary eta K and G"):
        weighted_fit({"a": one, "b": 2 * one}, two, one)
    with pytest.raises(ValueError, match=r"a power law needs positive values; leave the others out"):
        log_slope(two, two - 1, one)
