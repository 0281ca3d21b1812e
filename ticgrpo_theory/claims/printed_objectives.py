"""The objectives as the paper prints them, for one group, to be differentiated instead of believed.

Source: arXiv:2508.02833 v2, Eq. 5, Eq. 9 and Algorithms 1 and 2.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.estimators.batch import Batch

Objective = Callable[[Batch], Tensor]
Count = Callable[[Bool[Tensor, "G T"]], Float[Tensor, "G T"]]


def clip(w: Float[Tensor, "..."], low: float, high: float) -> Float[Tensor, "..."]:
    """max(low, min(w, high))."""
    return w.clamp(low, high)


def length(mask: Bool[Tensor, "G T"]) -> Float[Tensor, "G T"]:
    """|s_T|, the number of tokens of the response, at each of them."""
    return mask.sum(dim=-1, keepdim=True).double().expand(mask.shape)


def eq5(eps_low: float, eps_high: float) -> Objective:
    """(1/G) sum_i (1/|s_i|) sum_t min(w A, clip(w, 1 - eps_low, 1 + eps_high) A), t over tokens, beta = 0."""

    def objective(batch: Batch) -> Tensor:
        return (minimum(batch, eps_low, eps_high) / length(batch.mask)).where(batch.mask, 0.0).sum() / len(
            batch.reward
        )

    return objective


def eq5_to_horizon(eps_low: float, eps_high: float, T: int) -> Objective:
    """Eq. 5 with t = 1..T as it is printed: padding has no token, and so the ratio 1."""

    def objective(batch: Batch) -> Tensor:
        width = batch.mask.shape[-1]
        beyond = (T - width) * advantages(batch)[:, None] / length(batch.mask)[:, :1]
        per_token = minimum(batch, eps_low, eps_high) / length(batch.mask)
        return (per_token.sum() + beyond.sum()) / len(batch.reward)

    return objective


def minimum(batch: Batch, eps_low: float, eps_high: float) -> Float[Tensor, "G T"]:
    """min(w A, clip(w, 1 - eps_low, 1 + eps_high) A), w = 1 on padding."""
    w, A = ratio(batch).where(batch.mask, 1.0), advantages(batch)[:, None]
    return torch.minimum(w * A, clip(w, 1 - eps_low, 1 + eps_high) * A)


def eq9(eps_high: float, terms: Count = length) -> Objective:
    """(1/G) sum_i (1/|s_i|) sum_t min(w'_i, 1 + eps_high) A_i.

    The summand does not depend on t: the sum is `terms` times it, |s_i| where t runs over the tokens of the
    response. The upper end holds for either sign of A: it is no minimum of two products.
    """

    def objective(batch: Batch) -> Tensor:
        whole = batch.log_ratio.sum(dim=-1).exp()
        count = (terms(batch.mask) / length(batch.mask))[:, 0]
        return (count * whole.clamp(max=1 + eps_high) * advantages(batch)).mean()

    return objective


def alone(mask: Bool[Tensor, "G T"]) -> Float[Tensor, "G T"]:
    """1: the summand taken once."""
    return torch.ones(mask.shape, dtype=torch.float64)


def horizon(T: int) -> Count:
    """T, however short the response, and however short the longest one of its group."""
    return lambda mask: torch.full(mask.shape, float(T), dtype=torch.float64)


def ratio(batch: Batch) -> Float[Tensor, "G T"]:
    """w[i,t] = pi_theta / pi_theta_old of the token; 1 on padding."""
    return batch.log_ratio.exp()


def advantages(batch: Batch) -> Float[Tensor, " G"]:
    """A[i] = (r[i] - mu_G) / sigma_G, 0 where all rewards are equal."""
    return standardised(delta=0.0)(batch.reward)
