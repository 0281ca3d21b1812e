"""group_sums/wins.py: windows of count vectors agree with all of them, and with the limit of large groups."""

import math

import numpy as np
import pytest
from scipy import stats

from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.estimators.advantages import centred, leave_one_out, raw, standardised
from ticgrpo_theory.exact.group_sums import wins
from ticgrpo_theory.exact.group_sums.counts import Counts
from ticgrpo_theory.exact.groups import choose

PAIR = np.array([0.0, 1.0])
PROB = np.array([[0.3, 0.7], [0.999, 0.001], [1e-9, 1 - 1e-9], [0.5, 0.5]])


def both(advantage, G: int) -> tuple[wins.Wins, Counts]:
    contribution = choose.Contribution(advantage, G)
    return (
        wins.Wins(contribution.of_statistics, PAIR, 0 * PAIR, G),
        Counts(contribution.of_statistics, PAIR, 0 * PAIR, G),
    )


@pytest.mark.parametrize("advantage", [standardised(0.0), standardised(0.5, ddof=1), leave_one_out()])
@pytest.mark.parametrize("G", [2, 3, 60, 5_000, 100_000])
def test_a_window_gives_what_all_count_vectors_give(advantage, G):
    window, every = both(advantage, G)
    np.testing.assert_allclose(window.given_one(PROB), every.given_one(PROB), **EXACT)
    for found, expected in zip(window.given_two(PROB), every.given_two(PROB), strict=True):
        np.testing.assert_allclose(found, expected, **EXACT)


def test_the_same_check_rejects_a_window_that_misses_the_mean(monkeypatch):
    window, every = both(standardised(0.0), 5_000)
    low, _ = wins.likely(5_000, 0.5)
    monkeypatch.setattr(wins, "likely", lambda draws, p: (low // 2, low))
    gap = np.abs(window.given_one(PROB[3:]) - every.given_one(PROB[3:])).max()
    assert gap > VISIBLE


@pytest.mark.parametrize("draws", [1, 10, 1_000, 10**6, 10**9])
@pytest.mark.parametrize("p", [0.5, 0.1, 1e-4, 1e-12])
def test_what_is_left_out_is_as_improbable_as_stated(draws, p):
    low, high = wins.likely(draws, p)
    outside = stats.binom.cdf(low - 1, draws, p) + stats.binom.sf(high, draws, p)
    assert outside <= 2 * math.exp(-wins.LEFT_OUT)
    assert high - low <= wins.largest_window(draws)


def test_a_thousand_million_responses_by_the_central_limit_theorem():
    # A = (r - mean) / std, E[A | r] = (r - p) / sqrt(p (1 - p)) (1 + O(1 / G)).
    G, p = 10**9, 0.3
    plus, minus = both(standardised(0.0), G)[0].given_one(np.array([[1 - p, p]]))[0]
    sd = math.sqrt(p * (1 - p))
    np.testing.assert_allclose([plus[1], minus[0]], [(1 - p) / sd, -p / sd], rtol=2e-9)
    assert plus[1] != pytest.approx((1 - p) / sd, rel=1e-11) and plus[0] == minus[1] == 0.0


def test_a_linear_advantage_is_exact_at_any_size():
    G, p = 10**9, 0.3
    plus, minus = both(centred(), G)[0].given_one(np.array([[1 - p, p]]))[0]
    expected = (1 - 1 / G) * np.array([1 - p, -p])
    np.testing.assert_allclose([plus[1], minus[0]], expected, **EXACT)


def test_pairs_of_very_large_groups_are_refused():
    with pytest.raises(
        ValueError, match=r"group_size = 1,048,577: a variance is G times smaller .* LARGEST_PAIRED"
    ):
        both(standardised(0.0), 2**20 + 1)[0].given_two(PROB)


def test_the_window_is_taken_for_large_groups_alone():
    def chosen(G: int) -> type:
        contribution = choose.Contribution(standardised(), G)
        return type(choose.choose(contribution, PAIR, 0 * PAIR, 1))

    assert chosen(choose.MANY) is Counts and chosen(choose.MANY + 1) is wins.Wins


def test_one_reward_value_has_one_count_vector():
    contribution, one = choose.Contribution(centred(), 10**12), np.array([0.1])
    window = wins.Wins(contribution.of_statistics, one, 0 * one, 10**12)
    assert window.window(np.ones(1)).size == 1
    np.testing.assert_allclose(window.given_one(np.ones((1, 1))), np.zeros((1, 2, 1)), **EXACT)
    every = Counts(choose.Contribution(raw(), 4).of_statistics, one, 0 * one, 4)
    few = wins.Wins(choose.Contribution(raw(), 4).of_statistics, one, 0 * one, 4)
    assert (
        few.given_one(np.ones((1, 1))).tolist() == every.given_one(np.ones((1, 1))).tolist() == [[[0.1], [0]]]
    )


@pytest.mark.parametrize("G", [10**5, 10**7, 10**9])
def test_the_probabilities_of_a_window_add_to_1_and_average_to_p(G):
    window = both(standardised(0.0), G)[0].window(PROB[0])
    chance = window.chance_of(PROB[0])
    counts = [(counts, chance(counts)) for counts, _ in window.chunks()]
    assert math.fsum(p for _, prob in counts for p in prob) == pytest.approx(1.0, rel=4e-15)
    mean = math.fsum(x for vectors, prob in counts for x in vectors[1] * prob)
    assert mean == pytest.approx(0.7 * G, rel=4e-15)
