"""Axis `advantage`: from the rewards of one group [*b, G] to A [*b, G].

Every advantage is a frozen dataclass with two entries to the *same* formula: `__call__(reward)` for a group
that is at hand, and `of_moments(reward, mean, variance, group_size)` where only the group's mean and variance
(with 1/G, exactly 0 if and only if all rewards are equal) are known, as in expectations over the rest of a
group. `at(mean, std)` is the advantage once the mean and standard deviation of r under theta_old are known;
`limit(mean, std)` is its value for group_size = infinity. `linear` says that A is linear in the rewards,
`relative` that it reads only their differences: these are then taken first, so that a constant of 1e9 added
to all rewards costs no digit. `in_units(unit)` is the same A as a function of r / unit.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.properties import (
    Reads,
    declared,
    declared_call,
    in_package,
    is_ours,
    method_is_newer,
    reads,
)

SAFE = 8.0
"""A variance this many times the smallest normal number still has all its digits."""

Moment = float | Float[Tensor, "*b 1"]
"""A moment of the reward: one number, or one for each group."""


@dataclass(frozen=True)
class Advantage:
    """The common part: group statistics, taken the same way whatever the leading axes.

    Means are sums over G in a fixed order divided by G, so that one replicate alone and a thousand together
    give the same bits (`torch.std` reduces in another order at batch size 1).
    """

    linear: ClassVar[bool] = False
    relative: ClassVar[bool] = False
    min_group: ClassVar[int] = 1

    def __call__(self, reward: Float[Tensor, "*b G"]) -> Float[Tensor, "*b G"]:
        group_size = reward.shape[-1]
        self.check_group(group_size)
        if reads_differences(self):
            reward = reward - reward.amin(dim=-1, keepdim=True)
        mean = reward.mean(dim=-1, keepdim=True)
        variance = (reward - mean).square().mean(dim=-1, keepdim=True)
        # Three rewards of 0.1 have variance 2e-34, not 0: equality is decided on the rewards themselves.
        equal = reward.amax(dim=-1, keepdim=True) == reward.amin(dim=-1, keepdim=True)
        # Squares of differences below 1e-154 or above 1e154 leave float64: nan instead of 0 or inf.
        lost = (variance < SAFE * torch.finfo(variance.dtype).tiny) | (variance == math.inf)
        variance = variance.masked_fill(lost, math.nan).masked_fill(equal, 0.0)
        return self.of_moments(reward, mean, variance, group_size)

    def of_moments(self, reward: Tensor, mean: Tensor, variance: Tensor, group_size: int) -> Tensor:
        raise TypeError(f"{type(self).__name__} defines no formula of_moments")

    def in_units(self, unit: float) -> "Advantage | None":
        """B with B(r / unit) = A(r) for a power of two; None where A itself has the unit of r."""
        return None

    def at(self, mean: Moment, std: Moment) -> "Advantage":
        return self

    def limit(self, mean: Moment, std: Moment) -> "Advantage":
        raise TypeError(f"{type(self).__name__} defines no limit for an infinite group")

    def check_group(self, group_size: int) -> None:
        if group_size < self.min_group:
            raise ValueError(
                f"{self!r} is undefined for a group of {group_size}; it needs group_size >= "
                f"{self.min_group}: draw more responses for a prompt or choose another advantage"
            )


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
        if not self.delta >= 0:
            raise ValueError(
                f"delta = {self.delta}: the constant added to the standard deviation must be >= 0"
            )
        if self.ddof not in (0, 1):
            raise ValueError(
                f"ddof = {self.ddof}: the standard deviation divides by G - ddof with ddof 0 or 1"
            )

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


def has_known_moments(advantage: object) -> TypeGuard[Advantage]:
    """Whether the advantage is a declared function of its own reward and the group's mean and variance."""
    return (
        isinstance(advantage, Advantage)
        and type(advantage).__call__ is Advantage.__call__
        and reads_of(advantage) is not None
        and is_ours(type(advantage).of_moments)
    )


def reads_differences(advantage: object) -> TypeGuard[Advantage]:
    """Whether A is known not to change where one number is added to all rewards of the group."""
    return (
        isinstance(advantage, Advantage)
        and advantage.relative
        and type(advantage).__call__ is Advantage.__call__
        and is_ours(type(advantage).of_moments)
        and says_itself(advantage, "relative", "in_units")
    )


def is_linear(advantage: Advantage) -> bool:
    """Whether A is known to be linear in the rewards of the group."""
    return advantage.linear and is_ours(type(advantage).of_moments) and says_itself(advantage, "linear")


def says_itself(advantage: Advantage, *names: str) -> bool:
    """Whether these attributes are those of a class of this package: nothing would check a subclass's."""
    return all(
        in_package(next(kind for kind in type(advantage).__mro__ if name in vars(kind)).__module__)
        for name in names
    )


def reads_of(advantage: object) -> Reads | None:
    """What an advantage, or a plain function of the rewards, declares that it reads."""
    if isinstance(advantage, Advantage) and type(advantage).__call__ is Advantage.__call__:
        return declared(type(advantage).of_moments, advantage)
    return declared_call(advantage)


def reads_group(advantage: object) -> bool:
    """Whether A of a response may change with the rewards of the others, as far as is declared."""
    found = reads_of(advantage)
    # What a user declares is a claim, and here nothing would check it.
    return found is None or found > Reads.OWN_RESPONSE or not is_ours(advantage)


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
