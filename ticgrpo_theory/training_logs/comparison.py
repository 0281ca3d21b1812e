"""Differences between logged runs, against two kinds of noise.

Step noise: a window of one paired difference, whose steps depend on each other. Its standard error is that of
a block bootstrap. Spread between runs: what repeated or all but identical runs differ by, which no single
pair of runs can tell, however long it is. One seed each, a difference deserves a second look only where it
exceeds both; and even then it is a difference of two runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from ticgrpo_theory.training_logs.runs import Run

BLOCKS = 4
"""Blocks of a window: long ones, so that what lasts a quarter of the window is still seen as noise."""

WITHIN_STEPS = "within step noise"
WITHIN_RUNS = "within the spread of near-identical runs"
BEYOND_BOTH = "beyond step noise and the spread of near-identical runs"
UNKNOWN_SPREAD = "beyond step noise; the spread between runs is unknown"


@dataclass(frozen=True)
class Window:
    """Steps first..last, both included."""

    name: str
    first: int
    last: int

    def of(self, values: pd.Series) -> pd.Series:
        return pd.Series(values[(values.index >= self.first) & (values.index <= self.last)])


def windows_of(runs: Sequence[Run], metric: str, parts: int) -> tuple[Window, ...]:
    """`parts` equal windows and, last, "all" of the training steps that every one of these runs reached."""
    last = min((run.last(metric) for run in runs if run.last(metric)), default=0)
    if last < parts * 2 * BLOCKS:
        raise ValueError(
            f"the runs have {last} common steps with {metric}; {parts} windows of {BLOCKS} blocks "
            f"need {parts * 2 * BLOCKS}: ask for fewer windows"
        )
    ends = [round(last * part / parts) for part in range(parts + 1)]
    each = [Window(f"{i + 1}/{parts}", ends[i] + 1, ends[i + 1]) for i in range(parts)]
    return (*each, Window("all", 1, last)) if parts > 1 else tuple(each)


def block_error(values: np.ndarray) -> float:
    """sqrt(mean_j (M_j - M)^2 / (B - 1)), M_j the means of all circular blocks of n / B values, B = BLOCKS.

    The variance of a mean under the circular block bootstrap, in closed form, so that nothing is drawn, with
    B / (B - 1) for the mean that was fitted. Politis and Romano (1992).
    """
    n = len(values)
    size = n // BLOCKS
    if size < 2:
        raise ValueError(f"{n} steps make no {BLOCKS} blocks of 2; give at least {2 * BLOCKS}")
    blocks = np.concatenate([values, values[: size - 1]])
    means = np.convolve(blocks, np.ones(size) / size, mode="valid")
    effective = n / size
    return math.sqrt(float(((means - values.mean()) ** 2).mean()) / (effective - 1))


@dataclass(frozen=True)
class Difference:
    """mean of (b - a) over the steps of a window that both have."""

    value: float
    error: float
    """Block-bootstrap standard error: step noise alone."""
    step_limit: float
    """Differences up to this are step noise at 95 %."""
    steps: int
    correlation: float
    """Of the two series: near 1 where both runs see the same prompts in the same order."""


def difference(a: pd.Series, b: pd.Series, window: Window, reading_error: float = 0.0) -> Difference | None:
    """None where the two share fewer than 2 BLOCKS steps; `reading_error` is a bias and widens the limit."""
    pair = pd.concat([window.of(a), window.of(b)], axis=1, join="inner").dropna()
    if len(pair) < 2 * BLOCKS:
        return None
    values = (pair.iloc[:, 1] - pair.iloc[:, 0]).to_numpy()
    error = block_error(values)
    still = bool((pair.std() == 0).any())
    return Difference(
        value=float(values.mean()),
        error=error,
        step_limit=float(stats.t.ppf(0.975, BLOCKS - 1)) * error + reading_error,
        steps=len(values),
        correlation=math.nan if still else float(pair.corr().iloc[0, 1]),
    )


@dataclass(frozen=True)
class Spread:
    """How far apart runs are that differ in nothing, or in next to nothing."""

    sd: float
    """Of the window means of single runs."""
    widest: float
    """Largest difference between two of them."""
    limit: float
    """t sqrt(2) sd: differences of two single runs up to this are nothing unusual (95 %)."""
    runs: int


def spread(runs: Sequence[Run], metric: str, window: Window) -> Spread | None:
    """Spread of the window means over the steps that all have; None for fewer than three runs."""
    found = [window.of(run.metric(metric)) for run in runs]
    found = [values for values in found if len(values)]
    if len(found) < 3:
        return None
    common = pd.concat(found, axis=1, join="inner").dropna()
    if len(common) < 2 * BLOCKS:
        return None
    means = common.mean().to_numpy()
    sd = float(means.std(ddof=1))
    limit = float(stats.t.ppf(0.975, len(means) - 1)) * math.sqrt(2) * sd
    return Spread(sd, float(np.ptp(means)), limit, len(means))


def verdict(found: Difference, between: Spread | None) -> str:
    """What may be said of a difference; never that two methods differ."""
    if abs(found.value) <= found.step_limit:
        return WITHIN_STEPS
    if between is None:
        return UNKNOWN_SPREAD
    return WITHIN_RUNS if abs(found.value) <= between.limit else BEYOND_BOTH
