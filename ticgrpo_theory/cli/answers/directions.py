"""Where a gradient points: cosines, and what to say of an estimator that leads downhill."""

import math

from ticgrpo_theory.estimators.losses import Objective, from_loss
from ticgrpo_theory.estimators.resolve import AnyEstimator
from ticgrpo_theory.exact.answers import Problem
from ticgrpo_theory.stats.rounding import norm

DOWNHILL = -1e-9
"""Cosine above which a negative one may be rounding."""


def cosine(at: Problem, target: Problem) -> float | None:
    """<u, v> / (||u|| ||v||) of u = E[g_hat] of one and v = grad J of the other.

    None where one of them is not above its rounding, so that it has no direction.
    """
    lengths = norm(at.mean), norm(target.gradient)
    if lengths[0] <= at.expectation.rounding or lengths[1] <= target.gradient_rounding:
        return None
    return float((at.mean / lengths[0] * (target.gradient / lengths[1])).sum())


def pointing(scale: float) -> float | None:
    """The cosine of c grad J and grad J."""
    return None if scale == 0 else math.copysign(1.0, scale)


def downhill(name: str, estimator: AnyEstimator, value: float | None, half_width: float = 0.0) -> str:
    """What to say where <E g_hat, grad J> < 0 at theta_old, '' where it is not.

    `half_width` is that of the cosine.
    """
    if value is None or value >= DOWNHILL:
        return ""
    points = f"at theta = theta_old the cosine of E g and grad J is {value:.5g}"
    if value + half_width >= 0:
        return f"{name} may point DOWNHILL: {points} +- {half_width:.2g}; a smaller --tolerance tells"
    return f"{name} points DOWNHILL: {points}; {way_out(estimator)}"


def way_out(estimator: AnyEstimator) -> str:
    """What to do about it."""
    if isinstance(estimator, Objective):
        return (
            "an objective(batch) is maximised: if it is a loss, negate it, or write it as "
            "loss(logp, logp_old, advantages, mask), which is minimised"
        )
    if isinstance(estimator, from_loss):
        return "a loss(logp, logp_old, advantages, mask) is minimised: if it is an objective, negate it"
    return "its steps lower the expected return J here"
