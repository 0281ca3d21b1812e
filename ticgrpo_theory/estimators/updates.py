"""Token weights of a whole update: P groups of G responses, with what couples them.

    reward, counted   after a filter of responses: what statistics see, and which rows are in the loss
    kept[p]           groups that a filter leaves in the update
    A[p,i]            an advantage of the update, else of the group
    scale[p,i]        a factor of the update, else that of the group divided by P (by the number kept)
    c[p,i,t]          scale A exp(clamp(v, lo, hi)) (lo <= v <= hi); 0 where a row or its group is left out

With P = 1, and in any update whose estimator has no part that reads all of it, this is the mean over the P
groups of their own token weights.
"""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ticgrpo_theory.estimators.advantage import UpdateAdvantage, reads_differences
from ticgrpo_theory.estimators.advantages import needs_moments
from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.filters import drop_equal, overlong
from ticgrpo_theory.estimators.penalties import kl_exact, kl_loss, kl_reward
from ticgrpo_theory.estimators.properties import is_ours
from ticgrpo_theory.estimators.scales import UpdateScale, kept, micro_batch_token_mean
from ticgrpo_theory.inputs.numbers import shown


@runtime_checkable
class Axes(Protocol):
    """What is read of an `Estimator`."""

    @property
    def advantage(self) -> Any: ...

    @property
    def scale(self) -> Any: ...

    @property
    def penalty(self) -> Any: ...

    @property
    def filter(self) -> Any: ...

    def response_weights(
        self,
        log_ratio: Tensor,
        A: Tensor,
        mask: Tensor,
        sampler_log_ratio: Tensor | None,
        logp_old: Tensor | None,
    ) -> Tensor: ...

    def counted(self, batch: Batch) -> Tensor: ...


def reads_update(estimator: Axes) -> bool:
    """Whether the weights of one group depend on the other groups of its update, or on which those are."""
    return (
        isinstance(estimator.advantage, UpdateAdvantage)
        or update_scale(estimator.scale) is not None
        or estimator.filter is not None
    )


def update_scale(scale: Any) -> UpdateScale | None:
    """The factor over an update, of the tokens that a correction keeps or of all."""
    inner = scale.scale if isinstance(scale, kept) else scale
    return inner if isinstance(inner, UpdateScale) else None


def refuse_own(name: str, part: Any, kinds: Any) -> None:
    """Raise ValueError for a part of updates whose class is a user's own."""
    if isinstance(part, kinds) and not is_ours(part):
        raise ValueError(
            f"{name} = {shown(part)}: {type(part).__name__} reads whole updates, and is no class of this "
            f"package, so that nothing says what it reads of them: take one of ticgrpo_theory.estimators, or "
            f"write the objective of the update as a callable and give scope='batch'"
        )


def check_parts(estimator: Axes) -> None:
    """Raise ValueError for a filter that is none, and for parts that do not go together.

    Parts of updates are those of this package: what another one reads of an update nobody could check.
    """
    refuse_own("advantage", estimator.advantage, UpdateAdvantage)
    refuse_own("scale", update_scale(estimator.scale), UpdateScale)
    refuse_own("filter", estimator.filter, (drop_equal, overlong))
    found = estimator.filter
    if found is not None and not isinstance(found, drop_equal | overlong):
        raise ValueError(
            f"filter = {found!r} is none: give drop_equal(...) or overlong(...) of "
            f"ticgrpo_theory.estimators.filters"
        )
    if isinstance(found, overlong) and found.mode == "penalty" and needs_moments(estimator.advantage):
        raise ValueError(
            f"{estimator.advantage!r} takes mu and sigma of the reward of the world, and {found!r} "
            f"changes the rewards: give known_moments(mu, sigma) of the penalised reward, or an advantage "
            f"of the group"
        )
    if found == drop_equal("divide_by_kept") and isinstance(
        update_scale(estimator.scale), micro_batch_token_mean
    ):
        raise ValueError(
            f"{found!r} leaves a number of rows that varies, which {estimator.scale!r} cannot cut into "
            f"micro-batches of equal size: choose 'refill', 'same_prompt' or 'divide_by_all'"
        )


def weights_of_update(estimator: Axes, batch: Batch) -> Float[Tensor, "*b P G T"]:
    """c[p,i,t], unchecked. Raises ValueError as the parts do."""
    counted = torch.ones_like(batch.reward, dtype=torch.bool)
    if isinstance(estimator.filter, overlong):
        counted = estimator.filter.counted(batch)
    stay = torch.ones_like(counted[..., 0])
    if isinstance(estimator.filter, drop_equal):
        stay = estimator.filter.kept(batch.reward)
    length = (estimator.counted(batch).sum(dim=-1) * counted).double()
    A = advantages_of_update(estimator, batch, (batch.length * counted).double(), stay).to(batch.logp.dtype)
    scale = scales_of_update(estimator, batch, length, stay).to(batch.logp.dtype)
    d = batch.sampler_log_ratio
    c = scale[..., None] * estimator.response_weights(batch.log_ratio, A, batch.mask, d, batch.logp_old)
    if isinstance(estimator.penalty, kl_loss | kl_exact):
        c = c + estimator.penalty.weights(batch, scale)
    return c.where((counted & stay[..., None])[..., None], 0.0)


def advantages_of_update(
    estimator: Axes, batch: Batch, length: Float[Tensor, "*b P G"], stay: Bool[Tensor, "*b P"]
) -> Float[Tensor, "*b P G"]:
    """A[p,i]; `length` is 0 for rows that are left out."""
    advantage, reward = estimator.advantage, batch.reward
    if isinstance(estimator.penalty, kl_reward):
        reward = estimator.penalty.reward(batch, reads_differences(advantage))
    if isinstance(estimator.filter, overlong):
        reward = estimator.filter.reward(dataclasses.replace(batch, reward=reward))
    if isinstance(advantage, UpdateAdvantage):
        return advantage.over(reward, length.to(reward.dtype), stay[..., None].to(reward.dtype))
    return advantage(reward)


def scales_of_update(
    estimator: Axes, batch: Batch, length: Float[Tensor, "*b P G"], stay: Bool[Tensor, "*b P"]
) -> Float[Tensor, "*b P G"]:
    """scale[p,i]; `length` is 0 for rows that are left out."""
    (P, G), by_kept = length.shape[-2:], estimator.filter == drop_equal("divide_by_kept")
    over = update_scale(estimator.scale)
    if over is not None:
        return over.over(length * stay[..., None] if by_kept else length)
    groups = stay.sum(dim=-1).clamp(min=1) if by_kept else torch.full_like(stay[..., 0], P, dtype=torch.int64)
    if isinstance(estimator.scale, kept):
        own, total = length, length.sum(dim=-1, keepdim=True)
    else:
        # A row that is left out has no length of its own, and no weight: 1 keeps its factor finite.
        own, total = length.clamp(min=1.0), length.sum(dim=-1, keepdim=True).clamp(min=1.0)
    return estimator.scale(own, total, G, batch.horizon) / groups[..., None, None]
