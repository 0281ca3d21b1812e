"""Axis `advantage`: from the rewards of one group [*b, G], or of a whole update [*b, P, G], to A.

Every advantage of a group is a frozen dataclass with two entries to the *same* formula: `__call__(reward)`
for a group at hand, and `of_moments(reward, mean, variance, group_size)` where only the group's mean and
variance (with 1/G, exactly 0 if and only if all rewards are equal) are known, as in expectations over the
rest of a group. `at(mean, std)` is the advantage once the mean and standard deviation of r under theta_old
are known; `limit(mean, std)` is its value for group_size = infinity. `linear` says that A is linear in the
rewards, `relative` that it reads only their differences: these are then taken first, so that a constant of
1e9 added to all rewards costs no digit. `in_units(unit)` is the same A as a function of r / unit.

Those of a whole update read its P groups of G responses together; a group that is left out weighs 0.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.advantage import (
    Advantage,
    Moment,
    SpreadAdvantage,
    UpdateAdvantage,
    centred_by_group,
    check_deviation,
    moments_of,
)
from ticgrpo_theory.estimators.properties import Reads, method_is_newer, reads


@dataclass(frozen=True)
class standardised(Advantage):
    """A[i] = (r[i] - mean_G) / (std_G + delta), std with 1/(G - ddof); A = 0 where all rewards are equal.

    Raises ValueError for delta < 0 and a ddof that is neither 0 nor 1.
    Source: arXiv:2508.02833 v2, Sec. 2.2 (ddof 0; delta as in Algorithms 1 and 2).
    """

    delta: float = 1e-6
    ddof: int = 0
    relative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_deviation(self.delta, self.ddof)

    @property
    def min_group(self) -> int:  # type: ignore[override]
        return 1 + self.ddof

    @reads(Reads.REWARDS_AND_LENGTHS)
    def of_moments(self, reward: Tensor, mean: Tensor, variance: Tensor, group_size: int) -> Tensor:
        std = (variance * (group_size / (group_size - self.ddof))).sqrt()
        # Divide by 1 where the result is 0 by definition: 0 / (0 + 0) would be NaN at delta = 0.
        return ((reward - mean) / (std + self.delta).where(variance != 0, 1.0)).where(variance != 0, 0.0)

    def in_units(self, unit: float) -> Advantage:
        return dataclasses.replace(self, delta=self.delta / unit)

    def limit(self, mean: Moment, std: Moment) -> Advantage:
        return population(self.delta).at(mean, std)


@dataclass(frozen=True)
class centred(Advantage):
    """A[i] = r[i] - mean_G. Its own reward is in the mean, so E[A[i] | r[i]] = (1 - 1/G)(r[i] - mu).

    Source: arXiv:2503.20783 v1 (Dr. GRPO), Sec. 3.
    """

    linear: ClassVar[bool] = True
    relative: ClassVar[bool] = True

    @reads(Reads.REWARDS_AND_LENGTHS)
    def of_moments(self, reward: Tensor, mean: Tensor, variance: Tensor, group_size: int) -> Tensor:
        return (reward - mean).where(variance != 0, 0.0)

    def limit(self, mean: Moment, std: Moment) -> Advantage:
        return known_moments(mean, 1.0)


@dataclass(frozen=True)
class leave_one_out(Advantage):
    """A[i] = r[i] - mean of the other G - 1 rewards = G/(G-1) (r[i] - mean_G).

    Source: arXiv:2402.14740 v2 (RLOO), Sec. 3.3.
    """

    linear: ClassVar[bool] = True
    relative: ClassVar[bool] = True
    min_group: ClassVar[int] = 2

    @reads(Reads.REWARDS_AND_LENGTHS)
    def of_moments(self, reward: Tensor, mean: Tensor, variance: Tensor, group_size: int) -> Tensor:
        return ((reward - mean) * (group_size / (group_size - 1))).where(variance != 0, 0.0)

    def limit(self, mean: Moment, std: Moment) -> Advantage:
        return known_moments(mean, 1.0)


@dataclass(frozen=True)
class raw(Advantage):
    """A[i] = r[i]: no baseline, so that a group of equal rewards other than 0 moves the policy."""

    linear: ClassVar[bool] = True

    @reads(Reads.OWN_RESPONSE)
    def of_moments(self, reward: Tensor, mean: Tensor, variance: Tensor, group_size: int) -> Tensor:
        return reward

    def limit(self, mean: Moment, std: Moment) -> Advantage:
        return self


@dataclass(frozen=True)
class known_moments(Advantage):
    """A[i] = (r[i] - origin - mean) / (std + delta), given numbers: no response enters another's advantage.

    A = 0 where std + delta = 0 (all responses have the same reward). Tensors give each group its own numbers.
    Raises ValueError for a std or delta below 0.
    """

    mean: Moment
    std: Moment
    delta: float = 0.0
    origin: Moment = 0.0
    """What `mean` is counted from: a mean of 0.5 above 1e9 has all its digits."""
    linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not torch.as_tensor(self.std >= 0).all() or not self.delta >= 0:
            raise ValueError(f"std = {self.std}, delta = {self.delta}: both must be >= 0")

    @reads(Reads.OWN_RESPONSE)
    def of_moments(self, reward: Tensor, mean: Tensor, variance: Tensor, group_size: int) -> Tensor:
        scale = torch.as_tensor(self.std, dtype=reward.dtype, device=reward.device) + self.delta
        return ((reward - self.origin - self.mean) / scale.where(scale > 0, 1.0)).where(scale > 0, 0.0)

    def limit(self, mean: Moment, std: Moment) -> Advantage:
        return self


@dataclass(frozen=True)
class population(Advantage):
    """A[i] = z[i] = (r[i] - mu) / (sigma + delta) with mu, sigma of r under the theta_old of the moment.

    It becomes `known_moments` once theta_old is known (`at`); on a group alone it raises ValueError.
    """

    delta: float = 0.0
    linear: ClassVar[bool] = True

    @reads(Reads.OWN_RESPONSE)
    def of_moments(self, reward: Tensor, mean: Tensor, variance: Tensor, group_size: int) -> Tensor:
        raise ValueError(
            "population() needs mu and sigma of the reward under theta_old: call .at(mu, sigma) first, "
            "or use known_moments(mu, sigma)"
        )

    def at(self, mean: Moment, std: Moment) -> Advantage:
        # The mean of equal rewards is rounded, and 1e-17 / delta is not 0: without delta the scale is 0, so
        # is A. Callers that pass tensors give such groups their reward itself as the mean.
        unspread = not isinstance(std, Tensor) and std == 0
        return known_moments(mean, std, 0.0 if unspread else self.delta)

    def limit(self, mean: Moment, std: Moment) -> Advantage:
        return self.at(mean, std)


@dataclass(frozen=True)
class batch_standardised(SpreadAdvantage):
    """A[p,i] = (r[p,i] - mean) / (std + delta), mean and std over all B = P G rewards of the update.

    std has the divisor B - ddof; A = 0 where all B rewards are equal. Prompts of different difficulty share a
    baseline: an easy prompt has positive advantages on average, a hard one negative ones.
    Source: arXiv:2501.03262 (REINFORCE++), where whole batches are normalised.
    """

    def over(
        self, reward: Float[Tensor, "*b P G"], length: Float[Tensor, "*b P G"], kept: Float[Tensor, "*b P 1"]
    ) -> Float[Tensor, "*b P G"]:
        return self.of_moments(*moments_of(reward, kept.expand_as(reward)))


@dataclass(frozen=True)
class group_centred_batch_std(SpreadAdvantage):
    """A[p,i] = (r[p,i] - mean of group p) / (s + delta), s one number of the whole update.

    of="centred": s^2 = sum (r - mean of its group)^2 / (B - ddof), the root mean square of the numerators;
    of="rewards": s is the standard deviation of all B rewards, with the differences between prompts in it.
    A = 0 where s = 0. Both are in use under one name.
    Source: arXiv:2508.08221 (Lite PPO), for the second.
    """

    of: str = "centred"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.of not in ("centred", "rewards"):
            raise ValueError(
                f"of = {self.of!r}: choose 'centred' (root mean square of r minus the mean of its group) or "
                f"'rewards' (standard deviation of all rewards of the update)"
            )

    def over(
        self, reward: Float[Tensor, "*b P G"], length: Float[Tensor, "*b P G"], kept: Float[Tensor, "*b P 1"]
    ) -> Float[Tensor, "*b P G"]:
        centred = centred_by_group(reward)
        weight = kept.expand_as(reward)
        if self.of == "rewards":
            _, _, variance, count = moments_of(reward, weight)
        else:
            count = weight.sum(dim=(-2, -1), keepdim=True)
            variance = (weight * centred.square()).sum(dim=(-2, -1), keepdim=True) / count.clamp(min=1.0)
        return self.of_moments(centred, torch.zeros_like(count), variance, count)


@dataclass(frozen=True)
class token_whitened(SpreadAdvantage):
    """A[p,i] = (r[p,i] - mean) / (std + delta), mean and std over all n tokens of the update that count.

    Each token carries the reward of its response: a reward weighs as much as its response is long. std
    has the divisor n - ddof. A = 0 where all rewards are equal. Released code has 1e-8 under the root instead
    of delta beside it. Source: verl's masked_whiten, ddof = 1.
    """

    reads_lengths: ClassVar[bool] = True

    def over(
        self, reward: Float[Tensor, "*b P G"], length: Float[Tensor, "*b P G"], kept: Float[Tensor, "*b P 1"]
    ) -> Float[Tensor, "*b P G"]:
        return self.of_moments(*moments_of(reward, length * kept))


@dataclass(frozen=True, repr=False)
class length_weighted(UpdateAdvantage):
    """A[i] = r[i] - sum_j |s_j| r[j] / sum_j |s_j|, over the responses of the group.

    A baseline that weighs a reward by the length of its response. A = 0 where all rewards that count are
    equal, and in a group of one response. Source: arXiv:2505.23585 (OPO), the practical baseline.
    """

    factor: float = 1.0
    """What A is multiplied by: the unit of the rewards."""
    reads_lengths: ClassVar[bool] = True

    def __repr__(self) -> str:
        return "length_weighted()"

    def over(
        self, reward: Float[Tensor, "*b P G"], length: Float[Tensor, "*b P G"], kept: Float[Tensor, "*b P 1"]
    ) -> Float[Tensor, "*b P G"]:
        counted = length > 0
        least = reward.masked_fill(~counted, math.inf).amin(dim=-1, keepdim=True)
        largest = reward.masked_fill(~counted, -math.inf).amax(dim=-1, keepdim=True)
        above = (reward - least).where(counted, 0.0)
        mean = (length * above).sum(dim=-1, keepdim=True) / length.sum(dim=-1, keepdim=True).clamp(min=1.0)
        return self.factor * (above - mean).where(least < largest, 0.0)

    def in_units(self, unit: float) -> "length_weighted":
        return dataclasses.replace(self, factor=self.factor * unit)


def needs_moments(advantage: object) -> TypeGuard[Advantage]:
    """Whether the advantage needs mu and sigma of the reward under theta_old, by a method `at`."""
    return isinstance(advantage, Advantage) and type(advantage).at is not Advantage.at


def about_origin(advantage: Advantage, origin: float, mean: float, std: float) -> Advantage:
    """`advantage.at` where mu = origin + mean, which may have more digits than a float64 holds."""
    if type(advantage).at is population.at:
        return dataclasses.replace(advantage.at(mean, std), origin=origin)  # type: ignore[call-arg]
    return advantage.at(origin + mean, std)


def limit_of(advantage: object, mean: Moment, std: Moment) -> Advantage:
    """The advantage in an infinite group, whose mean and std are those of the reward under theta_old.

    Raises ValueError where no limit is stated for this very formula.
    """
    stated = isinstance(advantage, Advantage) and type(advantage).__call__ is Advantage.__call__
    if not stated or not method_is_newer(type(advantage), "limit", "of_moments"):
        raise ValueError(
            f"the advantage {advantage!r} has no known limit for group_size = inf: give it a method "
            f"limit(mean, std), as the classes of ticgrpo_theory.estimators.advantages have"
        )
    return advantage.limit(mean, std)  # type: ignore[union-attr]
