"""A loss as verl users write it: advantages of every token, metrics beside the value.

    ticgrpo check examples/verl_style.py:loss

Averaged over each response by its own length, which its card says, with the smallest case in fractions.
"""

import torch
from torch import Tensor


def loss(
    old_log_prob: Tensor, log_prob: Tensor, advantages: Tensor, response_mask: Tensor, clip_ratio: float = 0.2
) -> tuple[Tensor, dict[str, float]]:
    """(mean over responses of the mean over tokens, metrics); everything is [B, T]."""
    log_ratio = (log_prob - old_log_prob).masked_fill(~response_mask, 0.0).clamp(-20.0, 20.0)
    ratio = log_ratio.exp()
    kept = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip_ratio, 1 + clip_ratio))
    of_responses = (kept * response_mask).sum(dim=-1) / response_mask.sum(dim=-1)
    return of_responses.mean(), {"actor/ppo_kl": -log_ratio.mean().item()}
