"""Sixteen faults that people had in their trainers, each with the words that its verdict begins with."""

import torch

from tests.unit.check.right_losses import ppo, ratio


def ascends(logp, logp_old, advantages, mask):
    """The objective is returned where a loss is minimised."""
    return (ratio(logp, logp_old, mask) * advantages[:, None] * mask).sum(1).mean()


def inside_coefficient(logp, logp_old, advantages, mask, beta=8.0):
    """A penalty inside the detached coefficient pushes away from the reference it should pull to."""
    coefficient = (advantages[:, None] - beta * advantages[:, None].abs() * logp.abs()).detach()
    return -(coefficient * logp * mask).sum(1).mean()


def without_advantage(logp, logp_old, advantages, mask):
    """A gate of the ratio that nothing multiplies by the advantage."""
    return -(torch.sigmoid(ratio(logp, logp_old, mask) - 1) * mask).sum(1).mean()


def all_detached(logp, logp_old, advantages, mask):
    """The whole ratio is detached, and nothing else has a graph."""
    return (
        -(ratio(logp, logp_old, mask).detach() * advantages[:, None] * mask).sum(1).mean()
        + 0 * logp.sum().detach()
    )


def no_mask(logp, logp_old, advantages, mask):
    """Padding counts."""
    return -((logp - logp_old).exp() * advantages[:, None]).sum(1).mean()


def shifted_mask(logp, logp_old, advantages, mask):
    """The mask of the tokens that follow: off by one."""
    late = torch.roll(mask, 1, dims=1)
    late[:, 0] = True
    return -((logp - logp_old).exp() * advantages[:, None] * late).sum(1).mean()


def padded_mean(logp, logp_old, advantages, mask):
    """A mean over the padded tensor."""
    return -(ratio(logp, logp_old, mask) * advantages[:, None] * mask).mean()


def token_mean_of_piece(logp, logp_old, advantages, mask):
    """The token mean of whatever piece of the update is at hand."""
    return -(ratio(logp, logp_old, mask) * advantages[:, None] * mask).sum() / mask.sum()


def two_steps(batch):
    """Rows 0, 1 and rows 2, 3 each by their own number of tokens."""
    A, halves = batch.reward - batch.reward.mean(), []
    for rows in (slice(0, 2), slice(2, None)):
        mask = batch.mask[rows]
        halves.append((A[rows, None] * batch.logp[rows] * mask).sum() / mask.sum().clamp(min=1))
    return sum(halves) / 2


def against_first(batch):
    """The first response as the baseline of all."""
    A = batch.reward - batch.reward[0]
    return (A[:, None] * batch.logp * batch.mask).sum() / len(A)


def no_epsilon(batch):
    """A division by a spread that can be 0."""
    A = (batch.reward - batch.reward.mean()) / batch.reward.std()
    return (A[:, None] * batch.logp * batch.mask).sum() / len(A)


def raw_rewards(batch):
    """No baseline."""
    return (batch.reward[:, None] * batch.logp * batch.mask).sum() / len(batch.reward)


def unbounded(logp, logp_old, advantages, mask):
    """A logarithm of 1 minus a probability that may be 1."""
    r = ratio(logp, logp_old, mask)
    return (
        -(r * advantages[:, None] * mask).sum(1).mean() + 0 * (1 - (r - 1).abs().clamp(max=4) / 4).log().sum()
    )


def dual_on_both(logp, logp_old, advantages, mask):
    """The dual bound c A acts on A > 0 too."""
    r, A = ratio(logp, logp_old, mask), advantages[:, None]
    return -(torch.maximum(ppo(r, A), 3 * A) * mask).sum(1).mean()


def sequence_mean(logp, logp_old, advantages, mask):
    """1/length of each response."""
    return -((ratio(logp, logp_old, mask) * advantages[:, None] * mask).sum(1) / mask.sum(1)).mean()


def twice_the_length(logp, logp_old, advantages, mask):
    """A sequence ratio summed over its tokens: a factor of the length."""
    w = ((logp - logp_old) * mask).sum(1, keepdim=True).clamp(-20, 20).exp()
    return -(w * advantages[:, None] * mask).sum(1).mean()


WRONG = {
    ascends: "WRONG SIGN: every step goes down",
    inside_coefficient: "WRONG SIGN",
    without_advantage: "NO SIGNAL",
    all_detached: "NO SIGNAL",
    no_mask: "MASK FORGOTTEN",
    shifted_mask: "MASK FORGOTTEN",
    padded_mean: "READS PADDING",
    token_mean_of_piece: "CHANGES WITH MICRO-BATCHES",
    two_steps: "READS THE ORDER",
    against_first: "READS THE ORDER",
    no_epsilon: "MOVES ON EQUAL REWARDS",
    raw_rewards: "MOVES ON EQUAL REWARDS",
    unbounded: "NOT FINITE",
    dual_on_both: "BIASED: .* one length.* A > 0 keep 0 %",
    sequence_mean: "BIASED: .* unequal length.* 1/length",
    twice_the_length: "BIASED: .* unequal length.* a factor of the response's length",
}

assert len(WRONG) == 16
