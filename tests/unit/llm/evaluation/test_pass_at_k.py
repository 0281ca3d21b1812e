"""avg@k and pass@k by hand, as shares of subsets, and what their intervals cover."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from llm.evaluation.pass_at_k import average, clustered, pass_at_k, scored, solved
from ticgrpo_theory.stats.rng import stream

EXACT = {"rel": 1e-12, "abs": 1e-12}


@given(st.integers(1, 9), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_draw(drawn: int, data: st.DataObject) -> None:
    right, k = data.draw(st.integers(0, drawn)), data.draw(st.integers(1, drawn))
    subsets = list(itertools.combinations([True] * right + [False] * (drawn - right), k))
    assert pass_at_k(right, drawn, k) == pytest.approx(sum(map(any, subsets)) / len(subsets), **EXACT)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
def test_pass_at_k_is_unbiased_and_the_plug_in_is_not(p: float) -> None:
    """E over the 8 draws, by the binomial distribution; 1 - (1 - c/n)^k is off by up to 0.1."""
    binomial = [float(stats.binom.pmf(c, 8, p)) for c in range(9)]
    truth = 1 - (1 - p) ** 4
    assert sum(w * pass_at_k(c, 8, 4) for c, w in enumerate(binomial)) == pytest.approx(truth, **EXACT)
    plug_in = sum(w * (1 - (1 - c / 8) ** 4) for c, w in enumerate(binomial))
    assert abs(plug_in - truth) > 0.03 or p in (0.0, 1.0)


def test_pass_at_k_by_hand_and_for_large_numbers() -> None:
    assert pass_at_k(1, 4, 2) == 0.5
    assert pass_at_k(3, 4, 2) == 1.0
    assert pass_at_k(1, 10_000, 5_000) == pytest.approx(0.5, **EXACT)


@pytest.mark.parametrize(("right", "drawn", "k"), [(-1, 4, 1), (5, 4, 1), (2, 4, 0), (2, 4, 5), (0, 0, 1)])
def test_impossible_counts_are_refused(right: int, drawn: int, k: int) -> None:
    with pytest.raises(ValueError, match=rf"right = {right}, drawn = {drawn}, k = {k}: needs 0 <= right"):
        pass_at_k(right, drawn, k)


def wilson(share: float, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    return scored(share, trials, float(stats.norm.ppf((1 + confidence) / 2)))


@given(st.integers(1, 200), st.data())
def test_wilson_ends_where_the_score_test_rejects(trials: int, data: st.DataObject) -> None:
    share = data.draw(st.integers(0, trials)) / trials
    low, high = wilson(share, trials)
    z = float(stats.norm.ppf(0.975))
    assert 0 <= low <= share <= high <= 1
    for end in (low, high):
        if end not in (0.0, 1.0):
            assert abs(share - end) == pytest.approx(z * math.sqrt(end * (1 - end) / trials), rel=1e-9)


def test_wilson_by_hand() -> None:
    """0 of n: 0 to z^2 / (n + z^2)."""
    z2 = float(stats.norm.ppf(0.975)) ** 2
    assert wilson(0.0, 10) == (0.0, pytest.approx(z2 / (10 + z2), **EXACT))
    assert wilson(1.0, 10) == (pytest.approx(10 / (10 + z2), **EXACT), 1.0)


def test_wilson_covers_what_it_says_on_average_and_the_normal_interval_does_not() -> None:
    """Coverage at n = 20, exact sums over the binomial distribution, averaged over p."""

    def covered(interval, p: float) -> float:
        return sum(
            float(stats.binom.pmf(c, 20, p))
            for c in range(21)
            if interval(c / 20)[0] <= p <= interval(c / 20)[1]
        )

    def normal(share: float) -> tuple[float, float]:
        half = 1.96 * math.sqrt(share * (1 - share) / 20)
        return share - half, share + half

    grid = [i / 40 for i in range(1, 40)]
    ours = [covered(lambda share: wilson(share, 20), p) for p in grid]
    assert sum(ours) / len(ours) > 0.94
    assert min(ours) > 0.83
    assert min(covered(normal, p) for p in grid) < 0.5


def test_intervals_over_problems_cover_and_those_over_draws_do_not() -> None:
    """300 evaluations of 30 problems, 16 draws each; success rates of problems follow a Beta(0.4, 1.2)."""
    generator = stream(0, "coverage")
    rates = torch.distributions.Beta(0.4, 1.2)
    held = naive = 0
    for _ in range(300):
        uniform = torch.rand(30, 16, generator=generator, dtype=torch.float64)
        quantile = torch.rand(30, generator=generator, dtype=torch.float64)
        p = torch.tensor(stats.beta.ppf(quantile.numpy(), 0.4, 1.2))
        right = (uniform < p[:, None]).sum(dim=1).tolist()
        value, low, high = average(right, 16)
        held += low <= float(rates.mean) <= high
        low, high = wilson(value, 30 * 16)
        naive += low <= float(rates.mean) <= high
    assert held >= 275  # 95 % of 300 is 285, three standard deviations are 11
    assert naive < 200


@given(st.lists(st.integers(0, 8), min_size=2, max_size=20))
def test_intervals_hold_their_value_within_zero_and_one(right: list[int]) -> None:
    for k in (1, 3, 8):
        value, low, high = solved(right, 8, k)
        assert 0 <= low <= value + 1e-12 and value - 1e-12 <= high <= 1
    assert average(right, 8) == solved(right, 8, 1)


def test_one_draw_for_each_problem_is_wilson_with_students_quantile() -> None:
    t = float(stats.t.cdf(stats.t.ppf(0.975, 39), 39))
    assert t == pytest.approx(0.975)
    confidence = 2 * float(stats.norm.cdf(stats.t.ppf(0.975, 39))) - 1
    assert clustered([1.0] * 10 + [0.0] * 30, 1) == pytest.approx(wilson(0.25, 40, confidence), **EXACT)


def test_equal_shares_count_every_draw_and_one_problem_nothing() -> None:
    confidence = 2 * float(stats.norm.cdf(stats.t.ppf(0.975, 3))) - 1
    assert clustered([0.5] * 4, 8) == pytest.approx(wilson(0.5, 32, confidence), **EXACT)
    assert clustered([0.0] * 4, 8) == pytest.approx(wilson(0.0, 4, confidence), **EXACT)
    assert clustered([0.5], 8) == (0.0, 1.0)


@pytest.mark.parametrize(("shares", "independent"), [([], 1), ([0.5, 1.5], 1), ([0.5], 0)])
def test_shares_that_are_none_are_refused(shares: list[float], independent: int) -> None:
    with pytest.raises(ValueError, match=r"needs at least one share, all in \[0, 1\]"):
        clustered(shares, independent)
    with pytest.raises(ValueError, match=r"needs a share in \[0, 1\] of trials > 0"):
        wilson(1.5, 3)
