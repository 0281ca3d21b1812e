"""The paper under test, what it compares with, and the losses that are older than it."""

from ticgrpo_theory.estimators.advantages import centred, leave_one_out, raw, standardised
from ticgrpo_theory.estimators.clipping import (
    before_pooling,
    by_sign_and_length,
    dual,
    saturating,
    two_sided,
    unclipped,
    upper_only,
)
from ticgrpo_theory.estimators.estimator import Estimator, old
from ticgrpo_theory.estimators.gates import log_two_sided
from ticgrpo_theory.estimators.ratios import geometric_mean, none, prefix, token, trajectory
from ticgrpo_theory.estimators.scales import constant, sequence_mean, sequence_sum, token_mean


def grpo(eps_low: float = 0.2, eps_high: float = 0.2, delta: float = 1e-6) -> Estimator:
    """arXiv:2508.02833 v2, Eq. 5 with beta = 0 (after arXiv:2402.03300 v3, Eq. 3)."""
    return Estimator(token, standardised(delta), two_sided(eps_low, eps_high), sequence_mean)


def dapo(eps_low: float = 0.2, eps_high: float = 0.28, delta: float = 1e-6) -> Estimator:
    """arXiv:2503.14476 v2, Eq. 8; the loss alone, without dynamic sampling and overlong shaping."""
    return Estimator(token, standardised(delta), two_sided(eps_low, eps_high), token_mean)


def dr_grpo(eps_low: float = 0.2, eps_high: float = 0.2) -> Estimator:
    """arXiv:2503.20783 v1, Sec. 3.2: neither std nor 1/length."""
    return Estimator(token, centred(), two_sided(eps_low, eps_high), constant)


def no_is(delta: float = 1e-6) -> Estimator:
    """Weight 1 and the score at theta: what the runs behind Figure 1 of arXiv:2508.02833 v2 differentiate."""
    return Estimator(none, standardised(delta), unclipped(), sequence_mean)


def stale(delta: float = 1e-6) -> Estimator:
    """Weight 1 and the score at theta_old: what the text around Figure 1 of arXiv:2508.02833 v2 describes."""
    return Estimator(none, standardised(delta), unclipped(), sequence_mean, score=old)


def tic_grpo(eps_high: float = 0.28, delta: float = 1e-6) -> Estimator:
    """arXiv:2508.02833 v2, Eq. 9 differentiated literally: upper clip for either sign of A, no 1/|s|."""
    return Estimator(trajectory, standardised(delta), upper_only(eps_high), sequence_sum)


def tic_grpo_eq11(eps_high: float = 0.28, delta: float = 1e-6) -> Estimator:
    """arXiv:2508.02833 v2, Eq. 11, which keeps the 1/|s| that Eq. 9 does not give."""
    return Estimator(trajectory, standardised(delta), upper_only(eps_high), sequence_mean)


def tic_grpo_released(
    rate: float = 0.01, cap: float = 3.0, log_limit: float = 20.0, delta: float = 1e-6
) -> Estimator:
    """The loss `tic-grpo` of github.com/pangleipll/dynamic_sen_clip, commit 3b37d82 (2026-08-04)."""
    return Estimator(trajectory, standardised(delta), by_sign_and_length(rate, cap, log_limit), sequence_sum)


def seq_clip(
    eps_low: float = 0.2,
    eps_high: float = 0.28,
    cap: float = 3.0,
    log_limit: float = 20.0,
    delta: float = 1e-6,
) -> Estimator:
    """The loss of the run `seq_clip`, github.com/pangleipll/dynamic_sen_clip, commit 3b37d82 (2026-08-04)."""
    return Estimator(trajectory, standardised(delta), dual(eps_low, eps_high, cap, log_limit), token_mean)


def gspo(eps_low: float = 0.2, eps_high: float = 0.28, delta: float = 1e-6) -> Estimator:
    """arXiv:2507.18071 v2, Eq. 5 and 7, with the clip range of other entries; `gspo_narrow` has its own."""
    return Estimator(geometric_mean, standardised(delta), two_sided(eps_low, eps_high), sequence_mean)


def gspo_narrow(delta: float = 1e-6) -> Estimator:
    """arXiv:2507.18071 v2, Sec. 5.1: clip range 3e-4 below, 4e-4 above."""
    return gspo(3e-4, 4e-4, delta)


def cispo(eps_high: float = 0.28, delta: float = 1e-6) -> Estimator:
    """arXiv:2506.13585 v1, Eq. 4: the clamped weight is detached and stays."""
    return Estimator(token, standardised(delta), saturating(upper_only(eps_high)), token_mean)


def gmpo(lower: float = 0.4, upper: float = 0.4, delta: float = 1e-6) -> Estimator:
    """arXiv:2507.20673 v1, Eq. 4: token log-ratios clamped to (-0.4, 0.4), then their geometric mean."""
    return Estimator(
        geometric_mean, standardised(delta), before_pooling(log_two_sided(lower, upper)), sequence_mean
    )


def rloo() -> Estimator:
    """arXiv:2402.14740 v2, Sec. 3.3: on-policy in the paper, so no ratio; score at theta."""
    return Estimator(none, leave_one_out(), unclipped(), sequence_sum)


def reinforce() -> Estimator:
    """Williams, Machine Learning 8 (1992), Theorem 1, without baseline; score at theta."""
    return Estimator(none, raw(), unclipped(), sequence_sum)


def trajectory_is() -> Estimator:
    """Leave-one-out, full trajectory ratio: E[g_hat] = grad J(theta) exactly, for any theta and theta_old.

    Source: importance sampling, as in arXiv:2508.02833 v2, Sec. 4, without its clip and its normalisations.
    """
    return Estimator(trajectory, leave_one_out(), unclipped(), sequence_sum)


def prefix_is() -> Estimator:
    """Leave-one-out with per-decision ratios: Precup, Sutton, Singh, ICML 2000, Sec. 3."""
    return Estimator(prefix, leave_one_out(), unclipped(), sequence_sum)


FIRST_LINES = (
    grpo,
    dapo,
    dr_grpo,
    no_is,
    stale,
    tic_grpo,
    tic_grpo_eq11,
    tic_grpo_released,
    seq_clip,
    gspo,
    gspo_narrow,
    cispo,
    gmpo,
    rloo,
    reinforce,
    trajectory_is,
    prefix_is,
)
