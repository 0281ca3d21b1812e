"""ticgrpo_theory/stats/intervals.py: by hand, how often the truth is inside, and what is refused."""

import math

import pytest
import torch

from tests.properties.tolerances import EXACT
from ticgrpo_theory.stats.intervals import interval
from ticgrpo_theory.stats.rng import stream


def test_two_replicates_by_hand():
    # sd with 1/(R - 1) of 1 and 3 is sqrt 2, so sd / sqrt R = 1, and t with one degree of freedom is
    # tan(0.475 pi) (Cauchy).
    found = interval(torch.tensor([[1.0, 5.0], [3.0, 5.0]], dtype=torch.float64))
    torch.testing.assert_close(found.mean, torch.tensor([2.0, 5.0], dtype=torch.float64), **EXACT)
    expected = torch.tensor([math.tan(0.475 * math.pi), 0.0], dtype=torch.float64)
    torch.testing.assert_close(found.half, expected, atol=1e-9, rtol=0.0)
    assert found.sign.tolist() == [0.0, 1.0]


def coverage(comparisons: int) -> float:
    """Share of 4000 intervals from five normal numbers each that hold the mean 0."""
    samples = torch.randn(5, 4000, generator=stream(0, "coverage"), dtype=torch.float64)
    return float((interval(samples, comparisons).sign == 0).double().mean())


def test_intervals_hold_the_truth_as_often_as_they_say():
    # Five standard errors of a share of 4000.
    assert abs(coverage(1) - 0.95) < 5 * math.sqrt(0.95 * 0.05 / 4000)
    assert abs(coverage(10) - 0.995) < 5 * math.sqrt(0.995 * 0.005 / 4000)
    # Partner: 1.96 standard errors, which forget that the spread itself is estimated, are too short.
    samples = torch.randn(5, 4000, generator=stream(0, "coverage"), dtype=torch.float64)
    short = 1.96 * samples.std(dim=0) / math.sqrt(5)
    assert float((samples.mean(dim=0).abs() < short).double().mean()) < 0.9


@pytest.mark.parametrize(
    "samples, comparisons, text",
    [
        ([[1.0]], 1, "1 replicate: an interval needs the spread of at least 2"),
        ([[1.0], [2.0]], 0, "comparisons = 0: at least the one interval"),
        ([[1.0], [math.nan], [math.inf]], 1, "2 of 3 replicates hold values that are no numbers"),
    ],
)
def test_what_has_no_interval_is_refused(samples, comparisons, text):
    with pytest.raises(ValueError, match=text):
        interval(torch.tensor(samples, dtype=torch.float64), comparisons)
