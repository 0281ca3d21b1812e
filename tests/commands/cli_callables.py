"""A file of a user's own with objectives, losses and advantages, some of them faulty."""

OWN = '''
import torch


def centred(batch):
    A = batch.reward - batch.reward.mean()
    return (A[:, None] * batch.logp * batch.mask).sum() / len(A)


def downhill(batch):
    return -centred(batch)


def two_steps(batch):
    """Sum of A x over rows 0, 1 per token of theirs, plus the same for rows 2, 3, halved."""
    x = (batch.logp - batch.logp_old).exp()
    A = batch.reward - batch.reward.mean()
    halves = []
    for rows in (slice(0, 2), slice(2, 4)):
        mask = batch.mask[rows]
        halves.append((A[rows, None] * x[rows] * mask).sum() / mask.sum())
    return sum(halves) / 2


def against_first(batch):
    A = batch.reward - batch.reward[0]
    return (A[:, None] * batch.logp * batch.mask).sum() / len(A)


def times(batch, factor):
    return factor * centred(batch)


def to_reference(batch):
    gap = (batch.logp - batch.logp_ref).where(batch.mask, 0.0)
    return centred(batch) - 0.5 * gap.square().sum() / len(batch.reward)


def loss(mask, advantages, old_logp, logp, eps=0.2):
    x = (logp - old_logp).exp()
    A = advantages[:, None]
    kept = torch.minimum(A * x, A * x.clamp(1 - eps, 1 + eps))
    return -((kept * mask).sum(dim=1) / mask.sum(dim=1)).mean()


def positive(reward):
    return (reward - reward.mean()).clamp(min=0.0)


def listed(reward):
    return [0.0]


def divided(reward):
    return reward / (1 / 0)


def broken(batch):
    raise KeyError("no such thing")


def made_badly(width=3):
    return 1 / 0


def own_ratio(log_ratio, mask):
    raise RuntimeError("a ratio of ones own")


def own_estimator():
    import dataclasses
    from ticgrpo_theory.estimators import ESTIMATORS
    return dataclasses.replace(ESTIMATORS["grpo"], ratio=own_ratio)


def doubled_ratio(log_ratio, mask):
    return 2 * log_ratio


def undeclared():
    import dataclasses
    from ticgrpo_theory.estimators import ESTIMATORS
    return dataclasses.replace(ESTIMATORS["grpo"], ratio=doubled_ratio)
'''
