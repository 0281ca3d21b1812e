"""Axis `penalty`: distance to a reference policy, estimated from the sampled tokens.

With d = logp - logp_ref at a sampled token, the per-token estimates of KL(pi_theta || pi_ref) are

    k1 = d        k2 = d^2 / 2        k3 = exp(-d) - 1 + d

Source: J. Schulman, "Approximating KL divergence", 2020; k3 in arXiv:2402.03300 v3 (GRPO), Eq. 4.
As a loss term (`kl_loss`) they are differentiated, and what that gradient estimates is *not* settled by what the
value estimates. Inside the reward (`kl_reward`) they are evaluated at the sampling policy and not differentiated.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators.ratios import Ratio, none

Divergence = Callable[[Tensor], Tensor]


def k1(d: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """d."""
    return d


def k2(d: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """d^2 / 2."""
    return d.square() / 2


def k3(d: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """exp(-d) - 1 + d, written with expm1 because d is small near the reference."""
    return torch.expm1(-d) + d


def reference_log_ratio(logp: Tensor, batch: Batch) -> Float[Tensor, "*b G T"]:
    """d[i,t] = logp[i,t] - logp_ref[i,t]; 0 on padding."""
    if batch.logp_ref is None:
        raise ValueError(
            "a KL penalty compares with a reference policy: give Batch(..., logp_ref=...), "
            "or theta_ref=... where logits are passed"
        )
    return (logp - batch.logp_ref).where(batch.mask, 0.0)


@dataclass(frozen=True)
class kl_loss:
    """- beta sum_it scale[i] exp(v[i,t]) k(d[i,t]), differentiated through both factors; v = ratio(l).

    `ratio` = none is GRPO's own penalty (arXiv:2402.03300 v3, Eq. 3), whose samples come from theta_old and are not
    reweighted; `ratio` = token multiplies by the token ratio, as TRL does since 1.10; `ratio` = trajectory makes
    the *value* unbiased for the sequence KL of theta. `scale` is the estimator's own.
    """

    k: Divergence
    beta: float
    ratio: Ratio = none

    def token_values(self, logp: Float[Tensor, "*b G T"], batch: Batch) -> Float[Tensor, "*b G T"]:
        """- beta exp(v[i,t]) k(d[i,t]), without scale; 0 on padding."""
        v = self.ratio((logp - batch.logp_old).where(batch.mask, 0.0), batch.mask)
        return (-self.beta * v.exp() * self.k(reference_log_ratio(logp, batch))).where(batch.mask, 0.0)

    def weights(self, batch: Batch, scale: Float[Tensor, "*b G"]) -> Float[Tensor, "*b G T"]:
        """d/d logp[i,t] of sum_it scale[i] token_values[i,t]: one formula, differentiated by autograd."""
        logp = batch.logp.detach().where(batch.mask, 0.0).requires_grad_()
        with torch.enable_grad():
            total = (scale.to(logp.dtype)[..., None] * self.token_values(logp, batch)).sum()
            (weights,) = torch.autograd.grad(total, logp)
        if not bool(torch.isfinite(weights).all()):
            d = reference_log_ratio(batch.logp, batch)
            raise ValueError(
                f"the weights of {self!r} are not finite; log-ratios to the reference lie in "
                f"[{d.min().item():.6g}, {d.max().item():.6g}]: keep theta closer to the reference"
            )
        return weights


@dataclass(frozen=True)
class kl_reward:
    """r[i] - beta sum_t k(logp_old[i,t] - logp_ref[i,t]): enters before group statistics, is not differentiated."""

    k: Divergence
    beta: float

    def reward(self, batch: Batch) -> Float[Tensor, "*b G"]:
        """r[i] - beta sum_t k(d[i,t]), d = logp_old - logp_ref."""
        k = self.k(reference_log_ratio(batch.logp_old, batch)).where(batch.mask, 0.0)
        penalised = batch.reward - self.beta * k.sum(dim=-1)
        if not bool(torch.isfinite(penalised).all()):
            first = (~torch.isfinite(penalised)).nonzero()[0].tolist()
            d = reference_log_ratio(batch.logp_old, batch)
            raise ValueError(
                f"the penalised reward{first} is {penalised[tuple(first)].item()}; log-ratios of theta_old to the "
                f"reference lie in [{d.min().item():.6g}, {d.max().item():.6g}]: keep theta_old closer to the "
                f"reference"
            )
        return penalised


Penalty = kl_loss | kl_reward
