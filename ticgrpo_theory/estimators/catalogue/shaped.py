"""A smooth weight, or a gate on probabilities, in the place of a clip."""

from ticgrpo_theory.estimators.advantages import centred, standardised
from ticgrpo_theory.estimators.clipping import two_sided
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.ratios import geometric_mean, token, trajectory
from ticgrpo_theory.estimators.scales import batch_token_mean, constant, sequence_mean, sequence_sum
from ticgrpo_theory.estimators.shapes import divergence_gate, gamma_weight, sigmoid_gate


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


SHAPED_LINES = (sapo, vespo, luspo, dppo_tv, dppo_kl)
