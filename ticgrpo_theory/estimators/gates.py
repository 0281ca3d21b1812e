"""Clips by log-ratios, and by one range for either sign of A."""

import math
from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor

from ticgrpo_theory.estimators.clipping import Bounds, Clip, by_sign
from ticgrpo_theory.estimators.properties import Reads, reads
from ticgrpo_theory.inputs.numbers import number_or_nan


@dataclass(frozen=True)
class log_two_sided(Clip):
    """A >= 0: v <= upper; A < 0: v >= -lower, both given as log-ratios."""

    lower: float
    upper: float

    def __post_init__(self) -> None:
        if not number_or_nan(self.lower) >= 0 or not number_or_nan(self.upper) >= 0:
            raise ValueError(
                f"lower = {self.lower!r}, upper = {self.upper!r}: both log-ratio limits must be >= 0"
            )

    @reads(Reads.NOTHING)
    def bounds(self, positive: Bool[Tensor, "*b G"], length: Int[Tensor, "*b G"]) -> Bounds:
        return by_sign(positive, -math.inf, -self.lower), by_sign(positive, self.upper, math.inf)


@dataclass(frozen=True)
class inside(Clip):
    """low <= w <= high for either sign of A, 1 among them.

    Raises ValueError without 0 <= low <= 1 <= high: where nothing has drifted every weight is 1.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= number_or_nan(self.low) <= 1 <= number_or_nan(self.high):
            raise ValueError(
                f"low = {self.low!r}, high = {self.high!r}: ratios are kept in [low, high], which needs "
                f"0 <= low <= 1 <= high, so that a policy that has not moved keeps its gradient"
            )

    @reads(Reads.NOTHING)
    def bounds(self, positive: Bool[Tensor, "*b G"], length: Int[Tensor, "*b G"]) -> Bounds:
        lo = math.log(self.low) if self.low > 0 else -math.inf
        hi = math.log(self.high)
        return by_sign(positive, lo, lo), by_sign(positive, hi, hi)
