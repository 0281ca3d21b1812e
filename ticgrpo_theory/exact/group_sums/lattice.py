"""Expectations over a group whose reward values lie on a lattice r[j] = a + h k[j]: sums over two integers.

A group enters an advantage through its mean and variance, hence through sum k and sum k^2, hence through the
sum of

    (alpha[j], beta[j]) = (k[j], k[j] (k[j] - 1) / 2)

whose distribution for n draws is the n-fold convolution of p. All terms are positive: nothing cancels, and
states that no group can reach have probability exactly 0. The variance is the integer G sum k^2 - (sum k)^2
times (h/G)^2, so it is 0 exactly where all rewards are equal. An advantage linear in the rewards needs sum k
alone: its states have beta = 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64
from torch import Tensor, from_numpy

from ticgrpo_theory.exact.group_sums import lattice_kernels as kernels
from ticgrpo_theory.stats.rounding import ROUNDING

MAX_DENOMINATOR = 2**12
"""Rewards whose relative positions between the extremes need larger denominators lie on no lattice."""

POSITION_TOLERANCE = 8 * 2.0**-53
"""Relative positions this close to a fraction are taken for it: what rounding k/7 or 0.1 k leaves."""

CHUNK = 2**17
"""States x reward values evaluated at once, so that temporaries stay in cache."""

TURN = 1e8
"""Predicted nanoseconds that compiled code runs without coming back: a tenth of a second."""

# Nanoseconds for a state and reward value, for a row of a convolution, and for a term of one.
VALUE_COST, ROW_COST, TERM_COST = 6.0, 60.0, 0.12

OfMoments = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(reward, mean, variance) -> A, broadcast."""


def positions(reward: Float64[np.ndarray, " m"]) -> Int64[np.ndarray, " m"] | None:
    """Integers k with r[j] = r_min + h k[j] and greatest common divisor 1; None where there are none.

    Each (r[j] - r_min) / (r_max - r_min) must be a fraction to within POSITION_TOLERANCE (up to ROUNDING
    where rewards are so large that their last bits are hidden), and the common denominator at most
    MAX_DENOMINATOR.
    """
    low, width = reward.min(), reward.max() - reward.min()
    if width == 0:
        return np.zeros(reward.size, dtype=np.int64)
    tolerance = min(POSITION_TOLERANCE * max(1.0, np.abs(reward).max() / width), ROUNDING)
    common, found = 1, []
    for ratio in ((reward - low) / width).tolist():
        position = Fraction(ratio).limit_denominator(MAX_DENOMINATOR)
        common = math.lcm(common, position.denominator)
        if abs(float(position) - ratio) > tolerance or common > MAX_DENOMINATOR:
            return None
        found.append(position)
    k = np.array([int(position * common) for position in found], dtype=np.int64)
    return k if np.unique(k).size == k.size else None


def sums(k: Int64[np.ndarray, " m"]) -> kernels.Steps:
    """The steps of states that keep sum k alone: an advantage may then not read the variance."""
    return kernels.Steps(k, np.zeros_like(k))


def sums_and_squares(k: Int64[np.ndarray, " m"]) -> kernels.Steps:
    """The steps of states that keep sum k and sum k^2."""
    return kernels.Steps(k, k * (k - 1) // 2)


@dataclass(frozen=True, eq=False)
class Lattice:
    """Groups of `group_size` responses with reward values `reward`, increasing, that add `steps` each."""

    advantage: OfMoments
    reward: Float64[np.ndarray, " m"]
    steps: kernels.Steps
    group_size: int

    @property
    def predicted_states(self) -> float:
        """About how many states a group has.

        sum k takes G K values, and for each sum k^2 spreads over G K^2 / 6 on average, in steps of 2.
        """
        G, K = float(self.group_size), float(self.steps.alpha[-1])
        return (G * K + 1) * (1 + G * K**2 / 12 if self.steps.beta.any() else 1)

    def predicted_cost(self, distributions: int) -> float:
        """About how many nanoseconds `given_one` takes for so many distributions."""
        G, m = float(self.group_size), self.reward.size
        rows, terms = G * G * self.steps.alpha[-1] / 2, self.predicted_states * G * m / 3
        return VALUE_COST * m * self.predicted_states * (1 + distributions / 3) + distributions * (
            ROW_COST * rows + TERM_COST * terms
        )

    def turns(self, draws: int) -> list[tuple[int, int]]:
        """Draws 1..draws in parts (first, last) of less than TURN each: between them Ctrl-C is answered."""
        # The number of states grows like the square of the draws: the last one costs three times the mean.
        each = max(1, int(TURN * self.group_size / (3 * self.predicted_cost(1))))
        return [(first, min(first + each - 1, draws)) for first in range(1, draws + 1, each)]

    def band(self, draws: int) -> kernels.Band:
        """The states of `draws` responses, stored with gaps."""
        low, high = kernels.no_draws(draws * self.steps.alpha[-1] + 1)
        gap = 0
        for first, last in self.turns(draws):
            gap = kernels.widen_rows(self.steps, first, last, low, high, gap)
        return kernels.padded(low, high, gap)

    def chance(
        self, prob: Float64[np.ndarray, " m"], draws: int, band: kernels.Band
    ) -> Float64[np.ndarray, " M"]:
        """Probability of every state of `draws` responses, stored as their `band` says."""
        chance, origin = np.zeros(band.size), band.start - band.low
        low, high = kernels.no_draws(band.low.size)
        chance[origin[0]] = 1.0
        for first, last in self.turns(draws):
            kernels.convolve(self.steps, prob, first, last, origin, low, high, chance)
        return chance

    @cached_property
    def rest(self) -> kernels.Band:
        """The states of the other G - 1 responses."""
        return self.band(self.group_size - 1)

    @cached_property
    def whole(self) -> kernels.Band:
        """The states of the whole group."""
        return kernels.one_more(self.steps, self.rest)

    @cached_property
    def values(self) -> Float64[np.ndarray, "m M"]:
        """A of a response of value j in a group of state M, by the formula that training uses."""
        m, low, width = self.reward.size, self.reward[0], self.reward[-1] - self.reward[0]
        h = width / self.steps.alpha[-1] if width > 0 else 0.0
        moments = kernels.moments(self.whole, self.group_size, low, h)
        own, (mean, variance) = from_numpy(self.reward)[:, None], from_numpy(moments)
        values = np.empty((m, moments.shape[1]))
        step = max(1, CHUNK // m)
        for first in range(0, moments.shape[1], step):
            part = slice(first, first + step)
            values[:, part] = self.advantage(own, mean[None, part], variance[None, part]).numpy()
        return values

    def given_one(self, prob: Float64[np.ndarray, "Q m"]) -> Float64[np.ndarray, "Q 2 m"]:
        """E[max(A_1, 0) | value j], E[min(A_1, 0) | value j] under each row of probabilities."""
        out = np.empty((len(prob), 2, self.reward.size))
        for q, p in enumerate(prob):
            chance = self.chance(p, self.group_size - 1, self.rest)
            kernels.signed_sums(self.rest, chance, self.values, self.whole, self.steps, out[q])
        return out

    def given_two(
        self, prob: Float64[np.ndarray, "Q m"]
    ) -> tuple[Float64[np.ndarray, "Q 2 m"], Float64[np.ndarray, "Q 2 2 m m"]]:
        """E[(A_1^s)^2 | value j], E[A_1^s A_2^s' | values j, j'], s, s' in (+, -); the latter 0 for G = 1."""
        m, G = self.reward.size, self.group_size
        square, cross = np.empty((len(prob), 2, m)), np.zeros((len(prob), 2, 2, m, m))
        # Squares that keep the sign of A, so that one pass tells them apart.
        signed = self.values * np.abs(self.values)
        others = self.band(max(G - 2, 0))
        for q, p in enumerate(prob):
            chance = self.chance(p, G - 1, self.rest)
            kernels.signed_sums(self.rest, chance, signed, self.whole, self.steps, square[q])
            if G > 1:
                chance = self.chance(p, G - 2, others)
                for i in range(m):
                    kernels.signed_products(others, chance, self.values, self.whole, self.steps, i, cross[q])
        return np.abs(square), cross
