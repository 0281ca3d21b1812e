"""Objectives as they are written in threads, for one group, to be maximised."""

from collections.abc import Callable

import torch
from torch import Tensor

from ticgrpo_theory.estimators.batch import Batch


def w(batch: Batch) -> Tensor:
    """Token ratios."""
    return (batch.logp - batch.logp_old).exp().where(batch.mask, torch.zeros((), dtype=batch.logp.dtype))


def A(batch: Batch) -> Tensor:
    """Centred rewards, for every token."""
    return (batch.reward - batch.reward.mean(dim=-1, keepdim=True))[..., None].expand_as(batch.logp)


def per_response(x: Tensor, batch: Batch) -> Tensor:
    """Mean over responses of sums over tokens."""
    return x.where(batch.mask, torch.zeros((), dtype=x.dtype)).sum(-1).mean()


def per_token(x: Tensor, batch: Batch) -> Tensor:
    """Mean over the tokens of the group."""
    return x.where(batch.mask, torch.zeros((), dtype=x.dtype)).sum() / batch.mask.sum()


def dual(batch: Batch, wanted: Callable[[Tensor], Tensor]) -> Tensor:
    """PPO's clip, with max(., 3 A) where `wanted` says so of A."""
    ratio, advantage = w(batch), A(batch)
    ppo = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
    return per_response(torch.where(wanted(advantage), torch.maximum(ppo, 3 * advantage), ppo), batch)


def sapo(batch: Batch, advantage: Tensor) -> Tensor:
    """sigma(w - 1) 4 times an advantage, by tokens."""
    return per_response(4 * torch.sigmoid(w(batch) - 1) * advantage, batch)


def leave_one_out_std(batch: Batch) -> Tensor:
    """(r - mean of the others) / (deviation of the others + 1e-6)."""
    r, G = batch.reward, batch.reward.shape[-1]
    others = (
        r[..., None, :].expand(*r.shape, G)[..., ~torch.eye(G, dtype=torch.bool)].unflatten(-1, (G, G - 1))
    )
    z = (r - others.mean(-1)) / (others.std(-1, correction=0) + 1e-6)
    return per_response(z[..., None] * batch.logp, batch)


def cut(batch: Batch) -> tuple[Tensor, Tensor]:
    """Responses that ended by themselves, and the token terms of those alone."""
    assert batch.truncated is not None
    return ~batch.truncated, (A(batch) * batch.logp).where(
        batch.mask & ~batch.truncated[..., None], 0 * batch.logp
    )


def masked_all_tokens(batch: Batch) -> Tensor:
    return cut(batch)[1].sum() / batch.mask.sum()


def masked_kept_tokens(batch: Batch) -> Tensor:
    ended, terms = cut(batch)
    return terms.sum() / (batch.mask & ended[..., None]).sum().clamp(min=1)


def masked_statistics_of_kept(batch: Batch) -> Tensor:
    ended = cut(batch)[0]
    kept = ended.sum().clamp(min=1)
    baseline = (batch.reward * ended).sum() / kept
    own = ((batch.reward - baseline) * ended)[..., None]
    return (own * batch.logp).where(batch.mask, 0 * batch.logp).sum() / (
        batch.mask & ended[..., None]
    ).sum().clamp(min=1)


def k2(batch: Batch, counted: Tensor) -> Tensor:
    """-(log pi / pi_ref)^2 / 2, in the groups that count."""
    assert batch.logp_ref is not None
    return counted * per_response(-0.5 * (batch.logp - batch.logp_ref) ** 2, batch)


def mixed(batch: Batch) -> Tensor:
    """1 for a group of unequal rewards, 0 for others."""
    return (batch.reward.max() > batch.reward.min()).to(batch.logp.dtype)
