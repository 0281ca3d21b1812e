"""group_sums/lattice.py: which rewards lie on a lattice, and sums over it by hand."""

import math

import numpy as np
import pytest

from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.estimators.advantages import centred, standardised
from ticgrpo_theory.exact.group_sums.counts import Counts
from ticgrpo_theory.exact.group_sums.lattice import Lattice, positions, sums, sums_and_squares
from ticgrpo_theory.exact.groups import choose


def close(found, expected) -> None:
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, **EXACT)


def test_a_pair_of_three_values_by_hand():
    # r = 0, 1/2, 1 with p = 1/4, 1/2, 1/4. A = +-1 where the two differ: P(the other is smaller, larger).
    contribution, k = choose.Contribution(standardised(0.0), 2), np.arange(3)
    lattice = Lattice(contribution.of_moments, k / 2, sums_and_squares(k), 2)
    plus, minus = lattice.given_one(np.array([[0.25, 0.5, 0.25]]))[0]
    close([plus, minus], [[0.0, 0.25, 0.75], [-0.75, -0.25, 0.0]])


def test_a_linear_advantage_keeps_the_sum_alone_and_another_one_would_be_wrong():
    k, prob = np.arange(3), np.array([[0.25, 0.5, 0.25]])
    linear = choose.Contribution(centred(), 4)
    of_sums = Lattice(linear.of_mean, k / 2, sums(k), 4)
    both = Lattice(linear.of_moments, k / 2, sums_and_squares(k), 4)
    close([of_sums.given_one(prob)], [both.given_one(prob)])
    assert of_sums.predicted_states < both.predicted_states
    standard = choose.Contribution(standardised(0.0), 4)
    right = Lattice(standard.of_moments, k / 2, sums_and_squares(k), 4).given_one(prob)
    wrong = Lattice(standard.of_mean, k / 2, sums(k), 4).given_one(prob)
    assert np.abs(right - wrong).max() > VISIBLE


def test_the_same_check_rejects_a_lattice_that_is_off_by_one_step():
    reward, prob = np.array([0.0, 0.25, 1.0]), np.array([[0.5, 0.25, 0.25]])
    contribution = choose.Contribution(standardised(0.0), 5)
    counts = Counts(contribution.of_statistics, reward, 0 * reward, 5).given_one(prob)
    wrong = Lattice(contribution.of_moments, reward, sums_and_squares(np.array([0, 2, 4])), 5).given_one(prob)
    assert np.abs(counts - wrong).max() > VISIBLE


def test_the_probabilities_on_a_lattice_add_to_1():
    """A = 1 averages to 1, given any reward value and for any number of draws."""
    for G in (1, 2, 3, 17, 64):
        k = np.array([0, 1, 3, 4, 9, 10])
        lattice = Lattice(lambda r, mean, var: (r + mean) * 0 + 1, k / 10, sums_and_squares(k), G)
        plus, minus = lattice.given_one(np.array([[0.1, 0.2, 0.3, 0.2, 0.15, 0.05]]))[0]
        close([plus, minus], [np.ones(6), np.zeros(6)])


@pytest.mark.parametrize(
    "reward, k",
    [
        ([0.0, 1.0], [0, 1]),
        ([0.0, 0.1, 0.2, 0.3], [0, 1, 2, 3]),
        ([-0.7, 0.0, 0.3], [0, 7, 10]),
        ([0.0, 0.3, 1.0], [0, 3, 10]),
        ([5.0], [0]),
        (list(np.arange(8) / 7 + 0.1), list(range(8))),
        ([1e6, 1e6 + 1, 1e6 + 3], [0, 1, 3]),
        ([0.0, 1 / math.sqrt(2), 1.0], None),
        ([0.0, 1e-5, 1.0], None),
        ([1.0, 1.0 + 2**-52, 1.0 + 3 * 2**-52], [0, 1, 3]),
    ],
)
def test_positions_on_a_lattice(reward, k):
    found = positions(np.array(reward))
    assert (found is None) == (k is None)
    assert k is None or found.tolist() == k
