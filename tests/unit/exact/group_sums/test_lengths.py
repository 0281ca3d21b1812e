"""group_sums/lengths.py: sums of exponentials stand for 1/x and 1/x^2."""

import numpy as np
import pytest

from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.exact.group_sums import lengths


def close(found, expected) -> None:
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, **EXACT)


@pytest.mark.parametrize("largest", [1.0, 2.0, 64.0, 1024.0])
def test_a_sum_of_exponentials_is_the_inverse_and_its_square(largest):
    u, weight = lengths.exponential_sum(3.0, 3.0 * largest)
    x = 3.0 * np.linspace(1.0, largest, 1000)
    decay = np.exp(-np.outer(x, u))
    close([decay @ weight * x, decay @ (weight * u) * x**2], [np.ones(1000), np.ones(1000)])
    assert (
        np.abs(np.exp(-np.outer([9.0 * largest * 64], u)) @ weight * 9.0 * largest * 64 - 1).max() < VISIBLE
    )
