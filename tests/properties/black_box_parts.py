"""What losses are made of: statistics of rewards and terms of tokens

A loss of the battery is one choice of each. Every part is a way in which a trainer's code couples the
responses of a group, reads their order, their padding or the width of their table, on purpose or by mistake.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class View:
    """What a loss reads of one group: logp, logp_old, logp_ref, mask [G, T], A [G], the response limit."""

    logp: Tensor
    logp_old: Tensor
    mask: Tensor
    A: Tensor
    logp_ref: Tensor | None = None
    horizon: int = 1

    @property
    def log_ratio(self) -> Tensor:
        """l [G, T], at padding whatever stands there."""
        return self.logp - self.logp_old

    @property
    def log_w(self) -> Tensor:
        """Log-ratio of every response [G]."""
        return self.log_ratio.where(self.mask, 0.0).sum(dim=1)


Statistic = Callable[[Tensor], Tensor]
Term = Callable[[View], Tensor]


# Statistics: A [..., G] of rewards [..., G]. Those that say `single` mean one group alone.


def raw(r):
    return r


def minus_mean(r):
    return r - r.mean(dim=-1, keepdim=True)


def single_minus_mean(r):
    return r - r.mean()


def minus_median(r):
    return r - r.median(dim=-1, keepdim=True).values


def single_minus_median(r):
    return r - r.median()


def minus_max(r):
    return r - r.amax(dim=-1, keepdim=True)


def single_minus_max(r):
    return r - r.max()


def minus_min(r):
    return r - r.amin(dim=-1, keepdim=True)


def minus_middle_of_range(r):
    return r - (r.amin(dim=-1, keepdim=True) + r.amax(dim=-1, keepdim=True)) / 2


def rank(r):
    return (r[..., :, None] > r[..., None, :]).to(r.dtype).sum(dim=-1) - 0.5


def minus_first(r):
    return r - r[..., :1]


def single_minus_first(r):
    return r - r[0]


def minus_last(r):
    return r - r[..., -1:]


def minus_next(r):
    return r - r.roll(-1, dims=-1)


def leave_one_out(r):
    return r - (r.sum(dim=-1, keepdim=True) - r) / (r.shape[-1] - 1)


def minus_mean_of_two_consecutive(r):
    return torch.cat([part - part.mean(dim=-1, keepdim=True) / 2 for part in r.split(2, dim=-1)], dim=-1)


def standardised(r):
    return minus_mean(r) / (r.std(dim=-1, keepdim=True, correction=0) + 1e-3)


def single_standardised_with_sample_std(r):
    return (r - r.mean()) / (r.std() + 1e-3)


def minus_running_mean(r):
    return r - r.cumsum(dim=-1) / torch.arange(1, r.shape[-1] + 1)


def minus_mean_of_earlier_rows(r):
    return r - (r.cumsum(dim=-1) - r) / torch.arange(r.shape[-1]).clamp(min=1)


def minus_second_best(r):
    return r - r.sort(dim=-1).values[..., -2:-1]


def only_the_best(r):
    return r * (r == r.amax(dim=-1, keepdim=True))


def softmax_of_rewards(r):
    return torch.softmax(2 * r, dim=-1) - 1 / r.shape[-1]


STATISTICS = (
    raw,
    minus_mean,
    single_minus_mean,
    minus_median,
    single_minus_median,
    minus_max,
    single_minus_max,
    minus_min,
    minus_middle_of_range,
    rank,
    minus_first,
    single_minus_first,
    minus_last,
    minus_next,
    leave_one_out,
    minus_mean_of_two_consecutive,
    standardised,
    single_standardised_with_sample_std,
    minus_running_mean,
    minus_mean_of_earlier_rows,
    minus_second_best,
    only_the_best,
    softmax_of_rewards,
)


# Terms: a table [G, T], meant for tokens; what it holds at padding is finite and has a graph.


def log_prob(v):
    return v.A[:, None] * v.logp


def token_ratio(v):
    return v.A[:, None] * v.log_ratio.exp()


def clipped_token_ratio(v):
    x = v.log_ratio.exp()
    return torch.minimum(v.A[:, None] * x, v.A[:, None] * x.clamp(0.85, 1.15))


def trajectory_ratio(v):
    return (v.A * v.log_w.exp())[:, None].expand_as(v.logp)


def clipped_trajectory_ratio(v):
    w = v.log_w.exp()
    return torch.minimum(v.A * w, v.A * w.clamp(0.7, 1.3))[:, None].expand_as(v.logp)


def prefix_ratio(v):
    return v.A[:, None] * v.log_ratio.where(v.mask, 0.0).cumsum(dim=1).exp()


def geometric_ratio(v):
    return (v.A * (v.log_w / v.mask.sum(dim=1)).exp())[:, None].expand_as(v.logp)


def geometric_ratio_over_the_width(v):
    return (v.A * v.log_ratio.mean(dim=1).exp())[:, None].expand_as(v.logp)


def held_ratio(v):
    return v.A[:, None] * v.log_ratio.exp().clamp(max=1.1).detach() * v.logp


def position_weighted(v):
    return v.A[:, None] * v.log_ratio.exp() / torch.arange(1, v.logp.shape[1] + 1)


def tokens_left(v):
    left = v.mask.sum(dim=1, keepdim=True) - torch.arange(v.logp.shape[1])
    return v.A[:, None] * v.logp * left


def held_self_normalised(v):
    w = v.log_w.exp()
    return (v.A * (w / w.mean()).detach())[:, None] * v.logp


def self_normalised(v):
    return (v.A * torch.softmax(v.log_w, dim=0) * len(v.A))[:, None].expand_as(v.logp)


def ratio_of_the_batch(v):
    pooled = (v.log_ratio * v.mask).sum() / v.mask.sum()
    return v.A[:, None] * pooled.exp() * (1 + v.logp / 4)


def times_next_response(v):
    log_p = (v.logp * v.mask).sum(dim=1)
    return (v.A * log_p * log_p.roll(-1))[:, None].expand_as(v.logp)


def soft_gate(v):
    return v.A[:, None] * torch.sigmoid(4 * (v.log_ratio.exp() - 1))


TERMS = (
    log_prob,
    token_ratio,
    clipped_token_ratio,
    trajectory_ratio,
    clipped_trajectory_ratio,
    prefix_ratio,
    geometric_ratio,
    geometric_ratio_over_the_width,
    held_ratio,
    position_weighted,
    tokens_left,
    held_self_normalised,
    self_normalised,
    ratio_of_the_batch,
    times_next_response,
    soft_gate,
)


def in_float32(view: View) -> View:
    """The same group in single precision."""
    names = ("logp", "logp_old", "A", *(() if view.logp_ref is None else ("logp_ref",)))
    return replace(view, **{name: getattr(view, name).float() for name in names})
