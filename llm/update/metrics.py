"""What is logged of every update, from its record alone; formulas of estimators are called, never
restated.

    log w'[i] = sum_t (logp - logp_old)[i,t]      of every response of the mini-batch

At the first update of a rollout theta = theta_old and w' = 1 in theory: what is found there is numerical
noise (`first_step_ratio_error`). Later a true ratio has mean 1 under theta_old, so that a log w' that is
about normal with standard deviation sd has mean -sd^2 / 2; `log_ratio_mean_gap` is the difference, and noise
shows there as +sd^2 / 2. Every value is a float; keys whose number is not defined for an update are left out.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llm.model import forward_flops
from llm.update.groups import Groups
from llm.update.step import Pass, Recipe
from ticgrpo_theory.estimators.clipped_tokens import clipped
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.ratios import trajectory

Metrics = dict[str, float]

PEAK_FLOPS = {
    # NVIDIA data sheets: dense bfloat16, without sparsity.
    "H100 PCIe": 756e12,
    "H100": 989.4e12,
    "H200": 989.4e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165.2e12,
}
"""Largest rate of each device, by a part of its name; for others MFU is left out unless the rate is given."""


def update_metrics(groups: Groups, done: Pass, recipe: Recipe, first: bool) -> Metrics:
    """Everything about one update: `first` is True at the first of a rollout, where theta = theta_old."""
    batch = groups.batch(done.logp)
    log_w = trajectory(batch.log_ratio, batch.mask)[..., 0]
    found = {
        **ratio_metrics(log_w),
        **(first_step(log_w) if first else {}),
        **clip_metrics(groups, done, recipe),
        **length_metrics(groups),
        **sampler_gap(groups),
        **correction_metrics(groups, recipe),
    }
    if done.entropy is not None:
        found["entropy"] = done.entropy[batch.mask].mean().item()
    if done.gradient_norm is not None:
        found["gradient_norm"] = done.gradient_norm
    return found


def ratio_metrics(log_w: Float[Tensor, "P G"]) -> Metrics:
    """Mean, extremes and standard deviation (1/n) of log w'; mean + sd^2 / 2; effective sample size."""
    log_w = log_w.double()
    mean, sd = log_w.mean(), log_w.std(correction=0)
    return {
        "log_ratio_mean": mean.item(),
        "log_ratio_max": log_w.max().item(),
        "log_ratio_min": log_w.min().item(),
        "log_ratio_sd": sd.item(),
        "log_ratio_mean_gap": (mean + sd.square() / 2).item(),
        "effective_sample_size": effective_sample_size(log_w.flatten()),
    }


def effective_sample_size(log_w: Float[Tensor, " n"]) -> float:
    """(sum w')^2 / (n sum w'^2), between 1/n and 1; from logarithms, so that no ratio overflows."""
    total, squares = log_w.logsumexp(dim=0), (2 * log_w).logsumexp(dim=0)
    return (2 * total - squares).exp().item() / len(log_w)


def first_step(log_w: Float[Tensor, "P G"]) -> Metrics:
    """|w' - 1|, largest and mean, where theta = theta_old: zero but for the noise of two evaluations."""
    error = log_w.double().expm1().abs()
    return {
        "first_step_ratio_error_max": error.max().item(),
        "first_step_ratio_error_mean": error.mean().item(),
    }


def clip_metrics(groups: Groups, done: Pass, recipe: Recipe) -> Metrics:
    """Shares of the tokens with A > 0, and with A < 0, whose weight the clip switches off, and whose it
    holds.

    Off: the estimator's own weight for an advantage of that sign is 0. Held: it is another number than
    without the clip, and not 0 (a saturating clip, or a neighbour that is clamped before pooling). A group
    of equal rewards has A = 0 and counts nowhere. Of a callable no clip is known.
    """
    estimator = recipe.estimator
    if not isinstance(estimator, Estimator):
        return {}
    batch = groups.batch(done.logp)
    log_ratio, mask = batch.log_ratio.double(), batch.mask
    A = estimator.advantages(batch)
    d = batch.sampler_log_ratio
    read = (mask, A >= 0, batch.logp_old.double(), None if d is None else d.double())
    changed = clipped(estimator.clip, estimator.ratio, log_ratio, *read)
    found = {}
    for name, chosen in (("positive", A > 0), ("negative", A < 0)):
        tokens = mask & chosen[..., None]
        if bool(tokens.any()):
            found[f"clipped_{name}"] = changed.off[tokens].double().mean().item()
            found[f"held_{name}"] = changed.held[tokens].double().mean().item()
    return found


def length_metrics(groups: Groups) -> Metrics:
    """Mean and largest length; mean length of the responses above and not above the middle of the rewards.

    The middle lies half-way between the smallest and the largest reward: for rewards of two values it tells
    them apart. Without two values there are no halves.
    """
    length, reward = groups.sequences.lengths.double(), groups.reward.flatten()
    found = {
        "reward": reward.double().mean().item(),
        "length": length.mean().item(),
        "length_max": length.max().item(),
    }
    high = reward > (reward.max() + reward.min()) / 2
    if bool(high.any()) and not bool(high.all()):
        found["length_high_reward"] = length[high].mean().item()
        found["length_low_reward"] = length[~high].mean().item()
    return found


def sampler_gap(groups: Groups) -> Metrics:
    """|log pi of the sampler - logp_old|, mean and largest over tokens; standard deviation of its sum."""
    if groups.logp_sampler is None:
        return {}
    mask = groups.sequences.mask.reshape(groups.shape)
    gap = (groups.logp_sampler - groups.logp_old).where(mask, 0.0).double()
    return {
        "sampler_gap_mean": gap[mask].abs().mean().item(),
        "sampler_gap_max": gap[mask].abs().max().item(),
        "sampler_gap_sd": gap.sum(dim=-1).std(correction=0).item(),
    }


def correction_metrics(groups: Groups, recipe: Recipe) -> Metrics:
    """Of a correction for the sampler: mean phi, share of masked tokens, effective share of responses.

    The last is (sum W)^2 / (n sum W^2) of W = P_old / mu of whole responses, whatever the level of phi.
    """
    correction = getattr(recipe.estimator, "correction", None)
    if correction is None or groups.logp_sampler is None:
        return {}
    batch = groups.batch(groups.logp_old)
    d = (batch.logp_old - groups.logp_sampler).where(batch.mask, 0.0).double()
    phi = correction.weight(d, batch.mask)[batch.mask]
    return {
        "correction_mean": phi.mean().item(),
        "correction_masked": (phi == 0).double().mean().item(),
        "sampler_effective_sample_size": effective_sample_size(d.sum(dim=-1).flatten()),
    }


def speed_metrics(network: nn.Module, groups: Groups, seconds: float, peak: float | None = None) -> Metrics:
    """Tokens (prompts counted) per second of the update, and the share of the device's largest rate that its
    forward and backward passes use: three forward passes in `seconds`; recomputation counts as time, not as
    work.

    `peak` in operations per second; by default that of the device, where it is known.
    """
    prompts, lengths = groups.sequences.prompt_lengths.tolist(), groups.sequences.lengths.tolist()
    found = {"tokens_per_second": (sum(prompts) + sum(lengths)) / seconds}
    peak = peak_flops(next(network.parameters()).device) if peak is None else peak
    if peak is not None:
        found["mfu"] = 3 * forward_flops(network, prompts, lengths) / (seconds * peak)
    return found


def peak_flops(device: torch.device) -> float | None:
    """The rate of PEAK_FLOPS whose name is in the device's; None where there is none."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((rate for part, rate in PEAK_FLOPS.items() if part in name), None)
