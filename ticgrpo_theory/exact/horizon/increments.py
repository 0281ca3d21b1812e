"""Log-ratios of tokens as whole numbers of bins, and what a sum of bins says of the sum of log-ratios.

A token with log-ratio l moves k = floor((l - offset) / step) bins, so that after n tokens in bin X

    L = n offset + step X + R,   n r_min <= R <= n r_max,   r the remainders of the possible tokens.

Where all l are on a lattice the remainders are rounding alone: the sum is exact. Split over its two
neighbours so that the mean is kept, the error is a martingale of steps in [-step, step] of conditional range
`step`: |R| <= lambda but for the probability 2 exp(-2 lambda^2 / (n step^2)) (Hoeffding, JASA 58 (1963),
Theorem 2).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ticgrpo_theory.exact.group_sums.lattice import positions

Floats = NDArray[np.float64]

FAILURE = 1e-14
"""Probability with which a split may be further off than its interval says; it is added to the width."""

DEVIATIONS = 8.0
"""Standard deviations of the sum on either side that bins cover."""


@dataclass(frozen=True, eq=False)
class Bins:
    """Moves [S, V] in bins of `step`, from bin `start`; `low`, `high`: remainders for each token."""

    shift: NDArray[np.int64]
    up: Floats
    step: float
    offset: float
    start: int
    count: int
    low: float
    high: float
    reach: tuple[float, float]
    """Least and largest log-ratio of a token."""

    @property
    def split(self) -> bool:
        return bool(self.up.any())

    @property
    def failure(self) -> float:
        """Probability that a sum lies outside its interval."""
        return FAILURE if self.split else 0.0

    def interval(self, length: int) -> tuple[Floats, Floats]:
        """Ends [B + 1] of the interval of L after `length` tokens; the last is for what has left the bins."""
        x = self.step * (np.arange(self.count) - self.start) + length * self.offset
        if self.split:
            margin = self.step * math.sqrt(length * math.log(2 / FAILURE) / 2)
            low, high = x - margin + length * self.low, x + margin + length * self.high
        else:
            low, high = x + length * self.low, x + length * self.high
        least, most = length * self.reach[0], length * self.reach[1]
        return np.append(np.clip(low, least, most), least), np.append(np.clip(high, least, most), most)

    def active(self, t: int) -> tuple[int, int]:
        """First and last bin that t tokens can lead to."""
        least, most = t * int(self.shift.min()), t * (int(self.shift.max()) + self.split)
        top = self.count - 1
        return min(max(self.start + least, 0), top), min(max(self.start + most, 0), top)


def bins_of(increment: Floats, weight: Floats, horizon: int, count: int) -> Bins:
    """Bins for increments [S, V] of which `weight` > 0 says which are possible, `count` of them at most.

    Whole multiples of a step are kept exactly where `count` bins hold them. Raises ValueError for an
    infinite log-ratio.
    """
    possible = weight > 0
    seen = increment[possible]
    if not np.isfinite(seen).all():
        raise ValueError(
            f"a log-ratio of a possible token is {seen[~np.isfinite(seen)][0]}: no bin holds it; give finite "
            f"logits wherever the policy that draws gives a token"
        )
    lowest, highest = float(seen.min()), float(seen.max())
    # What float64 has lost of a difference of two log-probabilities, for each token.
    slack = 8 * 2.0**-53 * (abs(lowest) + abs(highest) + 40.0) if np.any(seen) else 0.0
    kinds = np.unique(np.round(seen, 13))
    k = positions(kinds)
    if k is not None and horizon * int(k.max()) + 1 <= count:
        step = (highest - lowest) / int(k.max()) if k.max() else 1.0
        shift = np.where(possible, np.rint((increment - lowest) / step), 0.0)
        r = np.where(possible, increment - lowest - shift * step, 0.0)
        size = horizon * int(k.max()) + 1
        return made(shift, np.zeros_like(r), step, lowest, 0, size, r, possible, slack, (lowest, highest))
    share = np.where(possible, weight, 0.0)
    share = share / np.maximum(share.sum(axis=1, keepdims=True), 1e-300)
    rows = possible.any(axis=1)
    safe = np.where(possible, increment, 0.0)
    mean = (share * safe).sum(axis=1)[rows]
    deviation = math.sqrt(float((share * safe**2).sum(axis=1)[rows].max()))
    offset = 0.5 * (float(mean.min()) + float(mean.max()))
    wander = horizon * max(float(mean.max()) - offset, 0.0) + DEVIATIONS * deviation * math.sqrt(horizon)
    below = min(horizon * max(offset - lowest, 0.0), wander)
    above = min(horizon * max(highest - offset, 0.0), wander)
    step = max((below + above) / max(count - 8, 1), 1e-300)
    exact = (safe - offset) / step
    shift = np.where(possible, np.floor(exact), 0.0)
    up = np.where(possible, exact - shift, 0.0)
    r = up * step
    start = min(math.ceil(below / step) + 2, count - 1)
    # Rounding down leaves up to `length` steps, a split some 8 of their root: the narrower one.
    if math.sqrt(2 * horizon * math.log(2 / FAILURE)) * step < horizon * float(r.max() - r[possible].min()):
        zero = np.zeros_like(r)
        return made(shift, up, step, offset, start, count, zero, possible, slack, (lowest, highest))
    return made(shift, np.zeros_like(r), step, offset, start, count, r, possible, slack, (lowest, highest))


def made(
    shift: Floats,
    up: Floats,
    step: float,
    offset: float,
    start: int,
    count: int,
    remainder: Floats,
    possible: NDArray[np.bool_],
    slack: float,
    reach: tuple[float, float],
) -> Bins:
    whole = shift.astype(np.int64)
    # Impossible tokens move like a possible one, so that the extremes are those of possible tokens.
    whole = np.where(possible, whole, whole[possible].flat[0])
    r = remainder[possible]
    low, high = float(r.min()) - slack, float(r.max()) + slack
    widest = (reach[0] - slack, reach[1] + slack)
    return Bins(whole, up, step, offset, start, count, low, high, widest)
