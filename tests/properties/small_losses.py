"""Losses that people wrote, small enough to be read at a glance, each coupling a group in its own way.

`LOSSES[name]` is (world, G, eta, objective): theta = theta_old + eta grad J(theta_old), theta_old the start
policy of the named world. In the docstrings x = exp(logp - logp_old), A = reward - mean, w = prod_t x.
"""

import torch


def ratio(batch):
    """x, 0 on padding."""
    return (batch.logp - batch.logp_old).exp() * batch.mask


def log_prob(batch):
    """sum_t logp of every response."""
    return (batch.logp * batch.mask).sum(dim=1)


def centred(batch):
    return batch.reward - batch.reward.mean()


def bnpo_two_steps(batch):
    """Two accumulation steps of two rows, each with its own mean over tokens."""
    summands = centred(batch)[:, None] * ratio(batch)
    return sum(summands[two].sum() / batch.mask[two].sum() for two in (slice(0, 2), slice(2, 4))) / 2


def against_first(batch):
    """A = r - r[0], mean over rows of A logp."""
    return ((batch.reward - batch.reward[0]) * log_prob(batch)).mean()


def second_with_first_as_baseline(batch):
    """(r[1] - r[0]) logp[1]."""
    return (batch.reward[1] - batch.reward[0]) * log_prob(batch)[1]


def self_normalised(batch):
    """mean over rows of A (w / mean w) logp, the weights held."""
    w = (batch.logp - batch.logp_old).where(batch.mask, 0.0).sum(dim=1).exp()
    return (centred(batch) * (w / w.mean()).detach() * log_prob(batch)).mean()


def early_stop(batch):
    """The number 0.0 where the mean of logp_old - logp over tokens exceeds 0.02; else sum A x / G."""
    moved = ((batch.logp_old - batch.logp) * batch.mask).sum() / batch.mask.sum()
    return 0.0 if bool(moved > 0.02) else (centred(batch)[:, None] * ratio(batch)).sum() / len(batch.reward)


def mean_over_kept(batch):
    """mean of A w over rows with w <= 1.5; a tensor without a graph where none is left."""
    w = (batch.logp - batch.logp_old).where(batch.mask, 0.0).sum(dim=1).exp()
    kept = w <= 1.5
    return (centred(batch) * w)[kept].mean() if bool(kept.any()) else torch.tensor(0.0)


def longest(batch):
    """sum A x / G / length of the longest."""
    summands = centred(batch)[:, None] * ratio(batch)
    return summands.sum() / len(batch.reward) / batch.mask.sum(dim=1).max()


def filtered(batch):
    """A tensor without a graph where all rewards are equal; else A by the standard deviation with G - 1."""
    if bool((batch.reward == batch.reward[0]).all()):
        return torch.tensor(0.0)
    A = centred(batch) / batch.reward.std()
    return (A[:, None] * ratio(batch)).sum() / len(A)


def dro(batch):
    """(sum A logp - 1/4 sum (logp - logp_old)^2) / G, with metrics."""
    squares = ((batch.logp - batch.logp_old) * batch.mask).square().sum()
    value = ((centred(batch) * log_prob(batch)).sum() - 0.25 * squares) / len(batch.reward)
    return value, {"squares": squares.item()}


def padded_mean(batch):
    """A x, averaged over the padded table."""
    return (centred(batch)[:, None] * ratio(batch)).mean()


def median_baseline(batch):
    """A = r - median, sum A x / G."""
    A = batch.reward - batch.reward.median()
    return (A[:, None] * ratio(batch)).sum() / len(A)


LISTED = (
    ("length-trap", 4, 0.0, bnpo_two_steps),
    ("right-answer", 2, 0.0, against_first),
    ("right-answer", 2, 0.0, second_with_first_as_baseline),
    ("few-values", 2, 8.0, self_normalised),
    ("long-answers", 2, 2.0, early_stop),
    ("few-values", 2, 8.0, mean_over_kept),
    ("long-answers", 2, 2.0, longest),
    ("right-answer", 2, 8.0, filtered),
    ("long-answers", 2, 2.0, dro),
    ("long-answers", 2, 2.0, padded_mean),
    ("distinct-values", 3, 4.0, median_baseline),
)
LOSSES = {case[-1].__name__: case for case in LISTED}
