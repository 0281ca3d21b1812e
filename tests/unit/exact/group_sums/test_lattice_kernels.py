"""group_sums/lattice_kernels.py: the convolution of steps is the sum over all draws, one by one."""

from collections import Counter
from itertools import product

import numpy as np
import pytest

from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.exact.group_sums import lattice_kernels as kernels
from ticgrpo_theory.exact.group_sums.lattice import Lattice, sums, sums_and_squares


def one_by_one(steps: kernels.Steps, prob: np.ndarray, draws: int) -> Counter[tuple[int, int]]:
    """Probability of every (alpha, beta), from all ordered draws."""
    found: Counter[tuple[int, int]] = Counter()
    for drawn in product(range(prob.size), repeat=draws):
        members = list(drawn)
        found[int(steps.alpha[members].sum()), int(steps.beta[members].sum())] += np.prod(prob[members])
    return found


def no_advantage(reward, mean, variance):
    raise AssertionError("the states of a group need no advantage")


def states(steps: kernels.Steps, prob: np.ndarray, draws: int) -> Counter[tuple[int, int]]:
    """The same from the convolution; states of probability 0 left out."""
    lattice = Lattice(no_advantage, 0.5 * steps.alpha, steps, draws + 1)
    band = lattice.band(draws)
    chance = lattice.chance(prob, draws, band)
    found: Counter[tuple[int, int]] = Counter()
    for a in range(band.low.size):
        for b in range(band.low[a], band.high[a] + 1):
            p = chance[band.start[a] + b - band.low[a]]
            if p > 0:
                found[a, b] = p
    return found


# Six values take the pass over four steps at once, with one step left over; 0, 3, 7 leave rows empty.
K = [[0, 1], [0, 1, 2], [0, 3, 7], [0, 1, 2, 3, 4, 5], [0, 1, 3, 4, 9, 10]]


@pytest.mark.parametrize("keep", [sums, sums_and_squares])
@pytest.mark.parametrize("k", K)
@pytest.mark.parametrize("draws", [1, 2, 4])
def test_a_convolution_is_the_sum_over_all_draws(k, draws, keep):
    steps, prob = keep(np.array(k)), np.arange(1.0, len(k) + 1)
    prob /= prob.sum()
    found, expected = states(steps, prob, draws), one_by_one(steps, prob, draws)
    assert set(found) == set(expected)
    np.testing.assert_allclose([found[s] for s in expected], list(expected.values()), **EXACT)


def test_the_same_check_rejects_probabilities_in_another_order():
    steps, prob = sums_and_squares(np.arange(6)), np.arange(1.0, 7.0) / 21
    found, expected = states(steps, prob[::-1].copy(), 2), one_by_one(steps, prob, 2)
    assert max(abs(found[s] - expected[s]) for s in expected) > VISIBLE


def test_mean_and_variance_of_a_state_by_hand():
    # Two responses of r = k/4: sum k and sum k (k-1)/2 of k = (0,0), (0,1), (1,1), (0,2), (1,2), (2,2).
    whole = Lattice(no_advantage, np.arange(3) / 4, sums_and_squares(np.arange(3)), 3).rest
    found = kernels.moments(whole, 2, 0.0, 0.25)
    index = [whole.start[a] + b - whole.low[a] for a, b in [(0, 0), (1, 0), (2, 0), (2, 1), (3, 1), (4, 2)]]
    np.testing.assert_allclose(found[0, index], [0, 1 / 8, 1 / 4, 1 / 4, 3 / 8, 1 / 2], **EXACT)
    np.testing.assert_allclose(found[1, index], [0, 1 / 64, 0, 1 / 16, 1 / 64, 0], **EXACT)
