"""Advantages that read the mean and variance of a whole update: the other rows enter through integer sums.

    batch_standardised        sums of the rewards of the other B - 1 rows
    group_centred_batch_std   those of the own group, with those of the other groups, or with their
                              sums of squares about the means of their groups (group_statistics.py)
    token_whitened            how many tokens of the other rows carry each reward (token_statistics.py)

Conditional on the own row (and on the sums of its group) A is that of training, at the moments of the update.
Where a scale is a mean over tokens the rows are tilted by their lengths, as in token_means.py.
"""

import math
from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64
from torch import from_numpy

from ticgrpo_theory.estimators.advantage import SpreadAdvantage
from ticgrpo_theory.exact.groups.choose import MAX_VALUES, MAX_WORK
from ticgrpo_theory.exact.groups.every_group import NotAffordable
from ticgrpo_theory.exact.groups.outcomes import split
from ticgrpo_theory.exact.groups.sizes import multisets
from ticgrpo_theory.exact.updates.one_row import integer_sums as sums
from ticgrpo_theory.exact.updates.one_row.integer_sums import Grid, Spread, Sums
from ticgrpo_theory.exact.updates.one_row.pool import Pool

STEP_COST, VALUE_COST, PRODUCT_COST = 0.2, 60.0, 1.0
"""Nanoseconds for one term of a convolution, for A at one state, and for one term of its expectation."""


Table = Float64[np.ndarray, "2 m n"]
"""E[A^s ... | reward value, length]."""


class Statistics(ABC):
    """E[A^s | own reward and length] for every prompt, rows tilted by exp(-u length) where u is given."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.update = pool, pool.update

    def tables(self, own: float, others: float) -> list[Table]:
        """Own group tilted at u = `own`, the other groups at u = `others`; the own row itself is not."""
        own_values, rest = self.spreads(own), self.rest(self.spreads(others))
        return [
            self.given_one(q, one, other) for q, (one, other) in enumerate(zip(own_values, rest, strict=True))
        ]

    def tilted(self, u: float) -> list[Float64[np.ndarray, " m"]]:
        """p_v phi_v(u) of every prompt."""
        decay = np.exp(-u * self.pool.lengths.value)
        return [table @ decay for table in self.pool.joint]

    def rest(self, rows: list[Spread]) -> list[Spread]:
        """The other groups of the update, for a row of every prompt, from what one row of each adds."""
        if self.update.each:
            return sums.without_each([self.of_group(one) for one in rows])
        return [self.drawn(rows, self.update.P - 1)] * len(rows)

    def drawn(self, rows: list[Spread], count: int) -> Spread:
        """`count` groups whose prompts are drawn, from what one row of each prompt adds."""
        groups = [self.of_group(one) for one in rows]
        return sums.times(sums.mixture(self.update.weights, groups), count)

    @abstractmethod
    def spreads(self, u: float) -> list[Spread]:
        """What one row of every prompt adds."""

    @abstractmethod
    def of_group(self, one: Spread) -> Spread:
        """What the statistics read of a group whose rows add `one` each."""

    @abstractmethod
    def given_one(self, q: int, one: Spread, rest: Spread) -> Table:
        """E[A^s | value, length] of a row of prompt q; `one`: what another row of its group adds."""

    @abstractmethod
    def cost(self, nodes: int) -> tuple[float, float]:
        """(predicted nanoseconds, numbers held)."""

    def check(self, nodes: int) -> None:
        """Raise NotAffordable for what takes too long or holds too many numbers."""
        refuse_too_large(self.pool, *self.cost(nodes), "the sums of")

    def convolutions(self, grid: Grid, terms: int | float, nodes: int) -> float:
        """Predicted nanoseconds of the sums of all groups."""
        P, share = self.update.P, 1 / (1 + grid.points.shape[1])
        rounds = P * max(1.0, math.log2(P)) if self.update.each else float(P)
        return STEP_COST * nodes * rounds * grid.size * share * terms


def refuse_too_large(pool: Pool, cost: float, held: float, what: str) -> None:
    """Raise NotAffordable for sums that take too long or hold too many numbers."""
    if cost > MAX_WORK or held > MAX_VALUES:
        raise NotAffordable(
            f"{what} the B = P G = {pool.update.B:,} rows of {len(pool.rows)} prompts with "
            f"{pool.value.size} reward values take about {cost / 1e9:,.0f} s and {held:,.0f} numbers, more "
            f"than MAX_WORK = {MAX_WORK / 1e9:.0f} s or MAX_VALUES = {MAX_VALUES:,}: lower P, G, the lengths "
            f"or the number of reward values"
        )


class OfAllRows(Statistics):
    """A reads its own type, a reward value or with its length, and the sums of all rows."""

    grid: Grid

    @property
    def offsets(self) -> Int64[np.ndarray, " K"]:
        """What a row of every type adds."""
        return self.grid.offsets

    @cached_property
    def value_of(self) -> Int64[np.ndarray, " K"]:
        """Reward value of every type."""
        return np.arange(self.pool.value.size)

    @cached_property
    def advantages(self) -> list[Float64[np.ndarray, " N"]]:
        """What multiplies a row of every value at every sum of an update; 0 at sums that none has."""
        index = self.total()
        found = [np.zeros(self.grid.shape_size) for _ in self.pool.value]
        for table, A in zip(found, self.advantages_at(self.grid.states(index)), strict=True):
            table[index] = A
        return found

    @cached_property
    def signed(self) -> list[Float64[np.ndarray, "2 N"]]:
        """The positive and the negative part of each."""
        return [split(A) for A in self.advantages]

    @abstractmethod
    def total(self) -> Int64[np.ndarray, " N"]:
        """Flat indices that hold all sums of an update."""

    @abstractmethod
    def advantages_at(self, states: Int64[np.ndarray, "N d"]) -> list[Float64[np.ndarray, " N"]]:
        """A of a row of every value where all rows have these sums."""

    @abstractmethod
    def types(self, q: int) -> Int64[np.ndarray, " n"]:
        """Types in the loss that a row of prompt q can have."""

    def of_group(self, one: Spread) -> Spread:
        return sums.times(one, self.update.G)

    def given_one(self, q: int, one: Spread, rest: Spread) -> Table:
        spread = sums.dense(self.with_mates(rest, one))
        found = np.zeros((2, self.offsets.size))
        for k in self.types(q).tolist():
            tables, shift = self.signed[int(self.value_of[k])], int(self.offsets[k])
            found[:, k] = [spread.of(table, shift) for table in tables]
        return self.table(found)

    def with_mates(self, rest: Spread, one: Spread) -> Spread:
        """The sums of all rows but one, from those of the other groups."""
        return sums.plus(rest, sums.times(one, self.update.G - 1))

    @abstractmethod
    def table(self, found: Float64[np.ndarray, "2 K"]) -> Table:
        """What is known of every type at every reward value and length."""


class OfRewards(OfAllRows):
    """batch_standardised: mean and variance of all rewards."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        found = sums.sums_of(pool.value, pool.update.B)
        assert found is not None
        self.sums: Sums = found
        self.grid = Grid(found.points, pool.update.B)

    def spreads(self, u: float) -> list[Spread]:
        return [sums.spread_of(self.grid.offsets, p) for p in self.tilted(u)]

    def total(self) -> Int64[np.ndarray, " N"]:
        rows = self.spreads(0.0)
        if not self.update.each:
            return self.drawn(rows, self.update.P).index
        found = sums.NOTHING
        for one in rows:
            found = sums.plus_times(found, one, self.update.G)
        return found.index

    def advantages_at(self, states: Int64[np.ndarray, "N d"]) -> list[Float64[np.ndarray, " N"]]:
        moments, B = self.sums.moments(states, self.update.B), self.update.B
        return [A_of(self.pool.advantage, float(v), moments, moments[1], B) for v in self.pool.value]

    @cached_property
    def values_of(self) -> list[Int64[np.ndarray, " n"]]:
        """Reward values of every prompt."""
        return [np.flatnonzero(table.sum(axis=1) > 0) for table in self.pool.joint]

    def types(self, q: int) -> Int64[np.ndarray, " n"]:
        return self.values_of[q]

    def table(self, found: Float64[np.ndarray, "2 K"]) -> Table:
        return of_every_length(found, self.pool)

    def cost(self, nodes: int) -> tuple[float, float]:
        m, prompts = self.pool.value.size, len(self.pool.rows)
        # No more sums than ways to share out the rows among the values.
        own = float(min(Grid(self.sums.points, self.update.G).size, multisets(m, self.update.G)))
        every = float(min(self.grid.size, multisets(m, self.update.B)))
        values = (VALUE_COST + nodes * prompts * PRODUCT_COST) * every * m
        return self.convolutions(self.grid, own, nodes) + values, (4 + 3 * m) * self.grid.size


def of_every_length(table: Float64[np.ndarray, "2 m"], pool: Pool) -> Table:
    """The same at every length: the statistics read none."""
    return np.repeat(table[:, :, None], pool.lengths.value.size, axis=2)


def A_of(
    advantage: SpreadAdvantage,
    value: float,
    centre: tuple[np.ndarray, np.ndarray],
    variance: np.ndarray,
    count: np.ndarray | int,
) -> np.ndarray:
    """A of rows of one reward, by the formula of training; exactly 0 where the rows of `centre` are equal."""
    mean, own, n = (from_numpy(full(x, variance)) for x in (*centre, count))
    above = (value - mean).where(own != 0, 0.0)
    return advantage.of_moments(above, 0.0 * mean, from_numpy(full(variance, variance)), n).numpy()


def full(x: np.ndarray | int, like: np.ndarray) -> Float64[np.ndarray, " N"]:
    """`x` as an array of its own of that shape, where it is not yet one."""
    found = np.asarray(x, dtype=np.float64)
    return found if found.shape == like.shape else np.broadcast_to(found, like.shape).copy()
