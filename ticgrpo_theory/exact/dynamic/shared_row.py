"""Responses of T tokens that all come from one row: what matters of them is how often each token occurs.

    E_mu[phi(W)],   W = prod_t pi_old(a_t) / mu(a_t) pooled over the response,

is the share of E_old that a correction phi leaves where W is the sequence product: E_mu[W 1{W <= c}] =
P_old(W <= c). The sum runs over the C(T + V - 1, V - 1) counts, each with its multinomial probability, which
is exact at any horizon where two or three tokens are left.
"""

import math

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import ArrayLike
from scipy.special import gammaln
from torch import Tensor

from ticgrpo_theory.estimators.corrections import Bounded, Correction
from ticgrpo_theory.inputs.numbers import shown, whole_number
from ticgrpo_theory.worlds.policy import check_sampler, log_probabilities, real_table

MAX_COUNTS = 2**24
"""Largest number of count vectors that are listed."""


def correction_mass(
    correction: Correction, theta_old: Tensor | ArrayLike, theta_sampler: Tensor | ArrayLike, horizon: int
) -> float:
    """E_mu[phi(W)] over responses of `horizon` tokens, all drawn from one row of logits [V].

    Raises ValueError for tables that are no rows, a token that the sampler draws and theta_old forbids,
    corrections of single tokens, whose mean is no number of the response, and more than MAX_COUNTS counts.
    """
    parts = correction.parts if isinstance(correction, Correction) else ()
    if not parts or any(not isinstance(part, Bounded) or part.level == "token" for part in parts):
        raise ValueError(
            f"correction = {shown(correction)} does not weigh a whole response: give one of the levels "
            f"'sequence', 'geometric' or 'largest'"
        )
    T = whole_number("horizon", horizon, 1, "tokens of a response")
    old, sampler = (
        real_table(table, name, "logits of one row, (V,)").reshape(1, -1)
        for table, name in ((theta_old, "theta_old"), (theta_sampler, "theta_sampler"))
    )
    if old.shape != sampler.shape:
        raise ValueError(
            f"theta_old has {old.shape[1]} logits, theta_sampler {sampler.shape[1]}: give one row of both"
        )
    check_sampler(sampler, old)
    drawn = sampler[0] > -torch.inf
    log_sampler, log_old = log_probabilities(sampler)[0, drawn], log_probabilities(old)[0, drawn]
    counts = counts_of(T, int(drawn.sum()))
    # Log-ratios of a response as the formulas take them: one token for each kind, with its count as weight.
    log_prob = gammaln(T + 1) - gammaln(counts + 1).sum(axis=1) + counts @ log_sampler.numpy()
    d = (log_old - log_sampler).numpy()
    log_phi = sum(pooled_weight(part, counts, d, T) for part in parts if isinstance(part, Bounded))
    with np.errstate(under="ignore"):
        return float(np.exp(log_prob + log_phi).sum())


def pooled_weight(
    part: Bounded, counts: Float64[np.ndarray, "M V"], d: Float64[np.ndarray, " V"], horizon: int
) -> Float64[np.ndarray, " M"]:
    """log phi(W) for each count vector, by the correction's own formula on a response of one token."""
    pooled = {
        "sequence": counts @ d,
        "geometric": counts @ d / horizon,
        "largest": np.where(counts > 0, d, -math.inf).max(axis=1),
    }[part.level]
    v = torch.from_numpy(np.ascontiguousarray(pooled))[:, None, None]
    return part.log_weight(v, torch.ones(v.shape, dtype=torch.bool))[:, 0, 0].numpy()


def counts_of(total: int, kinds: int) -> Float64[np.ndarray, "M V"]:
    """All vectors of `kinds` counts that add up to `total`."""
    size = math.comb(total + kinds - 1, kinds - 1)
    if size > MAX_COUNTS:
        raise ValueError(
            f"{total:,} tokens of {kinds} kinds have {size:,} counts, more than MAX_COUNTS = {MAX_COUNTS:,}: "
            f"lower the horizon, or mask tokens of the row"
        )
    found = np.zeros((1, 0))
    left = np.full(1, total)
    for _ in range(kinds - 1):
        reps = left + 1
        first = np.concatenate([np.arange(n) for n in reps])
        found = np.column_stack([np.repeat(found, reps, axis=0), first])
        left = np.repeat(left, reps) - first
    return np.column_stack([found, left]).astype(np.float64)
