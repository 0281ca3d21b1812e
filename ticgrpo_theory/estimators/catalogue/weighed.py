"""Losses without a clip whose news is in the advantage or in the normaliser."""

from ticgrpo_theory.estimators.advantages import centred
from ticgrpo_theory.estimators.clipping import two_sided, unclipped
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.penalties import k2, kl_loss
from ticgrpo_theory.estimators.ratios import none, token
from ticgrpo_theory.estimators.scales import length_power, sequence_sum
from ticgrpo_theory.estimators.success_advantages import over_mean


def maxrl() -> Estimator:
    """arXiv:2602.02710 v3 (MaxRL), Theorem 5: rewards minus and over the mean of their group, on policy.

    E[g_hat] = (1 - (1 - P)^(G-1)) / P grad P for rewards 0 and 1. A group with one right response
    weighs G times as much as under `centred`, one without weighs nothing.
    """
    return Estimator(none, over_mean(), unclipped(), sequence_sum)


def delta_l(alpha: float = 0.75) -> Estimator:
    """arXiv:2509.07558 (Delta L normalisation), its code, commit 89da5b9: `dr_grpo`, weighed by |s|^-alpha.

    alpha = 0 is `dr_grpo` without its 1/limit; alpha = 1 divides by the length, and by the mean of 1/|s|.
    """
    return Estimator(token, centred(), two_sided(0.2, 0.2), length_power(alpha))


def dro(beta: float = 0.05) -> Estimator:
    """arXiv:2405.19107 (DRO) token by token, as the loss `dro` of Tinker (documentation of 2026).

    log pi A - beta/2 (log pi - log pi_old)^2 of every token, no ratio; A is centred as in arXiv:2501.12599,
    and pi_old is who drew. On policy the square has no gradient, and it is `rloo` times (G - 1) / G.
    """
    pull = kl_loss(k2, beta, none, "old")
    return Estimator(none, centred(), unclipped(), sequence_sum, penalty=pull)


WEIGHED_LINES = (maxrl, delta_l, dro)
