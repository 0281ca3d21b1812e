"""group_sums/counts.py: probabilities of count vectors, and their means and variances, by hand."""

import math

import numpy as np

from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.exact.group_sums import counts
from ticgrpo_theory.exact.groups.multisets import groups


def test_the_probability_of_a_count_vector_by_hand():
    vectors = np.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]])
    found = counts.multinomial(vectors, *counts.poisson_tables(np.array([0.25, 0.75]), 2))
    np.testing.assert_allclose(found, [9 / 16, 6 / 16, 1 / 16], **EXACT)


def test_a_thousand_draws_neither_overflow_nor_underflow_where_they_are_likely():
    tables, norm = counts.poisson_tables(np.array([0.25, 0.75]), 1000)
    (found,) = counts.multinomial(np.array([[250.0], [750.0]]), tables, norm)
    log = (
        math.lgamma(1001) - math.lgamma(251) - math.lgamma(751) + 250 * math.log(0.25) + 750 * math.log(0.75)
    )
    np.testing.assert_allclose(found, math.exp(log), rtol=1e-11)


def test_count_vectors_with_their_mean_variance_and_total_length():
    state, vectors, statistics = np.array([0, 2]), np.empty((2, 3)), np.empty((4, 3))
    counts.next_counts(state, np.array([1.0, 0.0]), np.array([3.0, 5.0]), vectors, statistics)
    assert vectors.T.tolist() == [[0, 2], [1, 1], [2, 0]]
    # The mean is counted from the reward of the first type that is there.
    expected = [[0, 1, 1], [0, -0.5, 0], [0, 0.25, 0], [10, 8, 6]]
    np.testing.assert_allclose(statistics, expected, **EXACT)


def test_equal_rewards_are_their_mean_and_have_variance_0():
    vectors, statistics = np.empty((2, 4)), np.empty((4, 4))
    counts.next_counts(np.array([0, 3]), np.array([0.1, 0.1]), np.ones(2), vectors, statistics)
    assert statistics[:3].tolist() == [[0.1] * 4, [0.0] * 4, [0.0] * 4]


def test_nearly_tied_rewards_keep_every_digit_of_their_difference():
    tied = np.nextafter(3e4, 4e4)
    vectors, statistics = np.empty((3, 6)), np.empty((4, 6))
    state = np.array([0, 0, 2])
    counts.next_counts(state, np.array([1e4, 3e4, tied]), np.ones(3), vectors, statistics)
    (row,) = np.flatnonzero((vectors == [[0], [1], [1]]).all(0))
    half = (tied - 3e4) / 2
    assert statistics[:3, row].tolist() == [3e4, half, half**2]


def test_what_is_conditional_on_a_type_is_divided_by_its_expected_number():
    total = np.array([[[1.0, 3.0], [0.0, 2.0]]])
    found = counts.per_response(total, np.array([[0.25, 0.75]]), 4)
    np.testing.assert_allclose(found, [[[1.0, 1.0], [0.0, 2 / 3]]], **EXACT)
    never = counts.per_response(total, np.array([[0.0, 1.0]]), 4)
    np.testing.assert_allclose(never, [[[0.0, 3 / 4], [0.0, 1 / 2]]], **EXACT)


def test_count_vectors_stand_for_multisets():
    prob = np.array([0.2, 0.3, 0.5])
    by_vector: dict[tuple[int, ...], float] = {}
    for members, weight in groups(prob, 3, 100):
        for group, chance in zip(members, weight, strict=True):
            vector = tuple(np.bincount(group, minlength=3).tolist())
            by_vector[vector] = by_vector.get(vector, 0.0) + chance
    vectors = np.array(list(by_vector), dtype=np.float64).T
    found = counts.multinomial(vectors, *counts.poisson_tables(prob, 3))
    np.testing.assert_allclose(found, list(by_vector.values()), **EXACT)
    other = counts.multinomial(vectors, *counts.poisson_tables(prob[::-1].copy(), 3))
    assert np.abs(found - other).max() > VISIBLE
