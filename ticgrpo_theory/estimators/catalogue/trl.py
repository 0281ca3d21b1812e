"""What `GRPOTrainer` of TRL 1.16 computes, by the names of its options; the loss alone, without KL.

Advantages are (r - mean) / (std + 1e-4) with the divisor G - 1. Ratios are clipped to [0.8, 1.2].
"""

from ticgrpo_theory.estimators.advantage import UpdateAdvantage
from ticgrpo_theory.estimators.advantages import Advantage, group_centred_batch_std, standardised
from ticgrpo_theory.estimators.clipping import Clip, saturating, two_sided, upper_only
from ticgrpo_theory.estimators.corrections import Correction, masked, truncated
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.ratios import token
from ticgrpo_theory.estimators.scales import (
    Scale,
    batch_token_mean,
    constant,
    micro_batch_token_mean,
    sequence_mean,
)

ADVANTAGE = standardised(1e-4, ddof=1)
"""scale_rewards = "group"."""


def loss_type(
    scale: Scale,
    clip: Clip = two_sided(0.2, 0.2),  # noqa: B008
    advantage: Advantage | UpdateAdvantage = ADVANTAGE,
    correction: Correction | None = None,
) -> Estimator:
    """A token ratio, the advantage of TRL, and what a loss type divides by."""
    return Estimator(token, advantage, clip, scale, correction=correction)


def trl_grpo() -> Estimator:
    """TRL 1.16, loss_type "grpo": the mean over responses of their means over tokens."""
    return loss_type(sequence_mean)


def trl_bnpo(rows: int = 8) -> Estimator:
    """TRL 1.16, loss_type "bnpo": a mean over the tokens of each micro-batch of `rows` shuffled rows."""
    return loss_type(micro_batch_token_mean(rows, "shuffled"))


def trl_dr_grpo() -> Estimator:
    """TRL 1.16, loss_type "dr_grpo": divided by the response limit; std stays."""
    return loss_type(constant)


def trl_dapo() -> Estimator:
    """TRL 1.16, loss_type "dapo", the default: a mean over the tokens of the whole update."""
    return loss_type(batch_token_mean)


def trl_cispo(epsilon_high: float = 5.0) -> Estimator:
    """TRL 1.16, loss_type "cispo": min(w, epsilon_high), held, at the value that the options recommend."""
    return loss_type(batch_token_mean, saturating(upper_only(epsilon_high - 1)))


def trl_batch_std() -> Estimator:
    """TRL 1.16, scale_rewards "batch": mean of the group, deviation of the update; else `trl_dapo`."""
    return loss_type(batch_token_mean, advantage=group_centred_batch_std(1e-4, 1, "rewards"))


def trl_sequence_mask(clip_max: float = 3.0) -> Estimator:
    """TRL 1.16, the default under vLLM: a response with prod pi_old / mu > 3 is dropped."""
    return loss_type(batch_token_mean, correction=masked("sequence", None, clip_max))


def trl_sequence_truncate(clip_max: float = 3.0) -> Estimator:
    """TRL 1.16, vllm_importance_sampling_mode "sequence_truncate"."""
    return loss_type(batch_token_mean, correction=truncated("sequence", None, clip_max))


def trl_token_mask(clip_max: float = 3.0) -> Estimator:
    """TRL 1.16, vllm_importance_sampling_mode "token_mask"."""
    return loss_type(batch_token_mean, correction=masked("token", None, clip_max))


def trl_token_truncate(clip_max: float = 3.0) -> Estimator:
    """TRL 1.16, vllm_importance_sampling_mode "token_truncate"."""
    return loss_type(batch_token_mean, correction=truncated("token", None, clip_max))


TRL_LINES = (
    trl_grpo,
    trl_bnpo,
    trl_dr_grpo,
    trl_dapo,
    trl_cispo,
    trl_batch_std,
    trl_sequence_mask,
    trl_sequence_truncate,
    trl_token_mask,
    trl_token_truncate,
)
