"""Pairs of rows whose advantages read the mean of their own group and the spread of the whole update."""

from functools import cached_property

import numpy as np
from jaxtyping import Float64

from ticgrpo_theory.exact.groups.outcomes import split
from ticgrpo_theory.exact.updates.one_row import integer_sums as sums
from ticgrpo_theory.exact.updates.one_row.group_statistics import OfCentredSquares, OfGroupAndRewards
from ticgrpo_theory.exact.updates.one_row.integer_sums import Spread
from ticgrpo_theory.exact.updates.one_row.statistics import (
    PRODUCT_COST,
    VALUE_COST,
    A_of,
    OfAllRows,
    Statistics,
)
from ticgrpo_theory.exact.updates.one_row.token_statistics import OfLengths
from ticgrpo_theory.exact.updates.two_rows.pair_tables import (
    CALL_COST,
    Indices,
    OfAllRowsPairs,
    Others,
    PairTables,
    Signs,
)


class OfCentredPairs(PairTables):
    """group_centred_batch_std: A = n(own group) D(update), n = r - mean of its group, D = 1 / (s + delta)."""

    @property
    def mine(self) -> OfGroupAndRewards | OfCentredSquares:
        found = self.statistics
        assert isinstance(found, OfGroupAndRewards | OfCentredSquares)
        return found

    def numerators(self, index: Indices) -> Float64[np.ndarray, "s m N"]:
        """n of a row of every value in groups of these sums, by sign; exactly 0 where rewards are equal."""
        mean, variance = self.mine.sums.moments(self.mine.grid.states(index), self.update.G)
        n = (self.pool.value[:, None] - mean) * (variance != 0)
        return self.signs(n)

    def contributions(self, index: Indices) -> Indices:
        """What a group of these sums adds to those of the update."""
        if isinstance(self.mine, OfGroupAndRewards):
            return index
        return self.mine.sums.spread(self.mine.grid.states(index), self.update.G)

    def squares(self, rest: Spread, contributed: Indices) -> Float64[np.ndarray, " N"]:
        """E[D^2] where one or two groups contribute these sums, over the rest."""
        distinct, inverse = np.unique(contributed, return_inverse=True)
        spread = sums.dense(rest)
        return np.array([spread.of(self.deviations, c) for c in distinct.tolist()])[inverse]

    @cached_property
    def deviations(self) -> Float64[np.ndarray, " N"]:
        """D^2 at every sum of an update; 0 where s is, and at sums that no rewards have."""
        G, B, mine = self.update.G, self.update.B, self.mine
        if isinstance(mine, OfGroupAndRewards):
            variance = mine.sums.moments(mine.grid.states(np.arange(mine.grid.shape_size)), B)[1]
        else:
            assert mine.sums.step is not None
            variance = mine.sums.step**2 / (G * B) * np.arange(self.update.P * self.largest + 1)
        variance = np.maximum(variance, 0.0)
        # The formula of training at a numerator of 1.
        one, zero = np.ones_like(variance), np.zeros_like(variance)
        return A_of(self.pool.advantage, 1.0, (zero, one), variance, B) ** 2

    @property
    def largest(self) -> int:
        """The largest sum of squares of a group."""
        G, k = self.update.G, int(self.mine.sums.points[-1, 0])
        return (G // 2) * (G - G // 2) * k**2

    def one_and_same(self, others: Others, q: int) -> tuple[np.ndarray, np.ndarray]:
        G, m, rest = self.update.G, self.pool.value.size, others.but_one[q]
        S = len(self.signs(np.zeros(1)))
        single, same = np.zeros((S, m)), np.zeros((S, S, m, m))
        if G == 1:
            return single, same
        offsets, two = self.mine.grid.offsets, sums.times(others.rows[q], G - 2)
        mates = sums.plus(two, others.rows[q])
        for v in range(m):
            index = mates.index + offsets[v]
            n = self.numerators(index)[:, v]
            single[:, v] = n**2 @ (mates.prob * self.squares(rest, self.contributions(index)))
            for w in range(m):
                index = two.index + offsets[v] + offsets[w]
                n = self.numerators(index)
                weight = two.prob * self.squares(rest, self.contributions(index))
                same[:, :, v, w] = np.einsum("sn,tn,n->st", n[:, v], n[:, w], weight)
        return single, same

    def moved(self, others: Others, q: int) -> tuple[Indices, Float64[np.ndarray, "s m N"]]:
        """(contributions, sum of P(mates) n over groups that make them), for rows of every value."""
        mates, m = sums.times(others.rows[q], self.update.G - 1), self.pool.value.size
        index = np.unique((mates.index[:, None] + self.mine.grid.offsets[None, :]).reshape(-1))
        n = self.numerators(index)
        chance = np.zeros((m, index.size))
        for v in range(m):
            chance[v, np.searchsorted(index, mates.index + self.mine.grid.offsets[v])] = mates.prob
        adds, inverse = np.unique(self.contributions(index), return_inverse=True)
        where = np.zeros((index.size, adds.size))
        where[np.arange(index.size), inverse] = 1.0
        return adds, (n * chance) @ where

    def apart(self, others: Others, q: int, other: int, rest: Spread) -> np.ndarray:
        (first, mine), (second, theirs) = self.moved(others, q), self.moved(others, other)
        both = first[:, None] + second[None, :]
        R = self.squares(rest, both.reshape(-1)).reshape(both.shape)
        return np.einsum("svn,nk,twk->stvw", mine, R, theirs, optimize=True)

    def cost(self, nodes: int) -> tuple[float, float]:
        m, n, P = self.pool.value.size, len(self.pool.rows), self.update.P
        own = float(sums.Grid(self.mine.sums.points, self.update.G).size)
        size = (
            self.mine.grid.size if isinstance(self.mine, OfGroupAndRewards) else float(self.largest * P + 1)
        )
        adds = own if isinstance(self.mine, OfGroupAndRewards) else min(own, float(self.largest))
        terms = nodes * (self.prompt_pairs * 2 * adds + n * m * m * adds)
        products = terms * (PRODUCT_COST * size / 2 + CALL_COST) + VALUE_COST * size
        return self.convolutions(size / 2, min(own, size), nodes) + products, 4 * size


class OfLengthsPairs(OfAllRowsPairs):
    """length_weighted: rows of different groups are independent of each other, but for their tilt."""

    def apart(self, others: Others, q: int, other: int, rest: Spread) -> np.ndarray:
        first, second = (
            self.rows.given_one(p, others.rows[p], sums.NOTHING).reshape(2, -1) for p in (q, other)
        )
        if len(self.signs(np.zeros(1))) == 1:
            first, second = first.sum(axis=0, keepdims=True), second.sum(axis=0, keepdims=True)
        return np.einsum("sk,tl->stkl", first, second) * rest.prob.sum()


def pair_tables(statistics: Statistics, signs: Signs = split) -> PairTables:
    """The tables of an advantage that reads the whole update."""
    if isinstance(statistics, OfLengths):
        return OfLengthsPairs(statistics, signs)
    return (OfAllRowsPairs if isinstance(statistics, OfAllRows) else OfCentredPairs)(statistics, signs)
