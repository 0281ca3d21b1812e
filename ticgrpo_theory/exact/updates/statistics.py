"""Advantages that read the mean and variance of a whole update: the other rows enter through integer sums.

    batch_standardised        sums of the rewards of the other B - 1 rows
    group_centred_batch_std   those of the own group, with those of the other groups, or with their
                              sums of squares about the means of their groups
    token_whitened            how many tokens of the other rows carry each reward

Conditional on the own row (and on the sums of its group) A is that of training, at the moments of the update.
Where a scale is a mean over tokens the rows are tilted by their lengths, as in token_means.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64
from torch import from_numpy

from ticgrpo_theory.estimators.advantage import UpdateAdvantage
from ticgrpo_theory.estimators.advantages import batch_standardised, group_centred_batch_std, token_whitened
from ticgrpo_theory.exact.groups.choose import MAX_VALUES, MAX_WORK
from ticgrpo_theory.exact.groups.every_group import NotAffordable
from ticgrpo_theory.exact.groups.outcomes import FAR, Types, distinct, extremes, split
from ticgrpo_theory.exact.updates import integer_sums as sums
from ticgrpo_theory.exact.updates.integer_sums import Grid, Spread, Sums
from ticgrpo_theory.exact.updates.rows import Rows
from ticgrpo_theory.exact.updates.update import Update

STEP_COST, VALUE_COST = 1.5, 60.0
"""Nanoseconds for one term of a convolution, and for A at one state."""


@dataclass(frozen=True, eq=False)
class Pool:
    """The rewards and lengths of all rows of an update, in a unit in which squares stay in float64."""

    update: Update
    rows: list[Rows]

    @cached_property
    def drawn(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(reward, length, probability) of all outcomes of all prompts."""
        prob = [q * row.prob for q, row in zip(self.update.weights, self.rows, strict=True)]
        reward, length = [row.reward for row in self.rows], [row.length for row in self.rows]
        return np.concatenate(reward), np.concatenate(length), np.concatenate(prob)

    @cached_property
    def unit(self) -> float:
        """A power of two. Raises ValueError where a difference of rewards leaves float64."""
        least, largest = extremes(self.drawn[0], self.drawn[2])
        if not math.isfinite(largest - least):
            raise ValueError(
                f"rewards lie between {least:.6g} and {largest:.6g}, and their difference leaves float64: "
                f"divide all of them by a constant"
            )
        near = largest == least or 1 / FAR < largest - least < FAR
        return 1.0 if near else 2.0 ** math.frexp(largest - least)[1]

    @cached_property
    def advantage(self) -> UpdateAdvantage:
        """The same A of rewards in this unit."""
        found = self.update.axes.advantage
        assert isinstance(found, UpdateAdvantage)
        return found.in_units(self.unit)

    @cached_property
    def rewards(self) -> Types:
        return distinct(self.drawn[0] / self.unit, self.drawn[2])

    @cached_property
    def lengths(self) -> Types:
        return distinct(self.drawn[1], self.drawn[2])

    @cached_property
    def value(self) -> Float64[np.ndarray, " m"]:
        """Reward values above the least one."""
        return self.rewards.value - self.rewards.value[0]

    @cached_property
    def cells(self) -> list[np.ndarray]:
        """Index of every outcome of every prompt in the table reward values x lengths."""
        cell = np.maximum(self.rewards.index, 0) * self.lengths.value.size + np.maximum(self.lengths.index, 0)
        return np.split(cell, np.cumsum([row.prob.size for row in self.rows])[:-1])

    @cached_property
    def joint(self) -> list[Float64[np.ndarray, "m n"]]:
        """Probability of every (reward value, length) for every prompt."""
        m, n = self.value.size, self.lengths.value.size
        tables = [
            np.bincount(cell, weights=row.prob, minlength=m * n).reshape(m, n)
            for cell, row in zip(self.cells, self.rows, strict=True)
        ]
        return [table / table.sum() for table in tables]

    def split_rows(self, A: np.ndarray, prob: np.ndarray) -> Float64[np.ndarray, " 2"]:
        """E[A+], E[A-] over states."""
        return split(A) @ prob


Table = Float64[np.ndarray, "2 m n"]
"""E[A^s ... | reward value, length]."""


class Statistics:
    """E[A^s | own reward and length] for every prompt, with rows tilted by exp(-u length) where u is "
    "given."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.update = pool, pool.update

    def tables(self, own: float, others: float) -> list[Table]:
        """Own group tilted at u = `own`, the other groups at u = `others`; the own row itself is not."""
        own_values, rest = self.spreads(own), self.rest([self.of_group(s) for s in self.spreads(others)])
        return [
            self.given_one(q, one, other) for q, (one, other) in enumerate(zip(own_values, rest, strict=True))
        ]

    def tilted(self, u: float) -> list[Float64[np.ndarray, " m"]]:
        """p_v phi_v(u) of every prompt."""
        decay = np.exp(-u * self.pool.lengths.value)
        return [table @ decay for table in self.pool.joint]

    def rest(self, groups: list[Spread]) -> list[Spread]:
        """The other groups of the update, for a row of every prompt, from what one group of each adds."""
        if self.update.each:
            return sums.without_each(groups)
        return [sums.times(sums.mixture(self.update.weights, groups), self.update.P - 1)] * len(groups)

    def spreads(self, u: float) -> list[Spread]:
        """What one row of every prompt adds."""
        raise NotImplementedError

    def of_group(self, one: Spread) -> Spread:
        """What the statistics read of a group whose rows add `one` each."""
        raise NotImplementedError

    def given_one(self, q: int, one: Spread, rest: Spread) -> Table:
        """E[A^s | value, length] of a row of prompt q; `one`: what another row of its group adds."""
        raise NotImplementedError

    def cost(self, nodes: int) -> tuple[float, float]:
        """(predicted nanoseconds, numbers held)."""
        raise NotImplementedError

    def check(self, nodes: int) -> None:
        """Raise NotAffordable for what takes too long or holds too many numbers."""
        cost, held = self.cost(nodes)
        if cost > MAX_WORK or held > MAX_VALUES:
            update = self.update
            raise NotAffordable(
                f"the sums of B = P G = {update.B:,} rows with {self.pool.value.size} reward values take "
                f"about {cost / 1e9:,.0f} s and {held:,.0f} numbers, more than MAX_WORK = "
                f"{MAX_WORK / 1e9:.0f} s or MAX_VALUES = {MAX_VALUES:,}: lower P, G, the lengths or the "
                f"number of reward values"
            )

    def convolutions(self, grid: Grid, terms: float, nodes: int) -> float:
        """Predicted nanoseconds of the sums of all groups."""
        P, share = self.update.P, 1 / (1 + grid.points.shape[1])
        rounds = P * max(1.0, math.log2(P)) if self.update.each else float(P)
        return STEP_COST * nodes * rounds * grid.size * share * terms


class OfRewards(Statistics):
    """Mean and variance of all rewards, with the mean of the own group where that is read."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        found = sums.sums_of(pool.value, pool.update.B)
        assert found is not None
        self.sums: Sums = found
        self.grid = Grid(found.points, pool.update.B)

    def spreads(self, u: float) -> list[Spread]:
        return [sums.spread_of(self.grid.offsets, p) for p in self.tilted(u)]

    def of_group(self, one: Spread) -> Spread:
        return sums.times(one, self.update.G)

    def given_one(self, q: int, one: Spread, rest: Spread) -> Table:
        G, B, m = self.update.G, self.update.B, self.pool.value.size
        mates, found = sums.times(one, G - 1), np.zeros((2, m))
        centred = isinstance(self.pool.advantage, group_centred_batch_std)
        # Without the mean of its group, a row meets the sum of all others only.
        parts = [(i, p) for i, p in zip(mates.index, mates.prob, strict=True)] if centred else [(0, 1.0)]
        others = rest if centred else sums.plus(rest, mates)
        states = self.grid.states(others.index)
        for index, chance in parts:
            own = self.grid.states(np.array([index]))
            for v in range(m):
                mean, variance = self.sums.moments(states + own + self.sums.points[v], B)
                centre = self.sums.moments(own + self.sums.points[v], G) if centred else (mean, variance)
                found[:, v] += chance * self.pool.split_rows(
                    A_of(self.pool.advantage, self.pool.value[v], centre, variance, B), others.prob
                )
        return np.repeat(found[:, :, None], self.pool.lengths.value.size, axis=2)

    def cost(self, nodes: int) -> tuple[float, float]:
        own = Grid(self.sums.points, self.update.G).size
        pairs = own if isinstance(self.pool.advantage, group_centred_batch_std) else 1.0
        values = VALUE_COST * nodes * self.grid.size * pairs * self.pool.value.size * len(self.pool.rows)
        return self.convolutions(self.grid, own, nodes) + values, 4 * self.grid.size


class OfCentredSquares(Statistics):
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
        self.sums: Sums = found
        self.grid = Grid(found.points, pool.update.G)

    def spreads(self, u: float) -> list[Spread]:
        return [sums.spread_of(self.grid.offsets, p) for p in self.tilted(u)]

    def of_group(self, one: Spread) -> Spread:
        group = sums.times(one, self.update.G)
        return sums.spread_of(self.sums.spread(self.grid.states(group.index), self.update.G), group.prob)

    def given_one(self, q: int, one: Spread, rest: Spread) -> Table:
        G, B, m = self.update.G, self.update.B, self.pool.value.size
        mates, found, h = sums.times(one, G - 1), np.zeros((2, m)), self.sums.step
        assert h is not None
        for index, chance in zip(mates.index, mates.prob, strict=True):
            for v in range(m):
                own = self.grid.states(np.array([index])) + self.sums.points[v]
                variance = h**2 / (G * B) * (rest.index + self.sums.spread(own, G))
                centre = self.sums.moments(own, G)
                found[:, v] += chance * self.pool.split_rows(
                    A_of(self.pool.advantage, self.pool.value[v], centre, variance, B), rest.prob
                )
        return np.repeat(found[:, :, None], self.pool.lengths.value.size, axis=2)

    def cost(self, nodes: int) -> tuple[float, float]:
        largest = float(self.sums.points[-1, 0] * self.update.G) ** 2 / 4 + 1
        grid = Grid(np.array([[int(largest)]]), self.update.P)
        own = self.grid.size
        values = VALUE_COST * nodes * grid.size * own * self.pool.value.size * len(self.pool.rows)
        return self.convolutions(grid, min(own, largest), nodes) + values, 2 * grid.size


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

    def given_one(self, q: int, one: Spread, rest: Spread) -> Table:
        m, n = self.pool.joint[q].shape
        others, found = sums.plus(rest, sums.times(one, self.update.G - 1)), np.zeros((2, m * n))
        states = self.grid.states(others.index)
        # A row without tokens is not in the loss, whatever its reward.
        for cell in np.flatnonzero((self.pool.joint[q] * self.pool.lengths.value).reshape(-1) > 0):
            tokens = states + self.types[cell]
            count = tokens.sum(axis=1)
            mean = tokens @ self.pool.value / count
            spread = (tokens * (self.pool.value - mean[:, None]) ** 2).sum(axis=1) / count
            variance = np.where((tokens == count[:, None]).any(axis=1), 0.0, spread)
            value = float(self.pool.value[cell // n])
            A = A_of(self.pool.advantage, value, (mean, variance), variance, count)
            found[:, cell] = self.pool.split_rows(A, others.prob)
        return found.reshape(2, m, n)

    def cost(self, nodes: int) -> tuple[float, float]:
        own = Grid(self.types, self.update.G).size
        cells = sum(int((table > 0).sum()) for table in self.pool.joint)
        values = VALUE_COST * nodes * self.grid.size / 2 * cells
        return self.convolutions(self.grid, own, nodes) + values, 6 * self.grid.size


def A_of(
    advantage: UpdateAdvantage,
    value: float,
    centre: tuple[np.ndarray, np.ndarray],
    variance: np.ndarray,
    count: np.ndarray | int,
) -> np.ndarray:
    """A of rows of one reward, by the formula of training; exactly 0 where the rows of `centre` are equal."""
    mean, own = (from_numpy(np.broadcast_to(x, variance.shape).copy()) for x in centre)
    above = (value - mean).where(own != 0, 0.0)
    n = from_numpy(np.broadcast_to(np.float64(1) * count, variance.shape).copy())
    return advantage.of_moments(above, 0.0 * mean, from_numpy(variance.astype(np.float64)), n).numpy()


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
