"""Expectations over a large group with one or two reward values: sums over the likely numbers of each alone.

The number n of responses of type 1 among D draws is binomial, and by Bernstein's inequality

    P(|n - D p| > d) <= 2 e^-L,    d = L/3 + sqrt((L/3)^2 + 2 L D p (1 - p)),

so that of D + 1 count vectors some 25 sqrt(D p (1 - p)) matter. One response of a known type sees D = G - 1
others, two see D = G - 2: the window covers these and G. An expectation of h misses at most 2 e^-L max |h|.
A standardised advantage has |A| <= sqrt(G), the others at most the range of the rewards: for A^2 at G = 10^9
that is 4e-26, nothing in float64.

Source: S. Boucheron, G. Lugosi, P. Massart, Concentration inequalities, 2013, Sec. 2.8.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from ticgrpo_theory.exact.group_sums.counts import Counts
from ticgrpo_theory.worlds.compiling import kernel

LEFT_OUT = 80.0
"""L: the probability of what is left out is at most 2 e^-80 = 3.6e-35."""

LARGEST_PAIRED = 2**20
"""Largest group of whose pairs expectations are taken: rounding of 1e-13 is 1e-7 of a variance there."""


@dataclass(frozen=True, eq=False)
class Window(Counts):
    """The count vectors (n, G - n) with first <= n <= last; of one type the vector (G) alone."""

    first: int = 0
    last: int = 0

    @property
    def size(self) -> int:
        return self.last - self.first + 1

    @property
    def start(self) -> Int64[np.ndarray, " m"]:
        return np.array([self.first, self.group_size - self.first])[: self.reward.size]

    def chance_of(
        self, prob: Float64[np.ndarray, " m"]
    ) -> Callable[[Float64[np.ndarray, "m M"]], np.ndarray]:
        weight = binomial(prob[0], prob[1:].sum(), self.group_size, self.first, self.last)
        # NumPy adds in pairs: one running sum over a million weights would lose three digits.
        weight /= weight.sum()
        return lambda counts: weight[counts[0].astype(np.int64) - self.first]


@dataclass(frozen=True, eq=False)
class Wins(Counts):
    """As `Counts`, for at most two types and a large group: each distribution has a window of its own."""

    def window(self, prob: Float64[np.ndarray, " m"]) -> Window:
        """The count vectors that matter to one or two responses, whatever their types."""
        G, ends = self.group_size, []
        if prob.size == 1:
            return Window(self.contribution, self.reward, self.length, G, G, G)
        for fixed in range(min(3, G + 1)):
            low, high = likely(G - fixed, float(prob[0]))
            ends.append((low, high + fixed))
        first, last = min(low for low, _ in ends), max(high for _, high in ends)
        return Window(self.contribution, self.reward, self.length, G, first, last)

    def given_one(self, prob: Float64[np.ndarray, "Q m"]) -> Float64[np.ndarray, "Q 2 m"]:
        """As `Counts.given_one`."""
        return np.concatenate([self.window(p).given_one(p[None]) for p in prob])

    def given_two(
        self, prob: Float64[np.ndarray, "Q m"]
    ) -> tuple[Float64[np.ndarray, "Q 2 m"], Float64[np.ndarray, "Q 2 2 m m"]]:
        """As `Counts.given_two`; ValueError beyond LARGEST_PAIRED, where variances have lost their digits."""
        if self.group_size > LARGEST_PAIRED:
            raise ValueError(
                f"group_size = {self.group_size:,}: a variance is G times smaller than the second moments "
                f"that it is the difference of, and beyond LARGEST_PAIRED = {LARGEST_PAIRED:,} it loses its "
                f"digits to rounding; use a smaller G, at which G times the variance is nearly the same, "
                f"or group_size=math.inf, where it is 0"
            )
        square, cross = zip(*(self.window(p).given_two(p[None]) for p in prob), strict=True)
        return np.concatenate(square), np.concatenate(cross)


def likely(draws: int, p: float) -> tuple[int, int]:
    """The numbers between which a binomial one lies but for 2 e^-LEFT_OUT."""
    third = LEFT_OUT / 3
    d = third + math.sqrt(third**2 + 2 * LEFT_OUT * draws * p * (1 - p))
    # One more on either side: D p and d are rounded.
    return max(0, math.floor(draws * p - d) - 1), min(draws, math.ceil(draws * p + d) + 1)


def largest_window(group_size: int) -> float:
    """At most how many count vectors a window has: those of p = 1/2."""
    low, high = likely(group_size, 0.5)
    return high - low + 5.0


@kernel
def binomial(p, q, draws, first, last):
    """Numbers proportional to P(n), to C(draws, n) p^n q^(draws - n), for n = first..last; 1 at the mode."""
    weight = np.zeros(last - first + 1)
    mode = min(max(int(draws * (p / (p + q))), first), last)
    weight[mode - first] = 1.0
    for n in range(mode, last):
        weight[n + 1 - first] = weight[n - first] * ((draws - n) / (n + 1.0) * (p / q))
    for n in range(mode, first, -1):
        weight[n - 1 - first] = weight[n - first] * (n / (draws - n + 1.0) * (q / p))
    return weight
