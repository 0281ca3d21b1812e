"""The token weights of all replicates at once, by the estimator's own formula: nothing is restated here.

An inner step evaluates only what changes in it: c of an `Estimator` is positively homogeneous in A, so
scale and the mean over prompts are multiplied into A once for each outer step. A replicate whose weights are
refused or are no numbers gets NaN, which freezes it; the others are not affected.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ticgrpo_theory.estimators import advantages
from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.losses import Objective
from ticgrpo_theory.estimators.resolve import AnyEstimator


@dataclass(frozen=True)
class GroupArrays:
    """The groups that one inner step uses: P prompts for each of R replicates, at theta_{n,0}."""

    logp_old: Float[Tensor, "R P G T"]
    mask: Bool[Tensor, "R P G T"]
    reward: Float[Tensor, "R P G"]
    logp_ref: Float[Tensor, "R P G T"] | None
    mean: Float[Tensor, "R P 1"] | None
    """mu of r under theta_{n,0} for the prompt of each group, where the advantage asks for it; so `std`."""
    std: Float[Tensor, "R P 1"] | None
    horizon: int
    logp_sampler: Float[Tensor, "R P G T"] | None = None
    """log mu at theta_{n,0}; None where theta_{n,0} itself draws."""
    tokens: Int[Tensor, "R P G T"] | None = None

    def batch(self, logp: Float[Tensor, "R P G T"]) -> Batch:
        sampler = self.logp_old if self.logp_sampler is None else self.logp_sampler
        tables = (logp, self.logp_old, self.reward, self.mask, self.logp_ref)
        return Batch(*tables, self.horizon, sampler, tokens=self.tokens)

    def part(self, replicates: slice) -> "GroupArrays":
        tensors = {name: value[replicates] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return dataclasses.replace(self, **tensors)


Kind = TypeVar("Kind", bound=AnyEstimator)

Weights = Callable[[Tensor], Tensor]
"""From log pi at the present logits [R, P, G, T] to token weights c, already divided by P."""


def weights_in_step(
    estimator: AnyEstimator, groups: GroupArrays, n: int, refusals: dict[int, str]
) -> Weights:
    """c as a function of logp for groups that stay the same over the inner steps of outer step n.

    What an estimator refuses goes into `refusals`, replicate by replicate. In the very first outer step it is
    raised: there it is a mistake of the caller, and nothing has been computed that could be lost.
    """
    if isinstance(estimator, Estimator) and estimator.penalty is None and estimator.properties.known:
        return plain_weights(estimator, groups)
    if n == 0:
        return lambda logp: weights_at(estimator, groups, logp)
    return lambda logp: isolated(estimator, groups, logp, 0, refusals)


def plain_weights(estimator: Estimator, groups: GroupArrays) -> Weights:
    """response_weights(l, scale A / P)."""
    batch = groups.batch(groups.logp_old)
    A = refreshed(estimator, groups).advantages(batch)
    A = A * estimator.scales(estimator.counted(batch), groups.horizon) / A.shape[1]
    A, d = A.to(groups.logp_old.dtype), batch.sampler_log_ratio
    old = groups.logp_old
    return lambda logp: estimator.response_weights(logp - old, A, groups.mask, d, old)


def refreshed(estimator: Kind, groups: GroupArrays) -> Kind:
    """The estimator whose advantage knows mu and sigma of theta_{n,0}, where it asks for them."""
    if groups.mean is None or groups.std is None or isinstance(estimator, Objective):
        return estimator
    if not advantages.needs_moments(estimator.advantage):
        return estimator
    return dataclasses.replace(estimator, advantage=estimator.advantage.at(groups.mean, groups.std))


def needs_moments(estimator: AnyEstimator) -> bool:
    """Whether the advantage asks for the moments of r under theta_{n,0}."""
    return advantages.needs_moments(getattr(estimator, "advantage", None))


def weights_at(
    estimator: AnyEstimator, groups: GroupArrays, logp: Float[Tensor, "R P G T"]
) -> Float[Tensor, "R P G T"]:
    """token_weights / P; ValueError where the estimator refuses them."""
    return refreshed(estimator, groups).token_weights(groups.batch(logp)) / logp.shape[1]


def isolated(
    estimator: AnyEstimator,
    groups: GroupArrays,
    logp: Float[Tensor, "R P G T"],
    first: int,
    refusals: dict[int, str],
) -> Float[Tensor, "R P G T"]:
    """token_weights / P; NaN for the replicates that are refused, found by halving.

    `first` is the index of the first of these replicates, by which `refusals` says what was said of each.
    """
    try:
        return weights_at(estimator, groups, logp)
    except ValueError as refusal:
        if len(logp) == 1:
            refusals.setdefault(first, str(refusal))
            return torch.full_like(logp, torch.nan)
    half = len(logp) // 2
    parts = (slice(None, half), slice(half, None))
    halves = (
        isolated(estimator, groups.part(part), logp[part], first + (part.start or 0), refusals)
        for part in parts
    )
    return torch.cat(list(halves))
