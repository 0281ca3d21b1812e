"""Expectations over a group by listing it: how many responses are of each type, or which types they have.

A type is what the rest of a group sees of a response: its reward, and its length where the scale reads
lengths. For a group with n_j responses of type j, of which one of type j has A_j,

    P(n) = G! prod_j p_j^n_j / n_j!
    E[h(A_1) | 1 of type j]                  = sum_n P(n) n_j h(A_j) / (G p_j)
    E[h(A_1, A_2) | types j of 1, k of 2]    = sum_n P(n) n_j (n_k - [j = k]) h(A_j, A_k) / (G (G-1) p_j p_k)

All terms have one sign. The vectors n suit few types; for more types than responses see groups/members.py.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from torch import Tensor, from_numpy

from ticgrpo_theory.stats.rounding import SMALLEST
from ticgrpo_theory.worlds.compiling import kernel

CHUNK = 2**16
"""Groups x types evaluated at once, so that temporaries stay in cache."""

OfStatistics = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""(reward, length, origin, mean - origin, variance, total length) -> contribution of a response, broadcast.

The origin is a reward of the group itself: where its rewards are nearly tied, far from all others, their
differences have all their digits.
"""


@dataclass(frozen=True, eq=False)
class Counts:
    """All count vectors of G responses over m types."""

    contribution: OfStatistics
    reward: Float64[np.ndarray, " m"]
    length: Float64[np.ndarray, " m"]
    group_size: int

    @property
    def size(self) -> int:
        """Number of count vectors."""
        return math.comb(self.group_size + self.reward.size - 1, self.group_size)

    @property
    def start(self) -> Int64[np.ndarray, " m"]:
        """The first count vector."""
        state = np.zeros(self.reward.size, dtype=np.int64)
        state[-1] = self.group_size
        return state

    def chance_of(
        self, prob: Float64[np.ndarray, " m"]
    ) -> Callable[[Float64[np.ndarray, "m M"]], np.ndarray]:
        """Count vectors to their probabilities [M]."""
        tables, norm = poisson_tables(prob, self.group_size)
        return lambda counts: multinomial(counts, tables, norm)

    def chunks(self) -> Iterator[tuple[Float64[np.ndarray, "m M"], Float64[np.ndarray, "m M"]]]:
        """(counts, contribution of a response of each type), a part of the groups at a time."""
        m, state = self.reward.size, self.start
        own_reward, own_length = (from_numpy(x)[:, None] for x in (self.reward, self.length))
        step = max(1, CHUNK // m)
        for first in range(0, self.size, step):
            M = min(step, self.size - first)
            counts, statistics = np.empty((m, M)), np.empty((4, 1, M))
            next_counts(state, self.reward, self.length, counts, statistics[:, 0])
            contribution = self.contribution(own_reward, own_length, *from_numpy(statistics))
            yield counts, np.ascontiguousarray(contribution.expand(m, M).numpy())

    def given_one(self, prob: Float64[np.ndarray, "Q m"]) -> Float64[np.ndarray, "Q 2 m"]:
        """E[max(A_1, 0) | type j], E[min(A_1, 0) | type j] under each row of probabilities."""
        out = np.zeros((len(prob), 2, self.reward.size))
        chances = [self.chance_of(p) for p in prob]
        for counts, A in self.chunks():
            part = np.zeros_like(out)
            for q, chance in enumerate(chances):
                add_signed(counts, A, chance(counts), part[q])
            out += part
        return per_response(out, prob, self.group_size)

    def given_two(
        self, prob: Float64[np.ndarray, "Q m"]
    ) -> tuple[Float64[np.ndarray, "Q 2 m"], Float64[np.ndarray, "Q 2 2 m m"]]:
        """E[(A_1^s)^2 | type j] and E[A_1^s A_2^s' | types j, j'], s, s' in (+, -)."""
        m, G = self.reward.size, self.group_size
        square, cross = np.zeros((len(prob), 2, m)), np.zeros((len(prob), 2 * m, 2 * m))
        same = np.zeros_like(square)
        chances = [self.chance_of(p) for p in prob]
        for counts, A in self.chunks():
            signed = np.stack([np.maximum(A, 0.0), np.minimum(A, 0.0)])
            each = (counts * signed).reshape(2 * m, -1)
            for q, chance in enumerate(chances):
                weight = chance(counts)
                square[q] += (signed**2 * counts) @ weight
                same[q] += (signed**2 * counts * (counts - 1)) @ weight
                cross[q] += (each * weight) @ each.T
        pairs = cross.reshape(-1, 2, m, 2, m).swapaxes(2, 3)
        for s in range(2):
            # A response is no pair with itself; A+ A- = 0, so only equal signs have such terms.
            pairs[:, s, s, np.arange(m), np.arange(m)] = same[:, s]
        return per_response(square, prob, G), per_pair(pairs, prob, G)


def per_response(
    total: Float64[np.ndarray, "Q 2 m"], prob: Float64[np.ndarray, "Q m"], group_size: int
) -> Float64[np.ndarray, "Q 2 m"]:
    """A sum over all responses of type j made conditional on one: divided by G p_j; 0 where p_j is 0."""
    expected = group_size * prob[:, None, :] + np.zeros_like(total)
    return np.divide(total, expected, out=np.zeros_like(total), where=expected > 0)


def per_pair(
    total: Float64[np.ndarray, "Q 2 2 m m"], prob: Float64[np.ndarray, "Q m"], group_size: int
) -> Float64[np.ndarray, "Q 2 2 m m"]:
    """A sum over ordered pairs of responses made conditional on their types; 0 where these cannot occur."""
    both = group_size * (group_size - 1) * prob[:, :, None] * prob[:, None, :]
    expected = both[:, None, None] + np.zeros_like(total)
    return np.divide(total, expected, out=np.zeros_like(total), where=expected > 0)


@kernel
def poisson_tables(prob, draws):
    """(tables [m, draws + 1], norm) with P(n) = prod_j tables[j, n_j] / norm for every n of sum `draws`.

    tables[j, n] is proportional to (draws p_j)^n / n! and 1 at its largest, so that nothing overflows; the
    norm, the coefficient of the convolution of all tables, is the sum over all n.
    """
    m = prob.size
    tables = np.zeros((m, draws + 1))
    for j in range(m):
        rate = draws * prob[j]
        mode = min(int(rate), draws)
        tables[j, mode] = 1.0
        for n in range(mode, draws):
            tables[j, n + 1] = tables[j, n] * (rate / (n + 1))
        for n in range(mode, 0, -1):
            tables[j, n - 1] = tables[j, n] * (n / rate)
    convolved = tables[0].copy()
    for j in range(1, m):
        # The last convolution is needed at `draws` alone.
        for total in range(draws, draws - 1 if j == m - 1 else -1, -1):
            added = 0.0
            for n in range(total + 1):
                added += tables[j, n] * convolved[total - n]
            convolved[total] = added
    return tables, convolved[draws]


@kernel
def next_counts(state, reward, length, counts, statistics):
    """Columns of the next count vectors from `state` on; what OfStatistics reads of each group.

    Rewards are counted from that of the first type in the group.
    """
    m, G = reward.size, state.sum()
    for row in range(counts.shape[1]):
        above, total_length = 0.0, 0.0
        first, equal = -1, True
        for j in range(m):
            n = state[j]
            counts[j, row] = n
            if n > 0:
                if first < 0:
                    first = j
                above += n * (reward[j] - reward[first])
                total_length += n * length[j]
                equal = equal and reward[j] == reward[first]
        mean = above / G
        squares = 0.0
        if not equal:
            for j in range(m):
                if state[j] > 0:
                    squares += state[j] * (reward[j] - reward[first] - mean) ** 2
            squares = max(squares, G * SMALLEST)  # 0 is kept for rewards that are all equal
        statistics[0, row] = reward[first]
        statistics[1, row] = mean
        statistics[2, row] = squares / G
        statistics[3, row] = total_length
        i = m - 1
        while i > 0 and state[i] == 0:
            i -= 1
        if i > 0:
            moved = state[i]
            state[i] = 0
            state[i - 1] += 1
            state[m - 1] = moved - 1


@kernel
def multinomial(counts, tables, norm):
    """P(n) of every column of counts."""
    weight = np.empty(counts.shape[1])
    for row in range(weight.size):
        P = 1.0 / norm
        for j in range(counts.shape[0]):
            P *= tables[j, int(counts[j, row])]
        weight[row] = P
    return weight


@kernel
def add_signed(counts, A, weight, out):
    """out[0, j] += sum P(n) n_j max(A_j, 0); out[1, j] += sum P(n) n_j min(A_j, 0)."""
    for j in range(counts.shape[0]):
        # Blocks: one running sum over a million groups would lose three digits.
        for first in range(0, weight.size, 256):
            plus, minus = 0.0, 0.0
            for row in range(first, min(first + 256, weight.size)):
                term = weight[row] * counts[j, row] * A[j, row]
                plus += max(term, 0.0)
                minus += min(term, 0.0)
            out[0, j] += plus
            out[1, j] += minus
