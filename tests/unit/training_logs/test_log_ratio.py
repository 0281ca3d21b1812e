"""log_ratio.py: the ratio of two policies is told from noise."""

import math

import pytest

from tests.unit.training_logs.logged_runs import (
    ratio_frame,
)
from ticgrpo_theory.training_logs.comparison import (
    Difference,
    Spread,
    verdict,
)
from ticgrpo_theory.training_logs.log_ratio import log_ratio
from ticgrpo_theory.training_logs.runs import Run


def share(found: list[tuple[Difference, Spread | None]], said: str, *, known: bool) -> float:
    return sum(verdict(gap, between if known else None) == said for gap, between in found) / len(found)


@pytest.mark.parametrize(("drift", "noise"), [(1.0, 0.0), (0.1, 1.0), (0.5, 0.5)])
def test_the_share_of_the_variance_that_the_kl_explains_is_that_of_the_drift(drift, noise):
    found = log_ratio(Run("run", ratio_frame(drift, noise)))
    share = drift**2 / (drift**2 + noise**2)
    assert found.explained == pytest.approx(share, abs=5 * found.explained_error)
    assert found.explained_error < 0.01
    assert found.mean == pytest.approx(-(drift**2) / 2, abs=5 * found.mean_error)
    assert found.sd**2 == pytest.approx(drift**2 + noise**2, rel=0.01)
    assert found.ratio_mean_median == pytest.approx(math.exp(noise**2 / 2), rel=0.05)
    assert found.ratio_mean_if_noise == pytest.approx(math.exp(noise**2 / 2), rel=0.05)


def test_a_ratio_of_two_policies_is_told_from_noise_of_the_same_size():
    real, noise = (log_ratio(Run("run", ratio_frame(*sizes))) for sizes in ((1.0, 0.0), (0.0, 1.0)))
    assert abs(real.mean - real.mean_if_ratio) < 5 * real.mean_error
    assert abs(noise.mean - noise.mean_if_ratio) > 50 * noise.mean_error
    assert abs(noise.mean) < 5 * noise.mean_error
    assert real.ratio_mean_least < 1.0 < 1.4 < noise.ratio_mean_least
    assert noise.token_sd == pytest.approx(1 / 32, rel=0.01)  # 1024 tokens


def test_the_clip_cuts_noise_as_the_normal_distribution_says():
    settings = {"clip_ratio_low": 0.2, "clip_ratio_high": 0.28}
    found = log_ratio(Run("run", ratio_frame(0.0, 1.0), settings=settings))
    # P(log 0.8 < Z < log 1.28) = 0.1858 for a standard normal Z.
    assert found.outside_clip == pytest.approx(1 - 0.1858, abs=5e-3)
    assert math.isnan(log_ratio(Run("run", ratio_frame(0.0, 1.0))).outside_clip)


def test_a_run_without_a_logged_ratio_is_refused_by_name():
    with pytest.raises(ValueError, match="run a has no log_ratio_sd, kl; log the mean"):
        log_ratio(Run("a", ratio_frame(0.1, 0.1).drop(columns=["log_ratio_sd", "kl"])))
    with pytest.raises(ValueError, match="run a has 7 steps with a log-ratio; at least 8"):
        log_ratio(Run("a", ratio_frame(0.1, 0.1, steps=7)))
