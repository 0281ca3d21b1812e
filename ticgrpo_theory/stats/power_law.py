"""How exact errors grow: without noise, the questions are the exponent, where a power law ends, and why."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from ticgrpo_theory.stats.rounding import ROUNDING

MISS = 0.02
"""Largest relative distance of a point from a fitted line that still counts as a power law."""

FEWEST = 4
"""Fewest points that make a fit: a line through two points says nothing, and three say little."""


@dataclass(frozen=True)
class PowerLaw:
    """y = factor x^slope on the first `points` of the points, up to x = `end`."""

    slope: float
    factor: float
    points: int
    end: float


def fit_power_law(x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " n"]) -> PowerLaw | None:
    """The least-squares line of log y on log x over the longest initial range that it fits, or None.

    `x` and `y` are positive, in any order. A range fits if it has FEWEST points or more, not all at one x,
    and the line misses none of them by more than MISS. Later ranges are not looked for: a claim about small x
    starts at the smallest.
    """
    order = np.argsort(x, kind="stable")
    log_x, log_y = np.log(x[order]), np.log(y[order])
    for points in range(len(order), FEWEST - 1, -1):
        u, v = log_x[:points], log_y[:points]
        if u[-1] == u[0]:
            continue
        slope = float(((u - u.mean()) @ v) / ((u - u.mean()) @ (u - u.mean())))
        line = v.mean() + slope * (u - u.mean())
        if np.abs(v - line).max() <= math.log1p(MISS):
            factor = math.exp(v.mean() - slope * u.mean())
            return PowerLaw(slope, factor, points, math.exp(u[-1]))
    return None


@dataclass(frozen=True)
class Growth:
    """How an error grows with x before the clip switches on.

    `power_law` is None where the error is zero throughout, where it is not zero at x = 0 (`start`), and where
    no initial range follows one.
    """

    start: float
    """The error at x = 0."""
    largest: float
    """The largest error at x > 0 before the clip; NaN where the clip acts at once."""
    power_law: PowerLaw | None
    clip_from: float
    """The smallest x at which the clip acts; inf if it never does."""
    whole: bool
    """Whether `power_law` holds at every point before the clip."""

    def __str__(self) -> str:
        """In a few characters: the slope and where it ends, "exact", "+" and the error at x = 0, or "-"."""
        until = f" <{self.clip_from:.2g}" if self.clip_from < math.inf else ""
        if self.start > ROUNDING:
            return f"+{self.start:.1g}{until}"
        if self.largest <= ROUNDING:
            return f"exact{until}"
        if self.power_law is None:
            return f"-{until}"
        end = until if self.whole else f" to {self.power_law.end:.2g}"
        return f"{self.power_law.slope:.2f}{end}"


def growth(
    x: Float64[np.ndarray, " n"], error: Float64[np.ndarray, " n"], clipped: Bool[np.ndarray, " n"]
) -> Growth:
    """Growth of `error` with `x`, from points of which at least one is at x = 0, in any order.

    From the first clipped point on nothing is fitted: where the clip switches tokens off the error jumps.
    """
    clip_from = float(x[clipped].min(initial=math.inf))
    start, used = float(error[x == 0].max()), (x < clip_from) & (x > 0)
    largest = float(error[used].max()) if used.any() else math.nan
    zero = start > ROUNDING or bool((error[used] <= ROUNDING).any())
    found = None if zero else fit_power_law(x[used], error[used])
    return Growth(start, largest, found, clip_from, found is not None and found.points == int(used.sum()))
