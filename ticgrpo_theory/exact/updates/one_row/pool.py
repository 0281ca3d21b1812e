"""The rewards and lengths of all rows of an update together."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64

from ticgrpo_theory.estimators.advantage import SpreadAdvantage
from ticgrpo_theory.estimators.advantages import length_weighted
from ticgrpo_theory.exact.groups.outcomes import FAR, Types, distinct, extremes
from ticgrpo_theory.exact.updates.one_row.rows import Rows
from ticgrpo_theory.exact.updates.update import Update


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
    def advantage(self) -> SpreadAdvantage:
        """The same A of rewards in this unit."""
        found = self.update.axes.advantage
        assert isinstance(found, SpreadAdvantage)
        return found.in_units(self.unit)

    @property
    def baseline(self) -> length_weighted:
        """The same of an advantage with a baseline by lengths."""
        found = self.update.axes.advantage
        assert isinstance(found, length_weighted)
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
