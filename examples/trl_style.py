"""A loss as TRL users write it: per-token log-probabilities, one advantage for each response.

    ticgrpo check examples/trl_style.py:loss
    ticgrpo check examples/trl_style.py:loss_of_update --require microbatch,unbiased_on_policy

`loss` divides by the tokens of whatever micro-batch is at hand, and its card says so; `loss_of_update`
divides by a constant length.
"""

import torch
from torch import Tensor

MAX_COMPLETION_LENGTH = 256


def clipped(per_token_logps: Tensor, old_per_token_logps: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """-min(r A, clip(r, 1 - 0.2, 1 + 0.28) A) at every token of the response [B, T]; 0 on padding."""
    ratio = (per_token_logps - old_per_token_logps).masked_fill(~mask, 0.0).exp()
    A = advantages.unsqueeze(1)
    return -torch.minimum(ratio * A, ratio.clamp(0.8, 1.28) * A) * mask


def loss(
    per_token_logps: Tensor, old_per_token_logps: Tensor, advantages: Tensor, completion_mask: Tensor
) -> Tensor:
    """The mean over the tokens of one micro-batch."""
    return (
        clipped(per_token_logps, old_per_token_logps, advantages, completion_mask).sum()
        / completion_mask.sum()
    )


def loss_of_update(
    per_token_logps: Tensor, old_per_token_logps: Tensor, advantages: Tensor, completion_mask: Tensor
) -> Tensor:
    """The same sum over a constant length."""
    tokens = clipped(per_token_logps, old_per_token_logps, advantages, completion_mask)
    return tokens.sum() / (len(tokens) * MAX_COMPLETION_LENGTH)
