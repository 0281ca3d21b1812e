"""Advantages that read the tokens of a whole update, each with the reward of its response."""

from collections.abc import Callable

import numpy as np

from ticgrpo_theory.estimators.advantages import batch_standardised, group_centred_batch_std, token_whitened
from ticgrpo_theory.exact.updates.one_row import integer_sums as sums
from ticgrpo_theory.exact.updates.one_row.integer_sums import Grid, Spread
from ticgrpo_theory.exact.updates.one_row.pool import Pool
from ticgrpo_theory.exact.updates.one_row.statistics import (
    VALUE_COST,
    A_of,
    OfCentredSquares,
    OfRewards,
    Statistics,
    Table,
)


class OfTokens(Statistics):
    """Mean and variance over all tokens, each with the reward of its response."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        m = pool.value.size
        lengths = np.rint(pool.lengths.value).astype(np.int64)
        # A row of l tokens of value v adds l to the sum number v.
        self.types = (lengths[None, :, None] * np.eye(m, dtype=np.int64)[:, None]).reshape(-1, m)
        self.grid = Grid(self.types, pool.update.B)

    def spreads(self, u: float) -> list[Spread]:
        decay = np.exp(-u * self.pool.lengths.value)
        return [sums.spread_of(self.grid.offsets, (table * decay).reshape(-1)) for table in self.pool.joint]

    def of_group(self, one: Spread) -> Spread:
        return sums.times(one, self.update.G)

    def rest(self, rows: list[Spread]) -> list[Spread]:
        if self.update.each or not self.by_rows:
            return super().rest(rows)
        found, G = sums.NOTHING, self.update.G
        for _ in range(self.update.P - 1):
            found = sums.mixture(self.update.weights, [sums.plus_times(found, one, G) for one in rows])
        return [found] * len(rows)

    @property
    def by_rows(self) -> bool:
        """Whether adding row after row, prompt by prompt, is faster than adding groups."""
        return (
            len(self.types) * self.update.G * len(self.pool.rows) < Grid(self.types, self.update.G).size / 2
        )

    def given_one(self, q: int, one: Spread, rest: Spread) -> Table:
        m, n = self.pool.joint[q].shape
        others, found = sums.plus_times(rest, one, self.update.G - 1), np.zeros((2, m * n))
        tokens = self.grid.states(others.index).T.astype(np.float64)
        # A row without tokens is not in the loss, whatever its reward.
        for cell in np.flatnonzero((self.pool.joint[q] * self.pool.lengths.value).reshape(-1) > 0):
            own, value = self.types[cell], float(self.pool.value[cell // n])
            each = [row + more if more else row for row, more in zip(tokens, own.tolist(), strict=True)]
            count = np.sum(each, axis=0)
            mean = sum(row * v for row, v in zip(each, self.pool.value, strict=True)) / count
            spread = sum(row * (v - mean) ** 2 for row, v in zip(each, self.pool.value, strict=True)) / count
            # All tokens have one reward where they have that of the own row.
            variance = np.where(each[cell // n] == count, 0.0, spread)
            A = A_of(self.pool.advantage, value, (mean, variance), variance, count)
            found[:, cell] = np.maximum(A, 0.0) @ others.prob, np.minimum(A, 0.0) @ others.prob
        return found.reshape(2, m, n)

    def cost(self, nodes: int) -> tuple[float, float]:
        own = Grid(self.types, self.update.G).size / 2
        if self.by_rows and not self.update.each:
            own = float(len(self.types) * self.update.G * len(self.pool.rows))
        own += len(self.types) * self.update.G
        cells = sum(int((table > 0).sum()) for table in self.pool.joint)
        values = VALUE_COST * nodes * self.grid.size / 2 * cells
        return self.convolutions(self.grid, own, nodes) + values, 6 * self.grid.size


def statistics_of(pool: Pool) -> Statistics:
    """How the advantage of an update reads it."""
    advantage = pool.advantage
    kinds: dict[type, Callable[[Pool], Statistics]] = {
        batch_standardised: OfRewards,
        token_whitened: OfTokens,
        group_centred_batch_std: OfRewards,
    }
    if isinstance(advantage, group_centred_batch_std) and advantage.of == "centred":
        return OfCentredSquares(pool)
    return kinds[type(advantage)](pool)
