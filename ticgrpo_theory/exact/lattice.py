"""Expectations over a group whose reward values lie on a lattice r[j] = a + h k[j], by the law of two integers.

A group enters an advantage through its mean and variance, hence through (sum k, sum k^2). Shifted by
c = (max k) // 2, a response of value j takes the step

    (alpha[j], beta[j]) = (k[j], (k[j] - c)(k[j] - c - 1) / 2 - constant),    both >= 0,

and the law of n draws is n convolutions with p on these steps. All terms are positive: no cancellation, and
states that no group can reach have probability exactly 0. The variance is the integer G sum k^2 - (sum k)^2 times
(h/G)^2, so it is 0 exactly where all rewards are equal. An advantage linear in the rewards needs sum k alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from ticgrpo_theory.exact.kernels import kernel

MAX_DENOMINATOR = 2**12
"""Rewards whose relative positions between smallest and largest need larger denominators are on no lattice."""

POSITION_TOLERANCE = 8 * 2.0**-53
"""Relative positions this close to a fraction are taken for it: what rounding k/7 or 0.1 k leaves."""

CHUNK = 2**16
"""States x reward values evaluated at once, so that temporaries stay in cache."""

OfMoments = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(reward, mean, variance) -> A, broadcast."""


def positions(reward: Float64[np.ndarray, " m"]) -> Int64[np.ndarray, " m"] | None:
    """Integers k with r[j] = r_min + h k[j] and greatest common divisor 1; None where there are none.

    Each (r[j] - r_min) / (r_max - r_min) must be within POSITION_TOLERANCE of a fraction whose denominator is at
    most MAX_DENOMINATOR, and so must their common denominator be.
    """
    low, width = reward.min(), reward.max() - reward.min()
    if width == 0:
        return np.zeros(reward.size, dtype=np.int64)
    # Subtracting r_min rounds away what r_min's own last bits hide.
    tolerance = POSITION_TOLERANCE * max(1.0, np.abs(reward).max() / width)
    if tolerance > 1e-12:
        return None
    common, found = 1, []
    for ratio in ((reward - low) / width).tolist():
        position = Fraction(ratio).limit_denominator(MAX_DENOMINATOR)
        common = math.lcm(common, position.denominator)
        if abs(float(position) - ratio) > tolerance or common > MAX_DENOMINATOR:
            return None
        found.append(position)
    k = np.array([int(position * common) for position in found], dtype=np.int64)
    return k if np.unique(k).size == k.size else None


@dataclass(frozen=True, eq=False)
class Lattice:
    """Groups of `group_size` responses with distinct reward values `reward`, at integer positions `k`."""

    advantage: OfMoments
    reward: Float64[np.ndarray, " m"]
    k: Int64[np.ndarray, " m"]
    group_size: int
    linear: bool = False
    """Whether the advantage is linear in the rewards, so that sum k alone is kept."""

    @cached_property
    def steps(self) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
        """(alpha, beta) of every reward value."""
        if self.linear:
            return np.zeros_like(self.k), self.k
        beta = self._half_squares(self.k)
        return self.k, beta - beta.min()

    def _half_squares(self, k: NDArray[np.int64]) -> NDArray[np.int64]:
        centre = int(self.k.max()) // 2
        return (k - centre) * (k - centre - 1) // 2

    def predicted_size(self) -> tuple[float, float]:
        """About how many states a group has, and how many terms the law of the group adds for each reward value.

        Between its bounds sum k^2 spreads over G K^2 / 6 on average, in steps of 2, for each of the G K values of
        sum k.
        """
        G, K = self.group_size, float(self.k.max())
        height = 1.0 if self.linear else 1 + G * K**2 / 12
        return (G * K + 1) * height, (G * K + 1) * height * G / (2 if self.linear else 3)

    @cached_property
    def band(self) -> "Band":
        """The states of the whole group."""
        return Band(*band(*self.steps, self.group_size))

    @cached_property
    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and variance of the rewards in every state; the variance is not used by a linear advantage."""
        G, centre = self.group_size, int(self.k.max()) // 2
        alpha, beta = self.band.states
        low = self.reward.min()
        h = (self.reward.max() - low) / self.k.max() if self.k.max() else 0.0
        if self.linear:
            return low + h * (beta / G), np.ones(beta.size)
        total = alpha - G * centre
        squares = 2 * (beta + G * int(self._half_squares(self.k).min())) + total
        variance = (G * squares - total * total) * (h / G) ** 2
        return low + h * (alpha / G), variance

    @cached_property
    def values(self) -> Float64[np.ndarray, "m M"]:
        """A of a response of value j in a group of state M, from the formula that training uses."""
        mean, variance = (from_numpy(x) for x in self.moments)
        own = from_numpy(self.reward)[:, None]
        values = np.empty((self.reward.size, mean.numel()))
        step = max(1, CHUNK // self.reward.size)
        for first in range(0, mean.numel(), step):
            part = slice(first, first + step)
            values[:, part] = self.advantage(own, mean[None, part], variance[None, part]).numpy()
        return values

    def given_one(self, prob: Float64[np.ndarray, "Q m"]) -> Float64[np.ndarray, "Q 2 m"]:
        """E[max(A_1, 0) | value j], E[min(A_1, 0) | value j] under each row of probabilities."""
        out = np.empty((len(prob), 2, self.reward.size))
        alpha, beta = self.steps
        for q, p in enumerate(prob):
            rest, law = convolve(alpha, beta, p, self.group_size - 1)
            signed_sums(law, *rest, self.values, *self.band.bounds, alpha, beta, out[q])
        return out

    def given_two(
        self, prob: Float64[np.ndarray, "Q m"]
    ) -> tuple[Float64[np.ndarray, "Q 2 m"], Float64[np.ndarray, "Q 2 2 m m"]]:
        """E[(A_1^s)^2 | value j] and E[A_1^s A_2^s' | values j, j'], s, s' in (+, -)."""
        m = self.reward.size
        square, cross = np.empty((len(prob), 2, m)), np.zeros((len(prob), 2, 2, m, m))
        alpha, beta = self.steps
        for q, p in enumerate(prob):
            rest, law = convolve(alpha, beta, p, self.group_size - 1)
            signed_squares(law, *rest, self.values, *self.band.bounds, alpha, beta, square[q])
            if self.group_size > 1:
                rest, law = convolve(alpha, beta, p, self.group_size - 2)
                signed_products(law, *rest, self.values, *self.band.bounds, alpha, beta, cross[q])
        return square, cross


@dataclass(frozen=True, eq=False)
class Band:
    """Row alpha holds the states beta = low..high, stored from `start` on; low > high where a row is empty."""

    low: Int64[np.ndarray, " rows"]
    high: Int64[np.ndarray, " rows"]
    start: Int64[np.ndarray, " rows"]

    @property
    def bounds(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        return self.low, self.high, self.start

    @property
    def states(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """alpha and beta of every state, in the order of storage."""
        width = np.maximum(self.high - self.low + 1, 0)
        alpha = np.repeat(np.arange(self.low.size), width)
        return alpha, np.arange(alpha.size) - np.repeat(self.start - self.low, width)


@kernel
def widen(low, high, alpha, beta, new_low, new_high):
    """One more draw: the smallest and largest beta of every row; returns the number of states."""
    count = 0
    for a in range(new_low.size):
        lowest, highest = 2**62, -1
        for j in range(alpha.size):
            before = a - alpha[j]
            if 0 <= before < low.size and low[before] <= high[before]:
                lowest = min(lowest, low[before] + beta[j])
                highest = max(highest, high[before] + beta[j])
        new_low[a], new_high[a] = lowest, highest
        if lowest <= highest:
            count += highest - lowest + 1
    return count


@kernel
def offsets(low, high):
    start = np.empty(low.size, dtype=np.int64)
    total = 0
    for a in range(low.size):
        start[a] = total
        total += max(high[a] - low[a] + 1, 0)
    return start


@kernel
def band(alpha, beta, draws):
    """Bounds and offsets of the states that `draws` responses can reach."""
    low, high = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    for t in range(1, draws + 1):
        new_low = np.empty(t * alpha.max() + 1, dtype=np.int64)
        new_high = np.empty_like(new_low)
        widen(low, high, alpha, beta, new_low, new_high)
        low, high = new_low, new_high
    return low, high, offsets(low, high)


@kernel
def convolve(alpha, beta, prob, draws):
    """(low, high, start) of the states of `draws` responses, and the probability of each state."""
    low, high = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    start, law = np.zeros(1, dtype=np.int64), np.ones(1)
    for t in range(1, draws + 1):
        new_low = np.empty(t * alpha.max() + 1, dtype=np.int64)
        new_high = np.empty_like(new_low)
        count = widen(low, high, alpha, beta, new_low, new_high)
        new_start = offsets(new_low, new_high)
        new_law = np.zeros(count)
        for a in range(new_low.size):
            if new_low[a] > new_high[a]:
                continue
            for j in range(alpha.size):
                before = a - alpha[j]
                if before < 0 or before >= low.size or low[before] > high[before]:
                    continue
                n = high[before] - low[before] + 1
                source = law[start[before] : start[before] + n]
                first = new_start[a] + low[before] + beta[j] - new_low[a]
                target = new_law[first : first + n]
                p = prob[j]
                for b in range(n):
                    target[b] += p * source[b]
        low, high, start, law = new_low, new_high, new_start, new_law
    return (low, high, start), law


@kernel
def signed_sums(law, low, high, start, values, group_low, group_high, group_start, alpha, beta, out):
    """out[0, j], out[1, j] = sum over the others' states of P max(A, 0), P min(A, 0)."""
    for j in range(alpha.size):
        plus, minus = 0.0, 0.0
        for a in range(low.size):
            whole = a + alpha[j]
            shift = group_start[whole] + low[a] + beta[j] - group_low[whole]
            for b in range(high[a] - low[a] + 1):
                term = law[start[a] + b] * values[j, shift + b]
                plus += max(term, 0.0)
                minus += min(term, 0.0)
        out[0, j], out[1, j] = plus, minus


@kernel
def signed_squares(law, low, high, start, values, group_low, group_high, group_start, alpha, beta, out):
    """out[s, j] = sum over the others' states of P (A^s)^2."""
    for j in range(alpha.size):
        plus, minus = 0.0, 0.0
        for a in range(low.size):
            whole = a + alpha[j]
            shift = group_start[whole] + low[a] + beta[j] - group_low[whole]
            for b in range(high[a] - low[a] + 1):
                A = values[j, shift + b]
                term = law[start[a] + b] * A * A
                if A > 0:
                    plus += term
                else:
                    minus += term
        out[0, j], out[1, j] = plus, minus


@kernel
def signed_products(law, low, high, start, values, group_low, group_high, group_start, alpha, beta, out):
    """out[s, s', j, j'] = sum over the others' states of P A_j^s A_j'^s'."""
    for i in range(alpha.size):
        for j in range(i + 1):
            pp, pm, mp, mm = 0.0, 0.0, 0.0, 0.0
            for a in range(low.size):
                whole = a + alpha[i] + alpha[j]
                shift = group_start[whole] + low[a] + beta[i] + beta[j] - group_low[whole]
                for b in range(high[a] - low[a] + 1):
                    P, A, B = law[start[a] + b], values[i, shift + b], values[j, shift + b]
                    pp += P * max(A, 0.0) * max(B, 0.0)
                    pm += P * max(A, 0.0) * min(B, 0.0)
                    mp += P * min(A, 0.0) * max(B, 0.0)
                    mm += P * min(A, 0.0) * min(B, 0.0)
            out[0, 0, i, j] = out[0, 0, j, i] = pp
            out[1, 1, i, j] = out[1, 1, j, i] = mm
            out[0, 1, i, j] = out[1, 0, j, i] = pm
            out[1, 0, i, j] = out[0, 1, j, i] = mp
