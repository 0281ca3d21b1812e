"""Four faults that people have planted in their trainers unawares, for `ticgrpo demo`."""

import torch
from torch import Tensor


def token_mean_of_the_piece(logp: Tensor, logp_old: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """-sum A x / tokens of the micro-batch at hand [B, T]: gradient accumulation then changes the loss."""
    ratio = (logp - logp_old).masked_fill(~mask, 0.0).exp()
    return -(ratio * advantages[:, None] * mask).sum() / mask.sum()


def mask_off_by_one(logp: Tensor, logp_old: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """-sum A x [B, T] under the mask of the tokens before: one token of padding counts."""
    late = torch.roll(mask, 1, dims=1)
    late[:, 0] = True
    return -((logp - logp_old).exp() * advantages[:, None] * late).sum(dim=1).mean()


def ratio_all_detached(logp: Tensor, logp_old: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """-sum A sg(x) [B, T]: the weight is detached, and no logp stands beside it."""
    ratio = (logp - logp_old).detach().masked_fill(~mask, 0.0).exp()
    return -(ratio * advantages[:, None] * mask).sum(dim=1).mean()


def mean_over_each_response(logp: Tensor, logp_old: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """-sum A x / |s| [B, T]: long answers count less for each of their tokens."""
    ratio = (logp - logp_old).masked_fill(~mask, 0.0).exp()
    return -((ratio * advantages[:, None] * mask).sum(dim=1) / mask.sum(dim=1)).mean()


PLANTED = (token_mean_of_the_piece, mask_off_by_one, ratio_all_detached, mean_over_each_response)
