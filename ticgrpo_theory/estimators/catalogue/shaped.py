"""A smooth weight, a gate on probabilities, or a product of gates, in the place of a clip."""

import math

from ticgrpo_theory.estimators.advantages import centred, raw, standardised
from ticgrpo_theory.estimators.clipping import saturating, two_sided
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.gates import inside, log_two_sided
from ticgrpo_theory.estimators.products import gated, within
from ticgrpo_theory.estimators.ratios import geometric_mean, least_before, prefix, token, trajectory
from ticgrpo_theory.estimators.scales import batch_token_mean, constant, sequence_mean, sequence_sum
from ticgrpo_theory.estimators.shapes import divergence_gate, gamma_weight, sigmoid_gate
from ticgrpo_theory.estimators.tapers import inverse_if_positive, position_band, tapered


def sapo(tau_positive: float = 1.0, tau_negative: float = 1.05, delta: float = 1e-6) -> Estimator:
    """arXiv:2511.20347 (SAPO), as TRL 1.16 runs it: a sigmoid gate on the token ratio.

    At ratio 1 it is `grpo`; a ratio far from 1 has no weight, on either side.
    """
    return Estimator(token, standardised(delta), sigmoid_gate(tau_positive, tau_negative), sequence_mean)


def vespo(delta: float = 1e-6) -> Estimator:
    """arXiv:2602.10693 (VESPO), as TRL 1.16 runs it: a gamma weight of the trajectory ratio, held.

    At ratio 1 it has weight 1; the mean is over the tokens of the update.
    """
    return Estimator(trajectory, standardised(delta), gamma_weight(), batch_token_mean)


def luspo(eps_low: float = 0.2, eps_high: float = 0.2, delta: float = 1e-6) -> Estimator:
    """arXiv:2602.05261 (LUSPO), as TRL 1.16 runs it: the loss of `gspo`, each response times its length.

    The factor |s| undoes the 1/|s| of the geometric mean: a token weighs the same in responses of any length.
    """
    return Estimator(geometric_mean, standardised(delta), two_sided(eps_low, eps_high), sequence_sum)


def dppo_tv(delta: float = 0.15, cap: float = 20.0) -> Estimator:
    """arXiv:2602.04879 (DPPO), verl's loss `dppo_tv` and its script: a gate on |p - p_old| of the token.

    With delta >= 1 and ratios below `cap` nothing is gated: `dr_grpo` without its clip.
    """
    return Estimator(token, centred(), divergence_gate("tv", delta, delta, cap), constant)


def dppo_kl(delta: float = 0.05, cap: float = 20.0) -> Estimator:
    """arXiv:2602.04879 (DPPO), verl's loss `dppo_kl` and its script: a gate on a KL divergence."""
    return Estimator(token, centred(), divergence_gate("kl", delta, delta, cap), constant)


def aspo(eps_low: float = 0.2, eps_high: float = 0.2, cap: float = 3.0, delta: float = 1e-6) -> Estimator:
    """arXiv:2510.06062 (ASPO), github.com/zyh1999/ASPO, commit 84a1eb1: token ratios inverted for A > 0.

    On policy it is `trl_dapo` up to its delta. Released code has a wider range for some tokens, by entropy.
    """
    clip = inverse_if_positive(eps_low, eps_high, cap)
    return Estimator(token, standardised(delta, ddof=1), clip, batch_token_mean)


def ctpo(low: float = 0.025, high: float = 0.05, cap: float = 0.05, delta: float = 1e-6) -> Estimator:
    """arXiv:2605.07331 v1 (CTPO): prefix ratios in a band that widens like sqrt(t), the mean of the paper.

    Where no ratio leaves its band it is `prefix_is` with 1/|s| and a deviation.
    """
    return Estimator(prefix, standardised(delta, ddof=1), position_band(low, high, cap), sequence_mean)


def minpro(eps_low: float = 0.2, eps_high: float = 0.28, delta: float = 1e-6) -> Estimator:
    """arXiv:2601.22718 v1 (MinPRO): the token ratio times the least one before it, held; a mean over tokens.

    For responses of two tokens it is the prefix ratio, held. The range is that of other entries.
    """
    held = saturating(inside(1 - eps_low, 1 + eps_high))
    return Estimator(least_before, standardised(delta), held, batch_token_mean)


def topr(high: float = 1.0) -> Estimator:
    """arXiv:2503.14286 v1 (TOPR): weight 1 for rewards > 0, the trajectory ratio up to 1 for rewards < 0.

    Rewards stand for advantages; on policy it is `reinforce`. Without negative rewards it is imitation.
    """
    return Estimator(trajectory, raw(), tapered(0.0, high), sequence_sum)


def opsm(threshold: float = 0.5, delta: float = 1e-4) -> Estimator:
    """arXiv:2512.02556, Eq. 9 (off-policy sequence masking), as TRL 1.16 masks on its default loss.

    A response with A < 0 is left out where the mean of log mu - log pi_theta exceeds the threshold, 0.5 where
    the option is documented; mu is theta_old where no sampler is known. Otherwise it is `trl_dapo`.
    """
    far = within("geometric", log_two_sided(threshold, math.inf), "sampler")
    clip = gated(two_sided(0.2, 0.2), (far,))
    return Estimator(token, standardised(delta, ddof=1), clip, batch_token_mean)


SHAPED_LINES = (sapo, vespo, luspo, dppo_tv, dppo_kl, aspo, ctpo, minpro, topr, opsm)
