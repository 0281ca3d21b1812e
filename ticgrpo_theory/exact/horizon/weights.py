"""The least and the largest weight of a response whose pooled log-ratio is known to lie in an interval.

A factor of the weight is, in the pooled log-ratio v,

    exp(below) where v < lo,   exp(power v) where lo <= v <= hi,   exp(above) where v > hi,

times exp(-tilt v) where the measure of the sum already carries exp(tilt v). Each of the three pieces is
monotone, so its least and largest value over an interval stand at the ends of what the interval has of it.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Factor(NamedTuple):
    """One factor phi(v); below and above are logarithms. `mean`: v is the sum divided by the length."""

    lo: float
    hi: float
    below: float
    above: float
    power: float = 1.0
    tilt: float = 0.0
    mean: bool = False

    @property
    def is_gate(self) -> bool:
        """Whether nothing is left beyond a bound that the weight would not be held at."""
        return self.below == -math.inf and self.above == -math.inf


def bounds(factor: Factor, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """(infimum, supremum) of phi over the intervals [low, high] of v, elementwise."""
    least, most = np.full(low.shape, math.inf), np.full(low.shape, -math.inf)
    pieces = (
        (low < factor.lo, low, np.minimum(high, factor.lo), factor.below, 0.0),
        (
            (low <= factor.hi) & (high >= factor.lo),
            np.maximum(low, factor.lo),
            np.minimum(high, factor.hi),
            0.0,
            factor.power,
        ),
        (high > factor.hi, np.maximum(low, factor.hi), high, factor.above, 0.0),
    )
    for present, first, last, level, power in pieces:
        if not present.any():
            continue
        slope = power - factor.tilt
        for end in (first, last):
            with np.errstate(over="ignore", invalid="ignore"):
                value = np.exp(level + (slope * end if slope else np.zeros(end.shape)))
            least = np.where(present, np.minimum(least, value), least)
            most = np.where(present, np.maximum(most, value), most)
    return least, most


def over(factors: list[Factor], low: Floats, high: Floats, length: int) -> tuple[Floats, Floats]:
    """(infimum, supremum), or wider, of the product of the factors for sums in [low, high] at this length."""
    least, most = np.ones(low.shape), np.ones(low.shape)
    for factor in factors:
        scale = 1.0 / length if factor.mean else 1.0
        lowest, highest = bounds(factor, low * scale, high * scale)
        least, most = least * lowest, most * highest
    return least, most
