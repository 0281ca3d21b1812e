"""Advantages that read the tokens of a whole update, each with the reward of its response."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64

from ticgrpo_theory.estimators.advantages import (
    batch_standardised,
    group_centred_batch_std,
    length_weighted,
    token_whitened,
)
from ticgrpo_theory.estimators.scales import batch_token_mean
from ticgrpo_theory.exact.updates.one_row import integer_sums as sums
from ticgrpo_theory.exact.updates.one_row.group_statistics import OfCentredSquares, OfGroupAndRewards
from ticgrpo_theory.exact.updates.one_row.integer_sums import Grid, Spread
from ticgrpo_theory.exact.updates.one_row.pool import Pool
from ticgrpo_theory.exact.updates.one_row.statistics import (
    PRODUCT_COST,
    STEP_COST,
    VALUE_COST,
    A_of,
    OfAllRows,
    OfRewards,
    Statistics,
    Table,
)


class OfTokens(OfAllRows):
    """token_whitened: mean and variance over all tokens. A type is a reward value with a length.

    A mean over all tokens reads the same sums: what multiplies a row is then B A / tokens.
    """

    knows_total = True
    """Whether the tokens of the whole update are among the sums."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        m = pool.value.size
        lengths = np.rint(pool.lengths.value).astype(np.int64)
        # A row of l tokens of value v adds l to the sum number v.
        self.points = (lengths[None, :, None] * np.eye(m, dtype=np.int64)[:, None]).reshape(-1, m)
        self.grid = Grid(self.points, pool.update.B)

    @cached_property
    def value_of(self) -> Int64[np.ndarray, " K"]:
        return np.repeat(np.arange(self.pool.value.size), self.pool.lengths.value.size)

    def spreads(self, u: float) -> list[Spread]:
        decay = np.exp(-u * self.pool.lengths.value)
        return [sums.spread_of(self.grid.offsets, (table * decay).reshape(-1)) for table in self.pool.joint]

    def drawn(self, rows: list[Spread], count: int) -> Spread:
        if not self.by_rows:
            return super().drawn(rows, count)
        found, G = sums.NOTHING, self.update.G
        for _ in range(count):
            found = sums.mixture(self.update.weights, [sums.plus_times(found, one, G) for one in rows])
        return found

    def with_mates(self, rest: Spread, one: Spread) -> Spread:
        return sums.plus_times(rest, one, self.update.G - 1)

    @property
    def by_rows(self) -> bool:
        """Whether adding row after row, prompt by prompt, is faster than adding groups."""
        return (
            len(self.points) * self.update.G * len(self.pool.rows) < Grid(self.points, self.update.G).size / 2
        )

    def total(self) -> Int64[np.ndarray, " N"]:
        return np.arange(self.grid.shape_size)

    def advantages_at(self, states: Int64[np.ndarray, "N d"]) -> list[Float64[np.ndarray, " N"]]:
        value, count = self.pool.value, states.sum(axis=1)
        alive = np.maximum(count, 1).astype(np.float64)
        mean = states @ value / alive
        variance = (states * (value - mean[:, None]) ** 2).sum(axis=1) / alive
        # All tokens have one reward where those of some value are all there are.
        variance[(states == count[:, None]).any(axis=1)] = 0.0
        share = self.update.B / alive if self.update.axes.scale is batch_token_mean else 1.0
        return [share * A_of(self.pool.advantage, float(v), (mean, variance), variance, alive) for v in value]

    def types(self, q: int) -> Int64[np.ndarray, " n"]:
        # A row without tokens is not in the loss, whatever its reward.
        return np.flatnonzero((self.pool.joint[q] * self.pool.lengths.value).reshape(-1) > 0)

    def table(self, found: Float64[np.ndarray, "2 K"]) -> Table:
        return found.reshape(2, *self.pool.joint[0].shape)

    def cost(self, nodes: int) -> tuple[float, float]:
        own = Grid(self.points, self.update.G).size / 2
        if self.by_rows and not self.update.each:
            own = float(len(self.points) * self.update.G * len(self.pool.rows))
        own += len(self.points) * self.update.G
        cells, m = sum(int((table > 0).sum()) for table in self.pool.joint), self.pool.value.size
        values = VALUE_COST * self.grid.size * m + PRODUCT_COST * nodes * self.grid.size * cells
        return self.convolutions(self.grid, own, nodes) + values, (6 + 3 * m) * self.grid.size


class OfLengths(OfTokens):
    """length_weighted: the tokens of the own group; of the other groups only how much they are tilted."""

    knows_total = False

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.grid = Grid(self.points, pool.update.G)

    def of_group(self, one: Spread) -> Spread:
        return sums.mass(one, self.update.G)

    def drawn(self, rows: list[Spread], count: int) -> Spread:
        return sums.mass(sums.mixture(self.update.weights, [self.of_group(one) for one in rows]), count)

    def advantages_at(self, states: Int64[np.ndarray, "N d"]) -> list[Float64[np.ndarray, " N"]]:
        value, count = self.pool.value, states.sum(axis=1)
        mean = states @ value / np.maximum(count, 1)
        equal = (states == count[:, None]).any(axis=1)
        return [self.pool.baseline.factor * np.where(equal, 0.0, v - mean) for v in value]

    def cost(self, nodes: int) -> tuple[float, float]:
        m, cells = self.pool.value.size, sum(int((table > 0).sum()) for table in self.pool.joint)
        terms = float(len(self.points) * self.update.G * len(self.pool.rows))
        values = VALUE_COST * self.grid.size * m + PRODUCT_COST * nodes * self.grid.size * cells
        return STEP_COST * nodes * self.grid.size * terms + values, (6 + 3 * m) * self.grid.size


def statistics_of(pool: Pool) -> Statistics:
    """How the advantage of an update reads it."""
    advantage = pool.update.axes.advantage
    kinds: dict[type, Callable[[Pool], Statistics]] = {
        batch_standardised: OfRewards,
        token_whitened: OfTokens,
        group_centred_batch_std: OfGroupAndRewards,
        length_weighted: OfLengths,
    }
    if isinstance(advantage, group_centred_batch_std) and advantage.of == "centred":
        return OfCentredSquares(pool)
    return kinds[type(advantage)](pool)


def knows_total(statistics: Statistics) -> bool:
    """Whether the tokens of the whole update are among the sums: a mean over them needs nothing else."""
    return isinstance(statistics, OfTokens) and statistics.knows_total
