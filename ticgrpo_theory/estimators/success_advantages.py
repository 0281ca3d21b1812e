"""Advantages that weigh a reward by how often its group or its update is right, and a whitened baseline."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.advantage import (
    Advantage,
    Moment,
    SpreadAdvantage,
    UpdateAdvantage,
    centred_by_group,
    moments_of,
)
from ticgrpo_theory.estimators.advantages import known_moments
from ticgrpo_theory.estimators.properties import Reads, reads


@dataclass(frozen=True)
class over_mean(Advantage):
    """A[i] = (r[i] - mean_G) / mean_G; 0 where mean_G is not above 0. Meant for rewards >= 0.

    With rewards 0 and 1 and a share P of successes, the mean of A times the score of whole responses is
    (1 - (1 - P)^(G-1)) / P grad P, which tends to grad log P: the harder a prompt, the more it weighs.
    Source: arXiv:2602.02710 v3 (MaxRL), Theorem 5, groups without a success dropped.
    """

    @reads(Reads.REWARDS_AND_LENGTHS)
    def of_moments(self, reward: Tensor, mean: Tensor, variance: Tensor, group_size: int) -> Tensor:
        varies = (variance != 0) & (mean > 0)
        return ((reward - mean) / mean.where(varies, 1.0)).where(varies, 0.0)

    def in_units(self, unit: float) -> Advantage:
        return self

    def limit(self, mean: Moment, std: Moment) -> Advantage:
        if not torch.as_tensor(mean > 0).all():
            raise ValueError(f"the mean reward is {mean}: over_mean() in an infinite group needs it above 0")
        return known_moments(mean, mean)


@dataclass(frozen=True)
class group_centred_token_whitened(SpreadAdvantage):
    """A[p,i] = (x - mean) / (std + delta), x = r[p,i] - mean of group p, mean and std over all n tokens.

    The mean over tokens of x is not 0 where lengths differ within a group. A = 0 where all rewards of every
    group are equal. Released code has 1e-8 under the root, and n - 1 for n.
    Source: arXiv:2501.03262 (REINFORCE++-baseline), verl's reinforce_plus_plus_baseline, commit b178a3c.
    """

    reads_lengths: ClassVar[bool] = True

    def over(
        self, reward: Float[Tensor, "*b P G"], length: Float[Tensor, "*b P G"], kept: Float[Tensor, "*b P 1"]
    ) -> Float[Tensor, "*b P G"]:
        return self.of_moments(*moments_of(centred_by_group(reward), length * kept))


@dataclass(frozen=True, repr=False)
class centred_over_nonzero(UpdateAdvantage):
    """A[p,i] = (r[p,i] - mean of group p) B / m, m of the B rewards of the update not 0, at least 1.

    The fewer responses of an update are right, the more each weighs.
    Source: arXiv:2504.02546 (GPG), as verl, commit b178a3c, computes alpha; the paper counts groups whose
    rewards differ.
    """

    factor: float = 1.0
    """What A is multiplied by: the unit of the rewards."""

    def __repr__(self) -> str:
        return "centred_over_nonzero()"

    def over(
        self, reward: Float[Tensor, "*b P G"], length: Float[Tensor, "*b P G"], kept: Float[Tensor, "*b P 1"]
    ) -> Float[Tensor, "*b P G"]:
        counted = kept * (length > 0)
        B = counted.sum(dim=(-2, -1), keepdim=True)
        m = (counted * (reward != 0)).sum(dim=(-2, -1), keepdim=True).clamp(min=1.0)
        return self.factor * (B / m) * centred_by_group(reward)

    def in_units(self, unit: float) -> "centred_over_nonzero":
        return dataclasses.replace(self, factor=self.factor * unit)
