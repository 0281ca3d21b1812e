"""groups/outcomes.py: distinct values, the scale of a response in its group, and refusals."""

import math

import numpy as np
import pytest

from tests.properties.tolerances import EXACT
from ticgrpo_theory.estimators import scales
from ticgrpo_theory.estimators.advantages import centred, standardised
from ticgrpo_theory.exact.groups.outcomes import distinct, outcomes

TABLE = (np.array([0.0, 1.0, 1.0]), np.array([1.0, 2.0, 4.0]), np.array([0.5, 0.25, 0.25]))


def close(found, expected) -> None:
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, **EXACT)


def test_moments_and_scales_by_hand():
    case = outcomes(standardised(0.0), scales.sequence_mean, *TABLE, 4, 8)
    assert (case.mean, case.variance, case.rewards.value.tolist()) == (0.5, 0.25, [0.0, 1.0])
    close([case.own_scale], [[1.0, 1 / 2, 1 / 4]])
    close([outcomes(centred(), scales.constant, *TABLE, 4, 8).own_scale], [np.full(3, 1 / 8)])
    infinite = outcomes(standardised(0.0), scales.token_mean, *TABLE, math.inf, 8)
    assert not infinite.pools
    # The mean length is 1/2 + 1/2 + 1 = 2.
    close([infinite.own_scale], [np.full(3, 1 / 2)])
    assert outcomes(standardised(0.0), scales.token_mean, *TABLE, 4, 8).pools


def test_rewards_that_are_all_equal_have_no_variance_at_all():
    case = outcomes(centred(), scales.sequence_sum, np.full(3, 0.1), *TABLE[1:], 4, None)
    assert (case.mean, case.variance, case.varies) == (0.1, 0.0, False)


@pytest.mark.parametrize("values", [1, 3, 31, 32, 33, 200])
def test_distinct_values_of_many_outcomes(values):
    """Few values are searched, many are sorted: both give the same table."""
    order = np.arange(1000)
    value = ((order * 7919) % values) / 8 - 0.5
    prob = (order % 5).astype(np.float64)
    prob /= prob.sum()
    found = distinct(value, prob)
    possible = prob > 0
    expected, index = np.unique(value[possible], return_inverse=True)
    assert found.value.tolist() == expected.tolist()
    assert found.index[possible].tolist() == index.tolist() and (found.index[~possible] == -1).all()
    close([found.prob], [[prob[possible][index == j].sum() for j in range(expected.size)]])
