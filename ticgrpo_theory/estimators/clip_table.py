"""A clip as a table of numbers, for every sum that does not evaluate its torch formula.

The weight of log-ratio v, for A >= 0 (plus) and for A < 0 (minus), with a row for each length of a response:

    c(v) = exp(below) where v < lo,   exp(above) where v > hi,   exp(v) between, the ends included

All numbers are logarithms, -inf that of the weight 0. Who reads the table exponentiates it, and asks for no
kind of clip: below and above say what it does beyond its bounds.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]
Bound = float | Floats | Tensor
Bounds = tuple[Bound, Bound, Bound, Bound]


class SignedBounds(NamedTuple):
    """lo and hi where A >= 0, lo and hi where A < 0, in log space: one number for each length [*b]."""

    lo_plus: Tensor
    hi_plus: Tensor
    lo_minus: Tensor
    hi_minus: Tensor

    @property
    def ignore_sign(self) -> bool:
        """Whether a response is weighed alike for either sign of A."""
        same = (self.lo_plus == self.lo_minus) & (self.hi_plus == self.hi_minus)
        return bool(same.all())

    @property
    def surround_one(self) -> bool:
        """Whether ratios in a neighbourhood of 1 are inside, for either sign of A: lo < 0 < hi."""
        below = (self.lo_plus < 0) & (self.lo_minus < 0)
        return bool((below & (self.hi_plus > 0) & (self.hi_minus > 0)).all())


class ClipTable(NamedTuple):
    """The eight numbers of a clip at n lengths, [n] each, or [] where one stands for every length."""

    lo_plus: Floats
    hi_plus: Floats
    lo_minus: Floats
    hi_minus: Floats
    below_plus: Floats
    above_plus: Floats
    below_minus: Floats
    above_minus: Floats

    @property
    def bounds(self) -> tuple[Floats, Floats, Floats, Floats]:
        """lo and hi where A >= 0, lo and hi where A < 0."""
        return self.lo_plus, self.hi_plus, self.lo_minus, self.hi_minus

    @property
    def is_open(self) -> bool:
        """Whether no weight is ever switched off or held."""
        return all(bool(np.isinf(bound).all()) for bound in self.bounds)

    @property
    def depends_on_length(self) -> bool:
        """Whether two of the lengths have different bounds."""
        return any(np.unique(bound).size > 1 for bound in self.bounds)

    def power(self, k: int) -> "ClipTable":
        """The table of c(v)^k as a clip of the log-ratio k v, k >= 1."""
        return ClipTable(*(k * column for column in self))

    def at_every_length(self) -> tuple[float, ...]:
        """The eight numbers of a clip of single tokens.

        Raises ValueError where they depend on the length, which is not known before the end of a response.
        """
        if self.depends_on_length:
            lengths = max(bound.size for bound in self.bounds)
            raise ValueError(
                f"the bounds of the clip differ between {lengths} lengths of responses: sums token "
                f"by token take one bound for all of them; use method='enumeration'"
            )
        return tuple(float(column.flat[0]) for column in self)


def switched_off(bounds: Bounds) -> ClipTable:
    """c(v) = exp(v) 1{lo <= v <= hi}, from lo and hi where A >= 0 and where A < 0."""
    lo_plus, hi_plus, lo_minus, hi_minus = (np.asarray(bound, dtype=np.float64) for bound in bounds)
    off = np.full(lo_plus.shape, -math.inf)
    return ClipTable(lo_plus, hi_plus, lo_minus, hi_minus, off, off, off, off)


def held(bounds: Bounds) -> ClipTable:
    """c(v) = exp(clamp(v, lo, hi)), from lo and hi where A >= 0 and where A < 0."""
    lo_plus, hi_plus, lo_minus, hi_minus = (np.asarray(bound, dtype=np.float64) for bound in bounds)
    return ClipTable(lo_plus, hi_plus, lo_minus, hi_minus, lo_plus, hi_plus, lo_minus, hi_minus)


OPEN = switched_off((-math.inf, math.inf, -math.inf, math.inf))
"""No clip."""
