"""The rewards and lengths that a response can have, with their probabilities, as groups of G draw them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float64, Int64, Shaped
from torch import Tensor, from_numpy

from ticgrpo_theory.estimators.advantage import reads_differences
from ticgrpo_theory.estimators.advantages import Advantage, limit_of
from ticgrpo_theory.estimators.scales import Scale, pools_lengths
from ticgrpo_theory.exact.groups.in_update import InUpdate
from ticgrpo_theory.stats.rounding import deviation
from ticgrpo_theory.worlds.compiling import kernel

AnyAdvantage = Advantage | Callable[[Tensor], Tensor]

INFINITE = 2**50
"""Group size at which scales are read for an infinite group: a power of two, so that 1/G and G cancel."""

FEW = 32
"""Distinct values up to which they are searched one after another instead of sorted."""


@dataclass(frozen=True, eq=False)
class Types:
    """Distinct values in increasing order, their probabilities, and the index of every outcome (-1: none)."""

    value: Float64[np.ndarray, " m"]
    prob: Float64[np.ndarray, " m"]
    index: Int64[np.ndarray, " O"]


def distinct(value: Float64[np.ndarray, " O"], prob: Float64[np.ndarray, " O"]) -> Types:
    """The distinct values among outcomes of positive probability, in one pass where they are few."""
    index = np.full(value.size, -1, dtype=np.int64)
    values = np.empty(FEW)
    count = few_values(value, prob, index, values)
    if count > FEW:
        possible = prob > 0
        values, index[possible] = np.unique(value[possible], return_inverse=True)
    else:
        order = np.argsort(values[:count])
        rank = np.append(np.argsort(order), -1)
        values, index = values[order], rank[index]
    weights = np.bincount(index + 1, weights=prob, minlength=values.size + 1)[1:]
    return Types(values, weights / weights.sum(), index)


@kernel
def few_values(value, prob, index, values):
    """Number every distinct value in order of appearance; stops where there are more than `values` holds."""
    count, last = 0, 0
    for o in range(value.size):
        if prob[o] > 0:
            # Neighbours in a graph often share their reward: the last one found is tried first.
            if count == 0 or value[o] != values[last]:
                last = 0
                while last < count and value[o] != values[last]:
                    last += 1
                if last == count:
                    if count == values.size:
                        return count + 1
                    values[count] = value[o]
                    count += 1
            index[o] = last
    return count


@kernel
def extremes(value, prob):
    """(least, largest) of the values of positive probability."""
    least, largest = np.inf, -np.inf
    for o in range(value.size):
        if prob[o] > 0:
            least, largest = min(least, value[o]), max(largest, value[o])
    return least, largest


@dataclass(frozen=True, eq=False)
class Scaled:
    """An advantage and the rewards it is given, in a unit in which squares of differences stay in float64."""

    advantage: AnyAdvantage
    reward: Float64[np.ndarray, " O"]
    unit: float = 1.0
    origin: float = 0.0
    """The least reward in that unit, where only differences are read."""


def scaled(
    advantage: AnyAdvantage, reward: Float64[np.ndarray, " O"], prob: Float64[np.ndarray, " O"]
) -> Scaled:
    """The same advantage of r / unit, where it is known to read differences of rewards alone.

    Raises ValueError where a difference of rewards leaves float64.
    """
    least, largest = extremes(reward, prob)
    if not reads_differences(advantage) or not least < largest:
        return Scaled(advantage, reward)
    if not math.isfinite(largest - least):
        raise ValueError(
            f"rewards lie between {least:.6g} and {largest:.6g}, and their difference leaves float64: divide "
            f"all of them by a constant"
        )
    unit = 1.0 if 1 / FAR < largest - least < FAR else 2.0 ** math.frexp(largest - least)[1]
    in_units = advantage.in_units(unit) if unit != 1 else None
    if in_units is None:
        unit, in_units = 1.0, advantage
    return Scaled(in_units, reward if unit == 1 else reward / unit, unit, least / unit)


FAR = 2.0**64
"""Largest difference of two rewards, or one over the smallest, whose square is safe times any probability."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Outcomes with their reward, length and probability, seen by an advantage and a scale in groups of G.

    The rewards are those that `scaled` gives, in units of `unit`; mu and sigma are counted from `origin`.
    """

    advantage: AnyAdvantage
    scale: Scale
    reward: Float64[np.ndarray, " O"]
    length: Float64[np.ndarray, " O"]
    prob: Float64[np.ndarray, " O"]
    group_size: int | float
    horizon: int | None
    unit: float = 1.0
    origin: float = 0.0

    @property
    def infinite(self) -> bool:
        return self.group_size == math.inf

    @property
    def G(self) -> int:
        """The group size, where it is finite."""
        return int(self.group_size)

    @cached_property
    def rewards(self) -> Types:
        return distinct(self.reward, self.prob)

    @cached_property
    def above(self) -> Float64[np.ndarray, " O"]:
        """Rewards counted from the origin."""
        return self.reward - self.origin if self.origin != 0 else self.reward

    @cached_property
    def lengths(self) -> Types:
        return distinct(self.length, self.prob)

    @cached_property
    def pools(self) -> bool:
        """Whether the lengths of the others reach the scale: they do not where all lengths are equal."""
        several = self.lengths.value.size > 1 or isinstance(self.scale, InUpdate)
        return not self.infinite and pools_lengths(self.scale) and several

    @cached_property
    def mean(self) -> float:
        """mu = E[r] counted from the origin; the common reward, unrounded, where all rewards are equal."""
        values = self.rewards.value - self.origin
        return float(values @ self.rewards.prob) if self.varies else float(values[0])

    @cached_property
    def std(self) -> float:
        """sigma of r; 0 where all rewards are equal."""
        if not self.varies:
            return 0.0
        return deviation(self.rewards.prob, self.rewards.value - self.origin - self.mean)

    @property
    def variance(self) -> float:
        """sigma^2 of r; 0 where all rewards are equal."""
        return self.std**2

    @property
    def varies(self) -> bool:
        return self.rewards.value.size > 1

    @cached_property
    def own_scale(self) -> Float64[np.ndarray, " O"]:
        """G scale_1 of every outcome where the others' lengths are not read; 0 where it has no probability or
        no token in the loss."""
        size, mean_length = INFINITE if self.infinite else self.G, 1.0
        if pools_lengths(self.scale):
            # Where a finite group comes here its possible responses have one length.
            mean_length = float(self.lengths.value @ self.lengths.prob)
        own = from_numpy(np.maximum(self.length, 1.0))
        total = torch.tensor(size * mean_length, dtype=torch.float64)
        inside = (self.prob > 0) & (self.length > 0)
        return (size * self.scale(own, total, size, self.horizon)).numpy() * inside

    @property
    def cell(self) -> Int64[np.ndarray, " O"]:
        """Index of every outcome in the table reward values x lengths; any number where prob is 0."""
        return np.maximum(self.rewards.index, 0) * self.lengths.value.size + np.maximum(self.lengths.index, 0)

    @property
    def limit(self) -> Advantage:
        """The advantage in an infinite group, whose mean and standard deviation are those of the outcomes."""
        return limit_of(self.advantage, self.mean, self.std)


def alone(advantage: AnyAdvantage, reward: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """A of single responses, for an advantage that reads no other response."""
    return advantage(from_numpy(np.ascontiguousarray(reward))[:, None])[:, 0].numpy()


def split(A: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "2 ..."]:
    """max(A, 0) and min(A, 0)."""
    return np.stack([np.maximum(A, 0.0), np.minimum(A, 0.0)])


def outcomes(
    advantage: AnyAdvantage,
    scale: Scale,
    reward: Shaped[np.ndarray, " O"],
    length: Shaped[np.ndarray, " O"],
    prob: Shaped[np.ndarray, " O"],
    group_size: int | float,
    horizon: int | None,
) -> Outcomes:
    """The checked outcomes.

    Raises ValueError for a group size that is no whole number >= 1 or inf, or that the advantage does not
    allow, for rewards that are not finite, and for probabilities that are negative or do not add to 1.
    """
    if group_size != math.inf and not (group_size >= 1 and group_size == int(group_size)):
        raise ValueError(
            f"group_size = {group_size}: a group has a whole number >= 1 of responses, or math.inf"
        )
    if isinstance(advantage, Advantage) and group_size != math.inf:
        advantage.check_group(int(group_size))
    r, n, p = (np.asarray(x, dtype=np.float64) for x in (reward, length, prob))
    if not p.min() >= 0 or not abs(p.sum() - 1) <= 1e-6:
        raise ValueError(
            f"the probabilities of the outcomes have minimum {p.min():.6g} and sum {p.sum():.9g}: give a "
            f"distribution, with entries >= 0 that add to 1"
        )
    if not np.isfinite(r).all():
        first = int(np.flatnonzero(~np.isfinite(r))[0])
        raise ValueError(f"reward[{first}] = {r[first]} is not finite: rewards must be finite numbers")
    given = scaled(advantage, r, p)
    return Outcomes(given.advantage, scale, given.reward, n, p, group_size, horizon, given.unit, given.origin)
