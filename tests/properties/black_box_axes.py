"""Axes of an `Estimator` that couple the responses of a group, read their order or the width of the table.

Each comes written for leading axes, or (`single`) for one group alone, reducing over everything. `in_words`
is the estimator's formula as an objective of one group, for the oracle.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from tests.properties import black_box_parts as parts
from ticgrpo_theory.estimators.advantages import Advantage, centred, standardised
from ticgrpo_theory.estimators.clipping import Clip, by_sign, saturating, two_sided, unclipped, upper_only
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.ratios import geometric_mean, none, prefix, token, trajectory
from ticgrpo_theory.estimators.scales import constant, sequence_mean, sequence_sum, token_mean


def in_words(estimator: Estimator) -> Callable:
    """objective(group) = sum_it c[i,t] logp[i,t], c = scale A exp(clamp(v)) (lo <= v <= hi) held."""

    def objective(group):
        mask, length = group.mask, group.mask.sum(dim=1)
        log_ratio = (group.logp.detach() - group.logp_old).where(mask, 0.0)
        A = estimator.advantage(group.reward)
        lo, hi = (bound[:, None] for bound in estimator.clip.bounds(A >= 0, length))
        weight = estimator.clip.weight(estimator.ratio, log_ratio, mask, lo, hi)
        scale = estimator.scale(length, length.sum(dim=0, keepdim=True), len(A), group.horizon)
        return ((scale * A)[:, None] * weight.where(mask, 0.0) * group.logp).sum()

    return objective


@dataclass(frozen=True)
class of_rewards(Advantage):
    """A = statistic(reward), and nothing is known about it."""

    statistic: parts.Statistic

    def __repr__(self):
        return f"of_rewards({self.statistic.__name__})"

    def __call__(self, reward):
        return self.statistic(reward)


@dataclass(frozen=True)
class against_the_best(Advantage):
    """Moments are offered, but the rewards of the group are read, too."""

    def of_moments(self, reward, mean, variance, group_size):
        return reward - reward.amax(dim=-1, keepdim=True) - 0.5 * variance


@dataclass(frozen=True)
class bounded(centred):
    """No longer linear, although `linear` is inherited."""

    def of_moments(self, reward, mean, variance, group_size):
        return torch.tanh(2 * (reward - mean))


@dataclass(frozen=True)
class spread(standardised):
    """A limit and moments are inherited; the formula is another one."""

    def __call__(self, reward):
        return parts.minus_mean(reward) / (1 + reward.amax(dim=-1, keepdim=True))


def whole(log_ratio, mask):
    """log w [..., G, 1]."""
    return log_ratio.where(mask, 0.0).sum(dim=-1, keepdim=True)


def self_normalised(log_ratio, mask):
    log_w = whole(log_ratio, mask)
    mean = torch.logsumexp(log_w, dim=-2, keepdim=True) - math.log(log_w.shape[-2])
    return (log_w - mean).expand_as(log_ratio).where(mask, 0.0)


def single_self_normalised(log_ratio, mask):
    w = whole(log_ratio, mask).exp()
    return (w / w.mean()).log().expand_as(log_ratio).where(mask, 0.0)


def mean_of_the_group(log_ratio, mask):
    total = log_ratio.where(mask, 0.0).sum(dim=(-2, -1), keepdim=True)
    return (total / mask.sum(dim=(-2, -1), keepdim=True)).expand_as(log_ratio)


def single_mean_of_the_group(log_ratio, mask):
    return (log_ratio[mask].sum() / mask.sum()).expand_as(log_ratio)


def mean_over_the_width(log_ratio, mask):
    return log_ratio.mean(dim=-1, keepdim=True).expand_as(log_ratio)


def farthest_of_the_group(log_ratio, mask):
    return whole(log_ratio, mask).amax(dim=-2, keepdim=True).expand_as(log_ratio)


def that_of_the_first(log_ratio, mask):
    return whole(log_ratio, mask)[..., :1, :].expand_as(log_ratio)


def single_that_of_the_first(log_ratio, mask):
    return whole(log_ratio, mask)[0].expand_as(log_ratio)


def against_the_others(log_ratio, mask):
    log_w = whole(log_ratio, mask)
    others = (log_w.sum(dim=-2, keepdim=True) - log_w) / (log_w.shape[-2] - 1)
    return (log_w - others / 2).expand_as(log_ratio)


RATIOS = (
    self_normalised,
    single_self_normalised,
    mean_of_the_group,
    single_mean_of_the_group,
    mean_over_the_width,
    farthest_of_the_group,
    that_of_the_first,
    single_that_of_the_first,
    against_the_others,
)


def longest(length, total_length, group_size, horizon):
    return 1.0 / (group_size * length.double().amax(dim=-1, keepdim=True)).expand_as(length)


def single_longest(length, total_length, group_size, horizon):
    return (1.0 / (group_size * length.double().max())).expand_as(length)


def single_shortest(length, total_length, group_size, horizon):
    return (1.0 / (group_size * length.double().min())).expand_as(length)


def share_of_tokens(length, total_length, group_size, horizon):
    """Reads no more than a scale may."""
    return length / total_length.double() + 0.5 / group_size


def by_position(length, total_length, group_size, horizon):
    return (1.0 / torch.arange(1, length.shape[-1] + 1).double()).expand_as(length)


def longer_than_the_next(length, total_length, group_size, horizon):
    return (1.0 + (length > length.roll(1, dims=-1)).double()) / group_size


SCALES = (longest, single_longest, single_shortest, share_of_tokens, by_position, longer_than_the_next)


@dataclass(frozen=True)
class veto(unclipped):
    """No weight for a group in which one response has moved too far."""

    def weight(self, ratio, log_ratio, mask, lo, hi):
        far = log_ratio.abs().amax(dim=(-2, -1), keepdim=True) > 0.5
        return ratio(log_ratio, mask).exp().where(~far, 0.0)


@dataclass(frozen=True)
class single_veto(unclipped):
    def weight(self, ratio, log_ratio, mask, lo, hi):
        x = ratio(log_ratio, mask).exp()
        return torch.zeros_like(x) if bool(log_ratio.abs().max() > 0.5) else x


@dataclass(frozen=True)
class share_kept(upper_only):
    """The weights that the clip leaves, divided by the share of them."""

    def weight(self, ratio, log_ratio, mask, lo, hi):
        kept = Clip.weight(self, ratio, log_ratio, mask, lo, hi).where(mask, 0.0)
        share = (kept > 0).double().sum(dim=(-2, -1), keepdim=True) / mask.sum(dim=(-2, -1), keepdim=True)
        return kept / share.clamp(min=0.1)


@dataclass(frozen=True)
class wider_where_most_are_good(two_sided):
    """Bounds that read the signs of the others."""

    def bounds(self, positive, length):
        lo, hi = two_sided.bounds(self, positive, length)
        return lo, hi * (1 + positive.double().mean(dim=-1, keepdim=True))


@dataclass(frozen=True)
class single_wider_where_long(upper_only):
    """Bounds that read the lengths of the others."""

    def bounds(self, positive, length):
        lo, hi = upper_only.bounds(self, positive, length)
        return lo, hi * length.double().max()


@dataclass(frozen=True)
class only_the_first(upper_only):
    """The first response alone is clipped."""

    def bounds(self, positive, length):
        lo, hi = upper_only.bounds(self, positive, length)
        first = torch.arange(hi.shape[-1]) == 0
        return lo, hi.where(first, by_sign(positive, math.inf, math.inf))


CLIPS = (
    veto(),
    single_veto(),
    share_kept(0.1),
    wider_where_most_are_good(0.1, 0.1),
    single_wider_where_long(0.05),
    only_the_first(0.05),
)

ADVANTAGES = (*map(of_rewards, parts.STATISTICS), against_the_best(), bounded(), spread())

BASES = (
    Estimator(token, standardised(1e-3), two_sided(0.1, 0.15), sequence_mean),
    Estimator(trajectory, centred(), upper_only(0.2), sequence_sum),
    Estimator(none, standardised(1e-3), unclipped(), token_mean),
    Estimator(prefix, centred(), unclipped(), sequence_sum),
    Estimator(geometric_mean, standardised(1e-3), two_sided(0.1, 0.15), constant),
    Estimator(token, centred(), saturating(upper_only(0.1)), token_mean),
    Estimator(trajectory, centred(), unclipped(), sequence_mean),
    Estimator(token, centred(), unclipped(), sequence_mean),
)
"""What an own axis is put into."""

OWN = (
    *(("ratio", ratio) for ratio in RATIOS),
    *(("scale", scale) for scale in SCALES),
    *(("clip", clip) for clip in CLIPS),
    *(("advantage", advantage) for advantage in ADVANTAGES),
)
