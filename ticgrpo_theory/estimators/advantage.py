"""What every advantage has in common, and what is known of one: the base classes of advantages.py.

An advantage has two entries to the *same* formula: `__call__(reward)` for a group that is at hand, and
`of_moments(reward, mean, variance, group_size)` where only the group's mean and variance (with 1/G, exactly 0
if and only if all rewards are equal) are known, as in expectations over the rest of a group.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.properties import Reads, declared, declared_call, in_package, is_ours, reads

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


def check_deviation(delta: float, ddof: int) -> None:
    """Raise ValueError for constants of a standard deviation that are none."""
    if not delta >= 0:
        raise ValueError(f"delta = {delta}: the constant added to the standard deviation must be >= 0")
    if ddof not in (0, 1):
        raise ValueError(f"ddof = {ddof}: the standard deviation divides by n - ddof with ddof 0 or 1")


@dataclass(frozen=True)
class UpdateAdvantage:
    """The common part of advantages that read lengths, or all B = P G rows of an update [*b, P, G].

    `over(reward, length, kept)`: A of every row, `length` the tokens that count in the loss and `kept` 1 for
    groups that stay in the update, 0 for those that a filter drops; what dropped rows get is not read.
    """

    reads_lengths: ClassVar[bool] = False

    @reads(Reads.REWARDS_AND_LENGTHS)
    def __call__(self, reward: Float[Tensor, "*b G"]) -> Float[Tensor, "*b G"]:
        """A of an update of one group."""
        if self.reads_lengths:
            raise ValueError(
                f"{self!r} reads the lengths of the responses too: give Estimator.token_weights a group, or "
                f"Estimator.update_weights an update"
            )
        ones = torch.ones_like(reward[..., None, :])
        return self.over(reward[..., None, :], ones, ones[..., :1])[..., 0, :]

    def over(self, reward: Tensor, length: Tensor, kept: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} defines no formula over an update")

    def in_units(self, unit: float) -> "UpdateAdvantage":
        """The same A as a function of r / unit."""
        raise TypeError(f"{type(self).__name__} says nothing of units")


@dataclass(frozen=True)
class SpreadAdvantage(UpdateAdvantage):
    """Those that divide by a standard deviation of the update.

    `of_moments` is the formula, from the mean and variance (1/n, exactly 0 where all n rewards are equal) of
    the n rows or tokens. Raises ValueError for delta < 0 and a ddof that is neither 0 nor 1.
    """

    delta: float = 1e-6
    ddof: int = 0

    def __post_init__(self) -> None:
        check_deviation(self.delta, self.ddof)

    def of_moments(self, reward: Tensor, mean: Tensor, variance: Tensor, count: Tensor) -> Tensor:
        """(r - mean) / (std + delta), std^2 = variance n / (n - ddof); 0 where the variance is 0."""
        varies = variance != 0
        # n = ddof leaves no variance: dividing by 1 there keeps NaN away from what is 0 by definition.
        std = (variance * (count / (count - self.ddof).where(varies, 1.0))).sqrt()
        return ((reward - mean) / (std + self.delta).where(varies, 1.0)).where(varies, 0.0)

    def in_units(self, unit: float) -> "SpreadAdvantage":
        return dataclasses.replace(self, delta=self.delta / unit)


def moments_of(
    reward: Float[Tensor, "*b P G"], weight: Float[Tensor, "*b P G"]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(rewards counted from the least one, mean, variance, count) over rows of these weights, some of them 0.

    The variance is exactly 0 where all rewards of positive weight are equal, and NaN where squares of their
    differences leave float64.
    """
    counted, rows = weight > 0, (-2, -1)
    least = reward.masked_fill(~counted, math.inf).amin(dim=rows, keepdim=True)
    largest = reward.masked_fill(~counted, -math.inf).amax(dim=rows, keepdim=True)
    least = least.where(least < math.inf, 0.0)
    above, count = reward - least, weight.sum(dim=rows, keepdim=True)
    mean = (weight * above).where(counted, 0.0).sum(dim=rows, keepdim=True) / count.clamp(min=1.0)
    squares = (weight * (above - mean).square()).where(counted, 0.0).sum(dim=rows, keepdim=True)
    variance = squares / count.clamp(min=1.0)
    lost = (variance < SAFE * torch.finfo(variance.dtype).tiny) | (variance == math.inf)
    return above, mean, variance.masked_fill(lost, math.nan).masked_fill(least >= largest, 0.0), count


def centred_by_group(reward: Float[Tensor, "*b G"]) -> Float[Tensor, "*b G"]:
    """r[i] - mean of its group; exactly 0 where all rewards of the group are equal."""
    above = reward - reward.amin(dim=-1, keepdim=True)
    return (above - above.mean(dim=-1, keepdim=True)).where(above.amax(dim=-1, keepdim=True) > 0, 0.0)


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
