"""paper.py, summary.py, comparison.py: limits of what logs may contradict, worked by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from tests.unit.training_logs.logged_runs import one_run
from ticgrpo_theory.training_logs import paper
from ticgrpo_theory.training_logs.comparison import Window, spread
from ticgrpo_theory.training_logs.runs import Logs, Run
from ticgrpo_theory.training_logs.summary import summary


def test_the_standard_error_of_a_mean_of_ratios_by_hand():
    """w' log-normal of sd s has variance e^(s^2) - 1 around its mean 1; 4 x 8 responses are averaged."""
    sd, steps = 0.5, 8
    frame = pd.DataFrame(
        {
            "log_ratio_mean": np.full(steps, -(sd**2) / 2),
            "log_ratio_sd": np.full(steps, sd),
            "kl": np.full(steps, sd**2 / 2 / 100),
            "length": np.full(steps, 100.0),
            "ratio_mean": np.full(steps, 1.0),
        },
        index=range(1, steps + 1),
    )
    run = Run("run", frame, settings={"train_batch_size": 4, "rollout_n": 8})
    (mean,) = [found for found in paper.ratio(run) if found.name == "mean of w'"]
    half = 5 * math.sqrt((math.exp(sd**2) - 1) / 32)
    assert (mean.low, mean.high) == pytest.approx((1 - half, 1 + half), rel=1e-12)
    assert mean.judgement == paper.AGREES


@pytest.mark.parametrize("digitised", [(False, False), (True, False), (False, True), (True, True)])
def test_one_curve_that_was_read_off_a_picture_widens_the_limit(digitised):
    def limits(reading_error: float) -> list[float]:
        runs = [Run(f"run{i}", one_run(3, i).frame, digitised=read) for i, read in enumerate(digitised)]
        made = summary(Logs(tuple(runs)), parts=1, reading_error=reading_error)
        return [row["step_limit"] for row in made if row["kind"] == "difference"]

    (narrow,), (wide,) = limits(0.0), limits(0.125)
    assert wide - narrow == pytest.approx(0.125 if any(digitised) else 0.0, abs=1e-12)


@pytest.mark.parametrize(("steps", "known"), [(7, False), (8, True)])
def test_a_spread_needs_two_steps_in_each_of_four_blocks(steps, known):
    found = spread([one_run(0, i, steps=steps) for i in range(3)], "reward", Window("all", 1, steps))
    assert (found is not None) == known
