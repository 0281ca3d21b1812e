"""Axis `ratio`: how token log-ratios are pooled into the log of an importance weight.

Each formula maps l [*b, G, T] and mask to v [*b, G, T], the pooled log-ratio *at every token*; 0 on padding.
The weight of a token multiplies only that token's own score, even where v depends on other tokens.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ticgrpo_theory.estimators.properties import Reads, reads

Ratio = Callable[[Tensor, Tensor], Tensor]


@reads(Reads.NOTHING)
def none(log_ratio: Float[Tensor, "*b G T"], mask: Bool[Tensor, "*b G T"]) -> Float[Tensor, "*b G T"]:
    """v[i,t] = 0: every token has weight 1, whatever policy it was drawn from."""
    return torch.zeros_like(log_ratio)


@reads(Reads.OWN_TOKEN)
def token(log_ratio: Float[Tensor, "*b G T"], mask: Bool[Tensor, "*b G T"]) -> Float[Tensor, "*b G T"]:
    """v[i,t] = l[i,t], the ratio of one token.

    Source: arXiv:2508.02833 v2, Eq. 5 (GRPO, after arXiv:2402.03300 v3, Eq. 3).
    """
    return log_ratio.where(mask, 0.0)


@reads(Reads.OWN_RESPONSE)
def prefix(log_ratio: Float[Tensor, "*b G T"], mask: Bool[Tensor, "*b G T"]) -> Float[Tensor, "*b G T"]:
    """v[i,t] = sum_{u<=t} l[i,u], the ratio of the prefix that ends with token t.

    Per-decision importance sampling. It corrects the distribution of the prefix; the continuation, and with
    it the reward-to-go, stays that of theta_old.
    Source: Precup, Sutton, Singh, "Eligibility traces for off-policy policy evaluation", ICML 2000, Sec. 3.
    """
    return log_ratio.where(mask, 0.0).cumsum(dim=-1).where(mask, 0.0)


@reads(Reads.OWN_RESPONSE)
def least_before(log_ratio: Float[Tensor, "*b G T"], mask: Bool[Tensor, "*b G T"]) -> Float[Tensor, "*b G T"]:
    """v[i,t] = l[i,t] + min_{u<t} l[i,u], the least token ratio before t in the place of their product.

    At the first token it is l[i,1]: nothing stands before it. At the second one it is the prefix ratio.
    Source: arXiv:2601.22718 (MinPRO), the surrogate of the prefix ratio.
    """
    behind = log_ratio.where(mask, math.inf).cummin(dim=-1).values
    before = torch.cat([torch.full_like(behind[..., :1], math.inf), behind[..., :-1]], dim=-1)
    return (log_ratio + before.where(before < math.inf, 0.0)).where(mask, 0.0)


@reads(Reads.OWN_RESPONSE)
def trajectory(log_ratio: Float[Tensor, "*b G T"], mask: Bool[Tensor, "*b G T"]) -> Float[Tensor, "*b G T"]:
    """v[i,t] = log w'[i] = sum_u l[i,u], the same number at every token of response i.

    No length normalisation, unlike `geometric_mean`.
    Source: arXiv:2508.02833 v2, Sec. 4.
    """
    log_w = log_ratio.where(mask, 0.0).sum(dim=-1, keepdim=True)
    return log_w.expand_as(log_ratio).where(mask, 0.0)


@reads(Reads.OWN_RESPONSE)
def geometric_mean(
    log_ratio: Float[Tensor, "*b G T"], mask: Bool[Tensor, "*b G T"]
) -> Float[Tensor, "*b G T"]:
    """v[i,t] = log s[i] = (1/|s_i|) sum_u l[i,u], the same number at every token of response i.

    Source: arXiv:2507.18071 v2 (GSPO), Eq. 7.
    """
    log_s = log_ratio.where(mask, 0.0).sum(dim=-1, keepdim=True) / mask.sum(dim=-1, keepdim=True)
    return log_s.expand_as(log_ratio).where(mask, 0.0)
