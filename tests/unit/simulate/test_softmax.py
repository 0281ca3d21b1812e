"""softmax.py: the logarithm of compiled loops, and rows in columns against the definition."""

import math

import numpy as np
import pytest

from ticgrpo_theory.simulate.passes.softmax import log_softmax, vlog


def ulps(found: float, expected: float) -> float:
    return abs(found - expected) / math.ulp(max(abs(expected), math.ulp(1.0)))


@pytest.mark.parametrize("x", [1.0, 2.0, 0.5, math.sqrt(0.5), math.e, 1 + 2**-52, 1e-300, 1e300, 3.7, 7 / 9])
def test_the_logarithm_is_right_to_one_unit_in_the_last_place(x):
    assert ulps(vlog(x), math.log(x)) <= 1
    assert vlog(1.0) == 0


def test_a_logarithm_without_the_polynomial_would_not_pass():
    f = 0.25
    assert ulps(f - f * f / 2, math.log(1 + f)) > 1e6


def test_columns_are_normalised_within_their_bounds_and_no_others():
    theta = np.array([[0.0, math.log(3.0), -np.inf, 9.0], [0.0, 0.0, 0.0, 9.0]])
    pi, log_total, scratch = np.full((2, 4), -1.0), np.full(4, -1.0), np.zeros(4)
    log_softmax(theta, pi, log_total, scratch, 0, 3)
    np.testing.assert_allclose(pi[:, :3], [[0.5, 0.75, 0.0], [0.5, 0.25, 1.0]], rtol=1e-15)
    np.testing.assert_allclose(log_total[:3], [math.log(2), math.log(4), 0.0], rtol=0, atol=1e-15)
    assert (pi[:, 3] == -1).all() and log_total[3] == -1


def test_large_logits_do_not_overflow():
    theta, pi, log_total = np.array([[1e4], [1e4 - math.log(3.0)]]), np.zeros((2, 1)), np.zeros(1)
    log_softmax(theta, pi, log_total, np.zeros(1), 0, 1)
    np.testing.assert_allclose(pi[:, 0], [0.75, 0.25], rtol=1e-11)
