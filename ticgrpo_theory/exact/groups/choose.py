"""How a sum over groups is carried out: by the cheapest method that applies, or refused."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from ticgrpo_theory.estimators.advantage import has_known_moments, is_linear, reads_differences
from ticgrpo_theory.estimators.advantages import Advantage
from ticgrpo_theory.estimators.one_group import of_rewards_apart
from ticgrpo_theory.estimators.properties import is_ours
from ticgrpo_theory.estimators.scales import Scale
from ticgrpo_theory.exact.group_sums.counts import Counts
from ticgrpo_theory.exact.group_sums.lattice import Lattice, positions, sums, sums_and_squares
from ticgrpo_theory.exact.group_sums.wins import Wins, largest_window
from ticgrpo_theory.exact.groups.every_group import NotAffordable
from ticgrpo_theory.exact.groups.members import CheckedMembers, Members
from ticgrpo_theory.exact.groups.multisets import MAX_GROUPS
from ticgrpo_theory.exact.groups.outcomes import AnyAdvantage, Outcomes
from ticgrpo_theory.exact.groups.sizes import multisets, written

MAX_WORK = 60e9
"""Largest predicted cost of a sum over groups, in nanoseconds of one core: about a minute."""

MAX_VALUES = 2**26
"""Largest number of float64 that a method holds at a time: half a GiB."""

MANY = 2**16
"""Group size beyond which, with at most two reward values, only the likely numbers of each are listed."""

# Nanoseconds for one (group, type) and for one (group, member).
COUNT_COST, MEMBER_COST = 8.0, 20.0

Method = Counts | Members | Lattice


@dataclass(frozen=True)
class Contribution:
    """What a response adds, from the statistics of its group or from the group itself: A, or A G scale."""

    advantage: AnyAdvantage
    group_size: int
    scale: Scale | None = None
    """Set where the scale reads the lengths of the others."""
    horizon: int | None = None

    @cached_property
    def relative(self) -> bool:
        """Whether only differences of rewards are read."""
        return reads_differences(self.advantage)

    def of_moments(self, reward: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """A of a response in a group of known mean and variance."""
        return cast(Advantage, self.advantage).of_moments(reward, mean, variance, self.group_size)

    def of_mean(self, reward: Tensor, mean: Tensor, _: Tensor) -> Tensor:
        """The same for an advantage linear in the rewards: of the variance it reads that it is positive."""
        return self.of_moments(reward, mean, torch.ones_like(mean))

    def of_statistics(
        self, reward: Tensor, length: Tensor, origin: Tensor, above: Tensor, variance: Tensor, total: Tensor
    ) -> Tensor:
        """A, or A G scale, of a response in a group of known mean origin + above, variance and length."""
        if self.relative:
            A = self.of_moments(reward - origin, above, variance)
        else:
            A = self.of_moments(reward, origin + above, variance)
        return self._scaled(A, length, total)

    def of_group(self, reward: Tensor, length: Tensor) -> Tensor:
        """A, or A G scale, of every response of the groups [M, G]."""
        return self._scaled(self.advantage(reward), length, length.sum(dim=-1, keepdim=True))

    def of_groups_apart(self, reward: Tensor, length: Tensor) -> Tensor:
        """The same for an advantage of a user's own, which sees the rewards of one group at a time."""
        A = self.apart(reward)
        return self._scaled(A, length, length.sum(dim=-1, keepdim=True))

    @cached_property
    def apart(self) -> Callable[[Tensor], Tensor]:
        return of_rewards_apart(self.advantage)

    def _scaled(self, A: Tensor, length: Tensor, total: Tensor) -> Tensor:
        if self.scale is None:
            return A
        own, pooled = torch.broadcast_tensors(length, total)
        return A * (self.group_size * self.scale(own, pooled, self.group_size, self.horizon))


def choose(
    contribution: Contribution,
    reward: Float64[np.ndarray, " m"],
    length: Float64[np.ndarray, " m"],
    distributions: int,
) -> Method:
    """The cheapest exact method for these types and this many distributions of them.

    Raises NotAffordable, a ValueError, where all would take more than MAX_WORK or hold more than MAX_VALUES.
    """
    affordable = [
        (cost, method)
        for cost, numbers, method in candidates(contribution, reward, length, distributions)
        if cost <= MAX_WORK and numbers <= MAX_VALUES
    ]
    if affordable:
        return min(affordable, key=lambda found: found[0])[1]
    G, m = contribution.group_size, reward.size
    draw = " or method='sampled', which draws groups" if G <= MANY else ""
    raise NotAffordable(
        f"the expectation over the other G - 1 = {G - 1:,} responses with {m} types (reward values, with "
        f"lengths where the scale reads those of others) lists {written(multisets(m, G))} groups; that is "
        f"more than MAX_WORK = {MAX_WORK / 1e9:.0f} s of work, MAX_VALUES = {MAX_VALUES:,} numbers or "
        f"MAX_GROUPS = {MAX_GROUPS:,} multisets allow; lower G or the number of reward values, put rewards "
        f"on a lattice a + h k (k whole, at most a few hundred), or use group_size=math.inf{draw}"
    )


def candidates(
    contribution: Contribution,
    reward: Float64[np.ndarray, " m"],
    length: Float64[np.ndarray, " m"],
    distributions: int,
) -> Iterator[tuple[float, float, Method]]:
    """(predicted nanoseconds, numbers held at a time, method) of every method that is exact here."""
    G, m = contribution.group_size, reward.size
    listed = multisets(m, G)
    if listed <= MAX_GROUPS:
        if is_ours(contribution.advantage):
            members = Members(contribution.of_group, reward, length, G)
        else:
            kind = CheckedMembers if G > 1 else Members
            members = kind(contribution.of_groups_apart, reward, length, G)
        yield MEMBER_COST * listed * G * distributions, 16.0 * G, members
    if not has_known_moments(contribution.advantage):
        return
    counts = Counts(contribution.of_statistics, reward, length, G)
    yield COUNT_COST * listed * m * (1 + distributions / 2), m * (G + 1.0) * distributions, counts
    if m <= 2 and G > MANY:
        vectors = largest_window(G)
        wins = Wins(contribution.of_statistics, reward, length, G)
        yield COUNT_COST * vectors * m * 1.5 * distributions, 2 * vectors, wins
    on_a_line = contribution.scale is None and m > 1
    k = positions(reward) if on_a_line else None
    if k is not None:
        reward = reward - reward[0] if contribution.relative else reward
        lattice = Lattice(contribution.of_moments, reward, sums_and_squares(k), G)
        if is_linear(contribution.advantage):
            lattice = Lattice(contribution.of_mean, reward, sums(k), G)
        yield lattice.predicted_cost(distributions), m * lattice.predicted_states, lattice


def over_rewards(case: Outcomes, distributions: int) -> Method:
    """The method over reward values, for scales that the lengths of others do not enter.

    Raises ValueError as `choose`.
    """
    values = case.rewards.value
    return choose(Contribution(case.advantage, case.G), values, np.zeros_like(values), distributions)
