"""comparison.py: differences are seen, and noise is not."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.properties.tolerances import EXACT
from tests.unit.training_logs.logged_runs import (
    one_run,
)
from ticgrpo_theory.training_logs.comparison import (
    BEYOND_BOTH,
    BLOCKS,
    UNKNOWN_SPREAD,
    WITHIN_RUNS,
    WITHIN_STEPS,
    Difference,
    Spread,
    Window,
    block_error,
    difference,
    spread,
    verdict,
    windows_of,
)

LAST = Window("4/4", 109, 144)


def test_the_block_error_by_hand():
    # n = 8 in B = 4 blocks of 2: the circular means are 0, 0, 0, 1/2, 1, 1, 1, 1/2, their mean is 1/2, and
    # sqrt((6/4 / 8) / (4 - 1)) = 1/4.
    assert block_error(np.array([0.0, 0, 0, 0, 1, 1, 1, 1])) == pytest.approx(0.25, abs=EXACT["atol"])
    with pytest.raises(ValueError, match="7 steps make no 4 blocks of 2; give at least 8"):
        block_error(np.zeros(7))


def test_the_block_error_is_that_of_the_bootstrap_which_it_sums_up():
    rng = np.random.default_rng(3)
    values = np.convolve(rng.standard_normal(50), np.ones(5), mode="valid")[:36]
    n, size, draws = len(values), len(values) // BLOCKS, 40_000
    starts = rng.integers(n, size=(draws, BLOCKS))
    picked = values[(starts[..., None] + np.arange(size)) % n].mean(axis=(1, 2))
    variance = picked.var() * BLOCKS / (BLOCKS - 1)
    # The relative error of a variance from this many draws is sqrt(2 / draws).
    assert block_error(values) ** 2 == pytest.approx(variance, rel=5 * math.sqrt(2 / draws))
    assert block_error(values) > 1.2 * values.std() / math.sqrt(
        n
    )  # blocks see that steps depend on each other


def gaps(pairs: int, shift: float, wander: float) -> list[tuple[Difference, Spread | None]]:
    """Differences of two runs in the last window, each with the spread of five more runs of its process."""
    made = []
    for seed in range(pairs):
        a, b = one_run(seed, 0, wander=wander), one_run(seed, 1, shift=shift, wander=wander)
        same = [one_run(seed, 2 + i, wander=wander) for i in range(5)]
        gap = difference(a.metric("reward"), b.metric("reward"), LAST)
        assert gap is not None
        made.append((gap, spread(same, "reward", LAST)))
    return made


def share(found: list[tuple[Difference, Spread | None]], said: str, *, known: bool) -> float:
    return sum(verdict(gap, between if known else None) == said for gap, between in found) / len(found)


def test_two_seeds_of_one_process_are_not_declared_different():
    pairs = 100
    limit = 0.05 + 5 * math.sqrt(0.05 * 0.95 / pairs)
    assert share(gaps(pairs, 0.0, 0.0), UNKNOWN_SPREAD, known=False) < limit
    lasting = gaps(pairs, 0.0, 0.02)
    assert share(lasting, BEYOND_BOTH, known=True) < limit
    # Partner: step noise alone, which knows nothing of what lasts in a run, sees differences everywhere.
    assert share(lasting, UNKNOWN_SPREAD, known=False) > 0.6


def test_steps_that_depend_on_each_other_are_not_taken_for_a_difference():
    rng = np.random.default_rng(11)
    runs, steps, memory = 2000, 36, 0.5
    values = np.zeros((runs, steps + 50))
    for t in range(1, steps + 50):
        values[:, t] = memory * values[:, t - 1] + rng.standard_normal(runs)
    values = values[:, 50:]
    limit = stats.t.ppf(0.975, BLOCKS - 1)
    assert np.mean([abs(v.mean()) > limit * block_error(v) for v in values]) < 0.05
    # Partner: as if steps were independent.
    alone = np.abs(values.mean(axis=1)) > 1.96 * values.std(axis=1, ddof=1) / math.sqrt(steps)
    assert alone.mean() > 0.15


def test_a_real_difference_is_declared():
    assert share(gaps(40, 0.1, 0.01), BEYOND_BOTH, known=True) > 0.9
    assert share(gaps(40, 0.02, 0.0), UNKNOWN_SPREAD, known=False) > 0.95


def test_without_repeated_runs_nothing_is_said_to_be_beyond_them():
    found = gaps(40, 0.03, 0.02)
    assert share(found, BEYOND_BOTH, known=False) == 0
    assert share(found, WITHIN_RUNS, known=True) > 0.3
    said = {verdict(*each) for each in found}
    assert said <= {WITHIN_STEPS, WITHIN_RUNS, BEYOND_BOTH}
    assert spread([one_run(0, 0), one_run(0, 1)], "reward", LAST) is None


def test_the_spread_is_the_sd_of_window_means_and_its_limit_holds_for_pairs():
    sds = [spread([one_run(seed, i, wander=0.02) for i in range(5)], "reward", LAST) for seed in range(40)]
    variance = np.mean([found.sd**2 for found in sds if found is not None])
    # wander^2 + noise^2 / 36, from 40 times 4 degrees of freedom.
    assert variance == pytest.approx(0.02**2 + 0.006**2 / 36, rel=5 * math.sqrt(2 / 160))
    assert sds[0] is not None
    assert sds[0].limit == pytest.approx(2.776 * math.sqrt(2) * sds[0].sd, rel=1e-3)  # t(0.975, 4)


def test_pairing_removes_what_the_prompts_of_a_step_do_to_both_runs():
    a, b = (one_run(5, i).metric("reward") for i in (0, 1))
    found = difference(a, b, LAST)
    mixed = pd.Series(np.random.default_rng(0).permutation(LAST.of(b)), index=LAST.of(b).index)
    unpaired = difference(a, mixed, LAST)
    assert found is not None and unpaired is not None
    assert found.correlation > 0.8 > abs(unpaired.correlation)
    assert found.error < 0.7 * unpaired.error
    assert found.value == pytest.approx(unpaired.value, abs=1e-12)
    widened = difference(a, b, LAST, reading_error=0.005)
    assert widened is not None
    assert widened.step_limit == pytest.approx(found.step_limit + 0.005)


def test_windows_cut_the_common_steps_and_need_enough_of_them():
    runs = [one_run(0, 0), one_run(0, 1, steps=100)]
    windows = windows_of(runs, "reward", 4)
    assert [(w.first, w.last) for w in windows] == [(1, 25), (26, 50), (51, 75), (76, 100), (1, 100)]
    with pytest.raises(ValueError, match="100 common steps with reward; 20 windows of 4 blocks need 160"):
        windows_of(runs, "reward", 20)
    assert difference(runs[0].metric("reward"), runs[1].metric("reward"), LAST) is None
