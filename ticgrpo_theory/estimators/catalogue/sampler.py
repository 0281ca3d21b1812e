"""Corrections for a sampler that is not theta_old, each on the loss of `grpo`.

W = pi_old / mu of a token, or of the whole response; where mu is theta_old each of them is `grpo`.
"""

from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.estimators.clipping import two_sided
from ticgrpo_theory.estimators.corrections import Correction, masked, truncated
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.ratios import token
from ticgrpo_theory.estimators.scales import sequence_mean


def corrected(correction: Correction, delta: float = 1e-6) -> Estimator:
    """The loss of `grpo` times a correction."""
    return Estimator(token, standardised(delta), two_sided(0.2, 0.2), sequence_mean, correction=correction)


def decoupled_ppo() -> Estimator:
    """arXiv:2505.24298 (AReaL), verl's decoupled mode without a threshold: a token times pi_old / mu."""
    return corrected(truncated("token", None, None))


def tis(cap: float = 2.0) -> Estimator:
    """Truncated importance sampling token by token: verl's preset `decoupled_token_is`, threshold 2."""
    return corrected(truncated("token", None, cap))


def seq_tis(cap: float = 2.0) -> Estimator:
    """The same of the whole response: verl's preset `decoupled_seq_is`, threshold 2."""
    return corrected(truncated("sequence", None, cap))


def icepop(low: float = 0.5, high: float = 5.0) -> Estimator:
    """IcePop: a token outside [low, high] is masked; verl's preset `decoupled_token_icepop`, 0.5 and 5."""
    return corrected(masked("token", low, high))


def mis(cap: float = 3.0) -> Estimator:
    """Masked importance sampling: a response beyond the cap is dropped; the default of TRL 1.16, on `grpo`.

    What is left of the gradient falls with the length of the responses.
    """
    return corrected(masked("sequence", None, cap))


SAMPLER_LINES = (decoupled_ppo, tis, seq_tis, icepop, mis)
