"""Sums over many rows of an update as integers: their distributions, and the moments that they determine.

The rewards of all rows enter through their mean and variance. Where rewards lie on a lattice r = a + h k
these are functions of sum k and sum k (k - 1) / 2, otherwise of how many rows have each reward; over tokens
of how many tokens carry each reward. A distribution of such sums is an array over a box of integers; one
more row is a convolution of positive terms, so that nothing cancels.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import comb

from ticgrpo_theory.exact.group_sums.lattice import positions
from ticgrpo_theory.worlds.compiling import kernel

Points = Int64[np.ndarray, "n d"]


@dataclass(frozen=True, eq=False)
class Sums:
    """What a row of each reward value adds, and the moments of the rows that have been added."""

    value: Float64[np.ndarray, " m"]
    """Rewards above the least one, increasing from 0."""
    points: Points
    """What a row of value j, or for tokens one token of it, adds to each sum."""
    step: float | None = None
    """h where rewards are on a lattice."""

    def moments(
        self, states: Points, count: Int64[np.ndarray, " n"] | int
    ) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """(mean, variance with 1/n) of `count` rewards; 0 exactly where all are equal."""
        if self.step is not None:
            first, second = states[:, 0], 2 * states[:, 1] + states[:, 0]
            spread = count * second - first**2
            return self.step * first / count, (self.step / count) ** 2 * spread
        n = np.column_stack([count - states.sum(axis=1), states])
        mean = n @ self.value / count
        variance = (n * (self.value - mean[:, None]) ** 2).sum(axis=1) / count
        return mean, np.where((n == np.reshape(count, (-1, 1))).any(axis=1), 0.0, variance)

    def spread(self, states: Points, count: int) -> Int64[np.ndarray, " n"]:
        """count sum (k - mean k)^2, a whole number, on a lattice."""
        return count * (2 * states[:, 1] + states[:, 0]) - states[:, 0] ** 2


def sums_of(value: Float64[np.ndarray, " m"], rows: int, lattice: bool = False) -> Sums | None:
    """The sums with fewer states for so many rows; None where they must be on a lattice and are not."""
    m, k = value.size, positions(value)
    counts = Sums(value, np.eye(m, dtype=np.int64)[:, 1:])
    if k is None:
        return None if lattice else counts
    on_line = Sums(value, np.column_stack([k, k * (k - 1) // 2]), float(value[-1] / max(k[-1], 1)))
    return on_line if lattice or Grid(on_line.points, rows).size < Grid(counts.points, rows).size else counts


def box(points: Points, rows: int) -> Int64[np.ndarray, " d"]:
    """Numbers of values of each sum of so many rows."""
    return rows * points.max(axis=0, initial=0) + 1


@dataclass(frozen=True, eq=False)
class Grid:
    """An array over all sums of at most `rows` rows, by one flat index."""

    points: Points
    rows: int

    @cached_property
    def shape(self) -> Int64[np.ndarray, " d"]:
        return box(self.points, self.rows)

    @property
    def size(self) -> float:
        """Entries, as a float: it may be larger than any integer."""
        return float(np.prod(self.shape.astype(np.float64)))

    @property
    def shape_size(self) -> int:
        """Entries."""
        return int(np.prod(self.shape))

    @cached_property
    def strides(self) -> Int64[np.ndarray, " d"]:
        return np.append(np.cumprod(self.shape[::-1])[::-1][1:], 1).astype(np.int64)[: self.shape.size]

    @cached_property
    def offsets(self) -> Int64[np.ndarray, " n"]:
        """Flat index of every point."""
        return self.points @ self.strides

    def states(self, index: Int64[np.ndarray, " n"]) -> Points:
        """The sums at flat indices."""
        if self.shape.size == 0:
            return np.zeros((index.size, 0), dtype=np.int64)
        return np.column_stack(np.unravel_index(index, self.shape)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Spread:
    """A distribution of sums: flat indices and their probabilities, all positive."""

    index: Int64[np.ndarray, " n"]
    prob: Float64[np.ndarray, " n"]


NOTHING = Spread(np.zeros(1, dtype=np.int64), np.ones(1))
"""The sums of no row."""


def spread_of(index: Int64[np.ndarray, " n"], prob: Float64[np.ndarray, " n"]) -> Spread:
    """The distribution with equal indices added up, and none of probability 0."""
    held = prob > 0
    index, prob, first = index[held], prob[held], int(index[0])
    if index.size == 0:
        return lost(first)
    if (index[1:] > index[:-1]).all():
        return Spread(index, prob)
    where, inverse = np.unique(index, return_inverse=True)
    return Spread(where, np.bincount(inverse, weights=prob, minlength=where.size))


def lost(index: int) -> Spread:
    """Sums so unlikely, tilted as they are, that no float64 holds their probability."""
    return Spread(np.array([index]), np.zeros(1))


def positive(first: int, dense: Float64[np.ndarray, " N"]) -> Spread:
    """The sums of an array from `first` on that have a probability."""
    held = np.count_nonzero(dense)
    if held == 0:
        return lost(first)
    if held == dense.size:
        return Spread(np.arange(first, first + held), dense)
    index = dense.nonzero()[0]
    return Spread(index + first, dense[index])


def plus(one: Spread, other: Spread) -> Spread:
    """The distribution of the sum of two independent ones."""
    few, many = (one, other) if one.index.size <= other.index.size else (other, one)
    first, last = int(many.index[0]), int(many.index[-1])
    start, stop = first + int(few.index[0]), last + int(few.index[-1])
    dense = np.zeros(stop - start + 1)
    if last - first < FULL * many.index.size:
        block = many.prob
        if last - first >= many.index.size:
            block = np.zeros(last - first + 1)
            block[many.index - first] = many.prob
        add_blocks(few.index - few.index[0], few.prob, block, dense)
    else:
        add_shifted(few.index - few.index[0], few.prob, many.index - first, many.prob, dense)
    return positive(start, dense)


def times(one: Spread, count: int) -> Spread:
    """The distribution of the sum of `count` independent copies."""
    if count < 2:
        return one if count else NOTHING
    if one.index.size == 2 and count <= MAX_BINOMIAL:
        return binomial(one, count)
    half, rest = times(one, count // 2), count - count // 2
    if half.index.size > rest * one.index.size:
        return plus_times(half, one, rest)
    both = plus(half, half)
    return plus(both, one) if count % 2 else both


def binomial(one: Spread, count: int) -> Spread:
    """The same for a row that adds one of two numbers."""
    (start, stop), (p, q) = one.index, one.prob
    k = np.arange(count + 1)
    return spread_of(count * start + k * (stop - start), ways(count) * p ** (count - k) * q**k)


@cache
def ways(count: int) -> Float64[np.ndarray, " n"]:
    """How many subsets of so many rows have 0, 1, ... members."""
    return np.asarray(comb(count, np.arange(count + 1)))


def plus_times(start: Spread, one: Spread, count: int) -> Spread:
    """The distribution with `count` independent copies of another one added."""
    found = start
    for _ in range(count):
        found = plus(found, one)
    return found


def mass(one: Spread, count: int) -> Spread:
    """The sums of nothing, with the total probability of `count` independent copies."""
    return Spread(NOTHING.index, np.array([one.prob.sum() ** count]))


def mixture(weights: Float64[np.ndarray, " Q"], each: list[Spread]) -> Spread:
    """One of the distributions, drawn with these weights."""
    dense = np.zeros(max(int(s.index[-1]) for s in each) + 1)
    for q, s in zip(weights, each, strict=True):
        dense[s.index] += q * s.prob
    return positive(0, dense)


def without_each(each: list[Spread], besides: Spread = NOTHING) -> list[Spread]:
    """For every one of the distributions the sum of all others, and `besides`: P log P sums in all."""

    def solved(first: int, last: int, outside: Spread) -> list[Spread]:
        if last - first == 1:
            return [outside]
        middle = (first + last) // 2
        left, right = outside, outside
        for s in each[middle:last]:
            left = plus(left, s)
        for s in each[first:middle]:
            right = plus(right, s)
        return solved(first, middle, left) + solved(middle, last, right)

    return solved(0, len(each), besides)


@dataclass(frozen=True, eq=False)
class Dense:
    """A distribution of sums as an array from its first index on."""

    first: int
    prob: Float64[np.ndarray, " N"]

    def of(self, table: Float64[np.ndarray, " M"], shift: int) -> float:
        """E[table[shift + sum]]."""
        start = self.first + shift
        return float(table[start : start + self.prob.size] @ self.prob)


def dense(spread: Spread) -> Dense:
    """The same distribution, its gaps filled with 0."""
    first = int(spread.index[0])
    prob = np.zeros(int(spread.index[-1]) - first + 1)
    prob[spread.index - first] = spread.prob
    return Dense(first, prob)


MAX_BINOMIAL = 64
"""Copies of a row of two numbers whose powers and coefficients a float64 holds with all its digits."""

FULL = 8
"""A distribution with one index in so many positive is added up as an array."""

TILE = 2048
"""Entries that all shifts are added to before the next ones, so that they stay in cache."""


@kernel
def add_blocks(shift, weight, block, out):
    """out[shift_i + j] += weight_i block_j, for increasing shifts, four of them at a time."""
    for first in range(0, out.size, TILE):
        last, i = min(first + TILE, out.size), 0
        while i < shift.size:
            inside = i + 4 <= shift.size and first >= shift[i + 3] and last <= block.size + shift[i]
            if inside:
                into = out[first:last]
                a = block[first - shift[i] : last - shift[i]]
                b = block[first - shift[i + 1] : last - shift[i + 1]]
                c = block[first - shift[i + 2] : last - shift[i + 2]]
                d = block[first - shift[i + 3] : last - shift[i + 3]]
                u, v, w, x = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
                for j in range(last - first):
                    into[j] += u * a[j] + v * b[j] + w * c[j] + x * d[j]
                i += 4
            else:
                start, stop = max(first, shift[i]), min(last, block.size + shift[i])
                if start < stop:
                    into, a, u = out[start:stop], block[start - shift[i] : stop - shift[i]], weight[i]
                    for j in range(stop - start):
                        into[j] += u * a[j]
                i += 1


@kernel
def add_shifted(shift, weight, index, prob, out):
    """out[shift_i + index_j] += weight_i prob_j."""
    for i in range(shift.size):
        for j in range(index.size):
            out[shift[i] + index[j]] += weight[i] * prob[j]
