"""How the advantages of two rows of an update vary together, where they read statistics of all rows.

With A^s the positive or the negative part of A, v a reward value (for token_whitened with a length), and the
expectation over all rows but those that are named,

    one[s, v]              E[(A^s)^2 | v]
    same[s, s', v, v']     E[A_1^s A_2^s' | v, v'], two rows of one group
    apart[s, s', v, v']    the same, two rows of different groups

The rows that are not named enter through the integer sums of statistics.py, tilted by exp(-u length) where a
scale is a mean over tokens.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64

from ticgrpo_theory.exact.updates.one_row import integer_sums as sums
from ticgrpo_theory.exact.updates.one_row.integer_sums import Spread
from ticgrpo_theory.exact.updates.one_row.statistics import (
    PRODUCT_COST,
    STEP_COST,
    OfAllRows,
    Statistics,
    refuse_too_large,
)

Signs = Callable[[np.ndarray], np.ndarray]
"""A to its positive and negative part [2, ...], or to itself, [1, ...], where a clip treats both alike."""

Indices = Int64[np.ndarray, " N"]

CALL_COST = 5e3
"""Nanoseconds to begin an expectation over sums, or a convolution."""


def together(A: np.ndarray) -> np.ndarray:
    return A[None]


@dataclass(frozen=True, eq=False)
class Others:
    """An update at one tilt: what a row of every prompt adds, and the groups besides one or two."""

    statistics: Statistics
    rows: list[Spread]

    @cached_property
    def groups(self) -> list[Spread]:
        return [self.statistics.of_group(one) for one in self.rows]

    @cached_property
    def but_one(self) -> list[Spread]:
        """The other P - 1 groups of an update, for every prompt."""
        return self.statistics.rest(self.rows)

    def but_two(self) -> Iterator[tuple[int, int, Spread]]:
        """(q, q', the other P - 2 groups), q <= q', for every two prompts that two groups can have."""
        update, n = self.statistics.update, len(self.rows)
        if update.P == 1:
            return
        if not update.each:
            rest = self.statistics.drawn(self.rows, update.P - 2)
            yield from ((q, other, rest) for q in range(n) for other in range(q, n))
            return
        for q in range(n - 1):
            # Prompts before q have had their turn: they are in every rest.
            before = sums.NOTHING
            for group in self.groups[:q]:
                before = sums.plus(before, group)
            for other, rest in zip(
                range(q + 1, n), sums.without_each(self.groups[q + 1 :], before), strict=True
            ):
                yield q, other, rest


class PairTables(ABC):
    """The three tables of an update whose advantage reads all of it."""

    def __init__(self, statistics: Statistics, signs: Signs) -> None:
        self.statistics, self.signs = statistics, signs
        self.pool, self.update = statistics.pool, statistics.pool.update

    def at(self, u: float) -> Others:
        """The rest of the update, all rows tilted by exp(-u length)."""
        return Others(self.statistics, self.statistics.spreads(u))

    @abstractmethod
    def one_and_same(self, others: Others, q: int) -> tuple[np.ndarray, np.ndarray]:
        """(one, same) of prompt q; `same` is 0 in groups of one row."""

    @abstractmethod
    def apart(self, others: Others, q: int, other: int, rest: Spread) -> np.ndarray:
        """`apart` of rows of prompts q and `other`, besides whose groups there is `rest`."""

    @abstractmethod
    def cost(self, nodes: int) -> tuple[float, float]:
        """(predicted nanoseconds, numbers held)."""

    def check(self, nodes: int) -> None:
        """Raise NotAffordable for what takes too long or holds too many numbers."""
        refuse_too_large(self.pool, *self.cost(nodes), "the sums over pairs of")

    @property
    def prompt_pairs(self) -> float:
        """Pairs of prompts whose groups, or what there is besides them, differ."""
        n = len(self.pool.rows)
        return n * (n + 1) / 2

    def convolutions(self, size: float, terms: float, nodes: int) -> float:
        """Predicted nanoseconds of what there is besides all pairs of groups, sums of `size` entries."""
        n, P = len(self.pool.rows), self.update.P
        rounds = n * n * max(1.0, np.log2(n)) if self.update.each else 2.0 * P + self.prompt_pairs * 2
        return nodes * rounds * (STEP_COST * size * terms + CALL_COST)


class OfAllRowsPairs(PairTables):
    """A reads its own type and the sums of all rows: expectations of products at the sum of all."""

    @property
    def rows(self) -> OfAllRows:
        assert isinstance(self.statistics, OfAllRows)
        return self.statistics

    @cached_property
    def values(self) -> list[Float64[np.ndarray, "s N"]]:
        """A of a row of every reward value at every sum, by sign."""
        return [self.signs(A) for A in self.rows.advantages]

    @cached_property
    def products(self) -> dict[tuple[int, int, int, int], Float64[np.ndarray, " N"] | None]:
        """(s, v, t, w) -> A_v^s A_w^t at every sum, made on demand; None where it is 0 everywhere."""
        return {}

    def product(self, s: int, v: int, t: int, w: int) -> Float64[np.ndarray, " N"] | None:
        key = min((s, v, t, w), (t, w, s, v))
        if key not in self.products:
            product = self.values[v][s] * self.values[w][t]
            self.products[key] = product if product.any() else None
        return self.products[key]

    def pairs(
        self, rest: Spread, first: Int64[np.ndarray, " n"], second: Int64[np.ndarray, " m"]
    ) -> Float64[np.ndarray, "s s K K"]:
        """E[A_1^s A_2^t] over `rest`, for rows of types `first` and `second`."""
        offsets, value_of, spread = self.rows.offsets, self.rows.value_of, sums.dense(rest)
        S, K = len(self.values[0]), offsets.size
        out, known = np.zeros((S, S, K, K)), {}
        for i in first.tolist():
            for j in second.tolist():
                shift, v, w = int(offsets[i] + offsets[j]), int(value_of[i]), int(value_of[j])
                for s in range(S):
                    for t in range(S):
                        # Types of the same values whose sums agree have one expectation.
                        key = (shift, *min((s, v, t, w), (t, w, s, v)))
                        if key not in known:
                            product = self.product(s, v, t, w)
                            known[key] = 0.0 if product is None else spread.of(product, shift)
                        out[s, t, i, j] = known[key]
        return out

    def one_and_same(self, others: Others, q: int) -> tuple[np.ndarray, np.ndarray]:
        G, one, types = self.update.G, others.rows[q], self.rows.types(q)
        S, K = len(self.values[0]), self.rows.offsets.size
        single, same, rest = np.zeros((S, K)), np.zeros((S, S, K, K)), others.but_one[q]
        if G > 1:
            rest = sums.plus_times(rest, one, G - 2)
            same = self.pairs(rest, types, types)
            rest = sums.plus(rest, one)
        spread = sums.dense(rest)
        for k in types.tolist():
            v, shift = int(self.rows.value_of[k]), int(self.rows.offsets[k])
            for s in range(S):
                product = self.product(s, v, s, v)
                single[s, k] = 0.0 if product is None else spread.of(product, shift)
        return single, same

    def apart(self, others: Others, q: int, other: int, rest: Spread) -> np.ndarray:
        mates = self.update.G - 1
        rest = sums.plus_times(sums.plus_times(rest, others.rows[q], mates), others.rows[other], mates)
        return self.pairs(rest, self.rows.types(q), self.rows.types(other))

    def cost(self, nodes: int) -> tuple[float, float]:
        size, m, n = self.rows.grid.size, self.pool.value.size, len(self.pool.rows)
        K, S = max(self.rows.types(q).size for q in range(n)), len(self.signs(np.zeros(1)))
        shifts = (self.prompt_pairs + n) * K * K / 2 * (1 + S) / 2
        products = nodes * shifts * (PRODUCT_COST * size / 2 + CALL_COST)
        terms = min(float(self.rows.offsets.size * self.update.G), size)
        return self.convolutions(size / 2, terms, nodes) + products, (m * m * S + 4) * size
