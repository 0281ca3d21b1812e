"""Below which numbers a float64 result counts as zero, or has lost digits."""

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

ROUNDING = 1e-12
"""What float64 may leave of a number that is 0, or of the relative difference of two numbers that are equal.

Numbers here are of size one: rewards, returns, gradients. Sums of some thousand terms, each rounded by 2**-53
= 1.1e-16, stay below it by an order of magnitude, and no quantity that is shown is so small.
"""

SMALLEST = 2.0**-1022
"""The smallest positive float64 that has all its digits."""

FULL = 2.0**-970
"""Sums whose largest term is above this have lost no digit to numbers below the range of float64."""


def deviation(prob: NDArray[np.float64], centred: NDArray[np.float64]) -> float:
    """sqrt(sum p x^2) of numbers [n] with mean 0, in units of the largest: its square may leave float64."""
    unit = np.abs(centred).max()
    return float(unit * math.sqrt(prob @ (centred / unit) ** 2)) if unit > 0 else 0.0


def norm(x: Tensor) -> float:
    """||x||, also where the squares of the entries leave float64."""
    unit = float(x.abs().max())
    return unit * float((x / unit).norm()) if 0 < unit < math.inf else unit


def projection(x: Tensor, y: Tensor) -> float:
    """<x, y> / <y, y> for y other than 0, also where squares leave float64."""
    unit = float(y.abs().max())
    return float((x / unit * (y / unit)).sum() / (y / unit).square().sum())
