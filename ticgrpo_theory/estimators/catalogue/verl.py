"""What verl computes (core_algos.py of 2026), by its advantage estimators, losses and `loss_agg_mode`.

Advantages of a group have the divisor G - 1 and 1e-6 beside the deviation. The loss `vanilla` is PPO's with
ratios in [0.8, 1.2], a dual clip at 3, and log-ratios clamped at 20.
"""

import math

from ticgrpo_theory.estimators.advantage import UpdateAdvantage
from ticgrpo_theory.estimators.advantages import (
    Advantage,
    centred,
    leave_one_out,
    length_weighted,
    standardised,
    token_whitened,
)
from ticgrpo_theory.estimators.clipping import Clip, dual, saturating, unclipped
from ticgrpo_theory.estimators.corrections import Correction, product, rejected, truncated
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.gates import inside
from ticgrpo_theory.estimators.ratios import Ratio, geometric_mean, none, token
from ticgrpo_theory.estimators.scales import (
    Scale,
    batch_token_mean,
    constant,
    kept,
    sequence_mean,
    sequence_sum,
)
from ticgrpo_theory.estimators.success_advantages import centred_over_nonzero, group_centred_token_whitened
from ticgrpo_theory.estimators.tapers import tapered

ADVANTAGE = standardised(1e-6, ddof=1)
VANILLA = dual(0.2, 0.2, 3.0, 20.0)


def loss_mode(
    scale: Scale,
    advantage: Advantage | UpdateAdvantage = ADVANTAGE,
    clip: Clip = VANILLA,
    ratio: Ratio = token,
    correction: Correction | None = None,
) -> Estimator:
    """A loss with what it divides by."""
    return Estimator(ratio, advantage, clip, scale, correction=correction)


def verl_grpo() -> Estimator:
    """verl, adv_estimator grpo, loss_agg_mode "token-mean", the default: over all tokens of the update."""
    return loss_mode(batch_token_mean)


def verl_seq_mean_token_sum() -> Estimator:
    """verl, the same with loss_agg_mode "seq-mean-token-sum"."""
    return loss_mode(sequence_sum)


def verl_seq_mean_token_mean() -> Estimator:
    """verl, the same with loss_agg_mode "seq-mean-token-mean"."""
    return loss_mode(sequence_mean)


def verl_dr_grpo() -> Estimator:
    """verl, norm_adv_by_std_in_grpo off, "seq-mean-token-sum-norm": divided by the response limit."""
    return loss_mode(constant, centred())


def verl_rloo() -> Estimator:
    """verl, adv_estimator rloo with the loss `vanilla`: the clip stays, so that it is no RLOO off-policy."""
    return loss_mode(batch_token_mean, leave_one_out())


def verl_reinforce_pp() -> Estimator:
    """verl, adv_estimator reinforce_plus_plus, gamma = 1: rewards whitened over tokens, divisor n - 1.

    Released code has 1e-8 under the root, here there is none.
    """
    return loss_mode(batch_token_mean, token_whitened(0.0, 1))


def verl_opo() -> Estimator:
    """verl, adv_estimator opo (arXiv:2505.23585): a baseline weighed by lengths, with the loss `vanilla`."""
    return loss_mode(batch_token_mean, length_weighted())


def verl_gspo() -> Estimator:
    """verl, loss `gspo`: log-ratios clamped at 10, "seq-mean-token-mean", the range of PPO."""
    return loss_mode(sequence_mean, clip=dual(0.2, 0.2, math.exp(10.0), math.inf), ratio=geometric_mean)


def verl_cispo() -> Estimator:
    """verl, loss `cispo`: the ratio held in [0.8, 1.2] for either sign of A, a mean over all tokens."""
    return loss_mode(batch_token_mean, clip=saturating(inside(0.8, 1.2)))


def verl_reinforce_pp_baseline() -> Estimator:
    """verl, reinforce_plus_plus_baseline (arXiv:2501.03262): centred in groups, then whitened over tokens.

    With one length it is the group mean and the root mean square of the batch. Released code has 1e-8 under
    the root, here there is none.
    """
    return loss_mode(batch_token_mean, group_centred_token_whitened(0.0, 1))


def verl_gpg() -> Estimator:
    """verl, adv_estimator and loss gpg (arXiv:2504.02546): no ratio; A times rows over rows with a reward.

    Where every reward is not 0 it is centred REINFORCE with a mean over tokens.
    """
    return loss_mode(batch_token_mean, centred_over_nonzero(), unclipped(), none)


def verl_topr() -> Estimator:
    """verl, loss topr (arXiv:2503.14286): for A < 0 the geometric mean of the ratios, held up to 1."""
    return loss_mode(sequence_mean, clip=tapered(0.0, 1.0), ratio=geometric_mean)


SEQ_TIS = truncated("sequence", None, 2.0)
GEO_RS = rejected("geometric", 1 / 1.001, 1 / 0.999)
"""Bounds 0.999 and 1.001 on mu / pi_old, whose geometric mean is 1 where the policies agree."""


def preset(correction: Correction) -> Estimator:
    """The default loss under a preset of the rollout correction; rejected responses are in no mean."""
    return loss_mode(kept(batch_token_mean), correction=correction)


def verl_seq_is_rs() -> Estimator:
    """verl, preset decoupled_seq_is_rs: pi_old / mu of the response up to 2, dropped outside [0.5, 2]."""
    return preset(product((SEQ_TIS, rejected("sequence", 0.5, 2.0))))


def verl_geo_rs() -> Estimator:
    """verl, preset decoupled_geo_rs: a response is dropped 0.1 % away from a geometric mean of 1."""
    return preset(GEO_RS)


def verl_geo_rs_seq_tis() -> Estimator:
    """verl, preset decoupled_geo_rs_seq_tis: the same, times pi_old / mu of the response up to 2."""
    return preset(product((SEQ_TIS, GEO_RS)))


def verl_geo_rs_token_tis() -> Estimator:
    """verl, preset decoupled_geo_rs_token_tis: the same, times pi_old / mu of the token up to 2."""
    return preset(product((truncated("token", None, 2.0), GEO_RS)))


VERL_LINES = (
    verl_grpo,
    verl_seq_mean_token_sum,
    verl_seq_mean_token_mean,
    verl_dr_grpo,
    verl_rloo,
    verl_reinforce_pp,
    verl_opo,
    verl_gspo,
    verl_cispo,
    verl_reinforce_pp_baseline,
    verl_gpg,
    verl_topr,
    verl_seq_is_rs,
    verl_geo_rs,
    verl_geo_rs_seq_tis,
    verl_geo_rs_token_tis,
)
