"""REINFORCE++ over a whole update: rewards are centred in each group and divided by one deviation of all.

    ticgrpo check examples/reinforce_pp_update.py:objective --scope batch --prompts 2

One argument: an objective, which is maximised. With --scope batch it is given the rows [B, T] of the update,
and batch.group says which group each belongs to.
"""

from typing import Any

import torch
from torch import Tensor

LIMIT = 64


def objective(batch: Any) -> Tensor:
    """mean over rows of A_i sum_t x_it / LIMIT, A = (r - mean of its group) / std over all rows."""
    reward, centred = batch.reward, torch.zeros_like(batch.reward)
    for group in batch.group.unique():
        rows = batch.group == group
        centred[rows] = reward[rows] - reward[rows].mean()
    A = centred / (centred.square().mean().sqrt() + 1e-8)
    ratio = (batch.logp - batch.logp_old).masked_fill(~batch.mask, 0.0).exp()
    return (A[:, None] * ratio * batch.mask).sum() / (len(A) * LIMIT)
