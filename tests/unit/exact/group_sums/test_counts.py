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
    state, vectors, statistics = np.array([0, 2]), np.empty((2, 3)), np.empty((3, 3))
    counts.next_counts(state, np.array([1.0, 0.0]), np.array([3.0, 5.0]), vectors, statistics)
    assert vectors.T.tolist() == [[0, 2], [1, 1], [2, 0]]
    np.testing.assert_allclose(statistics, [[0, 0.5, 1], [0, 0.25, 0], [10, 8, 6]], **EXACT)


def test_equal_rewards_have_variance_0_though_their_mean_is_rounded():
    vectors, statistics = np.empty((2, 4)), np.empty((3, 4))
    counts.next_counts(np.array([0, 3]), np.array([0.1, 0.1]), np.ones(2), vectors, statistics)
    assert statistics[1].tolist() == [0.0] * 4 and statistics[0].max() != 0.1


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
