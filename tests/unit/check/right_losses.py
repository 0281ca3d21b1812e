"""Twenty losses without a fault on policy, in the forms in which people write them."""

import torch

from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.estimator import Estimator


def ratio(logp, logp_old, mask):
    return (logp - logp_old).masked_fill(~mask, 0.0).exp()


def ppo(r, A, low=0.2, high=0.2):
    return torch.minimum(r * A, r.clamp(1 - low, 1 + high) * A)


def token_clip(logp, logp_old, advantages, mask):
    r, A = ratio(logp, logp_old, mask), advantages[:, None]
    return -(ppo(r, A) * mask).sum(dim=1).mean() / 8


def clip_higher(log_prob, old_log_prob, advantages, response_mask):
    r = ratio(log_prob, old_log_prob, response_mask)
    return -(ppo(r, advantages[:, None], 0.2, 0.28) * response_mask).sum() / (len(log_prob) * 8)


def wide(old_log_prob, log_prob, advantages, response_mask):
    r = ratio(log_prob, old_log_prob, response_mask)
    return -(r * advantages * response_mask).sum(dim=-1).mean()


def with_metrics(per_token_logps, old_per_token_logps, advantages, completion_mask):
    r = ratio(per_token_logps, old_per_token_logps, completion_mask)
    loss = -(r * advantages.unsqueeze(1) * completion_mask).sum(1).mean()
    return loss, {"loss": loss.item()}


def reinforce(logp, logp_old, advantages, mask):
    return -(logp * mask).sum(1).mul(advantages).mean()


def held(logp, logp_old, advantages, mask):
    r = ratio(logp, logp_old, mask).detach().clamp(max=3.0)
    return -(r * advantages[:, None] * logp * mask).sum() / len(logp)


def sequence(logp, logp_old, advantages, mask):
    w = ((logp - logp_old) * mask).sum(1).clamp(-20, 20).exp()
    return -(w * advantages).mean()


def sequence_clip(logp, logp_old, advantages, mask):
    w = ((logp - logp_old) * mask).sum(1).clamp(-20, 20).exp()
    return -ppo(w, advantages).mean()


def dual(logp, logp_old, advantages, mask):
    r, A = ratio(logp, logp_old, mask), advantages[:, None]
    kept = ppo(r, A)
    kept = torch.where(A < 0, torch.maximum(kept, 3 * A), kept)
    return -(kept * mask).sum(1).mean()


def k2(logp, logp_old, advantages, mask, beta=0.1):
    gap = (logp - logp_old) * mask
    return (
        -(ratio(logp, logp_old, mask) * advantages[:, None] * mask).sum(1) + beta * (gap**2).sum(1) / 2
    ).mean()


def single(logp, logp_old, advantages, mask):
    r = ratio(logp.float(), logp_old.float(), mask)
    return -(r * advantages[:, None].float() * mask).sum(1).mean()


class Module(torch.nn.Module):
    def forward(self, logp, logp_old, advantages, mask):
        return token_clip(logp, logp_old, advantages, mask)


def centred(batch):
    A = batch.reward - batch.reward.mean()
    return (A[:, None] * batch.logp * batch.mask).sum() / len(A)


def leave_one_out(batch):
    G = len(batch.reward)
    A = (batch.reward - batch.reward.mean()) * G / (G - 1)
    return (A * (ratio(batch.logp, batch.logp_old, batch.mask) * batch.mask).sum(1)).mean()


def listed(batch):
    total = 0.0
    for i in range(len(batch.reward)):
        others = [batch.reward[j] for j in range(len(batch.reward)) if j != i]
        A = batch.reward[i] - sum(others) / len(others)
        total = total + A * (batch.logp[i] * batch.mask[i]).sum()
    return total / len(batch.reward)


def skips(batch):
    if float(batch.reward.max()) == float(batch.reward.min()):
        return 0.0
    return centred(batch)


def sapo(logp, logp_old, advantages, mask, tau=1.0):
    r = ratio(logp, logp_old, mask)
    return -(torch.sigmoid(tau * (r - 1)) * 4 / tau * advantages[:, None] * mask).sum(1).mean()


RIGHT = {
    **{
        f.__name__: f
        for f in (
            token_clip, clip_higher, wide, with_metrics, reinforce, held, sequence, sequence_clip, dual,
            k2, single, centred, leave_one_out, listed, skips, sapo,
        )
    },
    "module": Module(),
    "trajectory_is": "trajectory_is",
    "rloo": "rloo",
    "prefix_is": ESTIMATORS["prefix_is"],
}  # fmt: skip

assert len(RIGHT) == 20 and isinstance(RIGHT["prefix_is"], Estimator)
