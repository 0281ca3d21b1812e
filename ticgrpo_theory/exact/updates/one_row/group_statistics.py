"""Advantages that read the mean of the own group and the spread of the whole update."""

import numpy as np
from jaxtyping import Float64, Int64

from ticgrpo_theory.exact.groups.every_group import NotAffordable
from ticgrpo_theory.exact.groups.outcomes import split
from ticgrpo_theory.exact.groups.sizes import multisets
from ticgrpo_theory.exact.updates.one_row import integer_sums as sums
from ticgrpo_theory.exact.updates.one_row.integer_sums import Grid, Spread, Sums
from ticgrpo_theory.exact.updates.one_row.pool import Pool
from ticgrpo_theory.exact.updates.one_row.statistics import (
    VALUE_COST,
    A_of,
    Statistics,
    Table,
    of_every_length,
)

MAX_KNOWN = 2**22
"""Numbers A that are kept from one node to the next."""


class OfGroups(Statistics):
    """A = n(own group) / (s(update) + delta): the sums of the own group and of the others apart."""

    sums: Sums
    grid: Grid

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.known: dict[tuple[bytes, bytes], np.ndarray] = {}

    def spreads(self, u: float) -> list[Spread]:
        return [sums.spread_of(self.grid.offsets, p) for p in self.tilted(u)]

    def given_one(self, q: int, one: Spread, rest: Spread) -> Table:
        return of_every_length(self.folded(sums.times(one, self.update.G - 1), rest), self.pool)

    def folded(self, mates: Spread, rest: Spread) -> Float64[np.ndarray, "2 m"]:
        """E[A^s | value] over the sums of the own group and of the others; A is found once for both."""
        key, m = (mates.index.tobytes(), rest.index.tobytes()), self.pool.value.size
        if 2 * m * mates.index.size * rest.index.size > MAX_KNOWN:
            parts = [
                p * (self.values(np.array([i]), rest.index)[:, :, 0] @ rest.prob)
                for i, p in zip(mates.index, mates.prob, strict=True)
            ]
            return np.sum(parts, axis=0)
        if key not in self.known:
            self.known[key] = self.values(mates.index, rest.index)
        return (self.known[key] @ rest.prob) @ mates.prob

    def values(
        self, own: Int64[np.ndarray, " n"], others: Int64[np.ndarray, " N"]
    ) -> Float64[np.ndarray, "2 m n N"]:
        """A+ and A- of a row of every value, where the others add these sums; read by `folded`."""
        raise TypeError(f"{type(self).__name__} folds its sums in a way of its own")


class OfGroupAndRewards(OfGroups):
    """group_centred_batch_std of all rewards: the mean of the own group, the variance of all rewards."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        found = sums.sums_of(pool.value, pool.update.B)
        assert found is not None
        self.sums = found
        self.grid = Grid(found.points, pool.update.B)

    def of_group(self, one: Spread) -> Spread:
        return sums.times(one, self.update.G)

    def values(
        self, own: Int64[np.ndarray, " n"], others: Int64[np.ndarray, " N"]
    ) -> Float64[np.ndarray, "2 m n N"]:
        G, B, m = self.update.G, self.update.B, self.pool.value.size
        found, states = np.empty((2, m, own.size, others.size)), self.grid.states(others)
        for i, index in enumerate(own):
            for v in range(m):
                mine = self.grid.states(np.array([index])) + self.sums.points[v]
                _, variance = self.sums.moments(states + mine, B)
                centre = self.sums.moments(mine, G)
                found[:, v, i] = split(
                    A_of(self.pool.advantage, float(self.pool.value[v]), centre, variance, B)
                )
        return found

    def cost(self, nodes: int) -> tuple[float, float]:
        m, prompts = self.pool.value.size, len(self.pool.rows)
        own = float(min(Grid(self.sums.points, self.update.G).size, multisets(m, self.update.G)))
        every = float(min(self.grid.size, multisets(m, self.update.B)))
        values = VALUE_COST * nodes * every * own * m * prompts
        return self.convolutions(self.grid, own, nodes) + values, 4 * self.grid.size


class OfCentredSquares(OfGroups):
    """Mean of the own group, and the root mean square of all rewards about the means of their groups."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        found = sums.sums_of(pool.value, pool.update.G, lattice=True)
        if found is None:
            raise NotAffordable(
                f"squares about the means of groups are whole numbers only for rewards on a lattice a + h k, "
                f"and these {pool.value.size} are on none: round the rewards, or take a small world for "
                f"method='groups'"
            )
        self.sums = found
        self.grid = Grid(found.points, pool.update.G)

    def of_group(self, one: Spread) -> Spread:
        group = sums.times(one, self.update.G)
        return sums.spread_of(self.sums.spread(self.grid.states(group.index), self.update.G), group.prob)

    def values(
        self, own: Int64[np.ndarray, " n"], others: Int64[np.ndarray, " N"]
    ) -> Float64[np.ndarray, "2 m n N"]:
        G, B, m, h = self.update.G, self.update.B, self.pool.value.size, self.sums.step
        assert h is not None
        found = np.empty((2, m, own.size, others.size))
        for i, index in enumerate(own):
            for v in range(m):
                mine = self.grid.states(np.array([index])) + self.sums.points[v]
                variance = h**2 / (G * B) * (others + self.sums.spread(mine, G))
                centre = self.sums.moments(mine, G)
                found[:, v, i] = split(
                    A_of(self.pool.advantage, float(self.pool.value[v]), centre, variance, B)
                )
        return found

    def cost(self, nodes: int) -> tuple[float, float]:
        largest = float(self.sums.points[-1, 0] * self.update.G) ** 2 / 4 + 1
        grid = Grid(np.array([[int(largest)]]), self.update.P)
        own = self.grid.size
        values = VALUE_COST * nodes * grid.size * own * self.pool.value.size * len(self.pool.rows)
        return self.convolutions(grid, min(own, largest), nodes) + values, 2 * grid.size
