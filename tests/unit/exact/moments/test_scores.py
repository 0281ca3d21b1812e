"""Inner products of scores, by hand and against decimals where one token is nearly certain."""

from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from ticgrpo_theory.exact.moments.scores import norms, products, row_norms
from ticgrpo_theory.exact.moments.spread import signal_to_noise


def test_products_of_a_row_of_fractions_are_those_by_hand():
    """pi = (1/2, 1/4, 1/4), ||pi||^2 = 3/8: <psi_0, psi_0> = 1 - 1 + 3/8, <psi_0, psi_1> = -3/4 + 3/8."""
    found = products(np.array([[0.5, 0.25, 0.25]]))[0]
    p = [Fraction(1, 2), Fraction(1, 4), Fraction(1, 4)]
    own = sum(x * x for x in p)
    expected = [[(a == b) - p[a] - p[b] + own for b in range(3)] for a in range(3)]
    assert found[0, 0] == 0.375 and found[0, 1] == -0.375
    np.testing.assert_allclose(found, np.array(expected, dtype=float), rtol=1e-15)


def check_nearly_certain(size: float = 17.0) -> None:
    logits = [size, -size, 0.0]
    with localcontext(prec=300):
        exponentials = [Decimal(x).exp() for x in logits]
        pi = [x / sum(exponentials) for x in exponentials]
        own = sum(x * x for x in pi)
        exact = [[float((a == b) - pi[a] - pi[b] + own) for b in range(3)] for a in range(3)]
    table = np.array([[float(x) for x in pi]])
    np.testing.assert_allclose(products(table)[0], exact, rtol=1e-14)
    np.testing.assert_allclose(norms(table)[0], np.diag(exact), rtol=1e-14)
    out = np.empty(3)
    row_norms(table[0], 0, out)
    np.testing.assert_allclose(out, np.diag(exact), rtol=1e-14)
    if size >= 17:
        # The partner that must fail: the formula with its ones.
        plain = 1 - 2 * table[0, 0] + (table[0] ** 2).sum()
        assert abs(plain - exact[0][0]) > 0.01 * exact[0][0]


def test_a_ratio_to_a_variance_of_rounding_size_is_not_known():
    assert signal_to_noise(1.0, 4.0, 1e-16) == 0.25
    assert signal_to_noise(0.0, 0.0, 0.0) == 0.0
    assert signal_to_noise(1.0, 0.0, 0.0) == float("inf")
    assert np.isnan(signal_to_noise(1.0, -1e-18, 1e-16))


@pytest.mark.parametrize("size", [5.0, 17.0, 40.0, 150.0])
def test_every_digit_is_there_where_one_token_is_nearly_certain(size):
    check_nearly_certain(size)
