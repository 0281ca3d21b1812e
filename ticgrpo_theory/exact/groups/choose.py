"""How a sum over groups is carried out: by the cheapest method that applies, or refused."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from ticgrpo_theory.estimators.advantages import Advantage, has_known_moments
from ticgrpo_theory.estimators.one_group import of_rewards_apart
from ticgrpo_theory.estimators.properties import is_ours
from ticgrpo_theory.estimators.scales import Scale
from ticgrpo_theory.exact.groups.counts import CheckedMembers, Counts, Members
from ticgrpo_theory.exact.groups.lattice import Lattice, positions, sums, sums_and_squares
from ticgrpo_theory.exact.groups.multisets import MAX_GROUPS
from ticgrpo_theory.exact.groups.outcomes import AnyAdvantage, Outcomes

MAX_WORK = 60e9
"""Largest predicted cost of a sum over groups, in nanoseconds of one core: about a minute."""

MAX_VALUES = 2**26
"""Largest table of advantages (reward values x states of the group) that the lattice keeps."""

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
    magnitude: float = 0.0
    """The largest reward before differences were taken, whose last bits are rounded."""

    def of_moments(self, reward: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """A of a response in a group of known mean and variance."""
        return cast(Advantage, self.advantage).of_moments(reward, mean, variance, self.group_size)

    def of_mean(self, reward: Tensor, mean: Tensor, _: Tensor) -> Tensor:
        """The same for an advantage linear in the rewards: of the variance it reads that it is positive."""
        return self.of_moments(reward, mean, torch.ones_like(mean))

    def of_statistics(
        self, reward: Tensor, length: Tensor, mean: Tensor, variance: Tensor, total: Tensor
    ) -> Tensor:
        """A, or A G scale, of a response in a group of known mean, variance and total length."""
        return self._scaled(self.of_moments(reward, mean, variance), length, total)

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

    Raises ValueError where all would cost more than MAX_WORK.
    """
    G, m = contribution.group_size, reward.size
    listed = float(min(math.comb(G + m - 1, G), 10**300))
    costs: dict[float, Method] = {}
    if listed <= MAX_GROUPS:
        if is_ours(contribution.advantage):
            members = Members(contribution.of_group, reward, length, G)
        else:
            order = CheckedMembers if G > 1 else Members
            members = order(contribution.of_groups_apart, reward, length, G)
        costs[MEMBER_COST * listed * G * distributions] = members
    if has_known_moments(contribution.advantage):
        costs[COUNT_COST * listed * m * (1 + distributions / 2)] = Counts(
            contribution.of_statistics, reward, length, G
        )
        k = positions(reward, contribution.magnitude) if contribution.scale is None else None
        if k is not None:
            lattice = Lattice(contribution.of_moments, reward, sums_and_squares(k), G)
            if contribution.advantage.linear:
                lattice = Lattice(contribution.of_mean, reward, sums(k), G)
            if m * lattice.predicted_states <= MAX_VALUES:
                costs[lattice.predicted_cost(distributions)] = lattice
    if not costs or min(costs) > MAX_WORK:
        predicted = f" and would take {min(costs) / 1e9:,.0f} s" if costs else ""
        raise ValueError(
            f"the expectation over the other G - 1 = {G - 1} responses with {m} types (reward values, with "
            f"lengths where the scale reads those of others) lists {listed:.3g} groups{predicted}, more than "
            f"MAX_WORK = {MAX_WORK / 1e9:.0f} s or MAX_GROUPS = {MAX_GROUPS:,} allow; lower G or the number "
            f"of reward values, put rewards on a lattice a + h k (k whole, at most a few hundred), "
            f"or use group_size=math.inf"
        )
    return costs[min(costs)]


def over_rewards(case: Outcomes, distributions: int) -> Method:
    """The method over reward values, for scales that the lengths of others do not enter.

    Raises ValueError as `choose`.
    """
    values = case.rewards.value
    contribution = Contribution(case.advantage, case.G, magnitude=case.magnitude)
    return choose(contribution, values, np.zeros_like(values), distributions)
