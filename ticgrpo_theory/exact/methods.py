"""How a sum over groups is carried out: by the cheapest method that applies, or refused."""

import math
from dataclasses import dataclass
from typing import TypeGuard, cast

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, from_numpy

from ticgrpo_theory.estimators.advantages import Advantage
from ticgrpo_theory.estimators.scales import Scale
from ticgrpo_theory.exact.compositions import Counts, Members
from ticgrpo_theory.exact.lattice import Lattice, positions
from ticgrpo_theory.exact.multisets import MAX_GROUPS
from ticgrpo_theory.exact.outcomes import AnyAdvantage

MAX_WORK = 60e9
"""Largest predicted cost of a sum over groups, in nanoseconds of one core: about a minute."""

MAX_VALUES = 2**26
"""Largest table of advantages (reward values x states of the group) that the lattice keeps."""

# Nanoseconds for one (group, type) and for one (group, member).
COUNT_COST, MEMBER_COST = 8.0, 20.0

PROBE = (
    torch.tensor([[-0.6], [0.7]], dtype=torch.float64),
    torch.linspace(-1.9, 2.1, 9, dtype=torch.float64).repeat(3),
    torch.tensor([0.0, 0.04, 1.7], dtype=torch.float64).repeat_interleave(9),
)
"""Rewards, means of the group on both sides of them, and its variances."""

Method = Counts | Members | Lattice


@dataclass(frozen=True)
class Contribution:
    """What a response adds, from the statistics of its group or from the group itself: A, or A G scale."""

    advantage: AnyAdvantage
    group_size: int
    scale: Scale | None = None
    """Set where the scale reads the lengths of the others."""
    horizon: int | None = None

    def of_moments(self, reward: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """A of a response in a group of known mean and variance."""
        return cast(Advantage, self.advantage).of_moments(reward, mean, variance, self.group_size)

    def of_statistics(
        self, reward: Tensor, length: Tensor, mean: Tensor, variance: Tensor, total: Tensor
    ) -> Tensor:
        """A, or A G scale, of a response in a group of known mean, variance and total length."""
        return self._scaled(self.of_moments(reward, mean, variance), length, total)

    def of_group(self, reward: Tensor, length: Tensor) -> Tensor:
        """A, or A G scale, of every response of the groups [M, G]."""
        return self._scaled(self.advantage(reward), length, length.sum(dim=-1, keepdim=True))

    def _scaled(self, A: Tensor, length: Tensor, total: Tensor) -> Tensor:
        if self.scale is None:
            return A
        own, pooled = torch.broadcast_tensors(length, total)
        return A * (self.group_size * self.scale(own, pooled, self.group_size, self.horizon))


def has_moments(advantage: AnyAdvantage) -> TypeGuard[Advantage]:
    """Whether the advantage is a function of the group's mean and variance, and declares that function."""
    return (
        isinstance(advantage, Advantage)
        and type(advantage).of_moments is not Advantage.of_moments
        and type(advantage).__call__ is Advantage.__call__
    )


def reads_group(advantage: AnyAdvantage) -> bool:
    """Whether A of a response moves with the others' rewards: tried with means on both sides of its own."""
    if not has_moments(advantage):
        return True
    A = advantage.of_moments(*PROBE, 4).expand(2, 27)
    return bool((A != A[:, :1]).any())


def choose(
    contribution: Contribution,
    reward: Float64[np.ndarray, " m"],
    length: Float64[np.ndarray, " m"],
    laws: int,
) -> Method:
    """The cheapest exact method for these types and this many laws of them.

    Raises ValueError where all would cost more than MAX_WORK, and for an advantage that does not treat the
    responses of a group alike.
    """
    G, m = contribution.group_size, reward.size
    listed = float(min(math.comb(G + m - 1, G), 10**300))
    costs: dict[float, Method] = {}
    if listed <= MAX_GROUPS:
        members = Members(contribution.of_group, reward, length, G)
        costs[MEMBER_COST * listed * G * laws] = members
    if has_moments(contribution.advantage):
        costs[COUNT_COST * listed * m * (1 + laws / 2)] = Counts(
            contribution.of_statistics, reward, length, G
        )
        k = positions(reward) if contribution.scale is None else None
        if k is not None:
            lattice = Lattice(contribution.of_moments, reward, k, G, contribution.advantage.linear)
            if m * lattice.predicted_states <= MAX_VALUES:
                costs[lattice.predicted_cost(laws)] = lattice
    else:
        check_alike(contribution, reward, length)
    if not costs or min(costs) > MAX_WORK:
        predicted = f" and would take {min(costs) / 1e9:,.0f} s" if costs else ""
        raise ValueError(
            f"the expectation over the other G - 1 = {G - 1} responses with {m} types (reward values, with "
            f"lengths where the scale reads those of others) lists {listed:.3g} groups{predicted}, more than "
            f"MAX_WORK = {MAX_WORK / 1e9:.0f} s or MAX_GROUPS = {MAX_GROUPS:,} allow; lower G or the number "
            f"of reward values, put rewards on a lattice a + h k (k whole, at most a few hundred), or use "
            f"group_size=math.inf"
        )
    return costs[min(costs)]


def check_alike(
    contribution: Contribution, reward: Float64[np.ndarray, " m"], length: Float64[np.ndarray, " m"]
) -> None:
    """Raise ValueError unless reordering a group reorders its advantages, on a few groups."""
    generator = np.random.default_rng(0)
    members = generator.integers(0, reward.size, (8, contribution.group_size))
    A = contribution.of_group(from_numpy(reward[members]), from_numpy(length[members]))
    for order in (
        np.arange(contribution.group_size)[::-1].copy(),
        generator.permutation(contribution.group_size),
    ):
        moved = contribution.of_group(
            from_numpy(reward[members[:, order]]), from_numpy(length[members[:, order]])
        )
        gap = float((moved - A[:, from_numpy(order)]).abs().max())
        if gap > 1e-9 * max(1.0, float(A.abs().max())):
            raise ValueError(
                f"the advantage {contribution.advantage!r} depends on the order of the responses in a group: "
                f"reordering moves it by {gap:.3g}; use expected_gradient(..., method='groups'), which then "
                f"lists ordered groups"
            )
